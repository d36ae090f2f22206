"""`consul-access resolve NAME`: one address to call."""

from __future__ import annotations

from typing import Annotated

import typer

from consul_access.cli.connection import Datacenter, HttpAddr, Policy, Tags, TokenFile, named, opened, query
from consul_access.cli.output import ExitCode, Json, print_json, print_line, say
from consul_access.errors import NoInstances

__all__ = ["resolve"]


def resolve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The service.", show_default=False, autocompletion=named)],
    *,
    policy: Policy = "passing",
    tags: Tags = None,
    http_addr: HttpAddr = None,
    token_file: TokenFile = None,
    datacenter: Datacenter = None,
    json: Json = False,
) -> None:
    """Prints HOST:PORT of one instance.

    It is chosen at random. The exit code is 1 when there is none.
    """
    with opened(http_addr, token_file, datacenter) as access:
        try:
            address = access.resolve(name, **query(policy, tags))
        except NoInstances as error:
            in_python, here = f"instances({name!r}, policy='any')", f"consul-access instances {name} --policy any"
            say(error.message.replace(in_python, here))
            raise typer.Exit(ExitCode.NO) from error
    if json:
        print_json({"host": address.host, "port": address.port})
    else:
        print_line(str(address))
