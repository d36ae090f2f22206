"""Services in the catalog itself, without an agent of their own, against real servers of Consul 1.8.7."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consul_access import (
    ConsulAccess,
    HttpCheck,
    InvalidInput,
    KeeperState,
    PermissionDenied,
    TtlCheck,
    UnknownService,
)
from consul_access.rules.heartbeats import heartbeat_of, stamped
from tests.support.cluster import Cluster, paused
from tests.support.registry import PlayedRegistry
from tests.support.scripted import answer
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
TTL = 3.0
BEAT = TTL / 3
SERVER = 15.0
"""What a server and a busy machine may need besides; milliseconds otherwise."""


@pytest.fixture
def server(consul):
    yield consul
    consul.request("PUT", "/v1/catalog/deregister", {"Node": "consul-access"})
    consul.request("PUT", "/v1/catalog/deregister", {"Node": "mine"})


@pytest.fixture
def told(record_property):
    return lambda what, seconds: record_property(what, f"{seconds:.2f} s")


def entries(server, name="orders"):
    return server.read(f"/v1/health/service/{name}")


def passing(server, name="orders"):
    return [entry["Service"]["ID"] for entry in server.read(f"/v1/health/service/{name}?passing")]


def check(server):
    (entry,) = entries(server)
    return next(check for check in entry["Checks"] if check["CheckID"] == "service:orders-1")


def kept(access, **settings):
    settings = {"mode": "catalog", "id": "orders-1", "check": TtlCheck(TTL)} | settings
    return access.registered("orders", "10.0.0.5", 8080, **settings)


def test_it_lives_on_a_node_of_its_own_with_a_heartbeat_and_is_gone_after_the_block(face, server):
    async def story():
        async with face.access(url=server.url) as access:
            async with kept(access, tags=["v2"], meta={"v": "2"}) as keeper:
                assert keeper.state is KeeperState.REGISTERED
                assert (keeper.node, keeper.agent.port) == ("consul-access", server.port)
                (entry,) = entries(server)
                assert entry["Node"]["Node"] == "consul-access"
                assert entry["Node"]["Address"] == "127.0.0.1"
                assert entry["Node"]["Meta"] == {"external-node": "true", "external-source": "consul-access"}
                assert entry["Service"]["Tags"] == ["v2"]
                assert await access.search_service("orders") == [("10.0.0.5", 8080)]
                first = heartbeat_of(check(server)["Output"])
                assert first.every == BEAT
                assert abs(time.time() - first.at) < SERVER
                await face.eventually(lambda: heartbeat_of(check(server)["Output"]).at > first.at, within=BEAT + SERVER)
                assert server.read("/v1/agent/services") == {}
                (instance,) = await access.instances("orders", policy="any")
                assert instance.meta == {"v": "2"}
                assert (keeper.re_registrations, keeper.misses) == (0, 0)
            assert entries(server) == []
            assert not await keeper.stop()

    face.run(story)


def test_a_health_function_drives_the_status(face, server):
    answers = ["passing"]

    async def story():
        async with face.access(url=server.url) as access:
            async with kept(access, health=lambda: (answers[-1], "says the service")):
                await face.eventually(lambda: passing(server) == ["orders-1"], within=BEAT + SERVER)
                answers.append("warning")
                await face.eventually(lambda: check(server)["Status"] == "warning", within=BEAT + SERVER)
                assert check(server)["Output"].endswith("\nsays the service")
                answers.append("critical")
                await face.eventually(lambda: check(server)["Status"] == "critical", within=BEAT + SERVER)

    face.run(story)


def test_a_registration_deleted_behind_our_back_is_restored_with_the_next_heartbeat(face, server, told):
    events = []

    async def story():
        async with face.access(url=server.url) as access:
            async with kept(access, on_event=events.append) as keeper:
                server.request("PUT", "/v1/catalog/deregister", {"Node": "consul-access"})  # the node and all
                _, after = await face.eventually(lambda: passing(server) == ["orders-1"], within=BEAT + SERVER)
                told("back after", after)
                await face.eventually(lambda: keeper.re_registrations == 1)
        assert [event.kind for event in events if event.kind != "visible"] == [
            "registered",
            "lost",
            "registered_again",
            "draining",
            "deregistered",
        ]

    face.run(story)


def test_a_changed_definition_is_restored(face, server):
    async def story():
        async with face.access(url=server.url) as access:
            async with kept(access) as keeper:
                changed = {"ID": "orders-1", "Service": "orders", "Port": 9}
                server.request(
                    "PUT",
                    "/v1/catalog/register",
                    {"Node": "consul-access", "SkipNodeUpdate": True, "Service": changed},
                )
                await face.eventually(lambda: keeper.re_registrations == 1, within=5 + SERVER)
                assert entries(server)[0]["Service"]["Port"] == 8080

    face.run(story)


def test_during_the_drain_nobody_is_sent_there(face, server):
    seen = []

    def look(event):
        if event.kind == "deregistered":
            seen.append(("after", len(entries(server))))

    async def story():
        async with face.access(url=server.url) as access:
            keeper = kept(access, drain=0.5, on_event=look)
            await keeper.start()
            begun = time.monotonic()
            if face.is_async:
                import anyio

                async with anyio.create_task_group() as group:
                    group.start_soon(keeper.stop)
                    await face.eventually(lambda: passing(server) == [])
                    assert len(entries(server)) == 1
            else:
                await keeper.stop()
            assert time.monotonic() - begun >= 0.5
        assert seen == [("after", 0)]

    face.run(story)


def test_a_maintenance_left_by_an_earlier_life_ends_with_the_next(server):
    written(server, "orders-1", 5)
    left = {"CheckID": "_service_maintenance:orders-1", "Status": "critical", "ServiceID": "orders-1"}
    server.request("PUT", "/v1/catalog/register", {"Node": "consul-access", "SkipNodeUpdate": True, "Check": left})
    assert passing(server) == []
    with ConsulAccess(url=server.url) as access:
        with kept(access):
            assert passing(server) == ["orders-1"]


def test_what_no_agent_would_do_is_refused_before_anything_is_sent(face, server):
    async def story():
        async with face.access(url=server.url) as access:
            for wrong in (
                {"check": None},
                {"check": HttpCheck()},
                {"check": None, "checks": [TtlCheck(3)]},
                {"check": TtlCheck(3, deregister_critical_service_after="1m")},
            ):
                with pytest.raises(InvalidInput, match='mode="catalog"'):
                    kept(access, **wrong)
            with pytest.raises(InvalidInput, match="node="):
                access.registered("orders", port=1, node="x")
            with pytest.raises(InvalidInput, match="node"):
                kept(access, node="")
            with pytest.raises(InvalidInput, match="give address="):
                await access.registered("orders", port=80, mode="catalog").start()
        assert server.read("/v1/catalog/node/consul-access") is None

    face.run(story)


def test_the_default_check_is_a_heartbeat_every_ten_seconds(server):
    with ConsulAccess(url=server.url) as access:
        with access.registered("orders", "10.0.0.5", 8080, id="orders-1", mode="catalog"):
            assert heartbeat_of(check(server)["Output"]).every == 10
            assert check(server)["Status"] == "passing"


def test_a_node_that_an_agent_owns_is_refused_and_nothing_is_written(face, server):
    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(InvalidInput, match="node of an agent"):
                await kept(access, node=server.node).start()
        assert entries(server) == []

    face.run(story)


def test_the_servers_may_be_down_when_it_begins(agents, face):
    server = agents(server=True)
    server.kill()

    async def story():
        async with face.access(url=server.url) as access:
            async with kept(access, fail_fast=False) as keeper:
                assert keeper.state is KeeperState.PENDING
                server.run()
                await face.eventually(lambda: keeper.state is KeeperState.REGISTERED, within=15)
                assert passing(server) == ["orders-1"]

    face.run(story)


def test_sigterm_deregisters(server):
    program = (
        "import time\nfrom consul_access import ConsulAccess\n"
        "k = ConsulAccess().registered('orders', '10.0.0.5', 8080, mode='catalog', id='orders-1').start()\n"
        "print('ready', flush=True)\nwhile True: time.sleep(0.05)\n"
    )
    environ = os.environ | {"CONSUL_HTTP_ADDR": server.address, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        assert passing(server) == ["orders-1"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    assert entries(server) == []


def token_of(server, name):
    """A token with nothing but a service identity."""
    _, token = server.request("PUT", "/v1/acl/token", {"ServiceIdentities": [{"ServiceName": name}]})
    return json.loads(token)["SecretID"]


def test_a_service_identity_is_enough_where_the_node_exists_and_else_the_error_says_what_to_make(face, acl_consul):
    async def story():
        async with face.access(url=acl_consul.url, token=token_of(acl_consul, "orders")) as access:
            with pytest.raises(PermissionDenied) as caught:
                await kept(access).start()
            said = str(caught.value)
            assert "node:write" in said
            assert "PUT /v1/catalog/register" in said
            made = json.loads(said[said.index("{") : said.index("}}") + 2])
            status, _ = acl_consul.request("PUT", "/v1/catalog/register", made)
            assert status == 200
            async with kept(access) as keeper:
                assert keeper.state is KeeperState.REGISTERED
                assert passing(acl_consul) == ["orders-1"]
            assert entries(acl_consul) == []
            with pytest.raises(PermissionDenied, match="Permission denied"):
                await access.registered("billing", "10.0.0.5", 1, mode="catalog").start()

    try:
        face.run(story)
    finally:
        acl_consul.request("PUT", "/v1/catalog/deregister", {"Node": "consul-access"})


def test_three_servers_none_of_which_matters_alone(face):
    with Cluster() as cluster:

        async def story():
            addresses = [server.address for server in cluster.servers]
            async with face.access(addresses=addresses) as access:
                # A busy machine may take its time for an election.
                async with kept(access, stop_timeout=60.0) as keeper:
                    first, *others = cluster.servers
                    first.kill()
                    until = time.monotonic() + 8
                    while time.monotonic() < until:
                        found = cluster.passing("orders", asked=others[0])
                        assert found in (None, [("consul-access", "orders-1")])
                        await face.sleep(0.05)
                    await face.eventually(lambda: keeper.misses == 0, within=60)
                    assert keeper.re_registrations == 0
                assert others[0].read("/v1/catalog/service/orders") == []

        face.run(story)


# --- the readers' side ------------------------------------------------------------------------------------


def written(server, service_id, age, name="orders"):
    """An instance whose owner was heard of so long ago."""
    body = heard_of(service_id, age, name)
    status, text = server.request("PUT", "/v1/catalog/register", body)
    assert status == 200, text


def heard_of(service_id, age, name="orders", every=10.0):
    """What is written of it."""
    output = "" if age is None else stamped(time.time() - age, every)
    own = {"CheckID": f"service:{service_id}", "Status": "passing", "ServiceID": service_id, "Output": output}
    service = {"ID": service_id, "Service": name, "Address": "10.0.0.9", "Port": 80}
    return {"Node": "consul-access", "Address": "127.0.0.1", "Service": service, "Check": own}


def test_readers_leave_out_whose_heartbeat_is_older_than_they_say(face, server):
    written(server, "fresh", 5)
    written(server, "dead", 500)
    written(server, "unstamped", None)
    server.register("orders", id="at-an-agent", port=80)

    async def story():
        async with face.access(url=server.url) as access:

            async def ids(**query):
                return sorted(instance.id for instance in await access.instances("orders", **query))

            assert await ids() == ["at-an-agent", "dead", "fresh", "unstamped"]
            assert await ids(max_heartbeat_age=60) == ["at-an-agent", "fresh", "unstamped"]
            assert await ids(max_heartbeat_age="10m") == ["at-an-agent", "dead", "fresh", "unstamped"]
            assert await ids(max_heartbeat_age=60, policy="service_checks_only") == [
                "at-an-agent",
                "fresh",
                "unstamped",
            ]
            found = await access.health("orders", max_heartbeat_age=1)
            assert sorted(entry.service.id for entry in found) == ["at-an-agent", "unstamped"]
            assert found.meta.index
            assert len(await access.search_service("orders", max_heartbeat_age=60)) == 3
            assert await access.resolve("orders", max_heartbeat_age=60)
            with pytest.raises(InvalidInput, match="max_heartbeat_age"):
                await access.instances("orders", max_heartbeat_age=-1)
            with pytest.raises(InvalidInput, match="max_heartbeat_age"):
                await access.catalog("orders", max_heartbeat_age=1)

    face.run(story)


def test_the_age_is_that_of_the_moment_at_which_the_answer_is_read(face, server):
    written(server, "dying", 0)

    async def story():
        async with face.access(url=server.url) as access:
            found = await access.instances("orders", max_heartbeat_age=1.0)
            assert len(found) == 1
            assert await access.instances("orders", max_heartbeat_age=1.0, index=found.meta.index, wait="1500ms") == []

    face.run(story)


def test_reap_removes_entries_whose_owner_is_gone_and_says_which(face, server, caplog):
    written(server, "fresh", 5)
    written(server, "dead", 700)
    written(server, "unstamped", None)

    async def story():
        async with face.access(url=server.url) as access:
            planned = await access.reap(dry_run=True)
            assert [entry.id for entry in planned] == ["dead"]
            assert 699 < planned[0].age < 720
            assert len(entries(server)) == 3
            removed = await access.reap()
            assert [(entry.id, entry.service, entry.node) for entry in removed] == [("dead", "orders", "consul-access")]
            assert sorted(entry["Service"]["ID"] for entry in entries(server)) == ["fresh", "unstamped"]
            assert await access.reap() == []
            assert await access.reap(node="nobody-s") == []
            written(server, "dead", 700)

    with caplog.at_level(logging.INFO, "consul_access"):
        face.run(story)
    assert "dead on node consul-access is removed" in caplog.text


def test_reap_does_not_go_by_what_was_true_once(face):
    """A server that still reads its log, played: only a consistent read tells of the last heartbeat."""

    def play(request, query):
        age = 1.0 if "consistent" in query else 700.0
        check = {"CheckID": "service:orders-1", "Status": "passing", "ServiceID": "orders-1", "Node": "consul-access"}
        return answer(body=json.dumps([check | {"Output": stamped(time.time() - age, BEAT)}]).encode())

    async def story():
        with PlayedRegistry(play) as registry:
            async with face.access(url=registry.url) as access:
                assert await access.reap() == []
            assert [request.method for request in registry.requests] == ["GET"]

    face.run(story)


def test_one_that_is_reaped_although_it_lives_is_back_with_its_next_heartbeat(server, monkeypatch):
    with ConsulAccess(url=server.url) as access:
        with kept(access) as keeper:
            ahead = time.time() + 3600  # a reaper whose clock is an hour ahead
            with monkeypatch.context() as patched:
                patched.setattr("consul_access._sync.announcing.time.time", lambda: ahead)
                removed = access.reap()
            assert [entry.id for entry in removed] == ["orders-1"]
            eventually(lambda: keeper.re_registrations == 1, within=BEAT + SERVER)
            eventually(lambda: passing(server) == ["orders-1"], within=SERVER)


def test_a_killed_owner_is_left_out_by_age_and_reaped(server, told):
    program = (
        "import os, time\nfrom consul_access import ConsulAccess, TtlCheck\n"
        "k = ConsulAccess().registered('orders', '10.0.0.5', 80, mode='catalog', check=TtlCheck(1)).start()\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    environ = os.environ | {"CONSUL_HTTP_ADDR": server.address, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    begun = time.monotonic()
    with ConsulAccess(url=server.url) as access:
        eventually(lambda: not access.instances("orders", max_heartbeat_age=1.2), within=SERVER)
        told("left out after", time.monotonic() - begun)
        assert len(access.instances("orders")) == 1
        assert len(access.reap(older_than=1)) == 1
        assert access.instances("orders", policy="any") == []


def test_what_a_server_that_was_frozen_carries_out_late_is_left_out_by_age_and_reaped(told):
    """It does what it was asked before, although nobody waits for it any more and the service is gone since."""
    with Cluster() as cluster:
        leader = cluster.leader()
        frozen = cluster.others(leader)[0]
        with paused(frozen):
            asking = http.client.HTTPConnection(frozen.host, frozen.port, timeout=BEAT)
            with contextlib.closing(asking):
                asking.request("PUT", "/v1/catalog/register", json.dumps(heard_of("orders-1", 0, every=BEAT)))
                with pytest.raises(TimeoutError):
                    asking.getresponse()
            written(leader, "orders-1", 0)
            leader.request("PUT", "/v1/catalog/deregister", {"Node": "consul-access", "ServiceID": "orders-1"})
            assert entries(leader) == []
        begun = time.monotonic()
        with ConsulAccess(url=leader.url) as access:
            eventually(lambda: entries(leader), within=SERVER)
            told("back after", time.monotonic() - begun)
            assert access.instances("orders", max_heartbeat_age=BEAT) == []
            eventually(lambda: access.reap(older_than=BEAT), within=SERVER)
        assert entries(leader) == []


def test_a_heartbeat_of_a_service_that_is_gone_says_so(server):
    with ConsulAccess(url=server.url) as access:
        keeper = kept(access).start()
        server.request("PUT", "/v1/catalog/deregister", {"Node": "consul-access", "ServiceID": "orders-1"})
        with pytest.raises(UnknownService):
            keeper._place.look()
        keeper.stop()
