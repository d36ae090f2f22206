"""Waiting for services that are not there yet, against real agents of Consul 1.8.7."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from consul_access import (
    AsyncConsulAccess,
    ClientClosed,
    ConnectFailed,
    ConsulAccess,
    F,
    FilterError,
    InvalidInput,
    InvalidSettings,
    NotReady,
    ProgressKind,
    TokenUnknown,
)
from tests.support.scripted import answer, never
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
TTL = {"TTL": "1h"}
PASSING = {"TTL": "1h", "Status": "passing"}
SLACK = 3.0
"""More than the tenth of a second that is promised: test machines are slow. The measured time is told."""


@pytest.fixture
def later():
    """Does something a little later, beside the test; what it raised is raised at the end."""
    timers, failures = [], []

    def do(seconds, action, *args):
        def run():
            try:
                action(*args)
            except Exception as error:  # noqa: BLE001 - raised at the end
                failures.append(error)

        timer = threading.Timer(seconds, run)
        timers.append(timer)
        timer.start()

    yield do
    for timer in timers:
        timer.join(20)
    if failures:
        raise failures[0]


@pytest.fixture
def told(record_property):
    return lambda what, seconds: record_property(what, f"{seconds * 1000:.1f} ms")


def kinds(progress):
    return [one.kind for one in progress]


def passed(agent, check_id):
    assert agent.request("PUT", f"/v1/agent/check/pass/{check_id}")[0] == 200


# --- until they are there ---------------------------------------------------------------------------------


def test_it_gives_what_instances_gives_at_once_when_they_are_there(face, consul):
    consul.register("orders", id="orders-1", port=80, address="10.0.0.5", check=PASSING, tags=["a"])
    consul.register("orders", id="orders-2", port=80, address="10.0.0.6", check=TTL)
    consul.register("orders", id="orders-3", port=80, address="10.0.0.7", check={"TTL": "1h", "Status": "warning"})

    async def story():
        async with face.access(url=consul.url) as access:
            begun = time.monotonic()
            for query in ({}, {"policy": "any"}, {"policy": "passing_or_warning"}, {"tags": "a"}):
                found = await access.wait_for("orders", **query)
                assert found == await access.instances("orders", **query)
                assert found.meta.index >= 1
            assert time.monotonic() - begun < 10
            assert len(await access.wait_for("orders", at_least=2, policy="passing_or_warning")) == 2

    face.run(story)


def test_it_tells_what_it_sees_until_the_service_is_ready(face, consul, later, told):
    seen, passed_at = [], []

    def let_pass():
        passed_at.append(time.monotonic())
        passed(consul, "service:orders-1")

    def go_on(progress):
        """Each step follows when the one before was seen."""
        seen.append(progress)
        if progress.kind is ProgressKind.UNKNOWN_SERVICE:
            later(0.1, lambda: consul.register("orders", id="orders-1", port=80, check=TTL))
        elif progress.kind is ProgressKind.TOO_FEW:
            later(0.1, let_pass)

    async def story():
        async with face.access(url=consul.url) as access:
            (instance,) = await access.wait_for("orders", timeout=60, on_progress=go_on)
            lag = time.monotonic() - passed_at[0]
            assert instance.id == "orders-1"
            told("from the passing check to the answer", lag)
            assert lag < 9  # a blocking query woke up, its end was not waited for

    face.run(story)
    assert kinds(seen) == [ProgressKind.UNKNOWN_SERVICE, ProgressKind.TOO_FEW, ProgressKind.READY]
    assert str(seen[0]) == "orders: unknown service"
    assert str(seen[1]).startswith(
        "orders: registered, 0 of 1 passing: check \"Service 'orders' check\" of orders-1 is"
    )
    assert str(seen[2]) == "orders: ready, 1 of 1 passing"


def test_what_a_check_says_is_told_although_the_catalog_learns_it_minutes_later(face, consul, free_port):
    check = {"HTTP": f"http://127.0.0.1:{free_port}/health", "Interval": "100ms"}
    consul.register("orders", id="orders-1", port=80, check=check)
    eventually(lambda: "refused" in consul.request("GET", "/v1/agent/checks")[1])
    assert "refused" not in consul.request("GET", "/v1/health/checks/orders")[1]

    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(NotReady, match=r"of orders-1 is critical: .*connection refused"):
                await access.wait_for("orders", timeout=1.5)

    face.run(story)


def test_so_many_as_are_wanted(face, consul, later):
    consul.register("orders", id="orders-1", port=80)

    async def story():
        async with face.access(url=consul.url) as access:
            later(0.3, lambda: consul.register("orders", id="orders-2", port=81))
            found = await access.wait_for("orders", at_least=2, timeout=60)
            assert {instance.id for instance in found} == {"orders-1", "orders-2"}

    face.run(story)


def test_several_services_at_once_with_numbers_of_their_own(face, consul, later):
    seen = []
    consul.register("orders", id="orders-1", port=80)

    def go_on(progress):
        seen.append(progress)
        if progress.kind in {ProgressKind.UNKNOWN_SERVICE, ProgressKind.TOO_FEW}:
            number = progress.found + 1
            later(0.1, lambda: consul.register("payments", id=f"payments-{number}", port=80 + number))

    async def story():
        async with face.access(url=consul.url) as access:
            services = {"orders": 1, "payments": 2}
            found = await access.wait_for_all(services, timeout=60, on_progress=go_on)
            assert list(found) == ["orders", "payments"]
            assert [len(instances) for instances in found.values()] == [1, 2]
            assert found["payments"] == await access.instances("payments")
            with pytest.raises(NotReady, match=r"'nobody' not ready after [0-9.]+ s: unknown service") as failure:
                await access.wait_for_all(["orders", "nobody"], timeout=1.5)
            assert [progress.is_ready for progress in failure.value.progress] == [True, False]

    face.run(story)
    assert kinds(one for one in seen if one.service == "orders") == [ProgressKind.READY]
    assert kinds(one for one in seen if one.service == "payments") == [
        ProgressKind.UNKNOWN_SERVICE,
        ProgressKind.TOO_FEW,
        ProgressKind.READY,
    ]


def test_one_that_goes_while_another_is_waited_for_is_waited_for_again(consul, later):
    consul.register("orders", id="orders-1", port=80)
    with ConsulAccess(url=consul.url) as access:
        later(0.2, lambda: consul.request("PUT", "/v1/agent/service/deregister/orders-1"))
        later(1.8, lambda: consul.register("payments", id="payments-1", port=81))
        later(2.4, lambda: consul.register("orders", id="orders-9", port=89))
        found = access.wait_for_all(["orders", "payments"], timeout=60)
        assert [instances[0].id for instances in found.values()] == ["orders-9", "payments-1"]


def test_progress_may_be_told_to_a_coroutine_on_the_face_for_tasks(consul):
    consul.register("orders", port=80)
    seen = []

    async def tell(progress):
        await anyio.lowlevel.checkpoint()
        seen.append(progress.kind)

    async def story():
        async with AsyncConsulAccess(url=consul.url) as access:
            await access.wait_for("orders", on_progress=tell)

    anyio.run(story, backend="trio")
    anyio.run(story, backend="asyncio")
    assert seen == [ProgressKind.READY] * 2
    with ConsulAccess(url=consul.url) as access, pytest.raises(InvalidSettings, match="async function"):
        access.wait_for("orders", on_progress=tell)


def test_what_on_progress_raises_ends_the_wait(face, consul):
    def refuse(progress):
        raise LookupError(progress.text)

    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(LookupError, match="unknown service"):
                await access.wait_for("orders", on_progress=refuse)

    face.run(story)


# --- until the time is up ---------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [1, 2.5, "1500ms"])
def test_the_time_is_kept_in_the_middle_of_a_blocking_query(face, consul, told, timeout):
    consul.register("orders", id="orders-1", port=80, check={**TTL, "Status": "critical"})
    expected = 1.5 if timeout == "1500ms" else timeout

    async def story():
        async with face.access(url=consul.url) as access:
            begun = time.monotonic()
            with pytest.raises(NotReady, match=r"registered, 0 of 1 passing: check .* of orders-1 is") as failure:
                await access.wait_for("orders", timeout=timeout)
            took = time.monotonic() - begun
            told("beyond the time allowed", took - expected)
            assert expected <= took < expected + SLACK
            assert failure.value.retryable
            assert isinstance(failure.value, TimeoutError)
            assert "explain(name)" in str(failure.value)
            assert await access.services() != {}  # the client goes on

    face.run(story)


def test_waiting_costs_few_requests(consul):
    asked = []
    with ConsulAccess(url=consul.url) as access:
        access.on_exchange(lambda exchange: asked.append(exchange.operation))
        with pytest.raises(NotReady):
            access.wait_for("orders", timeout=4)
    assert asked.count("health.service") <= 3
    assert len(asked) <= 5  # and once each: are there ACLs, is there a similar name


def test_a_frozen_agent_is_told_from_an_absent_service(agents, told):
    agent = agents()
    agent.pause()
    with ConsulAccess(url=agent.url) as access:
        begun = time.monotonic()
        with pytest.raises(NotReady, match="agent unreachable") as failure:
            access.wait_for("orders", timeout=1)
        told("beyond the time allowed", time.monotonic() - begun - 1)
        assert time.monotonic() - begun < 1 + SLACK
        assert failure.value.progress[0].kind is ProgressKind.AGENT_UNREACHABLE
        agent.resume()
        agent.register("orders", port=80)
        assert len(access.wait_for("orders", timeout=60)) == 1


# --- while the agent is away ------------------------------------------------------------------------------


def test_an_agent_that_comes_late_is_waited_for(face, agents, later, told):
    agent = agents()
    agent.kill()
    seen, up_at = [], []

    def come():
        agent.run()
        up_at.append(time.monotonic())
        agent.register("orders", port=80)

    async def story():
        async with face.access(url=agent.url) as access:
            later(1.0, come)
            assert len(await access.wait_for("orders", timeout=60, on_progress=seen.append)) == 1
            told("after the agent is up", time.monotonic() - up_at[0])

    face.run(story)
    assert seen[0].kind is ProgressKind.AGENT_UNREACHABLE
    assert str(agent.port) in seen[0].text
    assert seen[-1].kind is ProgressKind.READY


def test_an_agent_that_never_comes_is_named_in_the_error(face, free_port):
    async def story():
        async with face.access(port=free_port) as access:
            with pytest.raises(NotReady, match=f"agent unreachable: 127.0.0.1:{free_port}: no connection") as failure:
                await access.wait_for("orders", timeout=1.5)
            assert isinstance(failure.value.__cause__, ConnectFailed)
            assert failure.value.address == f"127.0.0.1:{free_port}"

    face.run(story)


def test_an_agent_restarted_in_the_middle_loses_nothing(agents, later, told):
    agent = agents()
    seen = []

    def restart():
        agent.restart()
        agent.register("orders", port=80)

    with ConsulAccess(url=agent.url) as access:
        later(0.5, restart)
        begun = time.monotonic()
        assert len(access.wait_for("orders", timeout=60, on_progress=seen.append)) == 1
        told("with a restart of the agent", time.monotonic() - begun)
    assert ProgressKind.AGENT_UNREACHABLE in kinds(seen)


def test_an_election_is_waited_for(face, scripted, consul):
    none = answer(500, b"No cluster leader")
    instance = json.dumps(
        [{"Node": {"Node": "n"}, "Service": {"ID": "orders-1", "Service": "orders", "Port": 1}, "Checks": []}]
    ).encode()
    seen = []

    async def story():
        server = scripted([none, none, answer(200, instance, {"X-Consul-Index": "7"})])
        async with face.access(url=server.url) as access:
            assert len(await access.wait_for("orders", timeout=60, on_progress=seen.append)) == 1

    face.run(story)
    assert kinds(seen) == [ProgressKind.NO_LEADER, ProgressKind.READY]
    assert "No cluster leader" in seen[0].text


def test_f13_a_server_that_does_not_block_is_not_asked_in_a_busy_loop(face, scripted):
    async def story():
        server = scripted([answer(200, b"[]", {"X-Consul-Index": "7"})])
        async with face.access(url=server.url) as access:
            with pytest.raises(NotReady):
                await access.wait_for("orders", timeout=5)
        looks = [request for request in server.requests if "/health/service/" in request.target]
        assert len(looks) <= 4

    face.run(story)


# --- what waiting cannot mend -----------------------------------------------------------------------------


def test_mistakes_are_errors_at_once(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            begun = time.monotonic()
            with pytest.raises(FilterError):
                await access.wait_for("orders", filter="No.Such == 1")
            for wrong in (
                {"at_least": 0},
                {"timeout": 0},
                {"timeout": -1},
                {"timeout": float("nan")},
                {"timeout": "soon"},
                {"policy": "nice"},
                {"index": 3},
                {"wait": "1s"},
                {"colour": "red"},
            ):
                with pytest.raises(InvalidInput):
                    await access.wait_for("orders", **wrong)
            with pytest.raises(InvalidInput):
                await access.wait_for("a//b")
            assert time.monotonic() - begun < 10

    face.run(story)


def test_a_query_that_fits_nothing_is_told_from_an_unknown_service(face, consul):
    consul.register("orders", id="orders-1", port=80, tags=["v1"])
    seen = []

    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(NotReady, match=r"registered, 0 of 1 as asked for: nothing fits tags='v2'"):
                await access.wait_for("orders", tags="v2", timeout=1.5, on_progress=seen.append)
            with pytest.raises(NotReady, match="nothing fits filter="):
                await access.wait_for("orders", filter=F.service.tags.contains("v3"), timeout=1.5)
            with pytest.raises(NotReady, match="unknown service: there is 'orders'"):
                await access.wait_for("order", timeout=1.5)

    face.run(story)
    assert kinds(seen) == [ProgressKind.NO_MATCH]


# --- access rules -----------------------------------------------------------------------------------------


def token(agent, name, rules, secret=None):
    """A token with such rules; its secret."""
    _, policy = agent.request("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
    body = {"Policies": [{"ID": json.loads(policy)["ID"]}]} | ({"SecretID": secret} if secret else {})
    status, made = agent.request("PUT", "/v1/acl/token", body)
    assert status == 200, made
    return json.loads(made)["SecretID"]


READ = 'service_prefix "" { policy = "read" }'
READ_NODES = 'node_prefix "" { policy = "read" }'


def test_what_a_token_may_not_see_is_told_as_hidden_or_possibly_so(face, agents):
    agent = agents(acl=True)
    agent.register("orders", port=80)

    async def story():
        async with face.access(url=agent.url) as access:
            with pytest.raises(
                NotReady, match="unknown service, or hidden by ACL: access is controlled here"
            ) as failure:
                await access.wait_for("orders", timeout=1.5)
            assert failure.value.progress[0].kind is ProgressKind.MAYBE_HIDDEN
        async with face.access(url=agent.url, token=token(agent, f"half-{face.name}", READ)) as access:
            with pytest.raises(
                NotReady,
                match=r"hidden by ACL: the token may see the service and not the nodes it runs on \(node:read\)",
            ):
                await access.wait_for("orders", timeout=1.5)
        async with face.access(url=agent.url, token=token(agent, f"whole-{face.name}", READ + READ_NODES)) as access:
            assert len(await access.wait_for("orders")) == 1

    face.run(story)


def test_a_token_that_becomes_known_later_is_waited_for(face, agents, later, told):
    agent = agents(acl=True)
    agent.register("orders", port=80)
    secret = "11111111-2222-4333-8444-555555555555"
    seen, known_at = [], []

    def know():
        token(agent, "late", READ + READ_NODES, secret)
        known_at.append(time.monotonic())

    async def story():
        async with face.access(url=agent.url, token=secret) as access:
            with pytest.raises(NotReady, match=r"token unknown: .*ACL not found") as failure:
                await access.wait_for("orders", timeout=1.5)
            assert isinstance(failure.value.__cause__, TokenUnknown)
            assert secret not in str(failure.value)
            later(1.0, know)
            assert len(await access.wait_for("orders", timeout=60, on_progress=seen.append)) == 1
            told("after the token was made", time.monotonic() - known_at[0])

    face.run(story)
    assert kinds(seen) == [ProgressKind.TOKEN_UNKNOWN, ProgressKind.READY]


def test_rights_that_are_granted_later_are_noticed(agents, later, told):
    agent = agents(acl=True)
    agent.register("orders", port=80)
    secret = token(agent, "grow", 'key "nothing" { policy = "read" }')
    granted_at = []

    def grant():
        policies = json.loads(agent.request("GET", "/v1/acl/policies")[1])
        (grow,) = [policy for policy in policies if policy["Name"] == "grow"]
        status, text = agent.request(
            "PUT", f"/v1/acl/policy/{grow['ID']}", {"Name": "grow", "Rules": READ + READ_NODES, "ID": grow["ID"]}
        )
        assert status == 200, text
        granted_at.append(time.monotonic())

    with ConsulAccess(url=agent.url, token=secret) as access:
        later(0.5, grant)
        assert len(access.wait_for("orders", timeout=60)) == 1
        told("after the rights were granted", time.monotonic() - granted_at[0])


# --- interrupted ------------------------------------------------------------------------------------------

LISTENING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
"""
THREADS = """
import sys
from consul_access import ConsulAccess
with ConsulAccess(url=sys.argv[1]) as access:
    access.wait_for("orders", timeout=60, on_progress=lambda progress: print(progress, flush=True))
"""
TASKS = """
import asyncio, sys
from consul_access import AsyncConsulAccess
async def main():
    async with AsyncConsulAccess(url=sys.argv[1]) as access:
        await access.wait_for("orders", timeout=60, on_progress=lambda progress: print(progress, flush=True))
asyncio.run(main())
"""


