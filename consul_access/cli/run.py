"""`consul-access run ... -- COMMAND`: any program, run as a registered service."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn, TypedDict

import typer

from consul_access.cli.connection import AgentAddr, TokenFile, opened
from consul_access.cli.output import ExitCode, duration, say, say_as_json, say_what_is_logged
from consul_access.errors import ConsulAccessError, InvalidInput

if TYPE_CHECKING:
    from consul_access import ConsulAccess
    from consul_access.models.checks import AnyCheck
    from consul_access.models.durations import Duration
    from consul_access.rules.running import Running

__all__ = ["run"]

CATALOG_TTL = "30s"
"""As `registered(mode="catalog")` has it: every heartbeat is an entry in the servers' log."""
_IDLE = "it takes no connections"


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The program and its arguments.")],
    *,
    name: Annotated[str, typer.Option(help="The service.", show_default=False)],
    port: Annotated[int, typer.Option(help="Where COMMAND takes connections.", show_default=False)],
    address: Annotated[
        str | None, typer.Option(help="Where others reach it. [CONSUL_ACCESS_ADVERTISE, POD_IP, found out]")
    ] = None,
    service_id: Annotated[str | None, typer.Option("--id", help="By default NAME-HOST-PORT.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; any number of them.")] = None,
    meta: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Meta; any number of pairs.")] = None,
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="agent, or catalog where there are no agents: a heartbeat from here.")
    ] = "agent",
    node: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --mode catalog: the node to be shown at. [consul-access]")
    ] = None,
    require_agent: Annotated[
        bool, typer.Option("--require-agent", help="Does not register at one of several servers.")
    ] = False,
    environment_meta: Annotated[
        bool, typer.Option("--environment-meta", help="Adds POD_NAME, POD_NAMESPACE and NODE_NAME to the meta.")
    ] = False,
    check_http: Annotated[
        str | None, typer.Option(metavar="PATH", help="The agent asks this path of the port: 2xx passes.")
    ] = None,
    check_tcp: Annotated[
        bool, typer.Option("--check-tcp", help="The agent connects to the port. This is the default.")
    ] = False,
    ttl: Annotated[
        str | None, typer.Option(metavar="TIME", help="Heartbeats from here, while the port takes connections: 15s.")
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="It counts as passing while it is registered.")] = False,
    interval: Annotated[str, typer.Option(metavar="TIME", help="Between two checks by the agent.")] = "10s",
    deregister_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="The agent removes it after so long in critical; 1m at least.")
    ] = None,
    drain: Annotated[
        str, typer.Option(metavar="TIME", help="Between leaving every look-up and the signal for COMMAND.")
    ] = "2s",
    ready_timeout: Annotated[
        str, typer.Option(metavar="TIME", help="For the port to open; 0 for as long as it takes.")
    ] = "60s",
    kill_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="SIGKILL when COMMAND has not ended so long after its signal.")
    ] = None,
    require_registration: Annotated[
        bool, typer.Option("--require-registration", help="Does not run COMMAND while Consul does not answer.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Says what happens to the registration.")] = False,
    http_addr: AgentAddr = None,
    token_file: TokenFile = None,
    json: Annotated[
        bool, typer.Option("--json", help="What is said on standard error is JSON; standard output is COMMAND's.")
    ] = False,
) -> None:
    """Runs COMMAND as a registered service, and ends as it ends.

    It is registered when its port takes connections. On SIGTERM, SIGINT or SIGQUIT it leaves every look-up, serves
    for --drain more, is deregistered, and then gets the signal; a second one reaches it at once, and so do all other
    signals. When it ends by itself it is deregistered at once. A TIME is a number of seconds, or such as 1m30s.
    """
    if json:
        say_as_json()
    if not hasattr(os, "posix_spawnp"):
        raise InvalidInput("run needs a POSIX system: there are no signals to pass on here")
    from consul_access.cli.announcing import accepts
    from consul_access.cli.supervising import Supervisor, end_as
    from consul_access.rules import registering

    check = _check(
        check_http,
        tcp=check_tcp,
        ttl=_optional(ttl),
        none=no_check,
        interval=duration(interval),
        deregister_after=_optional(deregister_after),
        in_catalog=_is_catalog(mode),
    )
    described: _Described = {"id": service_id, "tags": tags or (), "meta": _pairs(meta or []), "check": check}
    rule = _rule(port, ready_timeout, kill_after)
    hosts = _hosts(address)
    # What can be wrong with it is found before anything runs.
    registering.definition(name, address or "127.0.0.1", port, **described)
    say_what_is_logged(logging.INFO if verbose else logging.WARNING)
    access = opened(http_addr, token_file)  # not closed: the process ends with it, and may not wait for an agent then
    make_keeper = partial(
        access.registered,
        name,
        address,
        port,
        **described,
        mode="catalog" if _is_catalog(mode) else "agent",
        node=node,
        require_agent=require_agent,
        environment_meta=environment_meta,
        drain=_seconds(drain, "--drain"),
        health=(lambda: True if accepts(hosts, port) else (False, _IDLE))
        if ttl is not None or _is_catalog(mode)
        else None,
        fail_fast=require_registration,
    )
    if require_registration:
        _refuse_without(access)
    if accepts(hosts, port):
        say(f"port {port} takes connections already, before the command runs: is it somebody else's?")
    try:
        code = Supervisor(command, rule).run(lambda told: make_keeper(on_event=told), hosts, port)
    except FileNotFoundError:
        _ends(ExitCode.NOT_FOUND, f"{command[0]}: there is no such program")
    except OSError as error:
        _ends(ExitCode.NOT_EXECUTABLE, f"{command[0]} cannot be run: {error.strerror}")
    raise typer.Exit(end_as(code))


