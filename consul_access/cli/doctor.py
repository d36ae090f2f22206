"""`consul-access doctor`: which settings are in effect, what is there, what works from here, and how to mend the rest.

It asks and never writes. What the answers mean is decided in `rules.origins` and `rules.diagnosing`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from consul_access.cli.connection import Datacenter, HttpAddr, TokenFile, opened
from consul_access.cli.etcd_connection import CaCert, Cert, Endpoints, Key, opened_etcd
from consul_access.cli.output import ExitCode, Json, code_of, print_json, print_line, print_table, say_what_is_logged
from consul_access.errors import ConsulAccessError, InvalidInput, InvalidSettings

if TYPE_CHECKING:
    from consul_access import ConsulAccess, EtcdRegistry, Target
    from consul_access.call import Call, Reply
    from consul_access.rules.diagnosing import ConsulFacts, EtcdFacts, MemberState
    from consul_access.rules.origins import Origin
    from consul_access.rules.remarks import ModeVerdict, Remark

__all__ = ["doctor"]

T = TypeVar("T")

_MARKS = {True: "works", False: "does not"}


class _Send(Protocol):
    """Either client's `send`."""

    def __call__(self, call: Call[T], *, target: Target | None = None) -> T: ...


@dataclass
class _Report:
    """What is printed in the end."""

    settings: dict[str, list[Origin]] = field(default_factory=dict)
    servers: dict[str, dict[str, object]] = field(default_factory=dict)
    rights: dict[str, bool] = field(default_factory=dict)
    modes: list[ModeVerdict] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    failures: list[ConsulAccessError] = field(default_factory=list)


def doctor(
    *,
    service: Annotated[
        str, typer.Option(metavar="NAME", help="The service that is to be registered: may the token do that?")
    ] = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="For each question.")] = 5.0,
    http_addr: HttpAddr = None,
    token_file: TokenFile = None,
    datacenter: Datacenter = None,
    endpoints: Endpoints = None,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    json: Json = False,
) -> ExitCode:
    """Tells what works from here and what does not.

    And what to do about it: settings and where they come from, who answers, clocks, what the token may do, modes of
    registering. It writes nothing.

    etcd is asked when ETCDCTL_* variables or its options are there; Consul is not, when only those are. The exit code
    is 1 when something stands in the way, 2 for settings that cannot be used, 3 when nobody answers, and 4 when
    somebody refuses.
    """
    from consul_access.rules import origins

    say_what_is_logged(logging.ERROR)  # what is said below that is said here, with a remedy
    report = _Report()
    report.remarks.extend(origins.environment_remarks(os.environ))
    consul_options = {"--http-addr": http_addr, "--token-file": token_file, "--datacenter": datacenter}
    etcd_options = {"--endpoints": endpoints, "--cacert": cacert, "--cert": cert, "--key": key}
    at_etcd = origins.has_etcd(os.environ) or any(etcd_options.values())
    if not at_etcd or origins.has_consul(os.environ) or any(consul_options.values()):
        report.settings["consul"] = origins.consul_origins(os.environ, consul_options)
        _examine(report, lambda: _consul(report, http_addr, token_file, datacenter, service=service, timeout=timeout))
    if at_etcd:
        report.settings["etcd"] = origins.etcd_origins(os.environ, etcd_options)
        _examine(report, lambda: _etcd(report, endpoints, cacert, cert, key, timeout=timeout))
    _print_json(report) if json else _print(report)
    return _code(report)


def _examine(report: _Report, examine: Callable[[], None]) -> None:
    """One of the two; settings that cannot be used are a finding, and no reason to leave out the other one."""
    from consul_access.models.explanation import Severity
    from consul_access.rules.remarks import Remark, RemarkCode

    try:
        examine()
    except InvalidSettings as error:
        report.failures.append(error)
        report.remarks.append(Remark(RemarkCode.SETTINGS_UNUSABLE, Severity.ERROR, error.message, error.advice))


def _code(report: _Report) -> ExitCode:
    from consul_access.rules.diagnosing import decisive

    error = decisive(*report.failures)
    if error is not None:
        return code_of(error)
    return ExitCode.NO if any(remark.severity == "error" for remark in report.remarks) else ExitCode.DONE


# --- Consul -----------------------------------------------------------------------------------------------


