"""Who leaves what several processes keep: any course of the others, over simulated time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.handing_over import HandingOver, Rest

DRAIN, STOP = st.floats(0, 60), st.floats(0.1, 30)
COURSES = st.lists(st.tuples(st.sampled_from(Rest), st.floats(0, 5)), max_size=40)


def told(course, drain, stop_timeout):
    """The first answer, when it came, and what the others had done until then."""
    now = begun = 100.0
    rule = HandingOver(begun, drain, stop_timeout)
    seen = []
    for rest, passes in course:
        seen.append(rest)
        answer = rule.is_theirs(rest, now)
        if answer is not None:
            return answer, now - begun, seen
        assert now < rule.limit(rest)
        now += passes
    return None, now - begun, seen


@given(course=COURSES, drain=DRAIN, stop_timeout=STOP)
def test_it_is_ours_to_end_only_when_all_have_gone_and_none_was_seen_ending_it(course, drain, stop_timeout):
    answer, _, seen = told(course, drain, stop_timeout)
    assert (answer is False) == (bool(seen) and seen[-1] is Rest.GONE and Rest.ENDING not in seen)


@given(course=COURSES, drain=DRAIN, stop_timeout=STOP)
def test_it_goes_on_answering_for_its_drain_unless_the_others_are_gone(course, drain, stop_timeout):
    answer, after, seen = told(course, drain, stop_timeout)
    if answer is not None and seen[-1] is Rest.KEEPING:
        assert after >= drain - 1e-6
    if answer is not None and seen[-1] is Rest.ENDING:
        assert after >= 2 * drain + stop_timeout - 1e-6


@given(drain=DRAIN, stop_timeout=STOP, rest=st.sampled_from([Rest.KEEPING, Rest.ENDING]))
def test_it_waits_for_ever_for_nobody(drain, stop_timeout, rest):
    rule = HandingOver(100.0, drain, stop_timeout)
    assert rule.limit(rest) - 100.0 <= 2 * drain + stop_timeout + 1e-6
    assert rule.is_theirs(rest, rule.limit(rest)) is True
