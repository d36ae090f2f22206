"""`consul-access explain NAME|ID`: why a service is found, or is not."""

from __future__ import annotations

from typing import Annotated

import typer

from consul_access.cli.connection import Datacenter, HttpAddr, Policy, Tags, TokenFile, named, opened, query
from consul_access.cli.output import ExitCode, Json, print_json, print_line

__all__ = ["explain"]


def explain(
    name_or_id: Annotated[
        str,
        typer.Argument(metavar="NAME|ID", help="A service, or one instance.", show_default=False, autocompletion=named),
    ],
    *,
    policy: Policy = "passing",
    tags: Tags = None,
    http_addr: HttpAddr = None,
    token_file: TokenFile = None,
    datacenter: Datacenter = None,
    json: Json = False,
) -> None:
    """Tells why a service is found by look-ups, or is not.

    The exit code is 1 when it is not, 3 when the agent could not be asked, and 4 when it does not know the token.
    """
    with opened(http_addr, token_file, datacenter) as access:
        found = access.explain(name_or_id, **query(policy, tags))
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        for line in str(found).splitlines():
            print_line(line)
    if found.found("agent_unreachable"):
        raise typer.Exit(ExitCode.UNAVAILABLE)
    if found.found("token_unknown"):
        raise typer.Exit(ExitCode.REFUSED)
    if not found.is_discoverable:
        raise typer.Exit(ExitCode.NO)
