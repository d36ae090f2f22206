"""What happens to each client in each scenario of the fault laboratory.

A meeting makes a fault, has clients go through it, and says what became of them. Where chance has a say (which server
an agent asks, who is elected), both clients go through the same fault at the same time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import posixpath
import signal
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import trustme

from benchmarks.faults_process import Hung, Process, Unmade, running
from tests.faults.comparing import Met
from tests.support.agents import ConsulAgent
from tests.support.awkward import AWKWARD, REFUSED
from tests.support.black_hole import BlackHole
from tests.support.cluster import Cluster, Member
from tests.support.counting import Counting
from tests.support.etcd import NEWER, EtcdCluster, EtcdServer, encoded
from tests.support.many import connections, written
from tests.support.registry import PlayedRegistry, entry, listed
from tests.support.scripted import (
    Connection,
    ScriptedServer,
    Step,
    answer,
    drip_body,
    drip_headers,
    endless,
    gzip_bomb,
    hang_up_after,
    later,
    never,
    reset,
    truncate,
)
from tools.ports import free_ports

MEBIBYTE = 1024 * 1024
TOKEN = "canary-of-the-peers-1"
PROMISED = 12.0
"""Seconds within which a call has ended, whatever happens."""
CONSUL, ETCD = ("ours", "py-consul"), ("ours-etcd", "etcd3")
ENTRY: dict[str, Any] = {
    "Node": {"Node": "n1", "Address": "10.0.0.1"},
    "Service": {"ID": "web-1", "Service": "web", "Address": "10.0.0.5", "Port": 8080},
    "Checks": [],
}
ONE = json.dumps([ENTRY]).encode()
GOOD = ["10.0.0.5:8080"]
Meeting = Callable[[Sequence[str]], dict[str, Met]]


def alone(meet: Callable[[str], Met]) -> Meeting:
    """Each client goes through it by itself."""

    def meeting(clients: Sequence[str]) -> dict[str, Met]:
        found = {}
        for client in clients:
            try:
                found[client] = meet(client)
            except Hung as error:
                found[client] = Met(str(error), bad=1)
            except Unmade as error:
                found[client] = Met(f"cannot be made: {error}", bad=1)
        return found

    return meeting


# --- reads, in words and as numbers ---------------------------------------------------------------------------

Read = tuple[float, float, Any]
"""When it began and ended, and what it brought: a list, or the error's name."""


def is_foreign(found: object) -> bool:
    """Whether it is an error of somebody else's."""
    return isinstance(found, str) and "." in found


def raised(reads: Sequence[Read]) -> list[str]:
    return [found for _, _, found in reads if isinstance(found, str)]


def longest(reads: Sequence[Read]) -> float:
    return max(ended - begun for begun, ended, _ in reads)


def late(reads: Sequence[Read]) -> int:
    return sum(ended - begun > PROMISED for begun, ended, _ in reads)


def wrong(reads: Sequence[Read], *right: object) -> list[Any]:
    return [found for _, _, found in reads if not isinstance(found, str) and found not in right]


def in_words(reads: Sequence[Read], *right: object) -> str:
    errors, odd = Counter(raised(reads)), wrong(reads, *right)
    parts = [f"{sum(errors.values())} of {len(reads)} raised ({', '.join(sorted(errors))})"] if errors else []
    parts += [f"{len(odd)} of {len(reads)} wrong: {json.dumps(odd[0])}"] if odd else []
    return f"{'; '.join(parts or [f'{len(reads)} of {len(reads)} right'])}; {longest(reads):.1f} s at most"


def should_be_right(reads: Sequence[Read], right: object) -> Met:
    """A good answer was to be had."""
    return Met(in_words(reads, right), bad=len(wrong(reads, right)), failed=len(raised(reads)))


def should_be_refused(reads: Sequence[Read]) -> Met:
    """Nothing good was to be had: an error of the client's own, in time, is right. Sooner is not better."""
    foreign = sum(is_foreign(found) for _, _, found in reads)
    return Met(in_words(reads), bad=len(reads) - len(raised(reads)) + late(reads), failed=foreign)


# --- one call and a bad answer --------------------------------------------------------------------------------


