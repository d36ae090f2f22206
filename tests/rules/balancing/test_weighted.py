"""By weight, evenly spread."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.balancing import WeightedBalancer
from consul_access.rules.balancing.weighted import LONGEST_ROUND, reduced, smooth
from tests.support.instances import DEAD, WARNED, instance

WEIGHTS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def picked(pick, times):
    return "".join(pick().id for _ in range(times))


def test_the_turns_of_a_heavy_instance_are_spread():
    pick = WeightedBalancer().prepare((instance("a", 3), instance("b", 1), instance("c", 2)))

    assert picked(pick, 12) == "acabac" * 2


def test_the_weight_is_that_of_the_present_state():
    found = (instance("a", 4), instance("b", 9, 2, WARNED), instance("c", 9, status=DEAD))

    assert Counter(picked(WeightedBalancer().prepare(found), 60)) == {"a": 40, "b": 20}


@given(WEIGHTS)
def test_after_any_number_of_turns_each_has_its_share_rounded_down_or_up(weights):
    total = sum(weights)
    had = [0] * len(weights)
    for number, place in enumerate(smooth(weights), 1):
        had[place] += 1
        for weight, count in zip(weights, had, strict=True):
            assert number * weight // total <= count <= -(-number * weight // total)
    assert had == weights


@given(st.lists(st.integers(1, 65_535), min_size=1, max_size=100))
def test_a_round_is_bounded_and_keeps_the_proportion(weights):
    longest = max(LONGEST_ROUND, 8 * len(weights))
    found = reduced(weights, longest)

    assert sum(found) <= longest + len(weights)
    for weight, turns in zip(weights, found, strict=True):
        exact = weight / sum(weights) * sum(found)
        assert turns >= 1
        assert abs(turns - exact) <= 1 + exact * 0.2


def test_weights_that_fit_are_exact():
    assert reduced([10, 50, 40], 1024) == [1, 5, 4]
    assert reduced([65_535], 1024) == [1]


def test_it_begins_anywhere():
    dice = random.Random(3)
    found = (instance("a", 3), instance("b", 1))
    begun = Counter(WeightedBalancer(dice).prepare(found)().id for _ in range(1000))

    assert 690 < begun["a"] < 810


@given(WEIGHTS, st.integers(0, 40))
def test_a_list_with_the_same_weights_goes_on_where_the_old_one_was(weights, before):
    found = tuple(instance(chr(97 + place), weight) for place, weight in enumerate(weights))
    undisturbed, disturbed = WeightedBalancer(), WeightedBalancer()
    pick, other = undisturbed.prepare(found), disturbed.prepare(found)
    picked(pick, before), picked(other, before)

    assert picked(pick, 100) == picked(disturbed.prepare(found), 100)


def test_changed_weights_count_at_once():
    balancer = WeightedBalancer()
    picked(balancer.prepare((instance("a", 1), instance("b", 1))), 3)

    assert Counter(picked(balancer.prepare((instance("a", 1), instance("b", 3))), 40)) == {"a": 10, "b": 30}


def test_instances_without_any_weight_are_equal():
    found = (instance("a", status=DEAD), instance("b", -3))

    assert Counter(picked(WeightedBalancer().prepare(found), 10)) == {"a": 5, "b": 5}
