"""Meetings in clusters of Consul, and with agents that lose something."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Sequence

from benchmarks.laboratory.following import await_told, flagged, followed, register
from benchmarks.laboratory.judging import (
    CONSUL,
    Meeting,
    Meetings,
    Read,
    alone,
    back_again,
    in_words,
    is_foreign,
    late,
    raised,
    should_be_refused,
    wrong,
)
from benchmarks.laboratory.process import running
from tests.faults.comparing import Met
from tests.support.agents import ConsulAgent
from tests.support.cluster import Cluster, Member

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


MEETINGS: Meetings = {
    "C01": (CONSUL, at_cluster(agent_killed)),
    "C02": (CONSUL, alone(of_lost_data)),
    "C03": (CONSUL, at_cluster(leader_killed, needs_flag=False, reads_fail=False)),
    "C04": (CONSUL, at_cluster(quorum_lost)),
    "C05": (CONSUL, at_cluster(agent_frozen)),
    "C06": (CONSUL, of_servers_that_lose_their_data),
    "C07": (CONSUL, alone(of_tokens)),
    "C08": (CONSUL, at_cluster(servers_restarted, needs_flag=False, reads_fail=False)),
    "C09": (CONSUL, at_cluster(followers_frozen, needs_flag=False)),
}
