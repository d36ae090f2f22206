"""The options of a look-up, and how they are written."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.filters import F, Scope
from consul_access.models.query import LONGEST_WAIT, Rendered, policy_of, render
from consul_access.models.status import HealthPolicy


def written(policy: HealthPolicy = HealthPolicy.ANY, **options: Any) -> Rendered:
    return render(options, scope="health", policy=policy)  # type: ignore[arg-type]


def pairs(**options: Any) -> list[tuple[str, str | None]]:
    return list(written(**options).pairs)


def test_no_options_write_nothing_and_ask_for_no_patience() -> None:
    assert written() == Rendered((), 0.0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tags": "a"}, [("tag", "a")]),
        ({"tags": ["a", "b"]}, [("tag", "a"), ("tag", "b")]),
        ({"tags": []}, []),
        ({"node_meta": {"rack": "1"}}, [("filter", 'Node.Meta["rack"] == "1"')]),
        ({"node_meta": {}}, []),
        ({"near": "_agent"}, [("near", "_agent")]),
        ({"datacenter": "dc2"}, [("dc", "dc2")]),
        ({"namespace": "n", "partition": "p"}, [("ns", "n"), ("partition", "p")]),
        ({"consistency": "stale"}, [("stale", None)]),
        ({"consistency": "consistent"}, [("consistent", None)]),
        ({"consistency": "default"}, []),
        ({"cached": True}, [("cached", None)]),
        ({"cached": False}, []),
        ({"filter": 'Service.ID == "a"'}, [("filter", 'Service.ID == "a"')]),
        ({"filter": F.service.id == "a"}, [("filter", 'Service.ID == "a"')]),
        ({"meta": {"v": "2"}}, [("filter", 'Service.Meta["v"] == "2"')]),
        ({"meta": {}}, []),
        ({"datacenter": None, "near": None, "filter": None}, []),
    ],
)
def test_each_option_is_written_under_the_name_that_consul_knows(
    options: dict[str, Any], expected: list[tuple[str, str | None]]
) -> None:
    assert pairs(**options) == expected


def test_meta_and_filter_are_joined_into_one_expression() -> None:
    assert pairs(meta={"a": "1", "b": "2"}, filter="x or y") == [
        ("filter", '((Service.Meta["a"] == "1") and (Service.Meta["b"] == "2")) and (x or y)')
    ]


def test_passing_or_warning_asks_for_instances_without_a_critical_check() -> None:
    assert written(HealthPolicy.PASSING_OR_WARNING).pairs == (("filter", 'not (Checks.Status == "critical")'),)


def test_passing_or_warning_is_joined_with_the_filter_of_the_caller() -> None:
    assert written(HealthPolicy.PASSING_OR_WARNING, filter="x or y").pairs == (
        ("filter", '(not (Checks.Status == "critical")) and (x or y)'),
    )


def test_passing_is_left_to_the_agent() -> None:
    assert written(HealthPolicy.PASSING).pairs == (("passing", "1"),)
    assert written(HealthPolicy.PASSING, datacenter="dc2").pairs == (("passing", "1"), ("dc", "dc2"))


def test_the_policy_is_read_from_the_options() -> None:
    assert policy_of({"policy": "any"}) is HealthPolicy.ANY
    assert policy_of({}) is None


def test_stale_and_cached_go_together() -> None:
    assert pairs(consistency="stale", cached=True) == [("stale", None), ("cached", None)]


def test_consistent_and_cached_are_refused_together() -> None:
    with pytest.raises(InvalidInput, match="contradict"):
        written(consistency="consistent", cached=True)


@pytest.mark.parametrize("consistency", ["", "Stale", "eventual", None, True, []])
def test_an_unknown_consistency_is_refused(consistency: object) -> None:
    with pytest.raises(InvalidInput, match="'stale'"):
        written(consistency=consistency)


def test_an_unknown_option_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidInput, match="dc= is no option of a look-up; there are policy, tags, meta"):
        written(dc="dc1")


def test_an_option_that_this_look_up_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tags= means nothing for this look-up; it has near"):
        render({"tags": "a"}, scope="nodes", known=frozenset({"near"}))


@pytest.mark.parametrize("option", ["tags", "near", "datacenter", "namespace", "partition", "filter"])
def test_an_empty_text_is_refused(option: str) -> None:
    with pytest.raises(InvalidInput, match=option):
        written(**{option: ""})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tags", [1]),
        ("tags", ["a", None]),
        ("tags", 5),
        ("tags", None),
        ("near", 5),
        ("datacenter", b"dc1"),
        ("filter", 5),
        ("meta", {"version": 2}),
        ("meta", {5: "x"}),
        ("meta", {"": "x"}),
        ("meta", ["version"]),
        ("meta", "version"),
        ("node_meta", {"rack": 5}),
        ("node_meta", {5: "x"}),
        ("node_meta", None),
        ("node_meta", "rack:5"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_the_name_of_its_option(option: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=option):
        written(**{option: value})


def test_a_key_of_node_meta_with_a_colon_is_refused_since_consul_would_cut_it_there() -> None:
    with pytest.raises(InvalidInput):
        render({"node_meta": {"a:b": "c"}}, scope="catalog")


@pytest.mark.parametrize("scope", ["catalog", "checks", "nodes"])
def test_what_is_wanted_of_nodes_is_a_parameter_where_no_view_answers(scope: Scope) -> None:
    """A view, which answers who asks for health again, would take it for "contains" (1.10 and later)."""
    written = render({"node_meta": {"rack": "1", "row": "2"}}, scope=scope).pairs
    assert written == (("node-meta", "rack:1"), ("node-meta", "row:2"))


@pytest.mark.parametrize("index", [-1, 2**64, 1.5, "5", True, None])
def test_an_index_that_no_registry_gives_is_refused(index: object) -> None:
    with pytest.raises(InvalidInput, match=r"entries\.meta\.index"):
        written(index=index)


@pytest.mark.parametrize("wait", [600.001, "11m", timedelta(hours=1), 1e9])
def test_waiting_longer_than_agents_do_is_refused(wait: object) -> None:
    with pytest.raises(InvalidInput, match="10 minutes"):
        written(wait=wait)


@pytest.mark.parametrize("wait", [-1, "5", math.nan, math.inf, True, None, "soon"])
def test_a_wait_that_is_no_length_is_refused(wait: object) -> None:
    with pytest.raises(InvalidInput, match="wait="):
        written(wait=wait)


@pytest.mark.parametrize("wait", [0, 0.0, "0", "0s", "1ns", timedelta(0), 0.0005])
def test_no_wait_is_raised_to_a_millisecond_since_zero_means_five_minutes_to_an_agent(wait: object) -> None:
    assert pairs(index=7, wait=wait) == [("index", "7"), ("wait", "1ms")]


@pytest.mark.parametrize(
    ("options", "expected", "length"),
    [
        ({"index": 7}, [("index", "7"), ("wait", "55s")], 55),
        ({"index": 0, "wait": "10m"}, [("index", "0"), ("wait", "10m")], 600),
        ({"index": 2**64 - 1, "wait": 1.5}, [("index", str(2**64 - 1)), ("wait", "1.5s")], 1.5),
        ({"wait": timedelta(seconds=90)}, [("index", "0"), ("wait", "1m30s")], 90),
    ],
)
def test_a_blocking_query_sends_index_and_wait_and_has_patience_for_both(
    options: dict[str, Any], expected: list[tuple[str, str | None]], length: float
) -> None:
    found = written(**options)

    assert list(found.pairs) == expected
    assert math.isclose(found.patience, length * 17 / 16 + 5)


@given(st.floats(min_value=0, max_value=LONGEST_WAIT))
def test_patience_is_always_longer_than_the_agent_waits(wait: float) -> None:
    assert written(index=1, wait=wait).patience > wait * 17 / 16


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=3),
    st.lists(st.text(max_size=4) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.integers(), max_size=3),
)
_SINGLE = st.sampled_from(["filter", "near", "datacenter", "consistency", "cached", "index", "wait", "namespace", "dc"])


@given(st.dictionaries(_SINGLE, VALUES, max_size=4))
def test_any_value_of_any_option_is_written_or_refused(options: dict[str, object]) -> None:
    try:
        found = written(**options)
    except InvalidInput:
        return
    assert all(isinstance(name, str) and (value is None or isinstance(value, str)) for name, value in found.pairs)
