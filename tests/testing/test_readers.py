"""The fake's readers, on whatever text: they understand it or say why not, and nothing else happens."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consul_access.models.durations import go_duration
from consul_access.testing.consul import golang
from consul_access.testing.consul.access import Authorizer, RulesFault, parse_rules
from consul_access.testing.consul.catalog import Catalog, Check, Node, Service
from consul_access.testing.consul.definitions import Invalid, read_check, read_service
from consul_access.testing.consul.dialect import Dialect
from consul_access.testing.consul.exchange import parse_query
from consul_access.testing.consul.filtering import HEALTH, FilterFault, compiled

PIECES = st.sampled_from(
    [
        "Service.Port",
        "Service.Tags",
        "Service.Meta",
        '["v"]',
        "Checks.Status",
        "==",
        "!=",
        "in",
        "not",
        "and",
        "or",
        "is",
        "empty",
        "contains",
        "matches",
        "(",
        ")",
        '"x"',
        "`x`",
        '"',
        "80",
        "-1",
        "x",
        ".",
        "[",
        " ",
        "\n",
        "é",
    ]
)
EXPRESSIONS = (
    st.lists(PIECES, max_size=8).map(" ".join) | st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=30)
)
ENTRY = {
    "Node": {"Meta": None},
    "Service": {"Port": 80, "Tags": ["x"], "Meta": None},
    "Checks": [{"Status": "passing"}],
}
DIALECT = Dialect.of("1.8")


@given(EXPRESSIONS)
def test_any_text_is_a_filter_or_refused(text):
    with contextlib.suppress(FilterFault):
        assert compiled(text, HEALTH)(ENTRY) in {True, False}


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_registration_or_refused(body):
    for read in (read_service, read_check):
        with pytest.raises(Invalid):
            read(body, DIALECT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    "Name",
    "ID",
    "Port",
    "Tags",
    "Meta",
    "Check",
    "Checks",
    "Weights",
    "TaggedAddresses",
    "Address",
    "TTL",
    "Interval",
]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_any_json_is_a_registration_or_refused(body):
    for read in (read_service, read_check):
        with contextlib.suppress(Invalid):
            assert read(json.dumps(body).encode(), DIALECT)


@given(st.floats(0.001, 1e7))
def test_what_the_library_writes_as_a_duration_is_read_as_the_same(seconds):
    read = golang.seconds(golang.duration(go_duration(seconds, what="x")))
    assert read == pytest.approx(seconds, rel=1e-6, abs=1e-3)


@given(st.integers(0, 10**18))
def test_a_duration_that_is_shown_can_be_read_again(nanoseconds):
    assert golang.duration(golang.shown(nanoseconds)) == pytest.approx(nanoseconds, abs=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        (".s", 'time: invalid duration ".s"'),
        ("10", 'time: missing unit in duration "10"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
    ],
)
def test_what_is_no_duration_is_refused_in_gos_words(text, said):
    with pytest.raises(ValueError, match=r"^time: ") as caught:
        golang.duration(text)
    assert str(caught.value) == said


@given(st.text(max_size=40))
def test_any_query_is_parsed(text):
    assert all(isinstance(value, str) for values in parse_query(text).values() for value in values)


def test_a_query_is_parsed_as_go_does_it():
    found = parse_query("a=1&a=2;b&c=%41+x&d=%zz&=e&&f=%C3%A9")
    assert found == {"a": ["1", "2"], "b": [""], "c": ["A x"], "": ["e"], "f": ["é"]}


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["service", '"x"', "{", "}", "=", '"write"', "policy", "#"])).map(" ".join)
)
def test_any_rules_are_rules_or_refused(text):
    with contextlib.suppress(RulesFault):
        assert isinstance(parse_rules(text), tuple)


def test_of_two_rules_the_closer_counts_and_of_two_equal_ones_the_denial():
    rules = parse_rules(
        """
        # what a service needs
        service_prefix "" { policy = "read" }
        service_prefix "web" { policy = "write" }
        service "web-secret" { policy = "deny" }
        service "both" { policy = "write" }
        service "both" { policy = "deny" }
        operator = "read"
        """
    )
    allowed = Authorizer(rules)
    assert [allowed.writes("service", name) for name in ("web-1", "web-secret", "db", "both")] == [
        True,
        False,
        False,
        False,
    ]
    assert [allowed.reads("service", name) for name in ("web-1", "web-secret", "db", "both")] == [
        True,
        False,
        True,
        False,
    ]
    assert (allowed.reads("operator"), allowed.writes("operator"), allowed.reads("node", "x")) == (True, False, False)


NAMES = st.sampled_from(["a", "b"])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["put", "check", "drop", "drop check", "drop node"]), NAMES, NAMES), max_size=20
)


@given(CHANGES)
def test_whoever_looks_at_a_service_learns_of_every_change_by_a_higher_index(changes):
    catalog = Catalog("dc1", Dialect.of("1.8"))
    for what, node, name in changes:
        before = {one: look(catalog, one) for one in ("a", "b")}
        change(catalog, what, node, name)
        for one, (index, seen) in before.items():
            after, found = look(catalog, one)
            assert after > index or found == seen or not index


def look(catalog, name):
    found = [(n.name, s.id, [(c.id, c.status) for c in catalog.checks_of(n, s)]) for n, s in catalog.instances(name)]
    return catalog.service_index(name, bool(found), checks=True), found


def change(catalog, what, node, name):
    held = Node(node, "10.0.0.1")
    if what == "put":
        catalog.register(held, Service(f"{name}-1", name))
    elif what == "check":
        known = catalog.nodes.get(node, held)
        owner = next((service.id for service in known.services.values()), "") if name == "a" else ""
        if (before := known.checks.get(f"c-{name}")) is not None:
            owner = before.service_id  # who loses a check to another service is not told; see conformance/test_waiting
        catalog.register(held, None, [Check(f"c-{name}", service_id=owner)])
    elif what == "drop":
        catalog.deregister(node, service_id=f"{name}-1")
    else:
        catalog.deregister(node, check_id=f"c-{name}" if what == "drop check" else "")