def _consul(
    report: _Report,
    http_addr: str | None,
    token_file: str | None,
    datacenter: str | None,
    *,
    service: str,
    timeout: float,
) -> None:
    from consul_access import RetryPolicy
    from consul_access.rules.diagnosing import consul_modes, consul_remarks

    with opened(http_addr, token_file, datacenter, timeout=timeout, retry=RetryPolicy.none()) as access:
        facts = _consul_facts(access, service)
    report.remarks.extend(consul_remarks(facts))
    report.modes.extend(consul_modes(facts))
    if isinstance(facts.rights, dict):
        report.rights.update({str(right): allowed for right, allowed in facts.rights.items()})
    known = None if isinstance(facts.agent, ConsulAccessError) else facts.agent
    report.servers["consul"] = {
        "address": str(facts.target),
        "answers": not isinstance(facts.leader, ConsulAccessError),
        "version": known.version if known else None,
        "node": known.node_name if known else None,
        "datacenter": known.datacenter if known else None,
        "leader": facts.leader if isinstance(facts.leader, str) else None,
        "servers": None if isinstance(facts.peers, ConsulAccessError) else len(facts.peers),
        "access_controlled": facts.acls if isinstance(facts.acls, bool) else None,
        "clock_difference": facts.clock,
    }
    report.failures.extend(
        error for error in (facts.leader, facts.acls, facts.rights) if isinstance(error, ConsulAccessError)
    )


def _consul_facts(access: ConsulAccess, service: str) -> ConsulFacts:
    from consul_access import consul
    from consul_access.models.external import SYNTHETIC_NODE
    from consul_access.rules.diagnosing import ConsulFacts, rights_asked
    from consul_access.tokens import NoToken

    target = access.settings.targets[0]
    away: list[ConsulAccessError] = []

    def fact(call: Call[T]) -> T | ConsulAccessError:
        """The answer, or why there is none; who did not answer the first question is not asked again."""
        return away[0] if away else _tried(lambda: access.send(call, target=target))

    clock = _Clock()
    leader = fact(clock.beside(consul.status.leader()))
    if isinstance(leader, ConsulAccessError):
        away.append(leader)
    peers = fact(consul.status.peers())
    agent = fact(consul.agent.about())
    node = "" if isinstance(agent, ConsulAccessError) else agent.node_name
    acls = fact(consul.acl.in_force())
    rights = fact(consul.acl.granted(rights_asked(service, node)))
    catalog_node = fact(consul.catalog.node(SYNTHETIC_NODE))
    return ConsulFacts(
        target=target,
        ips=_ips(target),
        verify=access.settings.verify,
        has_token=not isinstance(access.settings.token, NoToken),
        leader=leader,
        peers=peers if isinstance(peers, ConsulAccessError) else tuple(peers),
        agent=agent,
        acls=acls,
        rights=rights,
        catalog_node=catalog_node,
        clock=clock.difference,
        own_address=_own_address(target, at_agent=True),
        own_catalog_address=_own_address(target, at_agent=False),
        stranger=_stranger(access.send, target, leader, "/version"),
        service=service,
    )


def _tried(ask: Callable[[], T]) -> T | ConsulAccessError:
    """The answer, or the error that stands for it."""
    try:
        return ask()
    except ConsulAccessError as error:
        return error


class _Clock:
    """Compares the server's clock with ours while a call is made."""

    def __init__(self) -> None:
        self.difference: float | None = None

    def beside(self, call: Call[T]) -> Call[T]:
        """The same call, to be sent at once."""
        import time

        from consul_access.rules.diagnosing import clock_difference

        sent = time.time()

        def read(reply: Reply) -> T:
            self.difference = clock_difference(reply.headers.get("Date"), sent, time.time())
            return call.read(reply)

        return call._replace(read=read)


def _stranger(send: _Send, target: Target, failure: object, path: str) -> str:
    """What else answers there, when something does, and not as it should.

    Args:
        send: how to ask it.
        target: where it is.
        failure: what was made of its answer.
        path: what the others are asked for: `/version` is etcd's.
    """
    from consul_access.call import Call
    from consul_access.rules.diagnosing import may_be_another, what_answers

    if not isinstance(failure, ConsulAccessError) or not may_be_another(failure):
        return ""
    call = Call(
        name="what.answers",
        method="GET",
        path=path,
        statuses=frozenset(range(200, 600)),
        read=lambda reply: what_answers(reply.status, reply.text, reply.headers.get("Server", "")),
    )
    found = _tried(lambda: send(call, target=target))
    told = what_answers(failure.status or 0, failure.excerpt or "")
    return told if isinstance(found, ConsulAccessError) else found or told


def _ips(target: Target) -> tuple[str, ...]:
    """What the target's host name stands for; nothing for what is no name, or stands for nothing."""
    import socket

    from consul_access._pairs.sockets import look_up

    if target.unix_path is not None:
        return ()
    try:
        return tuple(dict.fromkeys(str(where[0]) for _, where in look_up(target.address.host, target.address.port)))
    except socket.gaierror:  # asking the server tells that better
        return ()


