"""The better of two."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.balancing import PowerOfTwoBalancer
from tests.support.instances import DEAD, instance, several


def p2c(seed=4):
    return PowerOfTwoBalancer(random.Random(seed))


def called(balancer, pick, seconds, times=1):
    """So many calls, one after the other, each as slow as its instance is."""
    counted = Counter()
    for _ in range(times):
        chosen = pick()
        balancer.started(chosen.address)
        balancer.report(chosen.address, True, seconds[chosen.id])
        counted[chosen.id] += 1
    return counted


def test_two_different_ones_are_compared():
    balancer, found = p2c(), several(2)
    pick = balancer.prepare(found)
    balancer.started(found[0].address)

    assert {pick().id for _ in range(50)} == {"i1"}


def test_equal_instances_have_equal_shares():
    balancer = p2c()
    counted = called(balancer, balancer.prepare(several(8)), {f"i{place}": 0.01 for place in range(8)}, 8000)

    assert len(counted) == 8
    assert all(850 < count < 1150 for count in counted.values())


def test_a_slow_instance_is_hardly_called_and_still_tried_again():
    balancer = p2c()
    seconds = {f"i{place}": 0.01 for place in range(4)} | {"i3": 0.02}
    counted = called(balancer, balancer.prepare(several(4)), seconds, 20_000)

    assert 20 <= counted["i3"] <= 300  # a fourth would be 5000


def test_an_instance_that_has_recovered_gets_its_share_back():
    balancer = p2c()
    pick = balancer.prepare(several(4))
    seconds = {f"i{place}": 0.01 for place in range(4)}
    called(balancer, pick, seconds | {"i3": 0.1}, 4000)

    called(balancer, pick, seconds, 4000)

    assert called(balancer, pick, seconds, 4000)["i3"] > 700


def test_a_quick_failure_is_not_taken_for_speed():
    balancer, (a, b) = p2c(), several(2)
    pick = balancer.prepare((a, b))
    balancer.report(b.address, True, 0.2)
    balancer.report(a.address, False, 0.0001)

    assert {pick().id for _ in range(20)} == {"i1"}


def test_a_call_that_was_given_up_counts_only_when_it_was_slow():
    balancer, (a, b) = p2c(), several(2)
    pick = balancer.prepare((a, b))
    for found in (a, b):
        balancer.report(found.address, True, 0.2)
    balancer.report(a.address, None, 0.001)
    assert {pick().id for _ in range(20)} == {"i0", "i1"}
    balancer.report(a.address, None, 5.0)

    assert {pick().id for _ in range(20)} == {"i1"}


def test_a_heavier_instance_may_be_busier():
    balancer, found = p2c(), (instance("a", 3), instance("b", 1))
    pick = balancer.prepare(found)
    counted = Counter()
    for _ in range(40):
        chosen = pick()
        balancer.started(chosen.address)
        counted[chosen.id] += 1

    assert counted["a"] == 30


def test_averages_survive_a_new_list_and_go_with_their_instance():
    balancer, (a, b, c) = p2c(), several(3)
    called(balancer, balancer.prepare((a, b)), {"i0": 0.5, "i1": 0.01}, 20)
    pick = balancer.prepare((a, b, c))
    balancer.report(c.address, True, 0.02)
    assert "i0" not in {pick().id for _ in range(50)}

    balancer.prepare((b, c))
    assert {balancer.prepare((a, b))().id for _ in range(20)} == {"i0"}  # unknown once more, so it is tried


def test_a_report_about_a_stranger_changes_nothing():
    balancer, (a, b, c) = p2c(), several(3)
    balancer.prepare((a, b))
    balancer.report(c.address, True, 0.1)

    assert set(balancer._loads) == {a.address, b.address}


def test_a_single_instance_needs_no_dice():
    assert p2c().prepare(several(1))().id == "i0"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_it_picks_from_the_list_and_nobody_without_a_weight(weights, dice):
    found = tuple(instance(str(place), weight) for place, weight in enumerate(weights))
    pick = PowerOfTwoBalancer(dice).prepare(found)
    allowed = {one.id for one in found if one.weight} or {one.id for one in found}

    assert {pick().id for _ in range(30)} <= allowed


def test_nobody_gets_a_call_while_critical_and_another_is_not():
    pick = p2c().prepare((instance("a", status=DEAD), instance("b")))

    assert {pick().id for _ in range(20)} == {"b"}
