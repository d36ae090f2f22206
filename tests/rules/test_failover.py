"""Which of several servers is asked next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consul_access.models.address import Address, Target
from consul_access.rules.failover import Failover

A, B, C = (Target(Address(host, 8500)) for host in "abc")


def test_servers_are_asked_in_the_order_they_were_given_in() -> None:
    assert Failover([B, A, C]).order(0.0) == (B, A, C)


def test_a_server_that_failed_is_asked_last_for_a_second() -> None:
    failover = Failover([A, B, C])
    failover.failed(A, 100.0)

    assert failover.order(100.9) == (B, C, A)
    assert failover.order(101.0) == (A, B, C)


def test_a_server_that_answered_is_asked_in_its_turn_again_at_once() -> None:
    failover = Failover([A, B])
    failover.failed(A, 100.0)
    failover.worked(A)

    assert failover.order(100.0) == (A, B)


def test_each_further_failure_doubles_the_rest_up_to_30_seconds() -> None:
    failover, now, rests = Failover([A, B]), 0.0, []
    for _ in range(7):
        failover.failed(A, now)
        rest = next(seconds for seconds in range(1, 100) if failover.order(now + seconds)[0] is A)
        rests.append(rest)
        now += rest

    assert rests == [1, 2, 4, 8, 16, 30, 30]


def test_after_an_answer_the_rest_begins_at_one_second_again() -> None:
    failover = Failover([A, B])
    for _ in range(5):
        failover.failed(A, 0.0)
    failover.worked(A)
    failover.failed(A, 0.0)

    assert failover.order(1.0) == (A, B)


def test_when_all_rest_the_one_whose_rest_ends_first_is_asked() -> None:
    failover = Failover([A, B, C])
    for target, moment in ((C, 0.0), (A, 0.2), (B, 0.1)):
        failover.failed(target, moment)

    assert failover.order(0.5) == (C, B, A)


def test_an_answer_of_a_server_without_a_failure_changes_nothing() -> None:
    failover = Failover([A, B])
    failover.worked(B)
    failover.failed(A, 0.0)
    failover.worked(B)

    assert failover.order(0.0) == (B, A)


EVENTS = st.lists(st.tuples(st.sampled_from([A, B, C]), st.booleans(), st.floats(0, 100)), max_size=15)


@given(EVENTS, st.floats(0, 200))
def test_no_server_is_ever_forgotten(events: list[tuple[Target, bool, float]], now: float) -> None:
    failover = Failover([A, B, C])
    for target, good, moment in events:
        if good:
            failover.worked(target)
        else:
            failover.failed(target, moment)

    assert sorted(failover.order(now), key=str) == [A, B, C]
    assert failover.targets == (A, B, C)
    assert failover.order(1000.0) == (A, B, C)
