"""Gunicorn, whose master registers the service, with workers of several classes; watched from a real agent."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from consul_access import InvalidInput
from consul_access.integrations.gunicorn import Registered
from tests.support.serving import Load, Server, in_catalog_alone, leaves_in_order, passing, says_42
from tests.support.waiting import eventually

CONFIG = """
import os
from consul_access import HttpCheck
from consul_access.integrations.gunicorn import Registered

when_ready = Registered(
    "orders", "127.0.0.1", id="orders-1", drain=float(os.environ["DRAIN"]), check=HttpCheck(interval="1s")
)
"""
WORKER_CONFIG = """
def post_worker_init(worker):
    worker.wsgi.start(worker.sockets[0])
    print("startup complete", flush=True)
"""
FLASK = """
import os
from flask import Flask
from consul_access import HttpCheck
from consul_access.integrations.wsgi import Registered, WithHealth

app = Flask("orders")

@app.get("/")
def answer():
    return "42"

with_health = WithHealth(app.wsgi_app, {"always": lambda: True})
registered = Registered(
    app.wsgi_app, "orders", "127.0.0.1", id="orders-1", drain=float(os.environ["DRAIN"]), check=HttpCheck(interval="1s")
)
"""
ASGI = """
from consul_access.integrations.asgi import HealthRoute

health = HealthRoute()

async def answers(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"42"})

async def app(scope, receive, send):
    await (health if scope.get("path") == "/health" else answers)(scope, receive, send)

import os
from consul_access import HttpCheck
from consul_access.integrations.asgi import Registered