class Indexed(Connection):
    """Adds the index that every answer of an agent's has; without it py-consul reads none."""

    def send(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            data = data.replace(b"\r\n", b"\r\nX-Consul-Index: 7\r\n", 1)
        super().send(data)


def indexed(step: Step) -> Step:
    return lambda connection: step(Indexed(connection.sock, connection.ended))


def reads_of(steps: Sequence[Step], times: int) -> Callable[[str], tuple[list[Read], float]]:
    """Reads from a server that does this; and the mebibytes that they took."""

    def meet(client: str) -> tuple[list[Read], float]:
        with (
            ScriptedServer([indexed(step) for step in steps]) as server,
            running(client, "127.0.0.1", server.port) as asked,
        ):
            begun = asked.ask("reads", times=0, pause=0)["memory"]
            found = asked.ask("reads", times=times, pause=0)
        return found["reads"], (found["memory"] - begun) / MEBIBYTE

    return meet


def well(*steps: Step, times: int) -> Meeting:
    """Errors and odd answers that a client should get over by itself."""
    return alone(lambda client: should_be_right(reads_of(steps, times)(client)[0], GOOD))


def refused(*steps: Step) -> Meeting:
    """Answers that are none."""
    return alone(lambda client: should_be_refused(reads_of(steps, 1)(client)[0]))


def bounded(*steps: Step) -> Meeting:
    """Answers that are too long: they must not be taken in."""

    def meet(client: str) -> Met:
        reads, grown = reads_of(steps, 1)(client)
        met = should_be_refused(reads)
        return Met(f"{met.said}; +{grown:.0f} MB", bad=met.bad + (grown > 64), failed=met.failed)

    return alone(meet)


def of_an_impossible_port(client: str) -> Met:
    reads, _ = reads_of([answer(body=ONE.replace(b"8080", b"99999"))], 1)(client)
    return Met(in_words(reads, []), bad=len(wrong(reads, [])))


def of_an_index_that_stands(client: str) -> Met:
    with ScriptedServer([indexed(answer(body=ONE))]) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow")
        time.sleep(5)
        requests = len(server.requests)
    return Met(f"{requests:,} requests in 5 s", bad=int(requests > 4))


def of_an_index_that_goes_back(client: str) -> Met:
    moments: list[float] = []

    def play(_: object, query: dict[str, list[str]]) -> Step:
        index = query.get("index", [""])[0]
        if index == "1000":
            return later(0.2, listed(entry(2, "web"), index=7), moments)
        if not index:
            return listed(entry(2, "web"), index=8) if moments else listed(entry(1, "web"), index=1000)
        return never()

    with PlayedRegistry(play) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow")
        return followed(asked, lambda: moments[0] if moments else None, lambda ids: ids == ["web-2"], within=10)


def of_a_redirected_read(client: str) -> Met:
    with ScriptedServer([indexed(answer(body=ONE))]) as elsewhere:
        moved = answer(302, b"", {"Location": f"{elsewhere.url}/v1/health/service/web"})
        with ScriptedServer([moved]) as server, running(client, "127.0.0.1", server.port) as asked:
            return with_token(elsewhere, should_be_refused(asked.ask("reads", times=1, pause=0)["reads"]))


def of_a_redirected_write(client: str) -> Met:
    with ScriptedServer([answer(body=b"")]) as elsewhere:
        moved = answer(307, b"", {"Location": f"{elsewhere.url}/v1/agent/service/register"})
        with ScriptedServer([moved]) as server, running(client, "127.0.0.1", server.port) as asked:
            error = asked.ask("register")["error"]
            met = Met(error or "no error", bad=int(error is None), failed=int(is_foreign(error)))
            return with_token(elsewhere, met)


def with_token(elsewhere: ScriptedServer, met: Met) -> Met:
    """The same, and whether a stranger has been given the token."""
    leaked = any(TOKEN in str(request.headers) for request in elsewhere.requests)
    said = f"{met.said}; {'the token went to the other host' if leaked else 'the token stayed'}"
    return Met(said, bad=met.bad + leaked, failed=met.failed)


def of_a_lost_answer(client: str) -> Met:
    with ScriptedServer([reset(), answer(body=b"")]) as server, running(client, "127.0.0.1", server.port) as asked:
        error = asked.ask("register")["error"]
    return Met(error or "no error", failed=int(error is not None))


def of_a_lost_answer_to_a_condition(client: str) -> Met:
    with ScriptedServer([reset(), answer(body=b"true")]) as server, running(client, "127.0.0.1", server.port) as asked:
        error = asked.ask("exchange")["error"]
    sent = len(server.requests)
    said = f"{error or 'no error'}; sent {sent} times"
    return Met(said, bad=(sent > 1) + (error is None), failed=int(is_foreign(error)))


def of_awkward_names(client: str) -> Met:
    with ConsulAgent() as agent:
        for number, name in enumerate(AWKWARD):
            agent.register(name, id=f"awkward-{number}", port=80, address="10.0.0.5")
        with running(client, "127.0.0.1", agent.port) as asked:
            found = asked.ask("names", names=AWKWARD)["found"]
            odd = asked.ask("names", names=REFUSED)["found"]
    right = sum(one["found"] == [name] for name, one in zip(AWKWARD, found, strict=True))
    believed = [name for name, one in zip(REFUSED, odd, strict=True) if one["error"] is None]
    said = f"{right} of {len(AWKWARD)} found; {len(REFUSED) - len(believed)} of {len(REFUSED)} impossible ones refused"
    return Met(said, bad=len(AWKWARD) - right + len(believed))


KEYS = ["a b", "a?b", "a#b", "a%2Fb", "ä", "a+b", "..", "a/../b", "../agent/self", "a//b", "a\nb"]
"""Of these the first six can be asked for."""


def of_awkward_paths(client: str) -> Met:
    with ScriptedServer([indexed(answer(404, b""))]) as server, running(client, "127.0.0.1", server.port) as asked:
        astray, refusals = [], 0
        for key in KEYS:
            before = len(server.requests)
            asked.ask("keys", keys=[key])
            sent = {unquote(urlsplit(request.target).path) for request in server.requests[before:]}
            refusals += not sent
            if sent and {posixpath.normpath(path) for path in sent} != {f"/v1/kv/{key}"}:
                astray.append(key)
    lost = max(0, refusals - (len(KEYS) - 6))
    said = f"{len(astray)} of {len(KEYS)} led astray ({', '.join(map(repr, astray))})" if astray else (
        f"{len(KEYS) - refusals} asked for, {refusals} refused"
    )  # fmt: skip
    return Met(said, bad=len(astray), failed=lost)


def of_a_token_that_is_looked_for(client: str) -> Met:
    with ScriptedServer([indexed(answer(body=ONE))]) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("reads", times=1, pause=0)
        places = asked.ask("shows", secret=TOKEN)["places"]
    return Met(f"seen in {len(places)} places" + (f": {places[0]}" if places else ""), bad=len(places))


def of_a_hundred_threads(client: str) -> Met:
    with ConsulAgent() as agent, running(client, "127.0.0.1", agent.port) as asked:
        for number in range(10):
            agent.register(f"s{number}", id=f"s{number}-1", port=80, address="10.0.0.5")
        found = asked.ask("threads", number=100, times=20)
    failed = 2000 - found["right"] - found["wrong"]
    return Met(f"{found['right']:,} of 2,000 right, {failed} raised", bad=found["wrong"], failed=failed)


def of_a_fork(client: str) -> Met:
    with ConsulAgent() as agent, running(client, "127.0.0.1", agent.port) as asked:
        for name in "ab":
            agent.register(name, port=80, address="10.0.0.5")
        others = asked.ask("fork", times=150)["wrong"]
    return Met(f"{others} of 300 answers were the other one's", bad=others)


def of_a_refused_connection(client: str) -> Met:
    with running(client, "127.0.0.1", free_ports(1)[0]) as asked:
        return should_be_refused(asked.ask("reads", times=1, pause=0)["reads"])


def of_a_black_hole(client: str) -> Met:
    with contextlib.ExitStack() as stack, running(client, "127.0.0.1", BlackHole(stack).port) as asked:
        return should_be_refused(asked.ask("reads", times=1, pause=0)["reads"])


def of_wrong_tls(client: str) -> Met:
    """A foreign authority, another name, and a port that speaks plain HTTP."""
    authority, stranger = trustme.CA(), trustme.CA()
    contexts = []
    for certificate in (stranger.issue_cert("127.0.0.1"), authority.issue_cert("10.0.0.5")):
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        certificate.configure_cert(contexts[-1])
    reads, told = [], 0
    with tempfile.TemporaryDirectory() as folder:
        trusted = Path(folder) / "authority.pem"
        authority.cert_pem.write_to_path(trusted)
        for context in (*contexts, None):
            with (
                ScriptedServer([indexed(answer(body=ONE))], tls=context) as server,
                running(client, "127.0.0.1", server.port, ca=str(trusted)) as asked,
            ):
                reads += asked.ask("reads", times=1, pause=0)["reads"]
            told += len(server.requests)
    met = should_be_refused(reads)
    return Met(f"{met.said}; {told} requests sent", bad=met.bad + told, failed=met.failed)


def of_a_proxy_in_the_environment(client: str) -> Met:
    with ScriptedServer([indexed(answer(body=ONE))]) as proxy, ScriptedServer([indexed(answer(body=ONE))]) as server:
        environ = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "NO_PROXY": "", "no_proxy": ""}
        with running(client, "127.0.0.1", server.port, environ=environ) as asked:
            reads = asked.ask("reads", times=1, pause=0)["reads"]
        met = should_be_right(reads, GOOD)
        leaked = sum(TOKEN in str(request.headers) for request in proxy.requests)
    said = "the proxy was given the token" if leaked else "the proxy saw nothing"
    return Met(said, bad=met.bad + leaked, failed=met.failed)


