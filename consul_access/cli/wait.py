"""`consul-access wait NAME...`: until services are there, for scripts and init containers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from consul_access.cli.connection import Datacenter, HttpAddr, Policy, Tags, TokenFile, named, opened, query
from consul_access.cli.output import ExitCode, Json, StatusLine, duration, print_json, say
from consul_access.errors import NotReady

if TYPE_CHECKING:
    from consul_access import Progress

__all__ = ["wait"]


def wait(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="The services.", show_default=False, autocompletion=named)
    ],
    *,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="For all of them together.")] = "60s",
    at_least: Annotated[int, typer.Option(metavar="N", help="So many instances of each.")] = 1,
    policy: Policy = "passing",
    tags: Tags = None,
    http_addr: HttpAddr = None,
    token_file: TokenFile = None,
    datacenter: Datacenter = None,
    json: Json = False,
) -> None:
    """Waits until services are there.

    Each has to have enough instances that are good enough. What is seen meanwhile goes to standard error, a line for
    every change. The exit code is 1 when the time is up. While Consul does not answer, it goes on.
    """
    line = StatusLine()
    progress: dict[str, Progress] = {}

    def tell(news: Progress) -> None:
        progress[news.service] = news
        line.show(" | ".join(str(each) for each in progress.values()), news=str(news))

    with opened(http_addr, token_file, datacenter) as access:
        try:
            found = access.wait_for_all(
                dict.fromkeys(names, at_least), timeout=duration(timeout), on_progress=tell, **query(policy, tags)
            )
        except NotReady as error:
            line.clear()
            missing = next((each.service for each in error.progress if not each.is_ready), names[0])
            say(f"{error.message}; consul-access explain {missing} tells more")
            raise typer.Exit(ExitCode.NO) from error
        finally:
            line.clear()
    if json:
        print_json({name: [str(entry.address) for entry in found[name] if entry.is_callable] for name in names})
    elif sys.stderr.isatty():
        for each in progress.values():
            say(str(each))
