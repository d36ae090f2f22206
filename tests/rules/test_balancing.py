"""Which one of several instances is called."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.instance import ServiceInstance, Standing
from consul_access.models.status import CheckStatus
from consul_access.rules.balancing import RandomBalancer, balancer_named


class Thrown:
    """Dice that fall as told, and remember how many sides they had."""

    def __init__(self, *falls: int) -> None:
        self.falls = list(falls)
        self.sides: list[int] = []

    def randrange(self, stop: int, /) -> int:
        self.sides.append(stop)
        return self.falls.pop(0)


def instance(
    name: str, passing: int = 1, warning: int = 1, status: CheckStatus = CheckStatus.PASSING
) -> ServiceInstance:
    return ServiceInstance(
        id=name, service="web", passing_weight=passing, warning_weight=warning, standing=Standing(status, status)
    )


def shares(instances: list[ServiceInstance]) -> Counter[str]:
    """How often each is chosen when the dice fall on every side once."""
    sides = sum(max(found.weight, 0) for found in instances) or len(instances)
    return Counter(RandomBalancer(Thrown(side)).pick(instances).id for side in range(sides))


def test_a_single_instance_is_chosen_without_throwing_dice() -> None:
    dice = Thrown()

    assert RandomBalancer(dice).pick([instance("a")]).id == "a"
    assert dice.sides == []


def test_instances_of_equal_weight_are_equally_likely() -> None:
    assert shares([instance("a"), instance("b"), instance("c")]) == {"a": 1, "b": 1, "c": 1}


def test_an_instance_is_as_likely_as_its_weight_says() -> None:
    assert shares([instance("a", 1), instance("b", 5), instance("c", 2)]) == {"a": 1, "b": 5, "c": 2}


def test_an_instance_in_warning_has_its_weight_for_warning() -> None:
    warned = instance("b", passing=9, warning=2, status=CheckStatus.WARNING)

    assert shares([instance("a", 3), warned]) == {"a": 3, "b": 2}


def test_a_critical_instance_is_not_chosen_while_there_is_another() -> None:
    assert shares([instance("a"), instance("b", status=CheckStatus.CRITICAL)]) == {"a": 1}


def test_when_none_has_a_weight_all_are_equally_likely() -> None:
    assert shares([instance("a", status=CheckStatus.CRITICAL), instance("b", -3)]) == {"a": 1, "b": 1}


@given(st.lists(st.integers(-2, 20), min_size=2, max_size=8))
def test_every_fall_of_the_dice_chooses_by_weight(weights: list[int]) -> None:
    found = shares([instance(str(place), weight) for place, weight in enumerate(weights)])

    if any(weight > 0 for weight in weights):
        assert found == {str(place): weight for place, weight in enumerate(weights) if weight > 0}
    else:
        assert set(found.values()) == {1}
        assert len(found) == len(weights)


def test_the_balancer_can_be_given_by_name() -> None:
    assert isinstance(balancer_named("random", Thrown()), RandomBalancer)


@pytest.mark.parametrize("name", ["", "Random", "round_robin", None])
def test_an_unknown_balancer_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="'random'"):
        balancer_named(name, Thrown())