def of_an_outage(client: str) -> Met:
    with ConsulAgent(server=True) as agent, running(client, "127.0.0.1", agent.port) as asked:
        register(agent, 1)
        asked.ask("follow")
        await_told(asked)
        agent.kill()
        time.sleep(15)
        agent.run()
        register(agent, 2)
        since = time.monotonic()
        return flagged(asked, followed(asked, lambda: since, lambda ids: "web-2" in ids))


def of_a_list_that_vanishes(client: str) -> Met:
    moments: list[float] = []

    def play(_: object, query: dict[str, list[str]]) -> Step:
        index = query.get("index", [""])[0]
        if index == "75":
            return later(0.2, listed(index=11), moments)
        if moments:
            return never() if index else listed(index=11)
        return listed(*(entry(number, "web") for number in range(1, 11)), index=75)

    with PlayedRegistry(play) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow")
        await_told(asked)
        time.sleep(5)
        told = asked.ask("told")["told"]
    emptied = any(found == [] for _, found, _ in told)
    is_flagged = any(flag for _, _, flag in told)
    said = f"{'0 instances' if emptied else '10 instances'}, {'flagged' if is_flagged else 'no flag'}"
    return Met(said, bad=int(emptied) + (not is_flagged))


def of_a_half_open_watch(client: str) -> Met:
    silent: list[float] = []

    def play(_: object, query: dict[str, list[str]]) -> Step:
        if "index" in query and not silent:
            silent.append(time.monotonic())
        return never() if "index" in query else listed(entry(1, "web"))

    with PlayedRegistry(play) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow", wait=10)
        until = time.monotonic() + 70
        while time.monotonic() < until:
            watching = [
                when
                for request, when in zip(server.requests, server.times, strict=False)
                if silent and when > silent[0] + 0.5 and "/v1/health" in request.target
            ]
            if watching:
                after = watching[0] - silent[0]
                return Met(f"asked again after {after:.1f} s", seconds={"noticed": after})
            time.sleep(0.1)
    return Met("not noticed in 70 s", bad=1)