@pytest.fixture(params=["blocking", "silent", "away"])
def waited_at(request, consul, scripted, free_port):
    """An agent that blocks, one that says nothing more, and one that is not there."""
    if request.param == "blocking":
        return consul.url
    return scripted([answer(), never()]).url if request.param == "silent" else f"http://127.0.0.1:{free_port}"


@pytest.mark.parametrize("program", [THREADS, TASKS], ids=["threads", "asyncio"])
def test_ctrl_c_ends_the_wait_at_once(program, waited_at, told):
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING + program, waited_at],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().startswith("orders: ")
        time.sleep(0.3)  # into the middle of the blocking query
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        took = time.monotonic() - begun
    finally:
        process.kill()
        process.wait()
    told("from the signal to the end of the process", took)
    assert "KeyboardInterrupt" in errors
    assert took < 8


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_wait_ends_at_once_and_leaks_no_connection(consul, backend, told):
    async def story():
        async with AsyncConsulAccess(url=consul.url) as access:
            begun = time.monotonic()
            with anyio.move_on_after(0.5) as scope:
                await access.wait_for("orders", timeout=60)
            assert scope.cancelled_caught
            took = time.monotonic() - begun - 0.5
            told("from the cancellation to the end", took)
            assert took < 5
            assert access._transport._own.connections[0] == 0
            assert await access.services() != {}

    anyio.run(story, backend=backend)


def test_a_client_that_is_closed_ends_the_wait(consul, later):
    access = ConsulAccess(url=consul.url)
    later(0.3, access.close)
    begun = time.monotonic()
    with pytest.raises(ClientClosed):
        access.wait_for("orders", timeout=60)
    assert time.monotonic() - begun < 10


def test_waiting_for_a_while_in_asyncio_lets_others_work(consul):
    async def story():
        turns = 0

        async def work():
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        async with AsyncConsulAccess(url=consul.url) as access:
            worker = asyncio.create_task(work())
            with pytest.raises(NotReady):
                await access.wait_for("orders", timeout=1)
            worker.cancel()
        assert turns > 10

    asyncio.run(story())
