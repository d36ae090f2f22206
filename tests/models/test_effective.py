"""The address and port at which an instance is really called."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from consul_access.errors import NoInstances
from consul_access.models.address import Address
from consul_access.models.effective import (
    NamedPort,
    callable_address,
    effective_host,
    effective_port,
    kubernetes_marks,
    named_ports,
    port_named,
)
from consul_access.models.places import Host, Port

HOST: TypeAdapter[str] = TypeAdapter(Host)
PORT: TypeAdapter[int] = TypeAdapter(Port)


@pytest.mark.parametrize(
    "host",
    ["", "10.0.0.5", "255.255.255.255", "::1", "2001:db8::1", "fe80::1%eth0", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7::",
     "::ffff:10.0.0.1", "web", "web.example.",
     "web-1.core.svc.cluster.local", "under_score", "localhost", "1a"],
)  # fmt: skip
def test_addresses_and_names_are_hosts(host: str) -> None:
    assert HOST.validate_python(host) == host


@pytest.mark.parametrize(
    "host",
    ["http://evil", "a b", "host:80", "10.0.0.5:80", "10.0.0.5\n", "\n10.0.0.5", "a\r\nb", "10.0.0.1/24", "10.0.0.256",
     "10.0.0", "127.1", "1.2.3.4.5", "a..b", ".a", "[::1]", "user@host", "a/b", "a?b", "a#b", "a%2e", "ä", "a\0b",
     "x" * 64 + ".y", "a." * 130, " ", "*", "10.0.0.\u0663", "10.0.0.2\uff15"],
)  # fmt: skip
def test_what_nobody_can_call_is_no_host(host: str) -> None:
    with pytest.raises(ValidationError):
        HOST.validate_python(host)


@given(st.ip_addresses())
def test_every_ip_address_is_a_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert HOST.validate_python(str(address)) == str(address)


@given(st.text(max_size=20) | st.text("a1.:-[]/%@\n ", max_size=12))
def test_no_host_changes_the_url_that_it_is_written_into(text: str) -> None:
    try:
        host = HOST.validate_python(text)
    except ValidationError:
        return
    assert host.isascii()
    assert not set(host) & set("/?#@[]\\ \r\n\t\0")
    assert ":" not in host or host.count(":") > 1


@pytest.mark.parametrize("port", [0, 1, 80, 65535])
def test_ports_are_ports(port: int) -> None:
    assert PORT.validate_json(str(port)) == port


@pytest.mark.parametrize(
    "port", ["-1", "65536", "70000", "99999", '"80"', "80.0", "true", "null", "[80]", "1e3", "9" * 40]
)
def test_what_nobody_can_listen_on_is_no_port(port: str) -> None:
    with pytest.raises(ValidationError):
        PORT.validate_json(port)


@pytest.mark.parametrize(
    ("service", "node", "synced", "host"),
    [
        ("10.0.0.5", "10.0.0.1", False, "10.0.0.5"),
        ("", "10.0.0.1", False, "10.0.0.1"),
        ("0.0.0.0", "10.0.0.1", False, "10.0.0.1"),
        ("::", "10.0.0.1", False, "10.0.0.1"),
        ("", "", False, ""),
        ("", "0.0.0.0", False, ""),
        ("", "::", False, ""),
        ("", "127.0.0.1", False, "127.0.0.1"),
        ("", "127.0.0.1", True, ""),
        ("", "127.8.9.1", True, ""),
        ("", "::1", True, ""),
        ("", "localhost", True, ""),
        ("", "10.0.0.1", True, "10.0.0.1"),
        ("", "localhost.example", True, "localhost.example"),
        ("127.0.0.1", "10.0.0.1", False, "127.0.0.1"),
        ("192.168.3.200", "127.0.0.1", True, "192.168.3.200"),
    ],
)
def test_the_own_address_comes_first_and_the_loopback_of_a_sync_node_never(
    service: str, node: str, synced: bool, host: str
) -> None:
    assert effective_host(service, node, synced=synced) == host


@pytest.mark.parametrize("nowhere", ["0.0.0.0", "::", "::0", "0::0", "0:0:0:0:0:0:0:0", "::0.0.0.0"])
def test_every_spelling_of_the_unspecified_address_leads_nowhere(nowhere: str) -> None:
    assert effective_host(HOST.validate_python(nowhere), "", synced=False) == ""
    assert effective_host("", HOST.validate_python(nowhere), synced=False) == ""


@pytest.mark.parametrize(
    "text", ["1:2:3:4:5:6:7:8:9", "12345::1", "::1.2.3", "::g", ":1", "1:", "::1%", "::1%a b", ":::::::::"]
)
def test_what_only_looks_like_ipv6_is_no_host(text: str) -> None:
    with pytest.raises(ValidationError):
        HOST.validate_python(text)


HTTP, ADMIN = NamedPort("http", 8080), NamedPort("admin", 9090, default=True)


@pytest.mark.parametrize(
    ("port", "named", "effective"),
    [
        (80, [HTTP, ADMIN], 80),
        (0, [HTTP, ADMIN], 9090),
        (0, [HTTP, NamedPort("x", 1)], 8080),
        (0, [], 0),
        (80, [], 80),
    ],
)
def test_the_own_port_comes_first_then_the_default_then_the_first(
    port: int, named: list[NamedPort], effective: int
) -> None:
    assert effective_port(port, named) == effective


def test_an_address_has_host_and_port() -> None:
    assert callable_address("10.0.0.5", 80, "x") == Address("10.0.0.5", 80)


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("", 80, "has registered no address that can be called"),
        ("10.0.0.5", 0, "has registered no port"),
        ("", 0, "no"),
    ],
)
def test_an_instance_without_host_or_port_says_which_is_missing(host: str, port: int, text: str) -> None:
    with pytest.raises(NoInstances, match=f"instance 'web-1' {text}" if text != "no" else text):
        callable_address(host, port, "instance 'web-1'")


def test_addresses_are_written_with_brackets_around_ipv6_only() -> None:
    assert [str(Address(host, 80)) for host in ("10.0.0.5", "web", "::1")] == ["10.0.0.5:80", "web:80", "[::1]:80"]


SYNCED = {"external-source": "kubernetes", "external-k8s-ns": "core", "port-http": "80", "port-": "1"}


def test_ports_told_by_catalog_sync_are_not_verified_and_registered_ones_win() -> None:
    found = named_ports([HTTP], {**SYNCED, "port-redis": "6379"})

    assert found["http"] == HTTP
    assert found["http"].verified
    assert found["redis"] == NamedPort("redis", 6379, verified=False)


@pytest.mark.parametrize("value", ["", "0", "-1", "65536", "80 ", "+80", "８０", "http", "8.0", "9" * 5000])
def test_a_mark_that_is_no_port_is_overlooked(value: str) -> None:
    marks = kubernetes_marks({"external-source": "kubernetes", "port-x": value})

    assert marks is not None
    assert marks.ports == {}


@pytest.mark.parametrize("meta", [{}, {"external-source": "nomad"}, {"external-k8s-ns": "core"}])
def test_what_was_not_synced_from_kubernetes_has_no_marks(meta: dict[str, str]) -> None:
    assert kubernetes_marks(meta) is None


def test_an_unknown_port_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(NoInstances, match="web has no port named 'grpc'; it has redis, http"):
        port_named("grpc", [HTTP], {"port-redis": "6379"}, "web")
    with pytest.raises(NoInstances, match="none with a name"):
        port_named("grpc", [], {}, "web")