def of_a_half_open_connection(client: str) -> Met:
    reads, _ = reads_of([answer(body=ONE), never(), answer(body=ONE)], 3)(client)
    met = should_be_refused(reads[1:2])
    right = [found for _, _, found in (reads[0], reads[2])] == [GOOD, GOOD]
    return Met(met.said, bad=met.bad + (not right), failed=met.failed)


# --- a list that is followed ----------------------------------------------------------------------------------


def register(member: Any, number: int) -> None:
    """As soon as that is possible."""
    while True:
        with contextlib.suppress(OSError, AssertionError):
            member.register("web", id=f"web-{number}", port=8000 + number, address="10.0.0.5")
            if any(entry["ServiceID"] == f"web-{number}" for entry in member.read("/v1/catalog/service/web")):
                return
        time.sleep(0.05)


def await_told(asked: Process) -> None:
    """Until it has seen a list."""
    while not any(isinstance(found, list) and found for _, found, _ in asked.ask("told")["told"]):
        time.sleep(0.05)


def followed(
    asked: Process, since: Callable[[], float | None], is_it: Callable[[Any], bool], within: float = 100.0
) -> Met:
    """How long after a moment something was told."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        begun = since()
        for when, found, _ in asked.ask("told")["told"]:
            if begun is not None and isinstance(found, list) and is_it(found):
                after = max(0.0, when - begun)
                return Met(f"followed {after:.1f} s after the change", seconds={"followed": after})
        time.sleep(0.05)
    return Met(f"not followed within {within:g} s", bad=1)


def flagged(asked: Process, met: Met) -> Met:
    """The same, and whether a list that was old said so and was never empty."""
    told = asked.ask("told")["told"]
    is_flagged, is_emptied = any(flag for _, _, flag in told), any(found == [] for _, found, _ in told)
    said = f"{met.said}, {'flagged' if is_flagged else 'no flag'}{', emptied' if is_emptied else ''}"
    return Met(said, bad=met.bad + is_emptied + (not is_flagged), failed=met.failed, seconds=met.seconds)


# --- Consul clusters ------------------------------------------------------------------------------------------

Fault = Callable[[Cluster], None]


def write(cluster: Cluster, number: int) -> None:
    """Registers at a node that no agent looks after, as soon as any server can."""
    service = {"ID": f"web-{number}", "Service": "web", "Address": "10.0.0.5", "Port": 8000 + number}
    body = {"Node": "external", "Address": "10.9.0.1", "Service": service}
    while True:
        for server in cluster.servers:
            with contextlib.suppress(OSError):
                if server.process and server.request("PUT", "/v1/catalog/register", body)[0] == 200:
                    return
        time.sleep(0.05)


def at_cluster(fault: Fault, *, needs_flag: bool = True, reads_fail: bool = True) -> Meeting:
    """Both clients read every 0.2 s and follow a list while something happens and after it.

    Args:
        fault: what happens; it is over when this returns.
        needs_flag: the list must say that it may be old.
        reads_fail: nobody can answer while it lasts, so that errors are right.
    """

    def meeting(clients: Sequence[str]) -> dict[str, Met]:
        with Cluster(client=True) as cluster, contextlib.ExitStack() as stack:
            assert cluster.agent is not None
            place = cluster.agent.host, cluster.agent.port
            write(cluster, 1)
            reading = {client: stack.enter_context(running(client, *place)) for client in clients}
            following = {client: stack.enter_context(running(client, *place)) for client in clients}
            for asked in following.values():
                asked.ask("follow")
                await_told(asked)
            for asked in reading.values():
                asked.ask("begin_reads", pause=0.2)
            fault(cluster)
            write(cluster, 2)
            since = time.monotonic()
            found = {}
            for client, asked in following.items():
                met = followed(asked, lambda: since, lambda ids: "web-2" in ids)
                found[client] = flagged(asked, met) if needs_flag else met
            for client, asked in reading.items():
                reads = asked.ask("end_reads")["reads"]
                found[client] = with_reads(found[client], reads, reads_fail=reads_fail)
            return found

    return meeting


def with_reads(met: Met, reads: list[Read], *, reads_fail: bool) -> Met:
    """The same, and what became of the look-ups; between the change and the last of them both lists are right."""
    right = ["10.0.0.5:8001"], ["10.0.0.5:8001", "10.0.0.5:8002"]
    good = [ended for _, ended, found in reads if found in right]
    silent = max(after - before for before, after in itertools.pairwise([reads[0][0], *good]))
    return Met(
        f"{in_words(reads, *right)}, without a right one for {silent:.1f} s; {met.said}",
        bad=met.bad + len(wrong(reads, *right)) + late(reads),
        failed=met.failed + sum(is_foreign(found) if reads_fail else 1 for found in raised(reads)),
        seconds={**met.seconds, "without a right answer": silent},
    )


def agent_killed(cluster: Cluster) -> None:
    assert cluster.agent is not None
    cluster.agent.kill()
    time.sleep(3)
    cluster.agent.run()


def leader_killed(cluster: Cluster) -> None:
    cluster.leader().kill()
    time.sleep(6)


def quorum_lost(cluster: Cluster) -> None:
    lost = cluster.servers[1:]
    for server in lost:
        server.kill()
    time.sleep(20)
    for server in lost:
        server.launch()
    for server in lost:
        server.await_ready()


def agent_frozen(cluster: Cluster) -> None:
    assert cluster.agent is not None
    cluster.agent.pause()
    time.sleep(40)
    cluster.agent.resume()


def servers_restarted(cluster: Cluster) -> None:
    for server in cluster.servers:
        server.kill()
        server.run()
        cluster.leader()
        cluster.await_whole()


def followers_frozen(cluster: Cluster) -> None:
    """One after the other: the agent asks one of them, or the leader."""
    frozen: list[Member] = []
    for _ in range(2):
        cluster.await_whole()
        frozen.append(next(server for server in cluster.followers() if server not in frozen))
        frozen[-1].pause()
        time.sleep(15)
        frozen[-1].resume()


def of_servers_that_lose_their_data(clients: Sequence[str]) -> dict[str, Met]:
    with Cluster(client=True) as cluster, contextlib.ExitStack() as stack:
        assert cluster.agent is not None
        register(cluster.agent, 1)
        place = cluster.agent.host, cluster.agent.port
        following = {client: stack.enter_context(running(client, *place)) for client in clients}
        for asked in following.values():
            asked.ask("follow")
            await_told(asked)
        for server in cluster.servers:
            server.kill()
            server.forget()
        for server in cluster.servers:
            server.launch()
        for server in cluster.servers:
            server.await_ready()
        cluster.leader()
        time.sleep(20)
        mets = {client: Met("", seconds={}) for client in clients}
        found = {client: flagged(following[client], met) for client, met in mets.items()}
        return {client: Met(met.said.removeprefix(", "), bad=met.bad) for client, met in found.items()}


def of_lost_data(client: str) -> Met:
    with ConsulAgent() as agent, running(client, "127.0.0.1", agent.port) as asked:
        asked.ask("keep")
        agent.restart()
        return back_again(agent)


def back_again(agent: ConsulAgent, within: float = 30.0) -> Met:
    """How soon a registration that was lost is there again."""
    begun = time.monotonic()
    while (took := time.monotonic() - begun) < within:
        if agent.read("/v1/agent/services"):
            return Met(f"registered again after {took:.1f} s", seconds={"back": took})
        time.sleep(0.02)
    return Met(f"lost ({within:g} s)", bad=1)


def of_tokens(client: str) -> Met:
    """One is revoked while it is used; and a client has none, and is told of no instance."""
    with ConsulAgent(acl=True) as agent:
        agent.register("web", id="web-1", port=8080, address="10.0.0.5")
        rules = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
        agent.request("PUT", "/v1/acl/policy", {"Name": "reading", "Rules": rules})
        token = json.loads(agent.request("PUT", "/v1/acl/token", {"Policies": [{"Name": "reading"}]})[1])
        with running(client, "127.0.0.1", agent.port, token=token["SecretID"]) as asked:
            before = asked.ask("reads", times=1, pause=0)["reads"]
            agent.request("DELETE", f"/v1/acl/token/{token['AccessorID']}")
            revoked = asked.ask("reads", times=1, pause=0)["reads"]
        with running(client, "127.0.0.1", agent.port, token=None) as asked:
            asked.ask("follow")
            without = asked.ask("reason")["reason"]
    met = should_be_refused(revoked)
    said = f"revoked: {', '.join(raised(revoked)) or 'believed'}; none: {without or 'an empty list, and no sign'}"
    return Met(said, bad=met.bad + (not without), failed=met.failed + len(raised(before)))


# --- etcd -----------------------------------------------------------------------------------------------------

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


# --- ways out of a process ------------------------------------------------------------------------------------


@contextlib.contextmanager
def counted(agent: ConsulAgent) -> Iterator[Counting]:
    counting = Counting(agent)
    thread = threading.Thread(target=counting.server.serve_forever)
    thread.start()
    try:
        yield counting
    finally:
        counting.server.shutdown()
        thread.join()
        counting.server.server_close()


@contextlib.contextmanager
def kept(client: str) -> Iterator[tuple[Process, ConsulAgent, Counting]]:
    """A process that keeps a registration, and its agent."""
    with (
        ConsulAgent() as agent,
        counted(agent) as counting,
        running(client, "127.0.0.1", int(counting.address.rpartition(":")[2])) as asked,
    ):
        asked.ask("keep")
        yield asked, agent, counting


def way_out(leave: Callable[[Process], object], code: int) -> Meeting:
    """The process is left like that; its exit code should be this one, and nothing be left behind."""

    def meet(client: str) -> Met:
        with kept(client) as (asked, agent, _):
            begun = time.monotonic()
            leave(asked)
            returned = asked.ended()
            took = time.monotonic() - begun
            left = bool(agent.read("/v1/agent/services"))
        said = f"{'left behind' if left else 'deregistered'}, exit code {returned} after {took:.1f} s"
        return Met(said, bad=int(left) + (returned != code), seconds={"exit": took})

    return alone(meet)


def by_signal(*numbers: signal.Signals) -> Meeting:
    def leave(asked: Process) -> None:
        for number in numbers:
            asked.process.send_signal(number)

    return way_out(leave, -numbers[0])


def by_order(*orders: str, code: int = 0, last: str = "end") -> Meeting:
    def leave(asked: Process) -> None:
        for order in orders:
            asked.ask(order)
        asked.tell(last, code=code)

    return way_out(leave, code)


def through_its_own_handler(asked: Process) -> None:
    asked.ask("handle")
    asked.process.send_signal(signal.SIGTERM)


def child_ends(order: str) -> Meeting:
    """A child of the process ends, which was not registered."""

    def meet(client: str) -> Met:
        with kept(client) as (asked, agent, _):
            asked.ask(order)
            time.sleep(0.5)  # for what the child may have asked for
            is_there = bool(agent.read("/v1/agent/services"))
        return Met("the parent stays registered" if is_there else "the parent was deregistered", bad=int(not is_there))

    return alone(meet)


def of_a_frozen_agent_at_the_end(client: str) -> Met:
    with ConsulAgent() as agent, running(client, "127.0.0.1", agent.port) as asked:
        asked.ask("keep")
        agent.pause()
        begun = time.monotonic()
        asked.process.send_signal(signal.SIGINT)
        asked.ended()
        took = time.monotonic() - begun
        agent.resume()
    return Met(f"exit after {took:.1f} s", seconds={"exit": took})


def of_a_refused_deregistration(client: str) -> Met:
    with kept(client) as (asked, agent, counting):
        counting.refuse_next = True
        asked.tell("end", code=0)
        asked.ended()
        left = bool(agent.read("/v1/agent/services"))
    return Met("left behind" if left else "deregistered at the second try", bad=int(left))


def of_a_lost_registration(client: str) -> Met:
    with kept(client) as (_, agent, _):
        agent.request("PUT", "/v1/agent/service/deregister/web-1")
        return back_again(agent, within=15)


# --- what others do not try -----------------------------------------------------------------------------------


def of_a_registration_that_is_not_seen(clients: Sequence[str]) -> dict[str, Met]:
    """The agent takes it, and there is no quorum that would."""
    with Cluster(client=True) as cluster, contextlib.ExitStack() as stack:
        assert cluster.agent is not None
        place = cluster.agent.host, cluster.agent.port
        keeping = {client: stack.enter_context(running(client, *place)) for client in clients}
        for server in cluster.servers[1:]:
            server.kill()
        for asked in keeping.values():
            asked.tell("keep")
        time.sleep(30)
        mets = {}
        for client, asked in keeping.items():
            error = asked.answer()["error"]
            said = error or asked.ask("kept")["said"] or "registered, and nothing says that nobody sees it"
            mets[client] = Met(said, bad=int(not (error or asked.ask("kept")["said"])))
        return mets


def of_300_watches(client: str) -> Met:
    names = [f"s{number}" for number in range(300)]
    changed = names[::30]
    with ConsulAgent() as agent, running(client, "127.0.0.1", agent.port) as asked:
        agent.source = "127.0.0.2"  # the client's own may have used up what it is allowed
        written(agent, names, 1)
        begun = time.monotonic()
        asked.ask("follow_many", names=names)
        while time.monotonic() < begun + 60 and len(asked.ask("seen")["seen"]) < len(names):
            time.sleep(0.2)
        served = len(asked.ask("seen")["seen"])
        most = connections(agent.port)
        for name in changed:
            agent.register(name, id=f"{name}-2", port=2, address="10.0.0.6")
        begun = time.monotonic()
        while time.monotonic() < begun + 60:
            seen = asked.ask("seen")["seen"]
            if all(seen.get(name) == 2 for name in changed):
                break
            time.sleep(0.2)
        took = time.monotonic() - begun
    news = sum(seen.get(name) == 2 for name in changed)
    said = f"{served} of 300 served over {most} connections; {news} of 10 changes seen within {took:.0f} s"
    return Met(said, bad=300 - served + 10 - news + (most > 64))


def of_ipv6(client: str) -> Met:
    with (
        ScriptedServer([indexed(answer(body=ONE))], host="::1") as server,
        running(client, "::1", server.port) as asked,
    ):
        return should_be_right(asked.ask("reads", times=1, pause=0)["reads"], GOOD)


# --- all of them ----------------------------------------------------------------------------------------------

MEETINGS: dict[str, tuple[tuple[str, str], Meeting]] = {
    "F01": (CONSUL, well(hang_up_after(answer(body=ONE)), times=20)),
    "F02": (CONSUL, well(*[answer(500, b"No cluster leader"), answer(body=ONE)] * 10, times=10)),
    "F03": (CONSUL, well(*[answer(429, b"slow down", {"Retry-After": "1"}), answer(body=ONE)] * 3, times=3)),
    "F04": (CONSUL, well(*[reset(), answer(body=ONE)] * 10, times=10)),
    "F05": (CONSUL, well(*[truncate(ONE), answer(body=ONE)] * 5, times=5)),
    "F06": (CONSUL, refused(answer(body=b"{}"))),
    "F07": (CONSUL, bounded(endless(200 * MEBIBYTE))),
    "F08": (CONSUL, bounded(gzip_bomb(512 * MEBIBYTE))),
    "F09": (CONSUL, refused(answer(body=b"[" * 100_000 + b"]" * 100_000))),
    "F10": (CONSUL, refused(never())),
    "F11": (CONSUL, refused(drip_body(ONE, 0.5))),
    "F12": (CONSUL, refused(drip_headers(0.5))),
    "F13": (CONSUL, alone(of_an_index_that_stands)),
    "F14": (CONSUL, alone(of_an_index_that_goes_back)),
    "F15": (CONSUL, alone(of_a_redirected_read)),
    "F16": (CONSUL, alone(of_a_redirected_write)),
    "F17": (CONSUL, alone(of_a_lost_answer)),
    "F18": (CONSUL, alone(of_a_lost_answer_to_a_condition)),
    "F19": (CONSUL, alone(of_awkward_names)),
    "F20": (CONSUL, alone(of_awkward_paths)),
    "F21": (CONSUL, alone(of_a_token_that_is_looked_for)),
    "F22": (CONSUL, alone(of_an_impossible_port)),
    "F23": (CONSUL, alone(of_a_hundred_threads)),
    "F24": (CONSUL, alone(of_a_fork)),
    "F25": (CONSUL, alone(of_a_refused_connection)),
    "F26": (CONSUL, alone(of_a_black_hole)),
    "F27": (CONSUL, alone(of_wrong_tls)),
    "F28": (CONSUL, alone(of_a_proxy_in_the_environment)),
    "F29": (CONSUL, alone(of_an_outage)),
    "F30": (CONSUL, alone(of_a_list_that_vanishes)),
    "F31": (CONSUL, alone(of_a_half_open_watch)),
    "F32": (CONSUL, alone(of_a_half_open_connection)),
    "C01": (CONSUL, at_cluster(agent_killed)),
    "C02": (CONSUL, alone(of_lost_data)),
    "C03": (CONSUL, at_cluster(leader_killed, needs_flag=False, reads_fail=False)),
    "C04": (CONSUL, at_cluster(quorum_lost)),
    "C05": (CONSUL, at_cluster(agent_frozen)),
    "C06": (CONSUL, of_servers_that_lose_their_data),
    "C07": (CONSUL, alone(of_tokens)),
    "C08": (CONSUL, at_cluster(servers_restarted, needs_flag=False, reads_fail=False)),
    "C09": (CONSUL, at_cluster(followers_frozen, needs_flag=False)),
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
    "L01": (CONSUL, by_order()),
    "L02": (CONSUL, by_signal(signal.SIGTERM)),
    "L03": (CONSUL, by_signal(signal.SIGINT)),
    "L04": (CONSUL, by_signal(signal.SIGHUP)),
    "L05": (CONSUL, by_order(last="exit", code=3)),
    "L06": (CONSUL, by_order(last="fail", code=1)),
    "L07": (CONSUL, by_order("fail_in_a_thread")),
    "L08": (CONSUL, by_signal(signal.SIGTERM, signal.SIGTERM)),
    "L09": (CONSUL, child_ends("fork_and_exit")),
    "L10": (CONSUL, child_ends("multiply")),
    "L12": (CONSUL, way_out(through_its_own_handler, 7)),
    "L13": (CONSUL, alone(of_a_frozen_agent_at_the_end)),
    "L14": (CONSUL, alone(of_a_refused_deregistration)),
    "L15": (CONSUL, alone(of_a_lost_registration)),
    "N03": (CONSUL, of_a_registration_that_is_not_seen),
    "N05": (CONSUL, alone(of_300_watches)),
    "N09": (CONSUL, alone(of_ipv6)),
}
