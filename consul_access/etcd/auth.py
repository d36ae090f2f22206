"""`/v3/auth`: a token for a user and a password. Administering users is not this library's business.

https://etcd.io/docs/v3.5/op-guide/authentication/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consul_access.call import Call, Repeat, Reply, json_body
from consul_access.etcd.coding import read_object
from consul_access.etcd.texts import fault, meaning
from consul_access.tokens import secret

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = ["authenticate"]


def authenticate(user: str, password: SecretStr) -> Call[SecretStr | None]:
    """Logs in: the token to send as `Authorization`, or None where etcd knows no users and needs no token."""
    return Call(
        name="auth.authenticate",
        method="POST",
        path="/v3/auth/authenticate",
        body=json_body({"name": user, "password": password.get_secret_value()}),
        read=_token,
        repeat=Repeat.READ,
        statuses=frozenset({200, 400, 412}),
        subject=user,
    )


def _token(reply: Reply) -> SecretStr | None:
    if reply.status == 200:
        return read_object(lambda answer: secret(answer["token"]), reply)
    if "authentication is not enabled" in fault(reply.text)[0]:  # 412 from older gateways, 400 from newer ones
        return None
    meant = meaning(reply.status, reply.text)
    error = meant.error(meant.message, status=reply.status, excerpt=reply.excerpt())
    if meant.advice:
        error.advice = meant.advice
    raise error