class _Described(TypedDict):
    id: str | None
    tags: Iterable[str]
    meta: dict[str, str]
    check: AnyCheck | None


def _check(
    http: str | None,
    *,
    tcp: bool,
    ttl: Duration | None,
    none: bool,
    interval: Duration,
    deregister_after: Duration | None,
    in_catalog: bool,
) -> AnyCheck | None:
    from consul_access import CheckStatus, HttpCheck, TcpCheck, TtlCheck

    if sum((http is not None, tcp, ttl is not None, none)) > 1:
        raise InvalidInput("--check-http, --check-tcp, --ttl and --no-check exclude each other: give one of them")
    if in_catalog:
        return _heartbeat(ttl, others=http is not None or tcp or none or deregister_after is not None)
    if none:
        return None
    if ttl is not None:
        return TtlCheck(ttl, deregister_critical_service_after=deregister_after)
    if http is not None:
        return HttpCheck(path=http, interval=interval, timeout="5s", deregister_critical_service_after=deregister_after)
    return TcpCheck(
        interval=interval,
        timeout="5s",
        status=CheckStatus.PASSING,  # it has just taken a connection
        deregister_critical_service_after=deregister_after,
    )


def _heartbeat(ttl: Duration | None, *, others: bool) -> AnyCheck:
    from consul_access import TtlCheck

    if others:
        raise InvalidInput(
            "--mode catalog has no agent that would run a check or remove the service: leave out --check-http, "
            "--check-tcp, --no-check and --deregister-after; --ttl says how often it is reported (30s)"
        )
    return TtlCheck(CATALOG_TTL if ttl is None else ttl)


def _is_catalog(mode: str) -> bool:
    if mode not in {"agent", "catalog"}:
        raise InvalidInput(f"--mode {mode!r} is not known: write agent or catalog")
    return mode == "catalog"


def _optional(text: str | None) -> Duration | None:
    return None if text is None else duration(text)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise InvalidInput(f"--meta {text!r} has no '=': write KEY=VALUE")
        pairs[key] = value
    return pairs


def _rule(port: int, ready_timeout: str, kill_after: str | None) -> Running:
    from consul_access.rules.running import Running

    return Running(
        port,
        ready_within=_seconds(ready_timeout, "--ready-timeout") or None,
        kill_after=None if kill_after is None else _seconds(kill_after, "--kill-after"),
        now=time.monotonic(),
    )


def _seconds(text: str, what: str) -> float:
    from consul_access.models.durations import seconds

    return seconds(duration(text), what=what)


def _hosts(address: str | None) -> list[str]:
    """Where a program of this machine may listen, as far as it can be told."""
    from consul_access.rules import addressing

    hosts = ["127.0.0.1", "::1"]
    own = addressing.own_address(address, environ=os.environ, agent_is_local=True, route_source=None)
    return hosts if own is None or own in hosts else [*hosts, own]


def _refuse_without(access: ConsulAccess) -> None:
    from consul_access import consul

    try:
        access.send(consul.status.leader())
    except ConsulAccessError as error:
        _ends(ExitCode.FAILED, f"{error} The command is not run (--require-registration).")


def _ends(code: ExitCode, text: str) -> NoReturn:
    say(text)
    raise typer.Exit(code)
