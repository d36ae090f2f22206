"""A service's own address and id, when it does not say them itself."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models import inputs
from consul_access.rules.addressing import environment_meta, host_label, instance_id, own_address, servers_with

BOTH = {"CONSUL_ACCESS_ADVERTISE": "10.0.0.2", "POD_IP": "10.0.0.3"}


@pytest.mark.parametrize(
    ("given_one", "environ", "local", "route", "found"),
    [
        ("10.0.0.1", BOTH, True, "10.0.0.4", "10.0.0.1"),
        (None, BOTH, True, "10.0.0.4", "10.0.0.2"),
        (None, {"POD_IP": "10.0.0.3"}, True, "10.0.0.4", "10.0.0.3"),
        (None, {"CONSUL_ACCESS_ADVERTISE": "", "POD_IP": "10.0.0.3"}, False, "10.0.0.4", "10.0.0.3"),
        (None, {}, True, "10.0.0.4", None),
        (None, {}, True, None, None),
        (None, {}, False, "10.0.0.4", "10.0.0.4"),
        (None, {}, False, "2001:db8::4", "2001:db8::4"),
        ("[::1]", {}, False, None, "::1"),
        (None, {"CONSUL_ACCESS_ADVERTISE": "web.example"}, False, None, "web.example"),
    ],
)
def test_what_is_said_comes_first_then_the_environment_then_the_way_to_the_agent(
    given_one: Any, environ: dict[str, str], local: bool, route: Any, found: Any
) -> None:
    assert own_address(given_one, environ=environ, agent_is_local=local, route_source=route) == found


@pytest.mark.parametrize(
    ("bound", "local", "found"),
    [
        ("10.0.0.9", True, "10.0.0.9"),
        ("10.0.0.9", False, "10.0.0.9"),
        ("2001:db8::9", False, "2001:db8::9"),
        ("127.0.0.1", True, "127.0.0.1"),
        ("0.0.0.0", True, None),
        ("::", False, "10.0.0.4"),
    ],
)
def test_a_bound_address_comes_before_the_way_to_the_agent(bound: str, local: bool, found: str | None) -> None:
    assert own_address(None, environ={}, agent_is_local=local, route_source="10.0.0.4", bound=bound) == found
    assert own_address(None, environ=BOTH, agent_is_local=local, route_source="10.0.0.4", bound=bound) == "10.0.0.2"


def test_a_service_that_only_its_own_machine_can_call_is_not_told_to_an_agent_elsewhere() -> None:
    with pytest.raises(InvalidInput, match=r"listen at 0\.0\.0\.0"):
        own_address(None, environ={}, agent_is_local=False, route_source="10.0.0.4", bound="127.0.0.1")


def test_a_pod_says_where_it_runs() -> None:
    environ = {"POD_NAME": "orders-0", "POD_NAMESPACE": "shop", "NODE_NAME": "", "HOME": "/"}
    assert environment_meta(environ) == {"pod_name": "orders-0", "pod_namespace": "shop"}


@pytest.mark.parametrize("route", [None, "127.0.0.1", "127.0.1.1", "::1"])
def test_an_address_that_others_cannot_call_is_refused_and_the_text_says_what_to_set(route: str | None) -> None:
    with pytest.raises(InvalidInput, match="give address=, or set CONSUL_ACCESS_ADVERTISE"):
        own_address(None, environ={}, agent_is_local=False, route_source=route)


@pytest.mark.parametrize("wrong", ["", "http://evil", "0.0.0.0", "10.0.0.5:80", "10.0.0.0/8", " "])
def test_a_wrong_address_is_named_by_where_it_was_said(wrong: str) -> None:
    with pytest.raises(InvalidInput, match=r"^address="):
        own_address(wrong, environ=BOTH, agent_is_local=True, route_source=None)


@pytest.mark.parametrize("variable", ["CONSUL_ACCESS_ADVERTISE", "POD_IP"])
def test_a_wrong_address_in_the_environment_is_not_passed_over(variable: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{variable}="):
        own_address(None, environ={variable: "http://evil"}, agent_is_local=True, route_source="10.0.0.4")


@pytest.mark.parametrize(
    ("environ", "label"),
    [
        ({"POD_NAME": "web-7f-x", "HOSTNAME": "box"}, "web-7f-x"),
        ({"POD_NAME": "", "HOSTNAME": "box"}, "box"),
        ({}, "machine"),
    ],
)
def test_a_copy_is_told_from_others_by_its_pod_else_its_machine(environ: dict[str, str], label: str) -> None:
    assert host_label(environ, "machine") == label


@pytest.mark.parametrize(
    ("name", "host", "port", "made"),
    [
        ("web", "box-7", 8080, "web-box-7-8080"),
        ("web", "box-7", None, "web-box-7"),
        ("web", "", 80, "web-80"),
        ("web", "", None, "web"),
        ("web", "bob's box (2)", 80, "web-bob-s-box-2-80"),
        ("web", "a/../b%2F\n", 80, "web-a-..-b-2F-80"),
        ("web", "..", 80, "web-80"),
        ("web", "böx", 80, "web-b-x-80"),
        ("a/b", "box", 80, "a/b-box-80"),
    ],
)
def test_an_id_is_made_of_service_host_and_port(name: str, host: str, port: int | None, made: str) -> None:
    assert instance_id(name, host, port) == made


@given(st.sampled_from(["web", "a/b", "ä b"]), st.text(), st.one_of(st.none(), st.integers(1, 65535)))
def test_whatever_a_host_is_called_the_id_is_legal_and_the_same_next_time(name: str, host: str, port: Any) -> None:
    made = instance_id(name, host, port)

    assert inputs.identifier(made, "id") == made
    assert instance_id(name, host, port) == made


@given(st.ip_addresses())
def test_the_way_to_the_agent_never_gives_a_loopback_address(source: Any) -> None:
    try:
        found = own_address(None, environ={}, agent_is_local=False, route_source=str(source))
    except InvalidInput:
        return
    assert found is not None
    assert not ipaddress.ip_address(found).is_loopback


hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.lists(hosts, min_size=1, max_size=7, unique=True), st.data())
def test_a_server_is_told_from_an_agent_by_the_servers_addresses(servers, data):
    peers = [f"[{host}]:8300" if ":" in host else f"{host}:8300" for host in servers]
    asked = data.draw(st.one_of(hosts, st.sampled_from(servers)))
    assert servers_with({asked}, peers) == (len(servers) if asked in servers else 0)
    assert servers_with(set(), peers) == servers_with({asked}, []) == 0
