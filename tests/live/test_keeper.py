"""A registration is kept true, against real agents of Consul 1.8.7, whatever happens to them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from consul_access import (
    AsyncConsulAccess,
    ConnectFailed,
    ConsulAccess,
    InvalidInput,
    KeeperState,
    PermissionDenied,
    RetryPolicy,
    TcpCheck,
    TtlCheck,
)
from tests.support.cutting import CuttingProxy
from tests.support.waiting import eventually

TTL = 3.0
BEAT = TTL / 3
AGENT = 0.6
"""What an agent needs besides: to start, and to pass a registration on."""


ROOT = Path(__file__).parents[2]
SHARING = """
import sys
from consul_access import ConsulAccess, TtlCheck
events = []
with ConsulAccess() as access, access.registered(
    "orders", "127.0.0.1", 80, id="orders-1", check=TtlCheck(30), shared=True, on_event=events.append
):
    print("ready", flush=True)
    sys.stdin.read()
print(events[-1].kind, flush=True)
"""


def passing(agent, name="orders"):
    """The ids that a caller would be sent to; nothing while the agent is down."""
    try:
        entries = agent.read(f"/v1/health/service/{name}?passing")
    except (OSError, AssertionError):
        return []
    return [entry["Service"]["ID"] for entry in entries]


@pytest.fixture
def told(record_property):
    return lambda what, seconds: record_property(what, f"{seconds:.2f} s")


def test_it_is_there_within_the_block_and_gone_after_it(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(TTL), id="orders-1") as keeper:
                assert passing(consul) == ["orders-1"]
                assert keeper.state is KeeperState.REGISTERED
                assert keeper.last_ok is not None
                assert (keeper.misses, keeper.re_registrations) == (0, 0)
                assert (keeper.id, keeper.name, keeper.agent.port) == ("orders-1", "orders", consul.port)
            assert keeper.state is KeeperState.STOPPED
            assert consul.read("/v1/agent/services") == {}
            assert not await keeper.stop()

    face.run(story)


def test_it_can_be_started_and_stopped_by_hand_and_again(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            keeper = access.registered("orders", port=8080, check=None)
            with pytest.raises(InvalidInput, match="not started"):
                _ = keeper.id
            for _ in range(2):
                await keeper.start()
                await keeper.start()
                assert len(passing(consul)) == 1
                assert await keeper.stop()
                assert passing(consul) == []

    face.run(story)


def test_the_port_can_be_read_from_what_listens_and_the_meta_from_the_pod(face, consul, monkeypatch):
    monkeypatch.setenv("POD_NAME", "orders-0")
    monkeypatch.setenv("POD_NAMESPACE", "shop")

    async def story():
        async with face.access(url=consul.url) as access:
            with socket.create_server(("127.0.0.1", 0)) as server:
                meta = {"v": "1", "pod_namespace": "mine"}
                settings = {"port": server, "environment_meta": True, "meta": meta, "check": TcpCheck(status="passing")}
                async with access.registered("orders", **settings) as keeper:
                    (instance,) = await access.instances("orders")
                    assert instance.address == server.getsockname()
                    assert instance.meta == {"pod_name": "orders-0", "pod_namespace": "mine", "v": "1"}
                    assert keeper.id == f"orders-orders-0-{server.getsockname()[1]}"

    face.run(story)


def test_closing_the_client_ends_what_it_keeps(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            await access.registered("orders", port=8080, check=None).start()
            assert len(passing(consul)) == 1
        assert passing(consul) == []

    face.run(story)


def test_the_error_of_the_block_comes_through_and_the_service_is_gone(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(ZeroDivisionError):
                async with access.registered("orders", port=8080, check=None):
                    raise ZeroDivisionError
            assert passing(consul) == []

    face.run(story)


def test_heartbeats_keep_it_passing_for_longer_than_its_ttl_and_nothing_is_registered_again(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(1.2), id="orders-1") as keeper:
                first = consul.read("/v1/agent/service/orders-1")
                until = time.monotonic() + 3.0
                while time.monotonic() < until:
                    assert passing(consul) == ["orders-1"]
                    await face.sleep(0.02)
                assert consul.read("/v1/agent/service/orders-1") == first
                assert keeper.re_registrations == 0

    face.run(story)


def test_l15_agent_killed_and_restarted_without_its_data(face, agents, told):
    agent = agents()
    seen = []

    async def story():
        async with face.access(url=agent.url) as access:
            settings = {"check": TtlCheck(TTL), "id": "orders-1", "on_event": lambda event: seen.append(event.kind)}
            async with access.registered("orders", port=8080, **settings) as keeper:
                agent.restart()
                _, after = await face.eventually(lambda: passing(agent), within=BEAT + AGENT)
                told("back after", after)
                await face.eventually(lambda: keeper.state is KeeperState.REGISTERED)
                assert keeper.re_registrations == 1
                assert passing(agent) == ["orders-1"]
        assert "lost" in seen
        assert seen.count("registered_again") == 1
        assert agent.read("/v1/agent/services") == {}

    face.run(story)


def test_agent_killed_and_restarted_with_its_data_is_not_registered_at_again(face, agents, told):
    agent = agents(server=True)

    async def story():
        async with face.access(url=agent.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(TTL), id="orders-1") as keeper:
                agent.restart()
                _, after = await face.eventually(lambda: passing(agent) == ["orders-1"], within=10)
                told("passing after", after)
                await face.eventually(lambda: keeper.state is KeeperState.REGISTERED)
                assert keeper.re_registrations == 0

    face.run(story)


def test_agent_stopped_for_four_times_the_ttl(agents, told):
    agent = agents()
    with ConsulAccess(url=agent.url) as access:
        with access.registered("orders", port=8080, check=TtlCheck(5), id="orders-1") as keeper:
            agent.kill()
            time.sleep(20)
            assert keeper.state is KeeperState.RENEWING
            assert 12 <= keeper.misses < 200
            agent.run()
            begun = time.monotonic()
            while not passing(agent):
                assert time.monotonic() - begun < 5 + AGENT
                time.sleep(0.01)
            told("back after", time.monotonic() - begun)
            assert passing(agent) == ["orders-1"]


def test_registration_deleted_behind_our_back(face, consul, told):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(TTL), id="orders-1") as keeper:
                consul.request("PUT", "/v1/agent/service/deregister/orders-1")
                assert passing(consul) == []
                _, after = await face.eventually(lambda: passing(consul), within=BEAT + AGENT)
                told("back after", after)
                await face.eventually(lambda: keeper.re_registrations == 1)

    face.run(story)


def test_registration_without_a_heartbeat_deleted_behind_our_back(face, consul, told):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=None, id="orders-1"):
                consul.request("PUT", "/v1/agent/service/deregister/orders-1")
                _, after = await face.eventually(lambda: passing(consul), within=5 + AGENT)
                told("back after", after)

    face.run(story)


def test_another_program_overwrote_the_registration(face, consul, told):
    causes = []

    async def story():
        async with face.access(url=consul.url) as access:
            settings = {"check": TtlCheck(TTL), "id": "orders-1", "on_event": lambda event: causes.append(event.cause)}
            async with access.registered("orders", port=8080, **settings):
                consul.request("PUT", "/v1/agent/service/register", {"ID": "orders-1", "Name": "orders", "Port": 9})
                _, after = await face.eventually(
                    lambda: consul.read("/v1/agent/service/orders-1")["Port"] == 8080, within=5 + AGENT
                )
                told("back after", after)
                await face.eventually(lambda: passing(consul) == ["orders-1"])
        assert "port is 9 at the agent instead of 8080" in causes

    face.run(story)


def test_check_stolen_by_another_service(face, consul, told):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(TTL, id="mine"), id="orders-1") as keeper:
                await face.eventually(lambda: keeper._place._sees_checks)
                thief = {"ID": "x", "Name": "x", "Check": {"CheckID": "mine", "TTL": "10m"}}
                consul.request("PUT", "/v1/agent/service/register", thief)
                _, after = await face.eventually(
                    lambda: consul.read("/v1/agent/checks")["mine"]["ServiceID"] == "orders-1", within=5 + AGENT
                )
                told("back after", after)

    face.run(story)


def test_an_operators_maintenance_survives_a_repaired_registration(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(TTL), id="orders-1"):
                await access.maintenance("orders-1", True, "disk")
                consul.request("PUT", "/v1/agent/service/register", {"ID": "orders-1", "Name": "orders", "Port": 9})
                await face.eventually(lambda: consul.read("/v1/agent/service/orders-1")["Port"] == 8080, within=7)
                assert "_service_maintenance:orders-1" in consul.read("/v1/agent/checks")

    face.run(story)


def test_n04_token_revoked_and_a_new_one_put_into_the_file(face, acl_consul, tmp_path, told):
    def made():
        rules = 'service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }'
        name = f"p{time.monotonic_ns()}"
        _, policy = acl_consul.request("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        _, token = acl_consul.request("PUT", "/v1/acl/token", {"Policies": [{"ID": json.loads(policy)["ID"]}]})
        return json.loads(token)

    def status():
        checks = acl_consul.read("/v1/agent/checks")
        return checks.get("service:orders-1", {}).get("Status")

    def found_as():
        return [check["Status"] for check in acl_consul.read("/v1/health/checks/orders")]

    said = ["passing"]

    async def story():
        old = made()
        file = tmp_path / "token"
        file.write_text(old["SecretID"])
        async with face.access(url=acl_consul.url, token=file) as access:
            async with access.registered(
                "orders", port=8080, check=TtlCheck(TTL), id="orders-1", health=lambda: said[0]
            ) as keeper:
                acl_consul.request("DELETE", f"/v1/acl/token/{old['AccessorID']}", token=acl_consul.token)
                await face.eventually(lambda: keeper.misses > 0, within=60, what="the token is refused")
                file.write_text(made()["SecretID"])
                _, after = await face.eventually(lambda: keeper.misses == 0, within=BEAT + AGENT)
                told("good again after", after)
                await face.eventually(lambda: status() == "passing", within=BEAT + AGENT)
                # With the old token the agent could not tell the servers what comes now.
                await face.eventually(lambda: keeper.re_registrations == 1, within=BEAT + AGENT)
                said[0] = "warning"
                await face.eventually(lambda: found_as() == ["warning"], within=BEAT + AGENT)
                assert keeper.re_registrations == 1
        assert "orders-1" not in acl_consul.read("/v1/agent/services")
        assert acl_consul.read("/v1/catalog/service/orders") == []

    face.run(story)


def test_agent_frozen_and_thawed(face, agents, told):
    agent = agents()

    async def story():
        async with face.access(url=agent.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(TTL), id="orders-1") as keeper:
                agent.pause()
                try:
                    await face.sleep(TTL + 2)
                finally:
                    agent.resume()
                _, after = await face.eventually(lambda: passing(agent) == ["orders-1"], within=BEAT + AGENT)
                told("passing after", after)
                assert keeper.re_registrations == 0

    face.run(story)


def test_connection_reset_at_every_byte_of_a_register_exchange(consul):
    cut, complete, quick = 0, False, RetryPolicy(base=0.001)
    while not complete:
        cut, exchanges = cut + 1, []
        with CuttingProxy(consul.port, cut) as proxy, ConsulAccess(url=proxy.url, retry=quick) as access:
            access.on_exchange(exchanges.append)
            with access.registered("orders", port=8080, check=None, id="orders-1"):
                assert passing(consul) == ["orders-1"], f"cut after {cut} bytes"
            complete = exchanges[0].operation == "agent.service.register" and exchanges[0].status == 200
        assert consul.read("/v1/agent/services") == {}, f"cut after {cut} bytes"
    assert cut > 300  # request and answer


@pytest.mark.parametrize("backend", ["asyncio"])
def test_event_loop_blocked_for_longer_than_the_ttl(consul, backend, told):
    async def story():
        async with AsyncConsulAccess(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(1.5), id="orders-1") as keeper:
                time.sleep(2.5)  # noqa: ASYNC251 - this is what the test is about
                assert passing(consul) == []
                begun = time.monotonic()
                while not passing(consul):
                    await asyncio.sleep(0.01)
                    assert time.monotonic() - begun < 0.5 + AGENT
                told("passing after", time.monotonic() - begun)
                assert keeper.re_registrations == 0

    asyncio.run(story())


def test_100_services_kept_by_one_process(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            keepers = [
                access.registered("orders", port=1000 + number, check=TtlCheck(TTL), id=f"orders-{number}")
                for number in range(100)
            ]
            for keeper in keepers:
                await keeper.start()
            await face.sleep(2 * TTL)
            assert len(passing(consul)) == 100
            assert all(keeper.re_registrations == 0 and keeper.misses == 0 for keeper in keepers)
            for keeper in keepers:
                assert await keeper.stop()
            assert passing(consul) == []

    face.run(story)


def test_one_that_keeps_the_others_waiting_costs_them_no_heartbeat(face, consul):
    """One worker makes the heartbeats of all; here the answer to one of them does not come."""

    async def story():
        async with face.access(url=consul.url) as access:
            first = access.registered("slow", port=1, check=TtlCheck(TTL), id="slow-1")
            others = [access.registered("orders", port=n, check=TtlCheck(TTL), id=f"orders-{n}") for n in (1, 2, 3)]
            for keeper in (first, *others):
                await keeper.start()
            hangs, free = threading.Event(), threading.Event()
            keeper = first if face.is_async else first._inner

            async def hang(*_):
                hangs.set()
                await face.sleep(3 * TTL)

            def block(*_):
                hangs.set()
                free.wait(3 * TTL)

            keeper._place.beat = hang if face.is_async else block
            await face.eventually(hangs.is_set, within=BEAT + AGENT)
            until = time.monotonic() + 2 * TTL
            while time.monotonic() < until:
                assert len(passing(consul)) == 3
                await face.sleep(0.05)
            free.set()
            assert all(keeper.misses == keeper.re_registrations == 0 for keeper in others)

    face.run(story)


@pytest.mark.parametrize(
    ("answer", "status", "output"),
    [(True, "passing", ""), (("warning", "slow"), "warning", "slow"), (False, "critical", "")],
)
def test_a_health_function_decides(face, consul, answer, status, output):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered(
                "orders", port=8080, check=TtlCheck(TTL), id="orders-1", health=lambda: answer
            ):
                await face.eventually(
                    lambda: _check(consul) == (status, output), within=BEAT + AGENT, what=f"{status} {output}"
                )

    face.run(story)


def test_a_health_function_that_crashes_is_a_failing_check_and_not_a_dead_keeper(face, consul):
    broken = threading.Event()
    broken.set()

    def health():
        if broken.is_set():
            raise ZeroDivisionError("no disk")

    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(TTL), id="orders-1", health=health):
                await face.eventually(lambda: "no disk" in _check(consul)[1], within=BEAT + AGENT)
                assert _check(consul)[0] == "critical"
                broken.clear()
                await face.eventually(lambda: _check(consul)[0] == "passing", within=BEAT + AGENT)

    face.run(story)


def test_a_health_function_that_hangs_is_a_failing_check_and_not_a_dead_keeper(face, consul):
    free = threading.Event()

    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered(
                "orders", port=8080, check=TtlCheck(TTL), id="orders-1", health=lambda: free.wait(30)
            ):
                await face.eventually(lambda: "has not answered" in _check(consul)[1], within=BEAT + AGENT)
                free.set()
                await face.eventually(lambda: _check(consul)[0] == "passing", within=2 * BEAT + AGENT)

    try:
        face.run(story)
    finally:
        free.set()


def test_an_async_health_function_is_awaited(consul):
    async def health():
        await asyncio.sleep(0.01)
        return "warning", "awaited"

    async def story():
        async with AsyncConsulAccess(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(TTL), id="orders-1", health=health):
                while _check(consul) != ("warning", "awaited"):
                    await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(story(), 5))


def test_what_cannot_be_right_is_refused_before_anything_is_sent(face, consul):
    async def health(): ...

    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(InvalidInput, match="TTL"):
                await access.registered("orders", port=80, check=None, health=lambda: None).start()
            with pytest.raises(InvalidInput, match="mode"):
                access.registered("orders", port=80, mode="magic")
            with pytest.raises(InvalidInput, match="drain"):
                access.registered("orders", port=80, drain=-1)
            if not face.is_async:
                with pytest.raises(InvalidInput, match="AsyncConsulAccess"):
                    access.registered("orders", port=80, check=TtlCheck(9), health=health)
        assert consul.read("/v1/agent/services") == {}

    face.run(story)


def test_an_agent_that_is_away_is_an_error_at_once_or_waited_for(face, agents):
    agent = agents()
    agent.kill()

    async def story():
        async with face.access(url=agent.url) as access:
            keeper = access.registered("orders", port=8080, check=None)
            with pytest.raises(ConnectFailed):
                await keeper.start()
            with pytest.raises(ConnectFailed):
                await keeper.start()
            assert not await keeper.stop()
            assert keeper.state is KeeperState.STOPPED
            async with access.registered("orders", port=8080, check=None, id="orders-1", fail_fast=False) as keeper:
                assert keeper.state is KeeperState.PENDING
                assert keeper.misses
                agent.run()
                await face.eventually(lambda: passing(agent) == ["orders-1"], within=5 + AGENT)
                await face.eventually(lambda: keeper.state is KeeperState.REGISTERED)

    face.run(story)


def test_a_token_that_may_not_register_is_an_error_at_once(face, acl_consul):
    async def story():
        async with face.access(url=acl_consul.url) as access:
            with pytest.raises(PermissionDenied):
                await access.registered("orders", port=8080, check=None).start()

    face.run(story)


def test_during_the_drain_nobody_is_sent_there_and_it_is_still_registered(face, consul):
    events = []

    def look(event):
        if event.kind in {"draining", "deregistered"}:
            events.append((event.kind, time.monotonic()))

    async def story():
        async with face.access(url=consul.url) as access:
            keeper = access.registered("orders", port=8080, check=None, id="orders-1", drain=1.0, on_event=look)
            await keeper.start()
            seen = []
            watching = threading.Thread(
                target=lambda: [seen.append(_maintained(consul)) or time.sleep(0.05) for _ in range(30)]
            )
            watching.start()
            assert await keeper.stop()
            watching.join()
        (first, begun), (last, ended) = events
        assert (first, last) == ("draining", "deregistered")
        assert ended - begun >= 1.0
        assert ("critical", True) in seen  # in maintenance, and there
        assert consul.read("/v1/agent/services") == {}

    face.run(story)


def test_the_drain_begins_when_nobody_finds_it_any_more_however_slow_the_agent_is(face, consul, counting):
    counting.holds, passed_on = "/v1/agent/service/maintenance/", []

    def pass_on():
        eventually(counting.holding.is_set)
        time.sleep(0.7)
        passed_on.append(time.monotonic())
        counting.held.set()

    async def story():
        async with face.access(url=f"http://{counting.address}") as access:
            keeper = await access.registered("orders", port=8080, check=None, id="orders-1", drain=1.0).start()
            counting.held.clear()
            slow = threading.Thread(target=pass_on)
            slow.start()
            assert await keeper.stop()
            slow.join()
        assert counting.first("/v1/agent/service/deregister/") - passed_on[0] >= 1.0

    face.run(story)


def test_the_end_is_bounded_and_said_when_the_agent_is_down(face, agents, caplog):
    agent = agents()

    async def story():
        async with face.access(url=agent.url) as access:
            keeper = access.registered(
                "orders", port=8080, check=TtlCheck(9, deregister_critical_service_after="1m"), id="orders-1"
            )
            await keeper.start()
            agent.kill()
            begun = time.monotonic()
            assert not await keeper.stop()
            assert time.monotonic() - begun < 2.4

    with caplog.at_level(logging.WARNING, "consul_access"):
        face.run(story)
    assert "deregister_critical_service_after" in caplog.text


def test_a_failing_on_event_is_logged_and_changes_nothing(face, consul, caplog):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=None, on_event=lambda _: 1 / 0):
                assert len(passing(consul)) == 1

    face.run(story)
    assert "on_event failed" in caplog.text


def _check(agent):
    check = agent.read("/v1/agent/checks").get("service:orders-1", {})
    return check.get("Status"), check.get("Output", "")


def _maintained(agent):
    check = agent.read("/v1/agent/checks").get("_service_maintenance:orders-1", {})
    return check.get("Status"), "orders-1" in agent.read("/v1/agent/services")


def test_several_processes_keep_one_registration_together_and_the_last_one_ends_it(consul, tmp_path):
    """A worker of a server is started as the others were, ended alone, killed; the service is there until the last."""
    (tmp_path / "worker.py").write_text(SHARING)
    environ = os.environ | {"CONSUL_HTTP_ADDR": consul.address, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}

    def begun():
        command = [sys.executable, str(tmp_path / "worker.py")]
        worker = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        workers.append(worker)
        assert worker.stdout.readline() == "ready\n"
        return worker

    workers = []
    try:
        first = begun()
        index = service_index(consul)
        second, third, fourth = begun(), begun(), begun()
        assert service_index(consul) == index  # the others wrote nothing
        first.communicate("", timeout=20)
        second.kill()
        second.wait(20)
        assert passing(consul) == ["orders-1"]
        assert service_index(consul) == index
        third.send_signal(signal.SIGTERM)
        assert third.wait(20) == -signal.SIGTERM
        assert passing(consul) == ["orders-1"]
        output, _ = fourth.communicate("", timeout=20)
        assert output.split() == ["deregistered"]
        assert consul.read("/v1/agent/services") == {}
        assert first.returncode == fourth.returncode == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_who_leaves_while_the_last_of_the_others_is_killed_ends_it_in_order(consul, tmp_path):
    """Both were told to end; the one that was to do it did not come to it."""
    (tmp_path / "worker.py").write_text(SHARING.replace("shared=True", "shared=True, drain=20"))
    environ = os.environ | {"CONSUL_HTTP_ADDR": consul.address, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(tmp_path / "worker.py")]
    workers = []
    try:
        for _ in range(2):
            workers.append(
                subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert workers[-1].stdout.readline() == "ready\n"
        workers[0].stdin.close()
        time.sleep(0.5)  # if it has not got there yet, it is the last at once, and does the same
        assert passing(consul) == ["orders-1"]
        workers[1].kill()
        workers[1].wait(20)
        eventually(lambda: passing(consul) == [], within=10, what="it is taken out of the look-ups")
        assert "_service_maintenance:orders-1" in consul.read("/v1/agent/checks")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(20)
            worker.stdout.close()
            worker.stdin.close()


def service_index(agent):
    """When the catalog's entry was last written."""
    (entry,) = agent.read("/v1/catalog/service/orders")
    return entry["ModifyIndex"]