def _own_address(target: Target, *, at_agent: bool) -> str | ConsulAccessError | None:
    """The address that would be registered from here; None for the agent's own."""
    from consul_access._pairs.sockets import route_source
    from consul_access.rules.addressing import own_address

    local = at_agent and target.is_local
    ips = _ips(target)
    source = route_source(ips[0], target.address.port) if ips and not local else None
    try:
        return own_address(None, environ=os.environ, agent_is_local=local, route_source=source)
    except InvalidInput as error:
        return error


# --- etcd -------------------------------------------------------------------------------------------------


def _etcd(
    report: _Report, endpoints: str | None, cacert: str | None, cert: str | None, key: str | None, *, timeout: float
) -> None:
    from consul_access import RetryPolicy
    from consul_access.rules.diagnosing import etcd_modes, etcd_remarks

    with opened_etcd(endpoints, cacert, cert, key, timeout=timeout, retry=RetryPolicy.none()) as client:
        facts = _etcd_facts(client)
    report.remarks.extend(etcd_remarks(facts))
    report.modes.extend(etcd_modes(facts))
    for member in facts.members:
        report.servers[f"etcd {member.address}"] = {
            "address": member.address,
            "answers": member.failure is None,
            "version": member.version or None,
            "leader": f"{member.leader:x}" if member.leader else None,
            "clock_difference": member.clock,
        }
        if member.failure is not None:
            report.failures.append(member.failure)
    if facts.reading is not None:
        report.failures.append(facts.reading)


def _etcd_facts(client: EtcdRegistry) -> EtcdFacts:
    from consul_access.rules.diagnosing import EtcdFacts

    members = tuple(_member(client, target) for target in client.settings.targets)
    answering = any(member.failure is None for member in members)
    reading = _tried(client.services) if answering else None
    return EtcdFacts(
        members=members,
        prefix=client.settings.prefix,
        reading=reading if isinstance(reading, ConsulAccessError) else None,
        own_address=_own_address(client.settings.targets[0], at_agent=False),
    )


def _member(client: EtcdRegistry, target: Target) -> MemberState:
    from consul_access.etcd import cluster
    from consul_access.rules.diagnosing import MemberState

    clock = _Clock()
    status = _tried(lambda: client.send(clock.beside(cluster.status()), target=target))
    if isinstance(status, ConsulAccessError):
        stranger = _stranger(client.send, target, status, "/v1/status/leader")
        return MemberState(address=str(target), failure=status, stranger=stranger)
    return MemberState(
        address=str(target),
        version=status.version,
        cluster=status.cluster_id,
        leader=status.leader,
        complaints=status.errors,
        clock=clock.difference,
    )


# --- telling it -------------------------------------------------------------------------------------------


def _print_json(report: _Report) -> None:
    print_json(
        {
            "settings": {name: [origin._asdict() for origin in settings] for name, settings in report.settings.items()},
            "servers": list(report.servers.values()),
            "rights": report.rights,
            "modes": [verdict._asdict() for verdict in report.modes],
            "remarks": [remark._asdict() for remark in report.remarks],
        }
    )


def _print(report: _Report) -> None:
    for name, settings in report.settings.items():
        _section(("SETTING", "VALUE", "FROM"), ((f"{name}: {one.setting}", one.value, one.source) for one in settings))
    _section(("SERVER", "VERSION", "LEADER", "CLOCK"), map(_server, report.servers.values()))
    _section(("RIGHT", "GRANTED"), ((right, "yes" if granted else "no") for right, granted in report.rights.items()))
    _section(("MODE", "FROM HERE", "BECAUSE"), ((one.mode, _MARKS[one.works], one.because) for one in report.modes))
    if not report.remarks:
        print_line("no fault was found")
    for number, remark in enumerate(report.remarks, 1):
        print_line(f"{number}. {remark.severity.value}: {remark.text}")
        if remark.remedy:
            print_line(f"   -> {remark.remedy}")
    told = {remark.remedy for remark in report.remarks}
    for remedy, modes in _remedies(report.modes).items():
        if remedy not in told:
            print_line(f"for mode {' and '.join(modes)}: {remedy}")


def _remedies(modes: Iterable[ModeVerdict]) -> dict[str, list[str]]:
    """What would make more of them work, each thing once."""
    found: dict[str, list[str]] = {}
    for verdict in modes:
        if verdict.remedy:
            found.setdefault(verdict.remedy, []).append(verdict.mode)
    return found


def _section(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A table and an empty line; nothing when there are no rows."""
    listed = list(rows)
    if listed:
        print_table(columns, listed)
        print_line("")


def _server(server: dict[str, object]) -> tuple[str, ...]:
    clock = server["clock_difference"]
    told = "" if clock is None else "in step" if not clock else f"{clock:+.0f} s"
    version = str(server["version"] or ("not told" if server["answers"] else "no answer"))
    return str(server["address"]), version, str(server["leader"] or ""), told
