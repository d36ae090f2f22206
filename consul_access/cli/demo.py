"""`consul-access demo`: what the library does, as a story that needs no server."""

from __future__ import annotations

from typing import Annotated

import typer

from consul_access.cli.output import ExitCode, say

__all__ = ["demo"]


def demo(
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="ADDR", help="A real agent, HOST:PORT or http(s)://HOST:PORT. [one made of memory]"
        ),
    ] = None,
) -> ExitCode:
    """Tells a story: two services register, are found, fail, come back and drain.

    It needs no server. At a real agent the services are called demo-shop and demo-stock, and gone in the end; a token
    comes from the environment.
    """
    from consul_access.testing.demo.story import DemoFailed, tell

    try:
        tell(address)
    except DemoFailed as error:
        say(str(error))
        return ExitCode.NO
    return ExitCode.DONE
