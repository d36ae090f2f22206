"""A WSGI application within its program: how it says how it is, and how it leaves."""

from __future__ import annotations

import json
import os
import signal
import threading
from wsgiref.simple_server import make_server
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from consul_access import ConnectFailed, ConsulAccess, HealthChecks, InvalidInput, TtlCheck
from consul_access.integrations.wsgi import Registered, WithHealth
from tests.support.serving import (
    Load,
    Server,
    leaves_in_order,
    leaves_in_order_while_it_starts,
    passing,
    says_42,
)
from tests.support.waiting import eventually

FLASK = """
import os, sys, logging
from flask import Flask
from consul_access import HttpCheck
from consul_access.integrations.wsgi import Registered

logging.getLogger("werkzeug").setLevel(logging.ERROR)
app = Flask("orders")

@app.get("/")
def answer():
    return "42"

app.wsgi_app = Registered(
    app.wsgi_app,
    "orders",
    "127.0.0.1",
    int(os.environ["PORT"]),
    id="orders-1",
    drain=float(os.environ["DRAIN"]),
    check=HttpCheck(interval="1s"),
    health={"always": lambda: True},
)

if __name__ == "__main__":
    with app.wsgi_app:
        app.run(port=int(os.environ["PORT"]), threaded=True)
"""


def answered(app, path="/health", method="GET"):
    """What a WSGI application answers, looked over by wsgiref's validator: status, headers and body."""
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": "", "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    said = []
    body = validator(app)(environ, lambda status, headers, exc_info=None: said.append((status, dict(headers))))
    try:
        text = b"".join(body)
    finally:
        body.close()
    return *said[0], text


def app_42(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"42"]


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        (None, "200 OK"),
        ({"a": lambda: True, "b": lambda: "warning"}, "429 Too Many Requests"),
        ({"a": lambda: 1 / 0}, "503 Service Unavailable"),
        ({"a": threading.Event().wait}, "503 Service Unavailable"),
    ],
)
def test_the_health_path_answers_as_agents_read_it(checks, status):
    app = WithHealth(app_42, checks and HealthChecks(checks, limit=0.1))
    said, headers, body = answered(app)
    assert said == status
    assert headers["Content-Type"] == "application/json"
    assert int(headers["Content-Length"]) == len(body)
    assert set(json.loads(body)["checks"]) == set(checks or {})


def test_head_has_no_body_other_methods_are_refused_and_other_paths_are_the_applications():
    app = WithHealth(app_42)
    assert answered(app, method="HEAD")[2] == b""
    assert answered(app, method="POST")[0] == "405 Method Not Allowed"
    assert answered(app, path="/")[2] == b"42"
    assert answered(WithHealth(app_42, health_path=None))[2] == b"42"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_flask_within_its_program_leaves_the_registry_first(tmp_path, consul, counting, free_port, number):
    server = Server(tmp_path, ["orders_app.py"], {"orders_app.py": FLASK}, counting.address, free_port)
    if number == signal.SIGTERM:
        assert leaves_in_order(server, consul, counting) == -signal.SIGTERM
    else:  # werkzeug ends by itself after a KeyboardInterrupt, while its threads may still read from connections
        assert leaves_in_order(server, consul, counting, number=number, forgiven="Bad file descriptor") == 0


def test_it_leaves_in_order_while_it_is_still_starting(tmp_path, consul, counting, free_port):
    server = Server(tmp_path, ["orders_app.py"], {"orders_app.py": FLASK}, counting.address, free_port)
    assert leaves_in_order_while_it_starts(server, consul, counting) == -signal.SIGTERM


def test_three_signals_end_it_at_any_price(tmp_path, consul, counting, free_port):
    """Also while the agent is frozen, when nothing can be deregistered."""
    server = Server(tmp_path, ["orders_app.py"], {"orders_app.py": FLASK}, counting.address, free_port, DRAIN="60")
    with server:
        server.passes(consul)
        for _ in range(3):
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: server.process.poll() is not None or passing(consul) == [], within=10)
        assert server.process.wait(60) == -signal.SIGTERM


def test_importing_it_registers_nothing(tmp_path, consul, counting, free_port):
    server = Server(tmp_path, ["-c", "import orders_app"], {"orders_app.py": FLASK}, counting.address, free_port)
    with server:
        assert server.process.wait(60) == 0
    assert consul.read("/v1/agent/services") == {}
    assert counting.deregistrations == 0


def test_the_port_is_read_from_the_server_and_the_handlers_are_put_back(consul):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with ConsulAccess(url=consul.url) as access:
        app = Registered(app_42, "orders", access=access, check=None, drain=0)
        with make_server("127.0.0.1", 0, app) as server:
            for _ in range(2):
                app.start(server)
                assert app.keeper.definition.port == server.server_port
                assert signal.getsignal(signal.SIGINT) != before[1]
                app.stop()
                app.stop()
    assert app.keeper is None
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert consul.read("/v1/agent/services") == {}


def test_a_forked_child_leaves_the_signal_to_whoever_was_there_before(consul):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(os.getpid()))
    try:
        with ConsulAccess(url=consul.url) as access:
            with Registered(app_42, "orders", "127.0.0.1", 80, access=access, check=None, drain=0):
                child = os.fork()
                if not child:
                    os.kill(os.getpid(), signal.SIGTERM)
                    os._exit(0 if heard == [os.getpid()] else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                assert passing(consul) != []
                assert heard == []
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_ttl_check_is_reported_with_is_what_the_path_answers(consul):
    health = {"queue": lambda: ("warning", "long")}
    with ConsulAccess(url=consul.url) as access:
        with Registered(app_42, "orders", port=80, access=access, check=TtlCheck(15), drain=0, health=health) as app:
            (check,) = consul.read("/v1/agent/checks").values()
            assert (check["Status"], check["Output"]) == ("warning", "queue: warning long")
            assert answered(app)[0] == "429 Too Many Requests"


def test_in_catalog_mode_the_status_is_stated_by_the_service(consul):
    settings = {"mode": "catalog", "node": "no-agent", "drain": 0, "health": lambda: ("warning", "long")}
    with ConsulAccess(url=consul.url) as access:
        with Registered(app_42, "orders", "10.0.0.5", 80, access=access, **settings):
            (entry,) = consul.read("/v1/health/service/orders")
            assert entry["Node"]["Node"] == "no-agent"
            assert entry["Checks"][0]["Status"] == "warning"
    assert consul.read("/v1/catalog/service/orders") == []


def test_one_that_cannot_be_registered_raises_and_leaves_the_signals_alone(free_port):
    before = signal.getsignal(signal.SIGTERM)
    with ConsulAccess(port=free_port) as access, pytest.raises(ConnectFailed):
        Registered(app_42, "orders", port=80, access=access).start()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_misspelt_argument_is_refused():
    with pytest.raises(InvalidInput, match="'tag' is no argument"):
        Registered(app_42, "orders", port=80, tag=["blue"])


def test_callers_are_served_from_the_first_to_the_last_moment_with_a_server_of_ones_own(tmp_path, consul, free_port):
    """A thread that is not the main one answers no signals; its block does all the rest."""
    with make_server("127.0.0.1", free_port, app_42) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        with Load(consul, says_42) as load, ConsulAccess(url=consul.url) as access:

            def serves():
                with Registered(app_42, "orders", "127.0.0.1", server, access=access, check=None, drain=0.2):
                    eventually(lambda: load.calls > 5, within=60)

            serving = threading.Thread(target=serves)
            serving.start()
            serving.join()
            assert passing(consul) == []
        server.shutdown()
        thread.join()
    assert load.failed == []
