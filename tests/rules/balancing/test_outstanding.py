"""The instance with the fewest calls under way."""

from __future__ import annotations

import random
import threading
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.balancing import LeastOutstandingBalancer
from tests.support.instances import several


def least():
    return LeastOutstandingBalancer(random.Random(2))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_nobody_has_fewer_calls_than_the_one_that_is_picked(under_way):
    found = several(len(under_way))
    balancer = least()
    for instance, calls in zip(found, under_way, strict=True):
        for _ in range(calls):
            balancer.started(instance.address)
    pick = balancer.prepare(found)

    for _ in range(10):
        assert under_way[found.index(pick())] == min(under_way)


def test_calls_that_do_not_end_are_spread_evenly():
    balancer, found = least(), several(5)
    pick = balancer.prepare(found)
    counted = Counter()
    for _ in range(50):
        chosen = pick()
        balancer.started(chosen.address)
        counted[chosen.id] += 1

    assert set(counted.values()) == {10}


def test_idle_instances_are_equally_likely():
    pick = least().prepare(several(4))
    counted = Counter(pick().id for _ in range(4000))

    assert len(counted) == 4
    assert all(850 < count < 1150 for count in counted.values())


def test_calls_under_way_are_remembered_over_lists_also_of_one_that_went_and_came_back():
    balancer, (a, b) = least(), several(2)
    balancer.prepare((a, b))
    balancer.started(a.address)
    balancer.prepare((b,))

    assert {balancer.prepare((a, b))().id for _ in range(20)} == {"i1"}
    balancer.report(a.address, True, 0.1)
    assert {balancer.prepare((a, b))().id for _ in range(20)} == {"i0", "i1"}


def test_a_report_too_many_changes_nothing():
    balancer, (a, b) = least(), several(2)
    pick = balancer.prepare((a, b))
    balancer.report(a.address, True, 0.1)
    balancer.started(a.address)

    assert {pick().id for _ in range(20)} == {"i1"}


def test_what_is_gone_and_idle_is_forgotten():
    balancer, (a, b) = least(), several(2)
    balancer.prepare((a, b))
    balancer.prepare((b,))

    assert list(balancer._outstanding._calls) == [b.address]


def test_threads_count_without_losing_a_call():
    balancer, (a,) = least(), several(1)
    balancer.prepare((a,))

    def calls():
        for _ in range(20_000):
            balancer.started(a.address)
            balancer.report(a.address, True, 0.0)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(balancer._outstanding.of(a.address)) == 0