# --- waiting for changes at the agent ---------------------------------------------------------------------


def test_without_a_heartbeat_a_deleted_registration_is_noticed_at_once(face, consul, told):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=None, id="orders-1") as keeper:
                await face.eventually(lambda: keeper._watching, what="it waits for a change")
                consul.request("PUT", "/v1/agent/service/deregister/orders-1")
                _, after = await face.eventually(lambda: passing(consul), within=3)
                told("back after", after)
                await face.eventually(lambda: keeper.re_registrations == 1, what="it knows that it is back")

    face.run(story)


def test_a_changed_definition_is_noticed_at_once(face, consul, told):
    async def story():
        async with face.access(url=consul.url) as access:
            async with access.registered("orders", port=8080, check=None, id="orders-1") as keeper:
                await face.eventually(lambda: keeper._watching, what="it waits for a change")
                consul.request("PUT", "/v1/agent/service/register", {"ID": "orders-1", "Name": "orders", "Port": 9})
                _, after = await face.eventually(lambda: keeper.re_registrations == 1, within=3)
                told("back after", after)
                assert consul.read("/v1/agent/service/orders-1")["Port"] == 8080

    face.run(story)


def test_an_agent_that_dies_is_noticed_at_once_and_one_that_waits_is_ended_at_once(face, agents):
    agent = agents()

    async def story():
        async with face.access(url=agent.url) as access:
            async with access.registered("orders", port=8080, check=None, id="orders-1") as keeper:
                await face.eventually(lambda: keeper._watching, what="it waits for a change")
                agent.kill()
                await face.eventually(lambda: keeper.misses, within=3)
                agent.run()
                await face.eventually(lambda: keeper.state is KeeperState.REGISTERED and keeper._watching)
                begun = time.monotonic()
                assert await keeper.stop()
                assert time.monotonic() - begun < 3

    face.run(story)


