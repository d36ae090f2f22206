"""`consul-access demo`: what the library does, as a story that needs no server."""

from __future__ import annotations

from typing import Annotated

import typer

from consul_access.cli.output import ExitCode, Json, print_json, say

__all__ = ["demo"]


def demo(
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="ADDR", help="A real agent, HOST:PORT or http(s)://HOST:PORT. [one made of memory]"
        ),
    ] = None,
    json: Json = False,
) -> ExitCode:
    """Tells a story: two services register, are found, fail, come back and drain.

    It needs no server. At a real agent the services are called demo-shop and demo-stock, and gone in the end; a token
    comes from the environment.
    """
    from consul_access.testing.demo.story import DemoFailed, tell

    try:
        if json:
            tell(address, write=_Documents().write)
        else:
            tell(address)
    except DemoFailed as error:
        say(str(error))
        return ExitCode.NO
    return ExitCode.DONE


class _Documents:
    """The story as JSON documents, one a line: which step it is, and what is told."""

    def __init__(self) -> None:
        self._step = 0

    def write(self, text: str) -> None:
        for line in filter(str.strip, text.splitlines()):
            number, dot, rest = line.partition(". ")
            begins = bool(dot) and number.isdigit()
            self._step = int(number) if begins else self._step
            print_json({"step": self._step, "text": rest if begins else line.strip()}, lines=True)
