"""Meetings that others do not try."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from benchmarks.laboratory.judging import CONSUL, GOOD, ONE, Meetings, alone, indexed, should_be_right
from benchmarks.laboratory.process import running
from tests.faults.comparing import Met
from tests.support.agents import ConsulAgent
from tests.support.cluster import Cluster
from tests.support.many import connections, written
from tests.support.scripted import ScriptedServer, answer


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


MEETINGS: Meetings = {
    "N03": (CONSUL, of_a_registration_that_is_not_seen),
    "N05": (CONSUL, alone(of_300_watches)),
    "N09": (CONSUL, alone(of_ipv6)),
}
