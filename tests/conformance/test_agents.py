"""Several agents of one cluster: what is each one's own, what all can find, and what becomes of it when one ends."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from consul_access.testing import SimulatedClock
from tests.conformance.conftest import Wire, real_version, since
from tests.support.agents import ConsulAgent
from tests.support.fakes import FakeAgent
from tests.support.waiting import eventually

PASSING = {"TTL": "1h", "Status": "passing"}
WEB = "/v1/health/service/web"
QUICK = {"performance": {"raft_multiplier": 1, "leave_drain_time": "100ms"}}
"""An agent that leaves waits for five seconds otherwise, so that everybody hears of it."""


@dataclass
class Two:
    """A server that keeps its data, and a client agent.

    Args:
        server: the server.
        client: the client agent.
        clock: the fake's time; None where it is the real one.
    """

    server: Wire
    client: Wire
    clock: SimulatedClock | None = None

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until it is true; the fake's time passes meanwhile."""

        def passes() -> object:
            if self.clock is not None:
                self.clock.advance(0.5)
            return condition()

        eventually(passes, within=30)


@pytest.fixture(scope="module", params=["real", "fake"])
def started(request: pytest.FixtureRequest) -> Iterator[Two]:
    with contextlib.ExitStack() as stack:
        if request.param == "real":
            server = stack.enter_context(ConsulAgent(server=True))
            yield Two(server, stack.enter_context(ConsulAgent(join=server, config=QUICK)))
        else:
            clock = SimulatedClock()
            fake = stack.enter_context(FakeAgent(real_version(), server=True, clock=clock))
            yield Two(fake, stack.enter_context(FakeAgent(join=fake)), clock)


@pytest.fixture
def two(started: Two) -> Two:
    """Both run, and hold nothing."""
    for agent in (started.server, started.client):
        if agent.process is None or agent.process.poll() is not None:
            agent.run()
        agent.clear()
    started.until(lambda: found(started.server) == found(started.client) == [])
    return started


def found(agent: Wire, query: str = "") -> list[tuple[str, str]] | None:
    """Node and id of the instances that an agent tells of; None when it cannot say."""
    status, text = agent.request("GET", f"{WEB}{query}")
    if status != 200:
        return None
    del text
    return [(one["Node"]["Node"], one["Service"]["ID"]) for one in agent.read(f"{WEB}{query}")]


@contextlib.contextmanager
def waiting(*agents: Wire) -> Iterator[list[tuple[int, str]]]:
    """A blocking query at each agent during the block; afterwards, what they were answered."""
    answers: list[tuple[int, str]] = []
    with ThreadPoolExecutor(len(agents)) as pool:
        begun = threading.Barrier(len(agents) + 1)

        def ask(agent: Wire) -> tuple[int, str]:
            index = agent.exchange("GET", WEB)[1]["X-Consul-Index"]
            begun.wait(10)
            return agent.request("GET", f"{WEB}?index={index}&wait=15s")

        asked = [pool.submit(ask, agent) for agent in agents]
        begun.wait(10)
        time.sleep(0.15)  # for the requests to arrive; one that comes too late finds the change at once
        yield answers
        answers += [one.result(20) for one in asked]


def test_they_are_members_of_one_cluster(two):
    for agent in (two.server, two.client):
        members = {
            member["Name"]: (member["Status"], member["Tags"]["role"]) for member in agent.read("/v1/agent/members")
        }
        assert members[two.server.node] == (1, "consul")
        assert members[two.client.node] == (1, "node")
        assert {node["Node"] for node in agent.read("/v1/catalog/nodes")} >= {two.server.node, two.client.node}
    assert two.client.read("/v1/status/leader") == two.server.read("/v1/status/leader") != ""


def test_what_one_holds_all_can_find_and_it_alone_can_tell(two):
    two.client.register("web", check=PASSING)
    two.until(lambda: found(two.server, "?passing") == [(two.client.node, "web")])
    assert found(two.client) == found(two.server)
    assert list(two.client.read("/v1/agent/services")) == ["web"]
    assert two.server.read("/v1/agent/services") == {}
    assert two.server.request("GET", "/v1/agent/service/web")[0] == 404
    said = 'CheckID "service:web" does not have associated TTL'
    assert two.server.request("PUT", "/v1/agent/check/pass/service:web") == (500, said)


def test_the_same_id_at_two_agents_is_two_instances(two):
    for agent in (two.server, two.client):
        agent.register("web", check=PASSING)
    both = sorted([(two.server.node, "web"), (two.client.node, "web")])
    two.until(lambda: sorted(found(two.server)) == both)
    two.server.request("PUT", "/v1/agent/check/fail/service:web")
    two.until(lambda: found(two.client, "?passing") == [(two.client.node, "web")])


def test_deregistering_at_another_agent_is_200_and_does_nothing(two):
    two.client.register("web")
    two.until(lambda: len(found(two.server)) == 1)
    assert two.server.request("PUT", "/v1/agent/service/deregister/web") == (200, "")
    assert len(found(two.server)) == 1
    assert list(two.client.read("/v1/agent/services")) == ["web"]


def test_maintenance_of_a_node_concerns_its_own_instances(two):
    for agent in (two.server, two.client):
        agent.register("web")
    two.until(lambda: len(found(two.server, "?passing")) == 2)
    two.client.request("PUT", "/v1/agent/maintenance?enable=true")
    two.until(lambda: found(two.server, "?passing") == [(two.server.node, "web")])


