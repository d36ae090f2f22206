"""Which instances a look-up asks for, where the registry cannot choose; and what a wait tells of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import CheckStatus, HealthPolicy, InvalidInput, ProgressKind, ServiceInstance
from consul_access.models.instance import Standing
from consul_access.rules.filtering import admits
from consul_access.rules.seeing import seen_instances, wanted_of
from consul_access.rules.selecting import Selection

TAGS = st.lists(st.sampled_from("abc"), max_size=3)
META = st.dictionaries(st.sampled_from("xyz"), st.sampled_from("12"), max_size=3)


def instance(number=1, tags=(), meta=None, status=CheckStatus.PASSING):
    return ServiceInstance(
        id=f"orders-{number}",
        service="orders",
        service_address="10.0.0.5",
        service_port=number,
        tags=tuple(tags),
        meta=meta or {},
        standing=Standing(status, status),
    )


@given(
    have=st.tuples(TAGS, META, st.sampled_from(CheckStatus)),
    want=st.tuples(TAGS, META, st.sampled_from(HealthPolicy)),
)
def test_all_tags_all_meta_and_the_health_count(have, want):
    one = instance(1, *have)
    selection = Selection.of({"tags": want[0], "meta": want[1], "policy": want[2]})
    fits = set(want[0]) <= set(have[0]) and all(have[1].get(key) == value for key, value in want[1].items())
    assert selection.fits(one) is fits
    assert selection.of_these([one]) == ((one,) if fits and admits(want[2], one.standing) else ())


def test_equal_queries_are_equal_questions():
    assert Selection.of({"tags": "a"}) == Selection.of({"tags": ["a"], "policy": "passing"})
    assert hash(Selection.of({"meta": {"x": "1", "y": "2"}})) == hash(Selection.of({"meta": {"y": "2", "x": "1"}}))
    assert Selection.of({"consistency": "stale"}).stale


@pytest.mark.parametrize("query", [{"near": "_agent"}, {"filter": "a"}, {"datacenter": "dc1"}, {"index": 5}], ids=str)
def test_what_only_consul_can_do_is_refused(query):
    with pytest.raises(InvalidInput, match=next(iter(query))):
        Selection.of(query)


@pytest.mark.parametrize(
    ("query", "registered", "kind", "text"),
    [
        ({}, [], ProgressKind.UNKNOWN_SERVICE, "unknown service: there is 'order'"),
        ({"tags": ["z"]}, [instance(1)], ProgressKind.NO_MATCH, "nothing fits tags=['z']"),
        ({}, [instance(1, status=CheckStatus.CRITICAL)], ProgressKind.TOO_FEW, "orders-1 is critical"),
        ({"policy": "any"}, [instance(1, status=CheckStatus.CRITICAL)], ProgressKind.READY, "ready"),
        ({}, [instance(1), instance(2)], ProgressKind.READY, "ready, 2 of 2 passing"),
    ],
)
def test_a_wait_tells_what_it_sees(query, registered, kind, text):
    (wanted,) = wanted_of({"orders": 1}, query)
    progress = seen_instances(wanted, registered, Selection.of(query), ["order", "payments"])
    assert progress.kind is kind
    assert text in progress.text
