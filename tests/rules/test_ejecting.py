"""Instances that keep failing are left out for a while."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.address import Address
from consul_access.rules.balancing import LeastOutstandingBalancer, RoundRobinBalancer
from consul_access.rules.ejecting import EjectingBalancer, Ejection, EjectionPolicy
from tests.support.instances import several
from tests.support.waiting import eventually

A, B, C, D = (Address(f"10.0.0.{number}", 80) for number in range(1, 5))


def ejection(*addresses, **policy):
    rule = Ejection(EjectionPolicy(**policy))
    rule.use(addresses or (A, B, C, D), 0.0)
    return rule


def failing(rule, address, now, times=1):
    return [rule.report(address, False, now) for _ in range(times)]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class TestTheRule:
    def test_five_failures_in_a_row_are_enough(self):
        rule = ejection()

        assert failing(rule, A, 0.0, 5) == [False, False, False, False, True]
        assert rule.out(0.5) == {A: 1.0}
        assert rule.out(1.0) == {}

    def test_a_success_in_between_begins_anew(self):
        rule = ejection()
        failing(rule, A, 0.0, 4)
        rule.report(A, True, 0.0)

        assert failing(rule, A, 0.0, 5)[-2:] == [False, True]

    def test_a_connection_that_cannot_be_made_is_enough_at_once(self):
        rule = ejection()

        assert rule.report(A, False, 0.0, connected=False)

    def test_a_call_that_was_given_up_says_nothing(self):
        rule = ejection(failures=1)

        assert not rule.report(A, None, 0.0)
        assert rule.out(0.0) == {}

    def test_each_time_is_twice_as_long_up_to_the_longest(self):
        rule, now, lengths = ejection(), 0.0, []
        failing(rule, A, now, 5)
        for _ in range(8):
            (until,) = rule.out(now).values()
            lengths.append(until - now)
            now = until
            assert failing(rule, A, now) == [True]  # on probation, once is enough

        assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]

    def test_after_as_many_good_calls_all_is_forgotten(self):
        rule = ejection()
        failing(rule, A, 0.0, 5)
        for _ in range(4):
            rule.report(A, True, 2.0)
        assert failing(rule, A, 2.0) == [True]
        for _ in range(5):
            rule.report(A, True, 9.0)

        assert failing(rule, A, 9.0, 5) == [False, False, False, False, True]
        assert rule.out(9.0) == {A: 10.0}

    def test_calls_that_had_begun_before_neither_lengthen_nor_shorten_it(self):
        rule = ejection()
        failing(rule, A, 0.0, 5)
        assert failing(rule, A, 0.5, 20) == [False] * 20
        rule.report(A, True, 0.6)

        assert rule.out(0.7) == {A: 1.0}
        assert failing(rule, A, 1.0) == [True]

    @pytest.mark.parametrize(("number", "most"), [(1, 0), (2, 1), (3, 1), (4, 2)])
    def test_never_more_than_half_are_left_out(self, number, most):
        addresses = (A, B, C, D)[:number]
        rule = ejection(*addresses)
        for address in addresses:
            failing(rule, address, 0.0, 5)

        assert len(rule.out(0.0)) == most

    def test_who_found_no_place_is_left_out_at_the_next_failure(self):
        rule = ejection(A, B)
        failing(rule, A, 0.0, 5)
        failing(rule, B, 0.5, 9)

        assert failing(rule, B, 1.0) == [True]
        assert rule.out(1.0) == {B: 2.0}

    def test_a_shorter_list_lets_those_in_whose_time_is_up_first(self):
        rule = ejection()
        failing(rule, A, 0.0, 5)
        failing(rule, B, 0.5, 5)
        rule.use((A, B), 0.6)
        assert rule.out(0.6) == {B: 1.5}

        rule.use((B,), 0.7)
        assert rule.out(0.7) == {}

    def test_whoever_goes_and_comes_back_is_somebody_new(self):
        rule = ejection()
        failing(rule, A, 0.0, 5)
        rule.use((B, C), 0.1)
        rule.use((A, B, C), 0.2)

        assert rule.out(0.2) == {}
        assert failing(rule, A, 0.2, 5) == [False, False, False, False, True]

    def test_strangers_are_not_remembered(self):
        rule = ejection(A, B)
        failing(rule, C, 0.0, 9)

        assert rule.out(0.0) == {}
        assert rule._records == {}

    @pytest.mark.parametrize("wrong", [{"failures": 0}, {"first": 0}, {"first": 5, "longest": 4}])
    def test_a_policy_that_cannot_be_kept_is_refused(self, wrong):
        with pytest.raises(InvalidInput, match="first <= longest"):
            EjectionPolicy(**wrong)

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.sampled_from([A, B, C, D]), st.sampled_from([True, False, None]), st.booleans()),
                st.sets(st.sampled_from([A, B, C, D])),
            ),
            max_size=80,
        ),
        st.lists(st.floats(0, 5), min_size=80, max_size=80),
    )
    def test_whatever_happens_at_most_half_are_out_each_for_at_most_the_longest(self, events, pauses):
        rule, now, addresses = ejection(failures=2), 0.0, {A, B, C, D}
        for event, pause in zip(events, pauses, strict=False):
            now += pause
            if isinstance(event, set):
                addresses = event
                rule.use(addresses, now)
            else:
                address, ok, connected = event
                was_out = address in rule.out(now)
                left_out = rule.report(address, ok, now, connected=connected)
                assert left_out == (not was_out and address in rule.out(now))
                assert not (left_out and ok is not False)
            out = rule.out(now)
            assert out.keys() <= addresses
            assert len(out) <= len(addresses) // 2
            assert all(now < until <= now + 30 for until in out.values())


class TestTheBalancer:
    def made(self, number=4, **policy):
        clock = Clock()
        balancer = EjectingBalancer(RoundRobinBalancer(), clock, EjectionPolicy(**policy))
        found = several(number)
        return balancer, clock, found, balancer.prepare(found)

    def test_while_all_is_well_the_inner_balancer_chooses_without_the_clock(self):
        balancer, _, _, pick = self.made()
        balancer._clock = lambda: pytest.fail("it looked at the clock")

        assert [pick().id for _ in range(4)] == ["i0", "i1", "i2", "i3"]

    def test_a_pick_made_before_leaves_it_out_too_and_lets_it_in_again(self):
        balancer, clock, found, pick = self.made()
        balancer.report(found[1].address, False, 0.1, connected=False)
        assert balancer.ejected == {found[1].address}
        assert {pick().id for _ in range(12)} == {"i0", "i2", "i3"}
        clock.now += 0.999
        assert {pick().id for _ in range(12)} == {"i0", "i2", "i3"}
        clock.now += 0.001

        assert Counter(pick().id for _ in range(12)) == {"i0": 3, "i1": 3, "i2": 3, "i3": 3}
        assert balancer.ejected == frozenset()

    def test_a_new_list_leaves_it_out_as_well(self):
        balancer, _, found, _ = self.made()
        balancer.report(found[1].address, False, 0.1, connected=False)
        pick = balancer.prepare(several(5))

        assert {pick().id for _ in range(12)} == {"i0", "i2", "i3", "i4"}

    def test_a_single_instance_is_called_however_it_fails(self):
        balancer, _, found, pick = self.made(1)
        for _ in range(20):
            balancer.report(found[0].address, False, 0.1, connected=False)

        assert pick().id == "i0"

    def test_the_inner_balancer_hears_of_the_calls(self):
        inner = LeastOutstandingBalancer(random.Random(1))
        balancer = EjectingBalancer(inner, Clock())
        found = several(2)
        pick = balancer.prepare(found)
        balancer.started(found[0].address)
        assert {pick().id for _ in range(20)} == {"i1"}
        balancer.report(found[0].address, None, 0.1)

        assert {pick().id for _ in range(20)} == {"i0", "i1"}

    def test_a_list_that_another_thread_brings_is_never_overwritten_by_an_older_one(self):
        clock = Clock()
        balancer = EjectingBalancer(RoundRobinBalancer(), clock, EjectionPolicy(failures=1))
        found = several(8)
        pick = balancer.prepare(found)
        done, passes = threading.Event(), []

        def reports():
            while not done.is_set():
                clock.now += 0.5
                for instance in found:
                    balancer.report(instance.address, False, 0.1)
                passes.append(clock.now)

        thread = threading.Thread(target=reports)
        thread.start()
        try:
            for number in range(100):
                present = found[:4] if number % 2 else found[4:]
                balancer.prepare(present)
                reached = len(passes) + 2
                eventually(lambda: len(passes) >= reached)  # noqa: B023
                assert {pick().id for _ in range(8)} <= {instance.id for instance in present}
        finally:
            done.set()
            thread.join()
