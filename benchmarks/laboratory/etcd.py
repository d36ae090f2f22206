"""Meetings with etcd."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence

from benchmarks.laboratory.judging import (
    ETCD,
    PROMISED,
    Meeting,
    Meetings,
    alone,
    is_foreign,
    longest,
    raised,
    should_be_refused,
    should_be_right,
)
from benchmarks.laboratory.process import Process, running
from tests.faults.comparing import Met
from tests.support.etcd import NEWER, EtcdCluster, EtcdServer, encoded
from tools.ports import free_ports

NUMBERS = range(1, 6)


def await_events(asked: Process, member: EtcdServer) -> None:
    """Until a watch has begun: there is no other way to know."""
    while not asked.ask("told")["told"]:
        member.put("web/web-0", "0")
        time.sleep(0.1)


def all_seen(asked: Process, wanted: set[str], within: float = 40.0) -> Met:
    """How many events were lost, and how long the last one took."""
    since = time.monotonic()
    seen: list[tuple[float, str]] = []
    while time.monotonic() - since < within:
        seen = [(when, found[0]) for when, found, _ in asked.ask("told")["told"] if isinstance(found, list) and found]
        if wanted <= {name for _, name in seen}:
            took = max(0.0, max(when for when, name in seen if name in wanted) - since)
            return Met(f"0 of {len(wanted)} lost, {took:.1f} s after the return", seconds={"followed": took})
        time.sleep(0.05)
    lost = len(wanted - {name for _, name in seen})
    return Met(f"{lost} of {len(wanted)} lost ({within:g} s)", bad=lost)


def events_of(fault: Callable[[EtcdServer, list[EtcdServer]], None], *, members: int = 1) -> Meeting:
    """Both follow events of one member, while something happens; then there are five more."""

    def meeting(clients: Sequence[str]) -> dict[str, Met]:
        with EtcdServer(NEWER) if members == 1 else EtcdCluster(NEWER) as servers, contextlib.ExitStack() as stack:
            all_members = servers.members if isinstance(servers, EtcdCluster) else [servers]
            bound = all_members[0]
            watching = {name: stack.enter_context(running(name, bound.host, bound.port)) for name in clients}
            for asked in watching.values():
                asked.ask("follow")
                await_events(asked, bound)
            fault(bound, all_members)
            for number in NUMBERS:
                persistently(lambda number=number: bound.put(f"web/web-{number}", "1"))
            wanted = {f"web-{number}" for number in NUMBERS}
            return {client: all_seen(asked, wanted) for client, asked in watching.items()}

    return meeting


def persistently(work: Callable[[], object]) -> None:
    """Until it is possible: there may be an election."""
    while True:
        try:
            work()
        except (AssertionError, OSError):
            time.sleep(0.05)
        else:
            return


def away(bound: EtcdServer, _: object) -> None:
    bound.kill()
    time.sleep(3)
    bound.run()


def compacted(bound: EtcdServer, _: object) -> None:
    """What was written in between cannot be read as events any more."""
    bound.kill()
    bound.run()
    for number in NUMBERS:
        bound.put(f"web/web-{number}", "0")
    bound.compact()


def etcd_leader_killed(bound: EtcdServer, members: list[EtcdServer]) -> None:
    """Another one than the one that is asked."""
    while (leader := leading(members)) is bound:
        other = next(one for one in members if one is not bound)
        bound.call("/v3/maintenance/transfer-leadership", {"targetID": member_id(other)})
    leader.kill()
    time.sleep(3)


def leading(members: list[EtcdServer]) -> EtcdServer:
    while True:
        for member in members:
            status = member.call("/v3/maintenance/status")
            if status.get("leader") == status["header"]["member_id"]:
                return member


def member_id(member: EtcdServer) -> str:
    return str(member.call("/v3/maintenance/status")["header"]["member_id"])


def of_a_frozen_member(clients: Sequence[str]) -> dict[str, Met]:
    """Whether a list that cannot be confirmed says so, and how long a read takes."""
    return flagged_and_read(clients, lambda members: members[0].pause(), lambda members: members[0].resume(), 1)


def of_a_lost_quorum(clients: Sequence[str]) -> dict[str, Met]:
    def undo(members: list[EtcdServer]) -> None:
        for member in members[1:]:
            member.launch()

    def fault(members: list[EtcdServer]) -> None:
        for member in members[1:]:
            member.kill()

    return flagged_and_read(clients, fault, undo, 3)


def flagged_and_read(
    clients: Sequence[str],
    fault: Callable[[list[EtcdServer]], None],
    undo: Callable[[list[EtcdServer]], None],
    members: int,
) -> dict[str, Met]:
    with EtcdServer(NEWER) if members == 1 else EtcdCluster(NEWER) as servers, contextlib.ExitStack() as stack:
        all_members = servers.members if isinstance(servers, EtcdCluster) else [servers]
        place = all_members[0].host, all_members[0].port
        reading = {client: stack.enter_context(running(client, *place)) for client in clients}
        following = {client: stack.enter_context(running(client, *place)) for client in clients}
        for asked in (*reading.values(), *following.values()):
            asked.ask("reads", times=1, pause=0)
        for asked in following.values():
            asked.ask("follow_list")
        time.sleep(2)
        fault(all_members)
        for asked in reading.values():
            asked.tell("reads", times=1, pause=0)
        begun = time.monotonic()
        time.sleep(25)
        flags = {client: first_flag(asked, begun) for client, asked in following.items()}
        undo(all_members)
        found = {client: asked.answer(60)["reads"] for client, asked in reading.items()}
    mets = {}
    for client, reads in found.items():
        after = flags[client]
        said = f"flagged after {after:.1f} s" if after is not None else "no flag"
        mets[client] = Met(
            f"{said}; a read: {', '.join(raised(reads)) or 'answered'} after {longest(reads):.1f} s",
            bad=int(after is None) + (longest(reads) > PROMISED),
            failed=sum(is_foreign(one) for one in raised(reads)),
        )
    return mets


def first_flag(asked: Process, since: float) -> float | None:
    return next((when - since for when, _, flag in asked.ask("told")["told"] if flag and when > since), None)


def of_a_frozen_process(client: str) -> Met:
    with EtcdServer(NEWER) as server, running(client, server.host, server.port) as asked:
        asked.ask("keep")
        asked.process.send_signal(signal.SIGSTOP)
        time.sleep(9)
        asked.process.send_signal(signal.SIGCONT)
        begun = time.monotonic()
        while (took := time.monotonic() - begun) < 30:
            if server.call("/v3/kv/range", {"key": "AA==", "range_end": "AA=="}).get("kvs"):
                return Met(f"back after {took:.1f} s", seconds={"back": took})
            time.sleep(0.05)
    return Met("never back (30 s)", bad=1)


def of_a_login_that_ends(client: str) -> Met:
    with EtcdServer(NEWER, token_ttl=4) as server:
        server.enable_users({"ann": ("annpw", "ann/")})
        server.put("ann/ann-1", "1")
        with running(client, server.host, server.port, user="ann", password="annpw") as asked:
            reads = asked.ask("reads", times=1, pause=0, name="ann")["reads"]
            server.outlast_tokens("ann", "annpw")
            reads += asked.ask("reads", times=1, pause=0, name="ann")["reads"]
    return should_be_right(reads, ["ann-1"])


def of_large_events(client: str) -> Met:
    with EtcdServer(NEWER) as server, running(client, server.host, server.port) as asked:
        asked.ask("follow")
        await_events(asked, server)
        for number in range(10):
            server.put(f"web/large-{number}", "x" * 100_000)
        puts = [{"request_put": {"key": encoded(f"web/small-{n}"), "value": encoded("1")}} for n in range(100)]
        server.call("/v3/kv/txn", {"success": puts})
        wanted = {f"large-{number}" for number in range(10)} | {f"small-{number}" for number in range(100)}
        return all_seen(asked, wanted)


def of_a_refused_etcd(client: str) -> Met:
    with running(client, "127.0.0.1", free_ports(1)[0]) as asked:
        return should_be_refused(asked.ask("reads", times=1, pause=0)["reads"])


MEETINGS: Meetings = {
    "E01": (ETCD, events_of(away, members=3)),
    "E02": (ETCD, events_of(away)),
    "E03": (ETCD, events_of(etcd_leader_killed, members=3)),
    "E04": (ETCD, events_of(compacted)),
    "E05": (ETCD, of_a_frozen_member),
    "E06": (ETCD, of_a_lost_quorum),
    "E07": (ETCD, alone(of_a_frozen_process)),
    "E08": (ETCD, alone(of_a_login_that_ends)),
    "E09": (ETCD, alone(of_large_events)),
    "E10": (ETCD, alone(of_a_refused_etcd)),
}
