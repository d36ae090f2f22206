"""The health server for programs that speak no HTTP, asked by a real agent."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import urllib.request

import pytest

from consul_access import ConsulAccess, HttpCheck, InvalidInput
from consul_access.integrations.health_server import HealthServer
from tests.support.agents import listens
from tests.support.serving import get, told
from tests.support.waiting import eventually


def test_an_agent_asks_it_and_hears_what_the_checks_say(consul):
    state = ["passing"]

    def status():
        (check,) = consul.read("/v1/agent/checks").values()
        return check["Status"], check["Output"]

    with HealthServer({"queue": lambda: state[0]}) as server, ConsulAccess(url=consul.url) as access:
        check = HttpCheck(url=server.url, interval="1s")
        with access.registered("orders", "127.0.0.1", 9, check=check):
            for now in ("passing", "warning", "critical", "passing"):
                state[0] = now
                eventually(lambda now=now: status()[0] == now and f'"queue": {{"status": "{now}"' in status()[1])


def test_it_is_what_a_port_can_be_read_from(consul):
    with HealthServer() as server, ConsulAccess(url=consul.url) as access:
        with access.registered("orders", port=server, check=HttpCheck(interval="1s")):
            eventually(lambda: access.search_service("orders") == [("127.0.0.1", server.port)])


def test_it_answers_its_path_and_nothing_else():
    with HealthServer({"a": lambda: False}, path="/healthz") as server:
        assert server.url == f"http://127.0.0.1:{server.port}/healthz"
        assert told(server.port, "/healthz")[0] == 503
        assert told(server.port, "/healthz?verbose=1")[0] == 503
        assert get(server.port, "/")[0] == 404
        assert repr(server) == f"<HealthServer {server.url} answers>"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("HEAD", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (503, b"")
        connection.close()
    assert not listens(server.port)
    assert "does not answer" in repr(server)


def test_a_caller_that_says_nothing_keeps_nobody_waiting_and_one_that_breaks_off_is_no_error(capfd):
    with HealthServer() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.send(b"GET /hea")
            assert told(server.port)[0] == 200
        assert told(server.port)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_hanging_check_does_not_pile_up_threads():
    release = threading.Event()
    with HealthServer({"hangs": release.wait}) as server:
        server.checks._limits["hangs"] = 0.05
        try:
            before = threading.active_count()
            for _ in range(10):
                assert told(server.port)[0] == 503
            eventually(lambda: threading.active_count() <= before + 2, what="one thread that hangs, and one that ends")
        finally:
            release.set()


def test_every_interface_is_asked_for_at_this_machines_own_address():
    with HealthServer(host="0.0.0.0") as server, urllib.request.urlopen(server.url, timeout=10) as answer:
        assert json.load(answer) == {"status": "passing", "checks": {}}


def test_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with HealthServer(host="::1") as server, urllib.request.urlopen(server.url, timeout=10) as answer:
        assert server.url.startswith("http://[::1]:")
        assert answer.status == 200


def test_what_cannot_be_right_is_refused(free_port):
    with pytest.raises(InvalidInput, match="begin with"):
        HealthServer(path="health")
    with HealthServer(port=free_port), pytest.raises(OSError, match="in use"):
        HealthServer(port=free_port)
