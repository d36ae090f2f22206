"""Which Consul is asked: options that every command has, and the client they describe.

A token never is an option: the command line of a process is there for everybody on the machine to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from consul_access.errors import ConsulAccessError, InvalidSettings

if TYPE_CHECKING:
    from consul_access import ConsulAccess, Query, RetryPolicy

__all__ = ["AgentAddr", "Datacenter", "HttpAddr", "Policy", "Tags", "TokenFile", "named", "opened", "query"]

COMPLETING = 1.0
"""Seconds that a shell is made to wait for names."""

_WHERE = "The agent: HOST:PORT, http(s)://HOST:PORT or unix:///PATH. [CONSUL_HTTP_ADDR, 127.0.0.1:8500]"

_POLICIES = ("passing", "passing_or_warning", "service_checks_only", "any")

HttpAddr: TypeAlias = Annotated[str | None, typer.Option("--http-addr", "--address", metavar="ADDR", help=_WHERE)]
AgentAddr: TypeAlias = Annotated[str | None, typer.Option("--http-addr", metavar="ADDR", help=_WHERE)]
"""Where `--address` means the service's own."""
TokenFile: TypeAlias = Annotated[
    str | None, typer.Option(metavar="FILE", help="A file that holds the token. [CONSUL_HTTP_TOKEN_FILE]")
]
Datacenter: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="Asks another datacenter.")]
Policy: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Which are good enough: passing, passing_or_warning, service_checks_only, any.",
        autocompletion=lambda incomplete: [name for name in _POLICIES if name.startswith(incomplete)],
    ),
]
Tags: TypeAlias = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="Only with this tag; with several, all of them.")
]


def opened(
    http_addr: str | None,
    token_file: str | None,
    datacenter: str | None = None,
    *,
    timeout: float | None = None,
    retry: RetryPolicy | None = None,
) -> ConsulAccess:
    """A client, as the options and otherwise the environment say.

    Args:
        http_addr: the agent.
        token_file: the file that holds the token.
        datacenter: asked instead of the agent's own.
        timeout: seconds for each call, if not the usual ones.
        retry: how often a call is tried, if not as usual.

    Raises:
        InvalidSettings: they cannot be used.
    """
    from consul_access import ConsulAccess, ConsulSettings

    try:
        settings = ConsulSettings.load(
            addresses=None if http_addr is None else [http_addr],
            token_file=token_file,
            datacenter=datacenter,
            timeout=timeout,
            retry=retry,
        )
    except InvalidSettings as error:
        raise InvalidSettings(error.message.replace("addresses=", "--http-addr")) from error
    return ConsulAccess(settings=settings)


def query(policy: str, tags: Sequence[str] | None) -> Query:
    """The options of a look-up."""
    narrowed: Query = {"policy": policy}
    if tags:
        narrowed["tags"] = tags
    return narrowed


def named(incomplete: str) -> list[str]:
    """Services whose names begin so, for a shell that completes a command line.

    An agent that cannot be asked has no names to offer; what is wrong is said when the command is run.
    """
    from consul_access import RetryPolicy

    try:
        with opened(None, None, timeout=COMPLETING, retry=RetryPolicy.none()) as access:
            return sorted(name for name in access.services() if name.startswith(incomplete))
    except ConsulAccessError:
        return []
