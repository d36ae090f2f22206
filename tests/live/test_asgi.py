"""An ASGI application under its real server, uvicorn, watched from a real agent."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

from consul_access import AsyncConsulAccess
from consul_access.integrations.asgi import Registered
from tests.support.agents import listens
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
DRAIN = 2.0
APPLICATION = """
import os
from consul_access import HttpCheck
from consul_access.integrations.asgi import Registered

async def orders(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"42"})

app = Registered(
    orders,
    "orders",
    "127.0.0.1",
    int(os.environ["PORT"]),
    id="orders-1",
    drain=float(os.environ["DRAIN"]),
    check=HttpCheck(path="/health", interval="1s"),
)
"""


def passing(agent):
    return [entry["Service"]["ID"] for entry in agent.read("/v1/health/service/orders?passing")]


def get(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextlib.contextmanager
def serving(tmp_path, agent, port, *options):
    (tmp_path / "orders_app.py").write_text(APPLICATION)
    environ = os.environ | {"CONSUL_HTTP_ADDR": agent.address, "PORT": str(port), "DRAIN": str(DRAIN)}
    environ["PYTHONPATH"] = f"{ROOT}:{tmp_path}"
    command = [sys.executable, "-m", "uvicorn", "orders_app:app", "--host", "127.0.0.1", "--port", str(port), *options]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        eventually(lambda: passing(agent) == ["orders-1"], within=20, what="the application is registered and passing")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@pytest.mark.parametrize("workers", [1, 2])
def test_n06_uvicorn_leaves_the_registry_first_and_closes_its_port_after_the_drain(
    tmp_path, consul, free_port, workers, record_property
):
    failed, hidden_at = [], []
    done = threading.Event()

    def callers():
        """Asks the registry and calls whoever it names, over and over."""
        while not done.is_set():
            if not passing(consul):
                hidden_at.append(time.monotonic())
                return
            try:
                assert get(free_port) == (200, b"42")
            except (OSError, AssertionError, http.client.HTTPException) as error:
                failed.append(error)

    with serving(tmp_path, consul, free_port, "--workers", str(workers)) as process:
        load = threading.Thread(target=callers)
        load.start()
        try:
            process.send_signal(signal.SIGTERM)
            while True:
                try:
                    assert get(free_port) == (200, b"42")
                except OSError:
                    closed_at = time.monotonic()
                    break
            code = process.wait(15)
        finally:
            done.set()
            load.join()
    assert failed == []
    assert closed_at - hidden_at[0] >= DRAIN * 0.9
    record_property("the port closed after", f"{closed_at - hidden_at[0]:.2f} s")
    assert consul.read("/v1/agent/services") == {}
    assert code in ({-signal.SIGTERM} if workers == 1 else {0, -signal.SIGTERM})
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_second_signal_does_not_wait_for_the_drain(tmp_path, consul, free_port):
    with serving(tmp_path, consul, free_port) as process:
        process.send_signal(signal.SIGTERM)
        eventually(lambda: passing(consul) == [], within=5)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: not listens(free_port), within=DRAIN / 2, what="the port is closed before the drain is over")
        process.wait(15)
    assert consul.read("/v1/agent/services") == {}


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
    assert [message.get("status", message.get("body")) for message in sent] == [200, b"ok"]


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