settings = {"port": int(os.environ["PORT"]), "id": "orders-1", "drain": float(os.environ["DRAIN"])}
registered = Registered(answers, "orders", "127.0.0.1", check=HttpCheck(interval="1s"), **settings)
"""
UVICORN = ("-k", "uvicorn_worker.UvicornWorker")
BY_MASTER = {
    "sync": ("orders_app:with_health",),
    "preload": ("--preload", "orders_app:with_health"),
    "threads": ("-k", "gthread", "--threads", "4", "orders_app:with_health"),
    "uvicorn": (*UVICORN, "orders_asgi:app"),
}
BY_WORKERS = {
    "sync": ("orders_app:registered",),
    "preload": ("--preload", "orders_app:registered"),
    "uvicorn": (*UVICORN, "orders_asgi:registered"),
}


def gunicorn(folder, address, port, *options, config=CONFIG, workers=2):
    # Not `-m gunicorn`: upgrading itself, it would put its package's folder first, where an `http` hides Python's own.
    command = [
        shutil.which("gunicorn", path=Path(sys.executable).parent),
        "--bind",
        f"127.0.0.1:{port}",
        "--workers",
        str(workers),
        "--graceful-timeout",
        "20",
        "-c",
        "config.py",
        *options,
    ]
    files = {"config.py": config, "orders_app.py": FLASK, "orders_asgi.py": ASGI}
    return Server(folder, command, files, address, port)


@pytest.mark.parametrize("kind", BY_MASTER)
def test_the_master_leaves_the_registry_first_and_then_ends_its_workers(tmp_path, consul, counting, free_port, kind):
    server = gunicorn(tmp_path, counting.address, free_port, *BY_MASTER[kind])
    assert leaves_in_order(server, consul, counting) == 0


@pytest.mark.parametrize("kind", BY_WORKERS)
def test_workers_that_register_by_themselves_leave_together(tmp_path, consul, counting, free_port, kind):
    config = "" if kind == "uvicorn" else WORKER_CONFIG
    server = gunicorn(tmp_path, counting.address, free_port, *BY_WORKERS[kind], config=config)
    # A worker that is told to end while it still starts is none of those that were told together.
    assert leaves_in_order(server, consul, counting, begun="startup complete", times=2) == 0


def test_workers_come_and_go_without_touching_the_registration(tmp_path, consul, counting, free_port):
    with (
        gunicorn(tmp_path, counting.address, free_port, *BY_MASTER["sync"]) as server,
        Load(consul, says_42) as load,
    ):
        server.passes(consul)
        written = consul.read("/v1/catalog/service/orders")[0]["ModifyIndex"]
        for number in (signal.SIGTERM, signal.SIGKILL):
            before = server.log.count("Booting worker")
            os.kill(int(server.log.rpartition("Booting worker with pid: ")[2].split()[0]), number)
            eventually(lambda before=before: server.log.count("Booting worker") > before, within=60)
        booted = server.log.count("Booting worker")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.log.count("Booting worker") >= booted + 2, within=60)
        assert counting.deregistrations == 0, server.log
        assert passing(consul) == ["orders-1"], consul.read("/v1/agent/checks")
        assert consul.read("/v1/catalog/service/orders")[0]["ModifyIndex"] == written
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert counting.deregistrations == 1
    assert [error for error in load.failed if isinstance(error, ConnectionRefusedError | AssertionError)] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_shutdown_does_not_wait_for_the_drain(tmp_path, consul, counting, free_port, number):
    config = CONFIG.replace('float(os.environ["DRAIN"])', "60")
    with gunicorn(tmp_path, counting.address, free_port, *BY_MASTER["sync"], config=config) as server:
        server.passes(consul)
        begun = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
        assert time.monotonic() - begun < 50
    assert consul.read("/v1/agent/services") == {}
    assert counting.deregistrations == 1


def test_a_second_sigterm_cuts_the_drain_short(tmp_path, consul, counting, free_port):
    config = CONFIG.replace('float(os.environ["DRAIN"])', "60")
    with gunicorn(tmp_path, counting.address, free_port, *BY_MASTER["sync"], config=config) as server:
        server.passes(consul)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: passing(consul) == [], within=10)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    assert counting.deregistrations == 1


def test_a_killed_master_is_replaced_by_the_next_one(tmp_path, consul, counting, free_port):
    """The same id again: nothing is left of the one that was killed, its maintenance included."""
    with gunicorn(tmp_path, counting.address, free_port, *BY_MASTER["sync"]) as server:
        server.passes(consul)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: passing(consul) == [], within=10, what="it is in maintenance")
        server.process.kill()
        server.process.wait(10)
    with gunicorn(tmp_path, counting.address, free_port, *BY_MASTER["sync"]) as server:
        assert server.passes(consul) == ["orders-1"]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    assert consul.read("/v1/agent/services") == {}


def test_an_upgrade_by_sigusr2_keeps_it_registered(tmp_path, consul, counting, free_port):
    """The old master leaves while the new one stays: nobody sees any of it."""
    with (
        gunicorn(tmp_path, counting.address, free_port, *BY_MASTER["sync"], workers=1) as server,
        Load(consul, says_42) as load,
    ):
        server.passes(consul)
        server.process.send_signal(signal.SIGUSR2)
        eventually(
            lambda: server.log.count("Booting worker") == 2,
            within=60,
            what="the new master has registered and has a worker",
        )
        written = consul.read("/v1/catalog/service/orders")[0]["ModifyIndex"]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert counting.deregistrations == 0, server.log
        assert passing(consul) == ["orders-1"], consul.read("/v1/agent/checks")
        assert consul.read("/v1/catalog/service/orders")[0]["ModifyIndex"] == written
    assert [error for error in load.failed if isinstance(error, ConnectionRefusedError | AssertionError)] == []


def test_in_catalog_mode_the_master_states_the_status_itself(tmp_path, consul, free_port):
    config = CONFIG.replace("check=HttpCheck(interval=", 'mode="catalog", node="no-agent", check=TtlCheck(')
    config = config.replace("HttpCheck", "TtlCheck").replace('"1s"', '"6s"')
    with gunicorn(tmp_path, consul.address, free_port, *BY_MASTER["sync"], config=config, workers=1) as server:
        server.passes(consul)
        assert in_catalog_alone(consul) == ["no-agent"]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, server.log
    assert in_catalog_alone(consul) == []


def test_without_an_agent_gunicorn_does_not_start_and_says_why(tmp_path, free_port):
    with gunicorn(tmp_path, "127.0.0.1:9", free_port, *BY_MASTER["sync"]) as server:
        assert server.process.wait(60) == 1
        assert "cannot be registered" in server.log
        assert "127.0.0.1:9" in server.log
        assert "Traceback" not in server.log


def test_a_master_without_a_socket_is_told_to_give_the_port():
    said = []
    master = SimpleNamespace(LISTENERS=[], log=SimpleNamespace(error=lambda text, *args: said.append(text % args)))
    with pytest.raises(SystemExit):
        Registered("orders")(master)
    assert "give port=" in said[0]


def test_a_misspelt_argument_is_refused_when_the_configuration_is_read():
    with pytest.raises(InvalidInput, match="'tag' is no argument"):
        Registered("orders", tag=["blue"])
