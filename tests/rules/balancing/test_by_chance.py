"""Any instance, as likely as its weight says."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.balancing import RandomBalancer
from tests.support.instances import DEAD, WARNED, Thrown, instance, several


def shares(*instances):
    """How often each is chosen when the dice fall on every side once."""
    sides = sum(max(found.weight, 0) for found in instances) or len(instances)
    pick = RandomBalancer(Thrown(*((side, sides) for side in range(sides)))).prepare(instances)
    return Counter(pick().id for _ in range(sides))


def test_a_single_instance_is_chosen_without_throwing_dice():
    assert RandomBalancer(Thrown()).prepare((instance("a"),))().id == "a"


def test_instances_of_equal_weight_are_equally_likely():
    assert shares(instance("a"), instance("b"), instance("c")) == {"a": 1, "b": 1, "c": 1}


def test_an_instance_is_as_likely_as_its_weight_says():
    assert shares(instance("a", 1), instance("b", 5), instance("c", 2)) == {"a": 1, "b": 5, "c": 2}


def test_an_instance_in_warning_has_its_weight_for_warning():
    assert shares(instance("a", 3), instance("b", passing=9, warning=2, status=WARNED)) == {"a": 3, "b": 2}


def test_a_critical_instance_is_not_chosen_while_there_is_another():
    assert shares(instance("a"), instance("b", status=DEAD)) == {"a": 1}


def test_when_none_has_a_weight_all_are_equally_likely():
    assert shares(instance("a", status=DEAD), instance("b", -3)) == {"a": 1, "b": 1}


@given(st.lists(st.integers(-2, 20), min_size=2, max_size=8))
def test_every_fall_of_the_dice_chooses_by_weight(weights):
    found = shares(*(instance(str(place), weight) for place, weight in enumerate(weights)))

    if any(weight > 0 for weight in weights):
        assert found == {str(place): weight for place, weight in enumerate(weights) if weight > 0}
    else:
        assert set(found.values()) == {1}
        assert len(found) == len(weights)


def test_many_picks_are_spread_as_chance_spreads_them():
    pick = RandomBalancer(random.Random(7)).prepare(several(10))
    counted = Counter(pick().id for _ in range(10_000))

    deviation = sum((count - 1000) ** 2 / 1000 for count in counted.values())
    assert len(counted) == 10
    assert 1 < deviation < 28  # chi-square with 9 degrees of freedom: both ends at about one in a thousand
