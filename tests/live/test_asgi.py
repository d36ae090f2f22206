"""An ASGI application under its real server, uvicorn, watched from a real agent."""

from __future__ import annotations

import json
import os
import signal
import time

import anyio
import pytest

from consul_access import AsyncConsulAccess, AsyncHealthChecks, HttpCheck, InvalidInput, TtlCheck
from consul_access.integrations.asgi import HealthRoute, Registered, lifespan
from tests.support.agents import listens
from tests.support.serving import (
    DRAIN,
    Load,
    Server,
    leaves_in_order,
    leaves_in_order_while_it_starts,
    passing,
    says_42,
    told,
)
from tests.support.waiting import eventually

SETTINGS = """
import os
from consul_access import HttpCheck

settings = {
    "name": "orders",
    "address": "127.0.0.1",
    "port": int(os.environ["PORT"]),
    "id": "orders-1",
    "drain": float(os.environ["DRAIN"]),
    "check": HttpCheck(path="/health", interval="1s"),
}
"""
PLAIN = """
from consul_access.integrations.asgi import Registered
from settings import settings

async def orders(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"42"})

app = Registered(orders, **settings)
"""
FASTAPI = """
import contextlib
from fastapi import FastAPI, Request, Response
from consul_access.integrations.asgi import HealthRoute, lifespan
from settings import settings

@contextlib.asynccontextmanager
async def own(app):
    yield {"answer": b"42"}

async def database():
    return "warning", "slow"

app = FastAPI(lifespan=lifespan(within=own, **settings))
app.add_route("/health", HealthRoute())
app.add_route("/ready", HealthRoute({"database": database}))

@app.get("/")
async def answer(request: Request):
    return Response(request.state.answer)
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from consul_access.integrations.asgi import HealthRoute, lifespan
from settings import settings

async def answer(request):
    return Response(b"42")

app = Starlette(lifespan=lifespan(**settings), routes=[Route("/", answer), Route("/health", HealthRoute())])
"""
APPLICATIONS = {"plain": PLAIN, "fastapi": FASTAPI, "starlette": STARLETTE}


def uvicorn(tmp_path, address, port, *options, kind="plain", drain=DRAIN):
    command = ["-m", "uvicorn", "orders_app:app", "--host", "127.0.0.1", "--port", str(port), *options]
    if "--workers" in options:  # uvicorn kills workers that need longer to start
        command += ["--timeout-worker-healthcheck", "60"]
    files = {"settings.py": SETTINGS, "orders_app.py": APPLICATIONS[kind]}
    return Server(tmp_path, command, files, address, port, DRAIN=str(drain))


@pytest.fixture(params=[(1, "plain"), (2, "plain"), (1, "fastapi"), (2, "starlette")], ids=str)
def program(request):
    """How many workers, and of which application."""
    return request.param


def test_n06_uvicorn_leaves_the_registry_first_and_closes_its_port_after_the_drain(
    tmp_path, consul, counting, free_port, program
):
    workers, kind = program
    server = uvicorn(tmp_path, counting.address, free_port, "--workers", str(workers), kind=kind)
    code = leaves_in_order(server, consul, counting, begun="startup complete", times=workers)
    # As without us: uvicorn raises the signal again when it has ended, and its supervisor of workers ends by itself.
    assert code == (-signal.SIGTERM if workers == 1 else 0)


def test_it_leaves_in_order_while_it_is_still_starting(tmp_path, consul, counting, free_port):
    server = uvicorn(tmp_path, counting.address, free_port, kind="plain")
    assert leaves_in_order_while_it_starts(server, consul, counting) == -signal.SIGTERM


def test_a_worker_that_ends_alone_takes_nothing_with_it(tmp_path, consul, counting, free_port):
    """Neither the one that ends nor the one that takes its place is seen by anybody."""
    server = uvicorn(tmp_path, counting.address, free_port, "--workers", "2")
    with server, Load(consul, says_42) as load:
        server.passes(consul)
        eventually(lambda: server.log.count("Application startup complete") == 2, within=60)
        written = consul.read("/v1/catalog/service/orders")[0]["ModifyIndex"]
        worker = next(pid for pid in server.children() if f"[{pid}]" in server.log)
        os.kill(worker, signal.SIGTERM)
        hidden = []
        while server.log.count("Application startup complete") < 3:
            if passing(consul) != ["orders-1"]:
                hidden.append(time.monotonic())
            assert server.process.poll() is None, server.log
            time.sleep(0.01)
        assert hidden == []
        assert consul.read("/v1/catalog/service/orders")[0]["ModifyIndex"] == written
        assert counting.deregistrations == 0
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    # Never is a caller sent to a closed port. A connection that a worker had accepted, and not read from when it was
    # told to end, is broken off by uvicorn (0.54, also without us).
    assert [error for error in load.failed if isinstance(error, ConnectionRefusedError | AssertionError)] == []
    assert counting.deregistrations == 1
    assert consul.read("/v1/agent/services") == {}


def test_a_second_signal_does_not_wait_for_the_drain(tmp_path, consul, free_port):
    with uvicorn(tmp_path, consul.address, free_port, drain="60") as server:
        server.passes(consul)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: passing(consul) == [], within=60)
        assert listens(free_port)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == -signal.SIGTERM
    assert consul.read("/v1/agent/services") == {}


def test_fastapi_routes_tell_how_it_is(tmp_path, consul, free_port):
    with uvicorn(tmp_path, consul.address, free_port, kind="fastapi") as server:
        server.passes(consul)
        assert told(free_port) == (200, {"status": "passing", "checks": {}})
        status, report = told(free_port, "/ready")
    assert (status, report["status"]) == (429, "warning")
    assert report["checks"]["database"]["output"] == "slow"


