"""Where a service says it can be reached when nobody told: step by step, as it is sent to the agent."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from consul_access import InvalidInput

FAR, NEAR = "http://192.0.2.1:8500", "http://127.0.0.1:8500"
ADVERTISED, POD = {"CONSUL_ACCESS_ADVERTISE": "10.0.0.2"}, {"POD_IP": "10.0.0.3"}
ROUTE = "10.0.0.9"


@pytest.fixture(autouse=True)
def route(monkeypatch):
    """The way to an agent elsewhere starts from an address of this machine."""

    def give(source):
        for face in ("_async", "_sync"):
            monkeypatch.setattr(f"consul_access.{face}.defining.route_source", lambda ip, port: source)

    give(ROUTE)
    return give


@pytest.fixture
def sent(face):
    """The address that a registration at this agent would be sent with."""

    def register(url, address=None, port=80):
        bodies = []

        def answer(request):
            bodies.append(json.loads(request.content))
            return httpx.Response(200)

        async def story():
            async with face.access(url=url, transport=face.transport(answer)) as access:
                await access.register_service("web", address, port, check=None)

        face.run(story)
        return bodies[0].get("Address")

    return register


@pytest.mark.parametrize(
    ("url", "address", "environ", "told"),
    [
        pytest.param(FAR, "10.0.0.1", ADVERTISED | POD, "10.0.0.1", id="1 the argument"),
        pytest.param(FAR, None, ADVERTISED | POD, "10.0.0.2", id="2 CONSUL_ACCESS_ADVERTISE"),
        pytest.param(NEAR, None, ADVERTISED | POD, "10.0.0.2", id="2 also beside the agent"),
        pytest.param(FAR, None, POD, "10.0.0.3", id="3 POD_IP"),
        pytest.param(NEAR, None, {}, None, id="5 beside the agent: its own"),
        pytest.param(FAR, None, {}, ROUTE, id="6 where the way to the agent starts"),
    ],
)
def test_each_step_gives_way_to_the_one_before(sent, monkeypatch, url, address, environ, told):  # noqa: PLR0917
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert sent(url, address) == told


@pytest.mark.parametrize(
    ("host", "url", "told"),
    [
        pytest.param("127.0.0.1", NEAR, "127.0.0.1", id="4 the address that the socket is bound to"),
        pytest.param("0.0.0.0", NEAR, None, id="4 bound to every address, beside the agent"),
        pytest.param("0.0.0.0", FAR, ROUTE, id="4 bound to every address, the agent elsewhere"),
    ],
)
def test_a_bound_socket_tells_its_address_unless_that_is_every_one(sent, host, url, told):
    with socket.create_server((host, 0)) as server:
        assert sent(url, port=server) == told


def test_a_socket_that_only_this_machine_can_reach_is_not_told_to_an_agent_elsewhere(sent):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(InvalidInput, match=r"listen at 0\.0\.0\.0"):
            sent(FAR, port=server)


@pytest.mark.parametrize("source", [None, "127.0.0.1"])
def test_7_without_any_address_that_others_can_call_nothing_is_sent(sent, route, source):
    route(source)
    with pytest.raises(InvalidInput, match="give address=, or set CONSUL_ACCESS_ADVERTISE"):
        sent(FAR)


def test_the_way_to_an_agent_starts_where_the_system_says():
    from consul_access._pairs.sockets import route_source

    assert route_source("127.0.0.1", 8500) == "127.0.0.1"
    assert route_source("no-address", 8500) is None
