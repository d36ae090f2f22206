"""`consul-access dev`: an agent, or an etcd, made of memory, on a port, for development."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from consul_access.cli.output import ExitCode, Json, print_json, print_line, say

if TYPE_CHECKING:
    from consul_access.testing import FakeConsul, FakeEtcd

__all__ = ["dev"]

CONSUL_PORT, ETCD_PORT = 8500, 2379


def dev(
    *,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Where it listens; 0 for any free port. [8500; 2379 with --etcd]"),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    consul: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Answers as this Consul: 1.8, 1.10, 1.21. [1.8]")
    ] = None,
    etcd: Annotated[bool, typer.Option("--etcd", help="An etcd, instead of a Consul agent.")] = False,
    etcd_version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Answers as this etcd: 3.4, 3.5, 3.6. [3.5]")
    ] = None,
    json: Json = False,
) -> ExitCode:
    """Serves an agent, or an etcd, made of memory, until Ctrl-C or SIGTERM.

    The agent knows services, checks and look-ups, and makes HTTP and TCP checks in earnest; the etcd knows keys,
    transactions, leases and watches, by its JSON gateway. Both forget everything in the end. They are meant for this
    machine and for development: whoever reaches the port may do everything.
    """
    etcd = etcd or etcd_version is not None
    if etcd and consul is not None:
        raise typer.BadParameter("--consul is a Consul agent's version: leave it out with --etcd")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with _made(etcd_version or "3.5" if etcd else None, consul or "1.8") as fake:
        where = port if port is not None else ETCD_PORT if etcd else CONSUL_PORT
        try:
            server = fake.serve(where, host=host).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            say(f"{host}:{where} cannot be listened at ({reason}); --port takes another one")
            return ExitCode.USAGE
        if json:
            print_json({"address": server.address, "version": fake.version}, lines=True)
        else:
            variable = "ETCDCTL_ENDPOINTS" if etcd else "CONSUL_HTTP_ADDR"
            print_line(f"export {variable}={server.address}", at_once=True)
        kind, product = ("an etcd", "etcd") if etcd else ("an agent", "Consul")
        say(f"{kind} made of memory, which answers as {product} {fake.version}, is there until Ctrl-C")
        ended.wait()
    return ExitCode.DONE


def _made(etcd: str | None, consul: str) -> FakeConsul | FakeEtcd:
    """The fake: an etcd of this version, else a Consul agent of that one."""
    from consul_access.testing import FakeConsul, FakeEtcd

    return FakeConsul(consul, run_checks=True) if etcd is None else FakeEtcd(etcd)