def test_a_change_at_one_wakes_who_waits_at_another(two):
    with waiting(two.server, two.client) as answers:
        two.client.register("web")
    assert [status for status, _ in answers] == [200, 200]
    assert all(two.client.node in text for _, text in answers)


def test_an_agent_that_comes_back_with_its_data_remembers_what_was_reported_and_nothing_else(two):
    """Neither the status that a check was registered with nor what the agent found out itself."""
    probe = {"HTTP": "http://127.0.0.1:1/", "Interval": "10h", "Status": "passing"}
    two.client.register("web", checks=[{"TTL": "1h"}, PASSING, probe])
    two.client.request("PUT", "/v1/agent/check/warn/service:web:1?note=disk")
    two.until(lambda: len(two.server.read(WEB)[0]["Checks"]) == 4)
    two.client.restart()
    checks = two.client.read("/v1/agent/checks")
    states = [
        (checks[f"service:web:{number}"]["Status"], checks[f"service:web:{number}"]["Output"]) for number in (1, 2, 3)
    ]
    assert states == [("warning", "disk"), ("critical", ""), ("critical", "")]
    assert found(two.server) == [(two.client.node, "web")]


def test_others_may_say_what_the_tags_are_where_the_agent_lets_them_and_it_takes_none_for_empty(two):
    """It takes over what the catalog has when it compares, as it does when it begins anew."""
    override = {"Name": "web", "EnableTagOverride": True}
    two.client.request("PUT", "/v1/agent/service/register", override)
    two.client.request("PUT", "/v1/agent/service/register", override | {"ID": "other", "Tags": ["mine"]})
    two.until(lambda: len(found(two.server)) == 2)
    (known,) = [one for one in two.server.read(WEB) if one["Service"]["ID"] == "other"]
    service = known["Service"] | {"Tags": ["theirs"]}
    two.server.request(
        "PUT", "/v1/catalog/register", {"Node": two.client.node, "SkipNodeUpdate": True, "Service": service}
    )
    two.client.restart()
    two.until(lambda: two.client.read("/v1/agent/service/other")["Tags"] == ["theirs"])
    two.client.request("PUT", "/v1/agent/service/maintenance/web?enable=true")
    health = json.loads(two.client.request("GET", "/v1/agent/health/service/id/web")[1])
    assert [one["ServiceTags"] for one in health["Checks"]] == [[]]


def test_a_killed_agent_is_taken_for_dead_in_a_while_and_without_its_data_it_holds_nothing(two, record_property):
    two.client.register("web", check=PASSING)
    two.until(lambda: len(found(two.server, "?passing")) == 1)
    two.client.kill()
    begun = time.monotonic()
    assert found(two.server, "?passing") == [(two.client.node, "web")]
    two.until(lambda: found(two.server, "?passing") == [])
    record_property("taken for dead after", f"{time.monotonic() - begun:.1f} s")
    assert found(two.server) == [(two.client.node, "web")]
    states = {one["CheckID"]: one["Status"] for one in two.server.read(f"/v1/health/node/{two.client.node}")}
    assert states == {"serfHealth": "critical", "service:web": "passing"}
    two.client.run_without_data()
    two.until(lambda: found(two.server) == [])
    two.client.register("web")
    two.until(lambda: found(two.server, "?passing") == [(two.client.node, "web")])


def test_an_agent_that_leaves_answers_who_waits_with_nothing_and_comes_back_with_what_it_held(two):
    """That the catalog stays without it is no promise: a real one that compares while it leaves brings itself back."""
    two.client.register("web", check={"TTL": "1h"})
    two.client.request("PUT", "/v1/agent/check/pass/service:web")
    two.until(lambda: len(found(two.server, "?passing")) == 1)
    with waiting(two.server, two.client) as answers:
        two.client.stop()
    assert [(status, text.strip()) for status, text in answers] == [(200, "[]"), (200, "[]")]
    two.client.run()
    two.until(lambda: found(two.server, "?passing") == [(two.client.node, "web")])


def test_while_no_server_runs_an_agent_does_what_is_its_own_and_tells_it_later(two):
    two.client.register("web")
    two.until(lambda: len(found(two.client, "?cached")) == 1)
    with waiting(two.client) as answers:
        two.server.kill()
    assert answers[0][0] == 500
    for query in ("", "?stale", "?consistent"):
        assert two.client.request("GET", f"{WEB}{query}")[0] == 500
    away = "rpc error getting client: failed to get conn: dial tcp"
    no_stream = "rpc error: code = Unavailable desc = all SubConns are in TransientFailure, latest connection error: "
    cold = no_stream if since(1, 10) else away
    for path, beginning in (
        ("status/leader", away),
        ("catalog/datacenters", away),
        ("catalog/services", away),
        ("health/service/cold?cached", cold),
    ):
        status, text = two.client.request("GET", f"/v1/{path}")
        assert (status, text.startswith(beginning)) == (500, True), path
    status, headers, _ = two.client.exchange("GET", f"{WEB}?cached")
    knows = "false" if since(1, 10) else "true"  # a view never says that there is a leader
    assert (status, headers["X-Cache"], headers["X-Consul-Knownleader"]) == (200, "HIT", knows)
    assert found(two.client, "?cached") == [(two.client.node, "web")]
    assert two.client.request("PUT", "/v1/catalog/deregister", {"Node": "x"})[0] == 500
    two.client.register("web", id="new")
    assert two.client.request("PUT", "/v1/agent/service/deregister/web") == (200, "")
    assert list(two.client.read("/v1/agent/services")) == ["new"]
    assert two.client.read("/v1/agent/members")
    two.server.run()
    two.until(lambda: found(two.client) == [(two.client.node, "new")])
