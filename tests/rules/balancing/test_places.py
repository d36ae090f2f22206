"""Those nearby, and the balancers by name."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.rules.balancing import (
    Balancer,
    FeedbackBalancer,
    LeastOutstandingBalancer,
    NearestBalancer,
    PreferringBalancer,
    RandomBalancer,
    RoundRobinBalancer,
    balancer_named,
)
from tests.support.instances import DEAD, instance, named, several

NAMES = ["random", "round_robin", "weighted", "least_outstanding", "power_of_two", "sticky", "nearest"]


def zoned(name, zone, **fields):
    return instance(name, meta={"zone": zone, "rack": "7"}, **fields)


def picks(balancer, *found, times=20):
    pick = balancer.prepare(found)
    return {pick().id for _ in range(times)}


def test_the_nearest_is_the_first_of_the_answer():
    assert picks(NearestBalancer(), *several(5)) == {"i0"}
    assert picks(NearestBalancer(), instance("far", status=DEAD), instance("next")) == {"next"}


@pytest.mark.parametrize(
    "preferred",
    [{"node": "n1"}, {"datacenter": "dc2"}, {"tag": "gold"}, {"meta": {"zone": "a"}}, {"node": "n1", "tag": "gold"}],
)
def test_the_preferred_are_chosen_as_long_as_there_are_any(preferred):
    here = zoned("here", "a", node="n1", datacenter="dc2", tags=("gold", "v2"))
    there = zoned("there", "b", node="n2", datacenter="dc1", tags=("v2",))
    balancer = PreferringBalancer(RoundRobinBalancer(), **preferred)

    assert picks(balancer, here, there) == {"here"}
    assert picks(balancer, there) == {"there"}
    assert picks(balancer, there, here) == {"here"}


def test_all_of_a_preference_must_be_true():
    balancer = PreferringBalancer(RoundRobinBalancer(), meta={"zone": "a", "rack": "8"})

    assert picks(balancer, zoned("x", "a"), zoned("y", "b")) == {"x", "y"}


def test_with_fewer_than_at_least_all_are_used():
    balancer = PreferringBalancer(RoundRobinBalancer(), meta={"zone": "a"}, at_least=2)

    assert picks(balancer, zoned("x", "a"), zoned("y", "b")) == {"x", "y"}
    assert picks(balancer, zoned("x", "a"), zoned("y", "b"), zoned("z", "a")) == {"x", "z"}


def test_a_preferred_instance_that_may_get_no_calls_does_not_count():
    balancer = PreferringBalancer(RoundRobinBalancer(), meta={"zone": "a"})

    assert picks(balancer, zoned("x", "a", status=DEAD), zoned("y", "b")) == {"y"}


def test_one_preference_in_another_makes_steps():
    balancer = PreferringBalancer(PreferringBalancer(RoundRobinBalancer(), meta={"zone": "a"}), node="n1")
    here, near, far = zoned("here", "a", node="n1"), zoned("near", "a", node="n2"), zoned("far", "b", node="n3")

    assert picks(balancer, far, near, here) == {"here"}
    assert picks(balancer, far, near) == {"near"}
    assert picks(balancer, far) == {"far"}


def test_the_inner_balancer_hears_of_the_calls():
    inner = LeastOutstandingBalancer(random.Random(1))
    balancer = PreferringBalancer(inner, tag="gold")
    a, b = instance("a", tags=("gold",)), instance("b", tags=("gold",))
    pick = balancer.prepare((a, b))
    balancer.started(a.address)
    assert {pick().id for _ in range(20)} == {"b"}
    balancer.report(a.address, True, 0.1)
    assert {pick().id for _ in range(20)} == {"a", "b"}


def test_an_inner_balancer_that_does_not_want_to_hear_is_left_in_peace():
    balancer = PreferringBalancer(RoundRobinBalancer(), tag="gold")
    (a,) = several(1)
    balancer.started(a.address)
    balancer.report(a.address, False, 0.1)

    assert picks(balancer, a) == {"i0"}


@pytest.mark.parametrize("given", [{}, {"node": ""}, {"node": "n1", "at_least": 0}])
def test_a_preference_that_says_nothing_is_refused(given):
    with pytest.raises(InvalidInput, match=r"node=, datacenter=|at_least=0"):
        PreferringBalancer(RoundRobinBalancer(), **given)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), min_size=1, max_size=8), st.sampled_from(NAMES))
def test_somebody_is_always_chosen_and_only_from_where_they_should_be(found, name):
    instances = tuple(zoned(str(place), zone, passing=weight) for place, (zone, weight) in enumerate(found))
    preferred = {one.id for one in instances if one.meta["zone"] == "a" and one.weight}
    allowed = preferred or {one.id for one in instances if one.weight} or {one.id for one in instances}
    pick = PreferringBalancer(named(name), meta={"zone": "a"}).prepare(instances)

    assert {pick(key=key).id for key in (None, "x", "y", "z")} <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_each_balancer_can_be_given_by_name(name):
    balancer = balancer_named(name, random.Random(1))

    assert isinstance(balancer, Balancer)
    assert isinstance(balancer, FeedbackBalancer) == (name in {"least_outstanding", "power_of_two"})
    assert balancer.prepare(several(3))(key="a") in several(3)


def test_each_name_makes_a_new_one():
    dice = random.Random(1)

    assert isinstance(balancer_named("random", dice), RandomBalancer)
    assert balancer_named("round_robin", dice) is not balancer_named("round_robin", dice)


@pytest.mark.parametrize("name", ["", "Random", "roundrobin", "zone", None])
def test_an_unknown_balancer_is_refused_with_the_names_there_are(name):
    with pytest.raises(InvalidInput) as refused:
        balancer_named(name, random.Random(1))
    assert all(repr(known) in str(refused.value) for known in NAMES)
