"""One request on its way from instance to instance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.balancing import NearestBalancer, RoundRobinBalancer
from consul_access.rules.calling import IDEMPOTENT, Course, FailedAttempt, How
from tests.support.instances import several

METHODS = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "BREW"]


def failed(instance, how=How.BROKEN):
    return FailedAttempt(instance.address, instance.id, how, "ReadError", 0.25)


def never():
    raise AssertionError("chance was asked")


@pytest.mark.parametrize("how", list(How))
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("replayable", [True, False])
def test_only_what_is_harmless_twice_or_was_never_seen_is_repeated(method, how, replayable):
    (one,) = several(1)
    seen = how not in (How.NOT_SENT, How.BUSY)
    expected = replayable and how is not How.OUR_FAULT and (method in IDEMPOTENT or not seen)

    assert Course(method, 3).goes_on(failed(one, how), replayable=replayable) == expected


def test_post_and_unknown_methods_are_not_harmless_twice():
    assert {"POST", "PATCH", "BREW"}.isdisjoint(IDEMPOTENT)


@given(st.integers(1, 6))
def test_there_are_no_more_attempts_than_allowed(attempts):
    course = Course("GET", attempts)
    (one,) = several(1)
    times = 1
    while course.goes_on(failed(one), replayable=True):
        times += 1

    assert times == attempts == len(course.failures)


def test_the_first_attempt_goes_where_the_balancer_says():
    found = several(3)

    assert Course("GET", 3).next(lambda: found[1], found, [], never) is found[1]


@given(st.integers(2, 6), st.integers(0, 10), st.sampled_from([RoundRobinBalancer, NearestBalancer]), st.data())
def test_nobody_is_asked_twice_while_there_is_somebody_else(number, before, balancer, data):
    found = several(number)
    pick = balancer().prepare(found)
    for _ in range(before):
        pick()
    course = Course("GET", number + 1)
    asked = []
    for _ in range(number):
        chosen = course.next(pick, found, [], lambda: data.draw(st.floats(0, 1, exclude_max=True)))
        asked.append(chosen.id)
        course.goes_on(failed(chosen), replayable=True)

    assert sorted(asked) == sorted(one.id for one in found)


def test_those_that_keep_failing_are_asked_last():
    found = several(4)
    course = Course("GET", 4)
    course.goes_on(failed(found[0]), replayable=True)
    left_out = {found[1].address, found[3].address}

    assert course.next(lambda: found[0], found, left_out, lambda: 0.99) is found[2]
    course.goes_on(failed(found[2]), replayable=True)
    assert course.next(lambda: found[0], found, left_out, lambda: 0.99) is found[3]


def test_an_instance_that_came_meanwhile_is_asked():
    a, b = several(2)
    course = Course("GET", 3)
    course.goes_on(failed(a), replayable=True)

    assert course.next(lambda: a, (a, b), [], lambda: 0.0) is b


def test_the_only_one_is_asked_again_after_a_pause_that_grows():
    (one,) = several(1)
    course = Course("GET", 4)
    assert course.pause(one.address, never) == 0
    pauses = []
    for _ in range(3):
        course.goes_on(failed(one), replayable=True)
        assert course.next(lambda: one, [one], [], never) is one
        pauses.append(course.pause(one.address, lambda: 0.5))

    assert pauses == [0.1, 0.2, 0.4]


def test_whose_fault_it_was():
    assert {how for how in How if not how.blames_the_instance} == {How.BUSY, How.OUR_FAULT}


def test_an_attempt_tells_who_and_what():
    (one,) = several(1)

    assert str(failed(one)) == "i0.test:80 (i0): ReadError after 0.25 s"
