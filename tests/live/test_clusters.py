"""Registrations in real clusters of Consul 1.8.7, three servers each, while members die, freeze and forget."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from functools import partial

import pytest

from consul_access import ConsulAccess, InvalidInput, KeeperState, PermissionDenied, TokenUnknown, TtlCheck
from tests.support.cluster import Cluster, one_name, paused
from tests.support.slowness import Slowness
from tests.support.switching import SwitchingProxy
from tests.support.waiting import eventually

TTL = 3.0
BEAT = TTL / 3
SERF = 6.7
"""Seconds until a cluster takes a killed or frozen agent for dead (observed: 5.0 to 6.7 s)."""
AGENT = 5.0
"""What agents and a busy machine may need besides; a tenth of it otherwise."""
NAME = "consul.test"


@pytest.fixture(scope="module")
def whole_cluster():
    with Cluster(client=True) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole_cluster):
    """Three servers and a client agent, all alive and without services at the beginning."""
    for member in whole_cluster.members:
        if member.process is None:
            member.run()
    whole_cluster.await_whole()
    for member in whole_cluster.members:
        member.clear()
    return whole_cluster


@pytest.fixture
def told(record_property):
    return lambda what, seconds: record_property(what, f"{seconds:.2f} s")


class Sightings:
    """How often callers would have been sent nowhere, or to one instance twice, asked at other members."""

    def __init__(self, cluster, asked):
        self._cluster = cluster
        self._asked = asked
        self.missing = self.double = 0.0
        self.is_missing = False
        self._last = time.monotonic()

    def look(self):
        found = [self._cluster.passing("orders", asked=member) for member in self._asked]
        now = time.monotonic()
        passed, self._last = now - self._last, now
        self.is_missing = any(ids == [] for ids in found)
        self.missing += passed if self.is_missing else 0.0
        self.double += passed if any(ids and len(ids) > 1 for ids in found) else 0.0
        return all(found)


def kinds(events):
    return [event.kind for event in events]


def test_the_pinned_server_of_three_behind_one_name_is_killed(face, cluster, monkeypatch, told):
    pinned, *others = cluster.servers
    one_name(monkeypatch, NAME, lambda: cluster.hosts)
    events = []

    async def story():
        async with face.access(NAME, cluster.port) as access:
            settings = {"check": TtlCheck(TTL), "id": "orders-1", "on_event": events.append}
            async with access.registered("orders", "10.0.0.5", 8080, **settings) as keeper:
                assert keeper.node == pinned.node
                seen = Sightings(cluster, others)
                pinned.kill()
                begun = time.monotonic()
                while not seen.look() or keeper.node in {"", pinned.node}:
                    assert time.monotonic() - begun < SERF + BEAT + AGENT
                    await face.sleep(0.02)
                told("at another server after", time.monotonic() - begun)
                told("missing for", seen.missing)
                assert seen.missing < BEAT + AGENT
                assert seen.double == 0.0
                assert keeper.agent.host != pinned.host
                await face.eventually(lambda: "orphan_removed" in kinds(events), within=5 + AGENT)
                assert cluster.passing("orders", asked=others[0]) == [(keeper.node, "orders-1")]
                assert all(entry["Node"] != pinned.node for entry in others[0].read("/v1/catalog/service/orders"))

                pinned.run()
                returned = time.monotonic()
                while "orders-1" in pinned.read("/v1/agent/services") or time.monotonic() - returned < 4:
                    seen.look()
                    assert time.monotonic() - returned < 10
                    await face.sleep(0.02)
                told("shown twice after the return for", seen.double)
                assert seen.double < BEAT + AGENT
                assert keeper.re_registrations == 1
        assert kinds(events).count("relocated") == 1
        for member in cluster.servers:
            assert "orders-1" not in member.read("/v1/agent/services")
        await face.eventually(lambda: others[0].read("/v1/catalog/service/orders") == [])

    face.run(story)


def test_a_former_agent_that_stays_away_is_said_at_the_end(face, cluster, caplog):
    pinned, *others = cluster.servers

    async def story():
        async with face.access(addresses=[server.address for server in cluster.servers]) as access:
            async with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
                pinned.kill()
                await face.eventually(
                    lambda: keeper.node not in {"", pinned.node} and keeper.state is KeeperState.REGISTERED,
                    within=SERF + BEAT + AGENT + 2,
                )
        assert others[0].read("/v1/catalog/service/orders") == []
        assert all("orders-1" not in member.read("/v1/agent/services") for member in others)

    with caplog.at_level(logging.WARNING, "consul_access"):
        face.run(story)
    assert "with its data it would bring the service back" in caplog.text


def test_a_frozen_server_is_left_and_its_copy_removed_when_it_thaws(cluster, told):
    pinned = cluster.followers()[0]
    others = cluster.others(pinned)
    addresses = [server.address for server in (pinned, *others)]
    with ConsulAccess(addresses=addresses) as access:
        with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
            seen = Sightings(cluster, others)
            with paused(pinned):
                begun = time.monotonic()
                while not seen.look() or keeper.node in {"", pinned.node}:
                    assert time.monotonic() - begun < 25  # agents that ask a frozen server hang for 11 to 15 s
                    time.sleep(0.02)
                told("at another server after", time.monotonic() - begun)
            thawed = time.monotonic()
            while "orders-1" in pinned.read("/v1/agent/services") or time.monotonic() - thawed < 3:
                seen.look()
                assert time.monotonic() - thawed < 20
                time.sleep(0.02)
            told("shown twice for", seen.double)
            assert cluster.passing("orders", asked=others[0]) == [(keeper.node, "orders-1")]


def test_with_a_single_address_it_waits_for_that_one(cluster):
    pinned = cluster.servers[0]
    with ConsulAccess(url=pinned.url) as access:
        with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
            pinned.kill()
            until = time.monotonic() + SERF + 2
            while time.monotonic() < until:
                assert keeper.agent.host == pinned.host
                time.sleep(0.1)
            assert keeper.state is KeeperState.RENEWING
            pinned.run()
            begun = time.monotonic()
            while cluster.passing("orders") != [(pinned.node, "orders-1")]:
                assert time.monotonic() - begun < 15
                time.sleep(0.05)


def test_registering_at_one_of_several_servers_is_warned_of_with_the_remedy(face, cluster, caplog):
    async def story():
        async with face.access(url=cluster.servers[0].url) as access:
            async with access.registered("orders", "10.0.0.5", 8080, check=None):
                pass
        async with face.access(url=cluster.agent.url) as access:
            async with access.registered("fine", "10.0.0.5", 8080, check=None):
                pass

    with caplog.at_level(logging.WARNING, "consul_access"):
        face.run(story)
    assert "one of 3 Consul servers" in caplog.text
    assert "Register at an agent of this machine" in caplog.text
    assert 'mode="catalog"' in caplog.text
    assert "fine" not in caplog.text


def test_one_of_several_servers_is_refused_on_request_before_anything_is_registered(face, cluster):
    server = cluster.servers[0]

    async def story():
        async with face.access(url=server.url) as access:
            for fail_fast in (True, False):
                keeper = access.registered(
                    "orders", "10.0.0.5", 8080, check=None, require_agent=True, fail_fast=fail_fast
                )
                with pytest.raises(InvalidInput, match="one of 3 Consul servers"):
                    await keeper.start()
                assert server.read("/v1/agent/services") == {}
            with pytest.raises(InvalidInput, match="any server will do"):
                access.registered("orders", "10.0.0.5", 8080, mode="catalog", require_agent=True)
        async with face.access(url=cluster.agent.url) as access:
            async with access.registered("orders", "10.0.0.5", 8080, check=None, require_agent=True):
                assert cluster.passing("orders", asked=cluster.agent)

    face.run(story)


def test_the_first_address_that_takes_connections_is_registered_at(face, cluster, free_port):
    async def story():
        async with face.access(addresses=[f"127.0.0.1:{free_port}", cluster.agent.address]) as access:
            async with access.registered("orders", "10.0.0.5", 8080, check=None) as keeper:
                assert keeper.node == cluster.agent.node

    face.run(story)


def test_c01_agent_killed_for_3_seconds_and_back(face, cluster, told):
    """The heartbeat that it missed is made up for at once. What is the cluster's own affair is told apart: how long it
    takes the agent for dead, and how long an agent that says passing has not passed that on."""
    agent = cluster.agent

    def is_dead():
        return any(cluster.takes_for_dead(agent, asked=server) for server in cluster.servers)

    def is_passing_at_its_agent():
        with contextlib.suppress(OSError, AssertionError):
            return agent.read("/v1/agent/checks").get("service:orders-1", {}).get("Status") == "passing"
        return False

    async def story():
        async with face.access(url=agent.url) as access:
            async with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
                seen, dead, unsaid, last = Sightings(cluster, cluster.servers), 0.0, 0.0, time.monotonic()
                agent.kill()
                await face.sleep(3)
                agent.run()
                back = time.monotonic()
                while keeper.misses or not seen.look() or time.monotonic() - back < 2:
                    passed, last = time.monotonic() - last, time.monotonic()
                    dead += passed if is_dead() else 0.0
                    unsaid += passed if seen.is_missing and is_passing_at_its_agent() else 0.0
                    assert last - back < 30
                    await face.sleep(0.02)
                told("missing for", seen.missing)
                told("of that taken for dead for", dead)
                told("of that passing at its agent for", unsaid)
                assert seen.missing - dead - unsaid < BEAT + AGENT
                assert seen.double == 0.0
                assert keeper.re_registrations == 0
                assert keeper.state is KeeperState.REGISTERED
                assert cluster.passing("orders") == [(agent.node, "orders-1")]

    face.run(story)


def test_c02_agent_loses_its_data(cluster, told):
    agent = cluster.agent
    with ConsulAccess(url=agent.url) as access:
        with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
            agent.kill()
            agent.forget()
            gone = time.monotonic()
            while cluster.passing("orders"):
                assert time.monotonic() - gone < SERF + 5
                time.sleep(0.05)
            agent.run()
            back = time.monotonic()
            copy = [(agent.node, "orders-1")]
            # The former copy passes for a moment before the agent, which knows nothing of it, removes it.
            while not keeper.re_registrations or cluster.passing("orders", asked=cluster.servers[0]) != copy:
                assert time.monotonic() - back < 30
                time.sleep(0.05)
            told("back after", time.monotonic() - back)
            assert keeper.re_registrations == 1


def test_c03_leader_killed(face, cluster, told):
    leader = cluster.leader()
    others = cluster.others(leader)

    async def story():
        async with face.access(url=cluster.agent.url) as access:
            async with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
                leader.kill()
                begun = time.monotonic()
                settings = {"check": TtlCheck(TTL), "id": "orders-2", "fail_fast": False}
                async with access.registered("orders", "10.0.0.6", 8080, **settings) as second:
                    # Elections take 2 to 5 s, and much longer on a machine that is busy with other things.
                    await face.eventually(lambda: second.state is KeeperState.REGISTERED, within=60)
                    told("a registration in the election is visible after", time.monotonic() - begun)
                    both = [(cluster.agent.node, "orders-1"), (cluster.agent.node, "orders-2")]
                    await face.eventually(lambda: sorted(cluster.passing("orders", asked=others[0]) or []) == both)
                assert keeper.re_registrations == 0

    face.run(story)


def test_c04_n03_no_quorum_for_20_seconds(cluster, told):
    """Kept through it; a registration made in it is pending, with its cause within 30 s, and visible soon after."""
    lost = cluster.servers[1:]
    events = []
    with ConsulAccess(url=cluster.agent.url) as access:
        with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
            for server in lost:
                server.kill()
            begun = time.monotonic()
            second = access.registered(
                "late", "10.0.0.6", 8080, check=None, id="late-1", on_event=events.append, fail_fast=False
            )
            second.start()
            told("registered without a quorum after", time.monotonic() - begun)
            assert time.monotonic() - begun < 30
            while "unseen" not in kinds(events):
                assert second.state is KeeperState.PENDING
                assert time.monotonic() - begun < 30 + AGENT
                time.sleep(0.1)
            told("cause told after", time.monotonic() - begun)
            cause = next(event.cause for event in events if event.kind == "unseen")
            assert "leader" in cause or "cannot be read" in cause
            for server in lost:
                server.run()
            cluster.leader()
            back = time.monotonic()
            while not cluster.passing("late") or not cluster.passing("orders"):
                assert time.monotonic() - back < 5 + AGENT
                time.sleep(0.02)
            told("both visible after the quorum's return", time.monotonic() - back)
            assert keeper.re_registrations == 0
            second.stop()


def test_c08_rolling_restart_of_the_servers(cluster, told):
    with ConsulAccess(url=cluster.agent.url) as access:
        with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
            seen = Sightings(cluster, [cluster.agent])
            for server in cluster.servers:
                server.restart()
                until = time.monotonic() + 2
                while time.monotonic() < until:
                    seen.look()
                    time.sleep(0.02)
                cluster.leader()
            told("unanswered or missing for", seen.missing)
            begun = time.monotonic()
            while cluster.passing("orders", asked=cluster.agent) != [(cluster.agent.node, "orders-1")]:
                assert time.monotonic() - begun < 5 + AGENT
                time.sleep(0.02)
            assert keeper.re_registrations == 0
            assert seen.double == 0.0


@pytest.mark.parametrize("number", [0, 1])
def test_c09_follower_paused(cluster, number, told):
    """Whatever hangs, nothing of ours does for longer than 12 s, and nothing is registered twice."""
    with ConsulAccess(url=cluster.agent.url) as access:
        with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(TTL), id="orders-1") as keeper:
            follower = cluster.followers()[number]  # the agent asks one of the servers, nobody knows which
            second = access.registered("orders", "10.0.0.6", 8080, check=None, id="orders-2", fail_fast=False)
            with paused(follower):
                for what, step in (("a registration", second.start), ("its end", second.stop)):
                    with Slowness() as slow:
                        begun = time.monotonic()
                        step()
                        taken = time.monotonic() - begun
                    told(f"{what} took", taken)
                    assert taken - slow.seconds < 12
            begun = time.monotonic()
            while keeper.misses or cluster.passing("orders", asked=cluster.leader())[:1] != [
                (cluster.agent.node, "orders-1")
            ]:
                assert time.monotonic() - begun < 20
                time.sleep(0.05)
            assert keeper.re_registrations == 0


def test_n03_the_agents_node_name_is_reserved_by_its_former_self(told):
    """An agent that lost its data and was back before anybody noticed: it says 200, and nobody ever finds it."""
    with Cluster(client=True) as cluster:
        agent, events = cluster.agent, []
        agent.kill()
        agent.forget()
        agent.run()
        with ConsulAccess(url=agent.url) as access:
            begun = time.monotonic()
            keeper = access.registered("orders", "10.0.0.5", 8080, check=None, id="orders-1", on_event=events.append)
            with keeper:
                while "unseen" not in kinds(events) and keeper.state is not KeeperState.REGISTERED:
                    assert time.monotonic() - begun < 30
                    time.sleep(0.1)
                if keeper.state is KeeperState.REGISTERED:
                    pytest.skip("this cluster gave the name to the new agent at once")
                told("cause told after", time.monotonic() - begun)
                assert keeper.state is KeeperState.PENDING
                assert "node name is still taken" in next(event.cause for event in events if event.kind == "unseen")


def _token_for_orders(server):
    """A token, or nothing while the servers do not make any yet."""
    status, made = server.request("PUT", "/v1/acl/token", {"ServiceIdentities": [{"ServiceName": "orders"}]})
    return json.loads(made) if status == 200 else None


@contextlib.contextmanager
def _kept_with_a_revoked_token(cluster, on_event):
    """A keeper whose agent believes in a token for 30 s, although the servers do not any more.

    Now and then an agent asks the servers once more before it takes the registration: then it needs another token.
    """

    def believes(token):
        return cluster.agent.request("GET", "/v1/agent/services", token=token)[0] == 200

    while True:
        made = eventually(lambda: _token_for_orders(cluster.servers[0]), within=30, what="the servers make tokens")
        eventually(partial(believes, made["SecretID"]))
        cluster.servers[0].request("DELETE", f"/v1/acl/token/{made['AccessorID']}")
        with ConsulAccess(url=cluster.agent.url, token=made["SecretID"]) as access:
            keeper = access.registered("orders", "10.0.0.5", 8080, check=None, id="orders-1", on_event=on_event)
            try:
                keeper.start()
            except TokenUnknown:
                continue
            yield keeper
            keeper.stop()
            return


def test_n03_the_agent_takes_it_and_the_servers_refuse_it_by_acl(told):
    events = []
    with Cluster(client=True, acl=True) as cluster, _kept_with_a_revoked_token(cluster, events.append) as keeper:
        begun = time.monotonic()
        while "unseen" not in kinds(events):
            assert time.monotonic() - begun < 30
            time.sleep(0.1)
        told("cause told after", time.monotonic() - begun)
        assert keeper.state is KeeperState.PENDING
        assert "token" in next(event.cause for event in events if event.kind == "unseen")


# --- an address that leads to another agent ---------------------------------------------------------------


def test_a_deregistration_that_reaches_another_agent_finds_the_right_one(face, cluster):
    first, second, _ = cluster.servers
    events = []

    async def story():
        with SwitchingProxy(first) as proxy:
            async with face.access(addresses=[proxy.address, first.address]) as access:
                keeper = access.registered(
                    "orders", "10.0.0.5", 8080, check=None, id="orders-1", on_event=events.append
                )
                await keeper.start()
                proxy.switch(second)
                assert await keeper.stop()
        assert first.read("/v1/agent/services") == {}
        assert first.read("/v1/catalog/service/orders") == []
        (told,) = [event for event in events if event.kind == "wrong_agent"]
        assert f"no longer the agent of node {first.node!r}" in told.cause
        assert kinds(events)[-1] == "deregistered"

    face.run(story)


def test_a_deregistration_that_reaches_another_agent_only_is_said_with_the_remedy(face, cluster, caplog):
    first, second, _ = cluster.servers
    events = []

    async def story():
        with SwitchingProxy(first) as proxy:
            async with face.access(url=f"http://{proxy.address}") as access:
                keeper = access.registered(
                    "orders", "10.0.0.5", 8080, check=None, id="orders-1", on_event=events.append
                )
                await keeper.start()
                proxy.switch(second)
                assert not await keeper.stop()
        assert "orders-1" in first.read("/v1/agent/services")
        assert kinds(events)[-1] == "left_behind"

    with caplog.at_level(logging.WARNING, "consul_access"):
        face.run(story)
    assert f"no longer the agent of node {first.node!r}" in caplog.text
    assert "give each agent's own address" in caplog.text


def test_an_address_that_leads_to_another_agent_while_it_is_kept_leaves_no_copy_behind(face, cluster, told):
    first, second, third = cluster.servers
    events = []

    async def story():
        with SwitchingProxy(first) as proxy:
            async with face.access(addresses=[proxy.address, first.address]) as access:
                settings = {"check": TtlCheck(TTL), "id": "orders-1", "on_event": events.append}
                async with access.registered("orders", "10.0.0.5", 8080, **settings) as keeper:
                    proxy.switch(second)
                    begun = time.monotonic()
                    seen = Sightings(cluster, [third])
                    while cluster.passing("orders", asked=third) != [(second.node, "orders-1")]:
                        seen.look()
                        assert time.monotonic() - begun < 2 * BEAT + AGENT + 2
                        await face.sleep(0.02)
                    told("moved after", time.monotonic() - begun)
                    told("shown twice for", seen.double)
                    assert keeper.node == second.node
                    await face.eventually(lambda: first.read("/v1/agent/services") == {}, within=5 + AGENT)
                    await face.eventually(lambda: "orphan_removed" in kinds(events), within=5 + AGENT)
        (event,) = [event for event in events if event.kind == "wrong_agent"]
        assert "the address leads to several" in event.cause
        assert all(member.read("/v1/agent/services") == {} for member in cluster.servers)

    face.run(story)


def test_c07_a_revoked_token_is_an_error_with_a_name(face, acl_consul, told):
    _, made = acl_consul.request("PUT", "/v1/acl/token", {"ServiceIdentities": [{"ServiceName": "orders"}]})
    token = json.loads(made)
    acl_consul.request("DELETE", f"/v1/acl/token/{token['AccessorID']}")

    async def story():
        for given in (token["SecretID"], None):
            async with face.access(url=acl_consul.url, token=given) as access:
                begun = time.monotonic()
                with pytest.raises(PermissionDenied, match="token"):
                    await access.registered("orders", "10.0.0.5", 8080, check=None).start()
                told(
                    f"refused {'without a' if given is None else 'with a revoked'} token after",
                    time.monotonic() - begun,
                )
                assert time.monotonic() - begun < 15

    face.run(story)