def test_one_that_waits_can_be_ended_and_begun_again(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            keeper = access.registered("orders", port=8080, check=None, id="orders-1")
            for _ in range(3):
                await keeper.start()
                await face.eventually(lambda: keeper._watching, what="it waits for a change")
                assert await keeper.stop()
                assert keeper.state is KeeperState.STOPPED
                assert keeper.re_registrations == 0
                assert consul.read("/v1/agent/services") == {}
            assert len(access._seats) == 16

    face.run(story)


def test_at_most_16_keepers_of_a_client_hold_a_connection_for_it(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            keepers = [access.registered("orders", port=1000 + n, check=None, id=f"orders-{n}") for n in range(40)]
            for keeper in keepers:
                await keeper.start()
            await face.eventually(lambda: sum(keeper._watching for keeper in keepers) == 16, within=30)
            await face.sleep(2)
            assert sum(keeper._watching for keeper in keepers) <= 16
            assert access._transport._own.connections[0] <= 20
            consul.request("PUT", "/v1/agent/service/deregister/orders-39")
            await face.eventually(lambda: keepers[39].re_registrations == 1, within=5 + AGENT)  # by the next look
            for keeper in keepers:
                assert await keeper.stop()
            assert len(access._seats) == 16

    face.run(story)


@pytest.mark.parametrize("hashed", [False, True])
def test_where_the_agent_cannot_wait_it_is_looked_at_every_few_seconds(face, consul, hashed):
    """An agent, or a proxy before it, that tells no hash, and one that tells one and does not wait."""
    asked = []

    def answer(request):
        path = request.url.raw_path.decode()
        if path.startswith("/v1/agent/service/orders-1"):
            asked.append(path)
            path = path.partition("?")[0]
        status, text = consul.request(request.method, path, request.content)
        if not hashed and path.startswith("/v1/agent/service/orders-1") and status == 200:
            text = json.dumps({key: value for key, value in json.loads(text).items() if key != "ContentHash"})
        return httpx.Response(status, text=text)

    async def story():
        async with face.access(url=consul.url, transport=face.transport(answer)) as access:
            async with access.registered("orders", port=8080, check=None, id="orders-1") as keeper:
                await face.sleep(2.5)
                assert len(asked) <= 4
                consul.request("PUT", "/v1/agent/service/deregister/orders-1")
                await face.eventually(lambda: keeper.re_registrations == 1, within=5 + AGENT)

    face.run(story)
