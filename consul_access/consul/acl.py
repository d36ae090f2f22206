"""`/v1/acl`: exchanging what a platform vouches for into a Consul token, and giving that back.

https://developer.hashicorp.com/consul/api-docs/acl. Administering ACLs is not this library's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field, SecretStr

from consul_access.call import Call, Repeat, Reply, json_body
from consul_access.decoding import decode
from consul_access.models import inputs

__all__ = ["LoggedIn", "in_force", "login", "logout"]


class LoggedIn(BaseModel, frozen=True, defer_build=True):
    """A token made for whoever logged in.

    Args:
        accessor_id: its public name.
        secret_id: the token itself; masked when printed.
    """

    accessor_id: str = Field(alias="AccessorID")
    secret_id: SecretStr = Field(alias="SecretID")


def login(method: str, bearer: SecretStr, *, meta: Mapping[str, str] | None = None) -> Call[LoggedIn]:
    """Exchanges a bearer token for a Consul token. Repeated after a lost answer it makes a second one.

    Args:
        method: the name of the auth method.
        bearer: what the method verifies, such as a Kubernetes service account's token.
        meta: noted at the token.
    """
    body = {"AuthMethod": inputs.identifier(method, "method"), "BearerToken": bearer.get_secret_value()}
    return Call(
        name="acl.login",
        method="POST",
        path="/v1/acl/login",
        body=json_body(body | ({"Meta": inputs.check_meta(meta)} if meta else {})),
        repeat=Repeat.IDEMPOTENT,
        read=lambda reply: decode(LoggedIn, reply),
        subject=method,
    )


def logout() -> Call[None]:
    """Gives the token that it is sent with back; the servers forget it."""
    return Call(name="acl.logout", method="POST", path="/v1/acl/logout", repeat=Repeat.IDEMPOTENT, read=_nothing)


def in_force() -> Call[bool | None]:
    """Whether access is controlled; None when the answer does not tell. Every token may ask this.

    Agents without access control answer 401 "ACL support disabled" (agent/acl_endpoint.go); with it they tell a token
    about itself, or refuse one that they do not know.
    """
    return Call(
        name="acl.token.self",
        method="GET",
        path="/v1/acl/token/self",
        statuses=frozenset({200, 401, 403, 404}),
        read=_is_in_force,
    )


def _is_in_force(reply: Reply) -> bool | None:
    if reply.status in {200, 403}:
        return True
    return False if "acl support disabled" in reply.text.lower() else None


def _nothing(_: Reply) -> None:
    """Nothing worth reading."""
