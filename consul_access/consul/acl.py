"""`/v1/acl`: exchanging what a platform vouches for into a Consul token, and giving that back.

https://developer.hashicorp.com/consul/api-docs/acl. Administering ACLs is not this library's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field, SecretStr

from consul_access.call import Call, Repeat, Reply, json_body
from consul_access.decoding import decode, decode_list
from consul_access.errors import BadAnswer
from consul_access.models import inputs
from consul_access.models.rights import Right

__all__ = ["LoggedIn", "granted", "in_force", "login", "logout"]


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


class _Granted(BaseModel, frozen=True, defer_build=True):
    allow: bool = Field(alias="Allow")


def granted(rights: Sequence[Right]) -> Call[dict[Right, bool] | None]:
    """What the token that it is sent with may do; None when the agent does not tell.

    Consul's own web page asks this (agent/acl_endpoint.go `ACLAuthorize`; observed, Consul 1.8). It is not part of the
    documented interface, so that an agent without it has simply not told. Without access control it answers 401.

    Args:
        rights: what is asked about.
    """
    body = [{"Resource": one.resource, "Access": one.access, "Segment": one.segment} for one in rights]
    return Call(
        name="acl.authorize",
        method="POST",
        path="/v1/internal/acl/authorize",
        body=json_body(body),
        statuses=frozenset({200, 401, 404, 405}),
        read=lambda reply: _granted(rights, reply),
    )


def _granted(rights: Sequence[Right], reply: Reply) -> dict[Right, bool] | None:
    if reply.status != 200:
        return None
    answers = decode_list(_Granted, reply)
    if len(answers) != len(rights):
        raise BadAnswer("the agent was asked about some rights and answers about others")
    return {right: answer.allow for right, answer in zip(rights, answers, strict=True)}


def _is_in_force(reply: Reply) -> bool | None:
    if reply.status in {200, 403}:
        return True
    return False if "acl support disabled" in reply.text.lower() else None


def _nothing(_: Reply) -> None:
    """Nothing worth reading."""