def test_the_health_path_is_answered_without_the_application():
    async def application(scope, receive, send):
        raise AssertionError("it was asked")

    sent = []

    async def send(message):
        sent.append(message)

    async def story():
        scope = {"type": "http", "path": "/health", "method": "GET"}
        await Registered(application, "orders", port=80)(scope, None, send)

    anyio.run(story)
    assert [message.get("status", message.get("body")) for message in sent] == [
        200,
        b'{"status": "passing", "checks": {}}',
    ]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_applications_own_lifespan_runs_around_the_registration(consul, backend):
    order, sent = [], []

    async def application(scope, receive, send):
        assert (await receive())["type"] == "lifespan.startup"
        order.append(("started", consul.read("/v1/agent/services") != {}))
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        order.append(("stopping", consul.read("/v1/agent/services") != {}))
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message):
        sent.append(message["type"])
        if message["type"] == "lifespan.startup.complete":
            order.append(("serving", consul.read("/v1/agent/services") != {}))

    async def story():
        async with AsyncConsulAccess(url=consul.url) as access:
            app = Registered(application, "orders", port=80, check=None, access=access, drain=0)
            for _ in range(2):
                messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

                async def receive(messages=messages):
                    return messages.pop(0)

                await app({"type": "lifespan"}, receive, send)

    anyio.run(story, backend=backend)
    assert order == [("started", False), ("serving", True), ("stopping", False)] * 2
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"] * 2


def test_an_application_that_cannot_be_registered_does_not_start(free_port):
    sent = []

    async def application(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    async def story():
        async with AsyncConsulAccess(port=free_port) as access:
            await Registered(application, "orders", port=80, access=access)({"type": "lifespan"}, receive, send)

    anyio.run(story)
    (message,) = sent
    assert message["type"] == "lifespan.startup.failed"
    assert f"127.0.0.1:{free_port}" in message["message"]


async def answered(app, method="GET", path="/health"):
    """What an ASGI application answers: status and body."""
    sent = []

    async def send(message):
        sent.append(message)

    await app({"type": "http", "path": path, "method": method}, None, send)
    start, body = sent
    return start["status"], body["body"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("checks", "status", "says"),
    [
        ({"a": lambda: True}, 200, {"a": ("passing", "")}),
        ({"a": lambda: True, "b": lambda: ("warning", "slow")}, 429, {"a": ("passing", ""), "b": ("warning", "slow")}),
        ({"a": lambda: False, "b": lambda: "warning"}, 503, {"a": ("critical", ""), "b": ("warning", "")}),
        ({"a": lambda: 1 / 0}, 503, {"a": ("critical", "failed: ZeroDivisionError('division by zero')")}),
        ({"a": anyio.sleep_forever}, 503, {"a": ("critical", "has not answered within 0.1 s")}),
    ],
)
def test_the_health_route_answers_as_agents_read_it(backend, checks, status, says):
    route = HealthRoute(AsyncHealthChecks(checks, limit=0.1))
    answer = anyio.run(answered, route, backend=backend)
    report = json.loads(answer[1])
    assert answer[0] == status
    assert {name: (check["status"], check["output"]) for name, check in report["checks"].items()} == says


def test_the_health_route_has_no_body_for_head_and_takes_nothing_else():
    route = HealthRoute({"a": lambda: False})
    assert anyio.run(answered, route, "HEAD") == (503, b"")
    assert anyio.run(answered, route, "POST") == (405, b"")


def test_one_health_is_for_the_path_and_for_the_ttl_check(consul):
    async def story():
        app = Registered(
            None,
            "orders",
            port=80,
            check=TtlCheck(15),
            drain=0,
            access=access,
            health={"database": lambda: ("warning", "slow")},
        )
        await app._session.begin()
        (check,) = consul.read("/v1/agent/checks").values()
        assert (check["Status"], check["Output"]) == ("warning", "database: warning slow")
        assert (await answered(app))[0] == 429
        await app._session.end()
        await access.aclose()

    access = AsyncConsulAccess(url=consul.url)
    anyio.run(story)


def test_in_catalog_mode_the_status_is_stated_by_the_service(consul):
    async def story():
        async with AsyncConsulAccess(url=consul.url) as access:
            settings = {"mode": "catalog", "node": "no-agent", "drain": 0, "health": lambda: ("warning", "long")}
            app = lifespan("orders", "10.0.0.5", 80, access=access, **settings)
            async with app(None):
                (entry,) = consul.read("/v1/health/service/orders")
                assert entry["Node"]["Node"] == "no-agent"
                assert entry["Checks"][0]["Status"] == "warning"
        assert consul.read("/v1/catalog/service/orders") == []

    anyio.run(story)


def test_a_misspelt_argument_is_refused_at_once():
    with pytest.raises(InvalidInput, match="'tag' is no argument"):
        Registered(None, "orders", port=80, tag=["blue"])
    with pytest.raises(InvalidInput, match="'tag' is no argument"):
        lifespan("orders", port=80, tag=["blue"])


def test_checks_that_can_be_read_only_once_serve_every_start(consul):
    async def story():
        async with AsyncConsulAccess(url=consul.url) as access:
            app = lifespan("orders", port=80, access=access, drain=0, checks=iter([HttpCheck(), TtlCheck(9)]))
            for _ in range(2):
                async with app(None):
                    assert len(consul.read("/v1/agent/checks")) == 2
        assert consul.read("/v1/agent/services") == {}

    anyio.run(story)
