"""Reading calls: what they send, and what they make of any answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consul_access.call import Call, Headers, Repeat, Reply
from consul_access.consul import catalog, health, plain, status
from consul_access.errors import BadAnswer, ConsulAccessError, InvalidInput
from consul_access.models.address import Address, Target
from consul_access.models.filters import F
from consul_access.models.status import CheckStatus, HealthPolicy
from consul_access.wire import Request, RequestHeaders

READS: dict[str, Callable[[], Call[Any]]] = {
    "health.instances": lambda: health.instances("web"),
    "health.instances of any state": lambda: health.instances("web", policy="any"),
    "health.instances by service checks": lambda: health.instances("web", policy="service_checks_only"),
    "health.service": lambda: health.service("web"),
    "health.service by service checks": lambda: health.service("web", policy="service_checks_only"),
    "plain.addresses": lambda: plain.addresses("web"),
    "health.checks": lambda: health.checks("web"),
    "health.node": lambda: health.node("n1"),
    "health.state": lambda: health.state("any"),
    "catalog.services": catalog.services,
    "catalog.service": lambda: catalog.service("web"),
    "catalog.nodes": catalog.nodes,
    "catalog.node": lambda: catalog.node("n1"),
    "catalog.datacenters": catalog.datacenters,
    "status.leader": status.leader,
    "status.peers": status.peers,
}


def reply(body: object) -> Reply:
    return Reply(
        200, Headers([(b"X-Consul-Index", b"7")]), body if isinstance(body, bytes) else json.dumps(body).encode()
    )


# --- what is sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name", "target"),
    [
        (health.instances("web"), "health.service", "/v1/health/service/web?passing=1"),
        (health.instances("web", policy="any"), "health.service", "/v1/health/service/web"),
        (health.instances("web", policy="service_checks_only"), "health.service", "/v1/health/service/web"),
        (health.service("web"), "health.service", "/v1/health/service/web"),
        (health.service("web", policy="passing"), "health.service", "/v1/health/service/web?passing=1"),
        (health.checks("web", near="_agent"), "health.checks", "/v1/health/checks/web?near=_agent"),
        (health.node("n1", consistency="stale"), "health.node", "/v1/health/node/n1?stale"),
        (health.state("critical"), "health.state", "/v1/health/state/critical"),
        (catalog.services(cached=True), "catalog.services", "/v1/catalog/services?cached"),
        (catalog.services(node_meta={"a": "b"}), "catalog.services", "/v1/catalog/services?node-meta=a%3Ab"),
        (catalog.service("web", tags=["a", "b"]), "catalog.service", "/v1/catalog/service/web?tag=a&tag=b"),
        (catalog.nodes(datacenter="dc2"), "catalog.nodes", "/v1/catalog/nodes?dc=dc2"),
        (catalog.node("n1"), "catalog.node", "/v1/catalog/node/n1"),
        (catalog.datacenters(), "catalog.datacenters", "/v1/catalog/datacenters"),
        (status.leader(), "status.leader", "/v1/status/leader"),
        (status.peers(), "status.peers", "/v1/status/peers"),
        (
            health.service("a/b c", consistency="stale", cached=True),
            "health.service",
            "/v1/health/service/a%2Fb%20c?stale&cached",
        ),
        (
            health.instances("web", index=7, wait="1m"),
            "health.service",
            "/v1/health/service/web?passing=1&index=7&wait=1m",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_reading_call_asks_where_consul_answers(call: Call[Any], name: str, target: str) -> None:
    assert (call.name, call.target_path) == (name, target)
    assert (call.method, call.body, call.repeat, call.statuses) == ("GET", None, Repeat.READ, frozenset({200}))


def test_a_blocking_call_has_patience_for_what_the_server_does_on_purpose() -> None:
    assert health.service("web").patience == 0
    assert health.service("web", index=7, wait=16).patience == 22
    assert catalog.services(index=7, wait=16).patience == 22


def test_passing_or_warning_is_asked_for_as_no_critical_check() -> None:
    (pair,) = health.instances("web", policy="passing_or_warning").query

    assert pair == ("filter", 'not (Checks.Status == "critical")')


def test_one_question_is_written_for_each_place_that_it_is_asked_at() -> None:
    question = F.service.tags.contains("a")

    assert health.service("web", filter=question).query == (("filter", '"a" in Service.Tags'),)
    assert catalog.service("web", filter=question).query == (("filter", '"a" in ServiceTags'),)
    assert health.checks("web", filter=question).query == (("filter", '"a" in ServiceTags'),)


@pytest.mark.parametrize(
    "make",
    [
        lambda: catalog.service("web", policy="passing"),
        lambda: catalog.service("web", filter=F.no_check(status="critical")),
        lambda: catalog.services(filter="x"),
        lambda: catalog.services(tags="a"),
        lambda: catalog.node("n1", filter="x"),
        lambda: catalog.nodes(meta={"a": "b"}),
        lambda: health.checks("web", tags="a"),
        lambda: health.node("n1", policy="any"),
        lambda: health.instances("web", dc="dc1"),
        lambda: health.instances("web", policy="healthy"),
        lambda: health.state("bogus"),
        lambda: health.state("maintenance"),
        lambda: health.state(""),
    ],
)
def test_what_an_agent_would_silently_overlook_is_refused_before_sending(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput):
        make()


NAMED = [health.instances, health.service, health.checks, health.node, catalog.service, catalog.node]


@pytest.mark.parametrize("make", NAMED)
@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\x85b", "\ud800", None, 5, b"web"])
def test_a_name_that_cannot_be_asked_for_is_refused_before_sending(make: Callable[..., object], name: object) -> None:
    with pytest.raises(InvalidInput):
        make(name)


@pytest.mark.parametrize("name", ["a/..", "../a", "a/./b", "a//b", "/a"])
def test_a_name_that_a_server_would_clean_out_of_the_path_is_refused(name: str) -> None:
    """Consul 1.8.7 unquotes a path before it cleans it: 301 to `a%2F..`, `a%2F%2Fb`, `%2Fa` and `a%2F.%2Fb`."""
    with pytest.raises(InvalidInput):
        health.service(name)


TEXTS = st.text(max_size=12) | st.text("a/%?#&=+ \"\\'\r\n\t;:@é\u2028\udc80.", max_size=8)


def sent(call: Call[Any]) -> bytes:
    target = Target(Address("127.0.0.1", 8500))
    return Request(call.method, target, call.target_path, RequestHeaders(target, ())).render()


def asked(call: Call[Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """The path's segments and the query's pairs, as a server reads them from the request line."""
    head = sent(call)
    assert head.endswith(b"\r\n\r\n")
    line, host, *rest = head.decode("ascii").split("\r\n")
    assert (host, rest) == ("Host: 127.0.0.1:8500", ["", ""])
    assert "\n" not in line
    method, target, version = line.split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    parts = urlsplit(target)
    assert not parts.fragment
    assert target.startswith("/v1/")
    segments = [unquote(segment, errors="strict") for segment in parts.path.split("/")]
    return segments, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict")


@given(TEXTS)
def test_any_name_is_refused_or_arrives_as_it_is_in_one_segment(name: str) -> None:
    for make, place in ((health.service, ["health", "service"]), (catalog.node, ["catalog", "node"])):
        try:
            segments, pairs = asked(make(name))
        except InvalidInput:
            continue
        assert (segments, pairs) == (["", "v1", *place, name], [])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "tags": st.lists(TEXTS, max_size=3),
            "near": TEXTS,
            "datacenter": TEXTS,
            "namespace": TEXTS,
            "partition": TEXTS,
            "filter": TEXTS,
            "node_meta": st.dictionaries(TEXTS, TEXTS, max_size=2),
        },
    )
)
def test_any_option_is_refused_or_arrives_as_it_is(options: dict[str, Any]) -> None:
    try:
        segments, pairs = asked(catalog.service("web", **options))
    except InvalidInput:
        return
    assert segments == ["", "v1", "catalog", "service", "web"]
    assert [value for name, value in pairs if name == "tag"] == options.get("tags", [])
    for option, name in (("near", "near"), ("datacenter", "dc"), ("namespace", "ns"), ("partition", "partition")):
        assert [value for found, value in pairs if found == name] == ([options[option]] if option in options else [])
    assert [value for name, value in pairs if name == "filter"] == ([options["filter"]] if "filter" in options else [])
    cut = [tuple(value.split(":", 1)) for name, value in pairs if name == "node-meta"]  # as the agent does
    assert cut == list(options.get("node_meta", {}).items())


@given(st.sampled_from(["meta", "node_meta"]), st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=2))
def test_any_meta_is_refused_or_arrives_inside_a_single_filter(option: Any, meta: dict[str, str]) -> None:
    try:
        segments, pairs = asked(health.service("web", **{option: meta}))
    except InvalidInput:
        return
    ((name, expression),) = pairs
    assert (segments[-1], name) == ("web", "filter")
    assert expression.count('"') == 4 * len(meta)
    assert expression.isprintable() or all(char.isprintable() or ord(char) > 127 for char in expression)


# --- what comes back --------------------------------------------------------------------------------------

WRONG = {
    "object": b"{}", "null": b"null", "text": b'"x"', "number": b"5", "true": b"true", "list of null": b"[null]",
    "list of number": b"[1]", "list of list": b"[[]]", "list of object": b"[{}]", "HTML": b"<html>502</html>",
    "nothing": b"", "truncated": b'[{"Node":{"Node":"n', "deep": b"[" * 100_000 + b"]" * 100_000,
}  # fmt: skip
TAKEN = {
    ("catalog.services", "object"): {},
    ("catalog.services", "null"): {},
    ("catalog.node", "null"): None,
    ("catalog.nodes", "list of object"): "a node without properties",
    ("status.leader", "text"): "x",
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("shape", WRONG)
def test_an_answer_of_the_wrong_shape_is_a_bad_answer(read: str, shape: str) -> None:
    call = READS[read]()
    if (read, shape) in TAKEN:
        call.read(reply(WRONG[shape]))
        return
    with pytest.raises(BadAnswer):
        call.read(reply(WRONG[shape]))


KEYS = st.sampled_from(
    ["Node", "Service", "Checks", "ID", "Address", "Port", "Ports", "Meta", "Tags", "Status", "CheckID", "Weights",
     "ServiceID", "ServiceName", "ServicePort", "ServiceAddress", "ServiceMeta", "NodeMeta", "Datacenter", "Name",
     "external-source", "port-http"]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 70_000), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["10.0.0.5", "127.0.0.1", "http://evil", "passing", "critical", "kubernetes", "9" * 4400]),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)
NODES = st.fixed_dictionaries({}, optional={"Node": TREES, "Address": LEAVES, "Meta": TREES})
METAS = st.dictionaries(
    st.sampled_from(["external-source", "port-http", "a"]),
    st.sampled_from(["kubernetes", "80", "", "9" * 4400]) | LEAVES,
)
SERVICES = st.fixed_dictionaries(
    {"ID": st.text(max_size=3) | LEAVES, "Service": st.text(max_size=3)},
    optional={"Address": LEAVES, "Port": LEAVES, "Ports": TREES, "Meta": METAS, "Tags": TREES},
)
ENTRIES = st.fixed_dictionaries({"Node": NODES, "Service": SERVICES}, optional={"Checks": TREES})
ANSWERS = TREES | st.lists(ENTRIES | TREES, max_size=3)


def handle(entry: Any) -> None:
    """Asks an entry for everything it can be asked for."""
    for question in (
        "host",
        "status",
        "kubernetes",
        "port",
        "effective_port",
        "effective_address",
        "address",
        "instance",
    ):
        with contextlib.suppress(ConsulAccessError):
            getattr(entry, question, None)
    if hasattr(entry, "port_named"):
        with contextlib.suppress(ConsulAccessError):
            entry.port_named("http")


@settings(max_examples=300)
@given(ANSWERS)
def test_no_answer_at_all_raises_anything_but_errors_of_this_library(tree: object) -> None:
    answer = reply(tree)
    for make in READS.values():
        try:
            found = make().read(answer)
        except ConsulAccessError:
            continue
        for entry in found if isinstance(found, list) else [found]:
            handle(entry)


@given(st.binary(max_size=40))
def test_no_bytes_at_all_raise_anything_but_errors_of_this_library(body: bytes) -> None:
    for make in READS.values():
        try:
            make().read(reply(body))
        except ConsulAccessError:
            continue


def test_the_services_that_started_the_project_are_read(samples: Path) -> None:
    found = catalog.services().read(reply((samples / "services.json").read_bytes()))

    assert found == {"alertmanager-main-monitoring": ["k8s"], "consul": [], "iiip-redis-core": ["k8s"],
                     "kubernetes-default": ["k8s"]}  # fmt: skip
    assert found.meta.index == 7


def test_the_service_that_started_the_project_is_read(samples: Path) -> None:
    (found,) = catalog.service("iiip-redis-core").read(reply((samples / "iiip-redis-core.json").read_bytes()))

    assert str(found.effective_address) == "192.168.3.200:32211"
    assert found.kubernetes is not None
    assert found.kubernetes.namespace == "core"


def test_tags_may_be_null() -> None:
    assert catalog.services().read(reply({"web": None, "db": ["a"]})) == {"web": [], "db": ["a"]}


def test_a_node_that_the_catalog_does_not_know_is_none() -> None:
    assert catalog.node("x").read(reply(None)) is None


def test_a_node_is_read_from_its_part_of_the_answer() -> None:
    found = catalog.node("n1").read(
        reply({"Node": {"Node": "n1", "Address": "10.0.0.1", "Meta": None}, "Services": {}})
    )

    assert found is not None
    assert (found.name, found.address) == ("n1", "10.0.0.1")


def test_without_a_leader_its_address_is_empty() -> None:
    assert status.leader().read(reply("")) == ""
    assert status.peers().read(reply(["10.0.0.1:8300"])) == ["10.0.0.1:8300"]


def health_entry(identity: str, node: str, own: str) -> dict[str, Any]:
    checks = [
        {"CheckID": "serfHealth", "Status": node, "ServiceID": ""},
        {"CheckID": f"service:{identity}", "Status": own, "ServiceID": identity},
    ]
    return {
        "Node": {"Node": "n1", "Address": "10.0.0.1"},
        "Service": {"ID": identity, "Service": "web", "Port": 80},
        "Checks": checks,
    }


def test_only_service_checks_decide_where_the_policy_says_so() -> None:
    answer = [health_entry("a", "critical", "passing"), health_entry("b", "passing", "warning"), {"bad": 1}]
    instances = health.instances("web", policy="service_checks_only").read(reply(answer))
    entries = health.service("web", policy=HealthPolicy.SERVICE_CHECKS_ONLY).read(reply(answer))

    assert [instance.id for instance in instances] == ["a"]
    assert [entry.service.id for entry in entries] == ["a"]
    assert instances.rejected == entries.rejected == 1
    assert instances.meta.index == entries.meta.index == 7


def test_instances_of_any_state_tell_their_state() -> None:
    answer = [health_entry("a", "critical", "passing"), health_entry("b", "passing", "warning")]
    found = health.instances("web", policy="any").read(reply(answer))

    assert [instance.status for instance in found] == [CheckStatus.CRITICAL, CheckStatus.WARNING]


def test_impossible_ports_and_addresses_are_left_out_and_counted() -> None:
    bad = [health_entry("x", "passing", "passing") for _ in range(6)]
    for entry, port in zip(bad, (99999, -1, "80"), strict=False):
        entry["Service"]["Port"] = port
    for entry, address in zip(bad[3:], ("http://evil", "host:80", "10.0.0.1/24"), strict=True):
        entry["Service"]["Address"] = address
    found = health.instances("web").read(reply([*bad, health_entry("good", "passing", "passing")]))

    assert [instance.id for instance in found] == ["good"]
    assert found.rejected == 6
