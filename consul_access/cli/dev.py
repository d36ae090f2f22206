"""`consul-access dev`: an agent made of memory, on a port, for development."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated

import typer

from consul_access.cli.output import ExitCode, Json, print_json, print_line, say

__all__ = ["dev"]


def dev(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0 for any free port.")] = 8500,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    consul: Annotated[str, typer.Option(metavar="VERSION", help="Answers as this Consul: 1.8, 1.10, 1.21.")] = "1.8",
    json: Json = False,
) -> ExitCode:
    """Serves an agent made of memory, until Ctrl-C or SIGTERM.

    It knows services, checks and look-ups, makes HTTP and TCP checks in earnest, and forgets everything in the end. It
    is meant for this machine and for development: whoever reaches the port may do everything.
    """
    from consul_access.testing import FakeConsul

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with FakeConsul(consul, run_checks=True) as fake:
        try:
            server = fake.serve(port, host=host).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            say(f"{host}:{port} cannot be listened at ({reason}); --port takes another one")
            return ExitCode.USAGE
        if json:
            print_json({"address": server.address, "version": fake.version}, lines=True)
        else:
            print_line(f"export CONSUL_HTTP_ADDR={server.address}", at_once=True)
        say(f"an agent made of memory, which answers as Consul {fake.version}, is there until Ctrl-C")
        ended.wait()
    return ExitCode.DONE
