"""When a shared connection is doubted: whatever the moments."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.liveness import is_answer_due, is_doubtful

MOMENTS = st.floats(0, 1e6)


@given(sent_at=MOMENTS, waited=st.floats(0.001, 1e4), share=st.floats(0, 1))
def test_it_is_doubted_when_it_was_silent_for_more_than_half_of_the_time(sent_at, waited, share):
    now = sent_at + waited
    silent = waited * share
    if abs(share - 0.5) > 1e-3:
        assert is_doubtful(now, now - silent, sent_at) == (share > 0.5)


@given(sent_at=MOMENTS, waited=st.floats(0.001, 1e4), before=st.floats(0, 1e4))
def test_it_is_doubted_when_nothing_came_since_the_question(sent_at, waited, before):
    assert is_doubtful(sent_at + waited, sent_at - before, sent_at)


@pytest.mark.parametrize(("heard_at", "expected"), [(0.0, True), (4.0, True), (6.0, False), (10.0, False)])
def test_ten_seconds(heard_at, expected):
    assert is_doubtful(10.0, heard_at, 0.0) is expected


@given(gaps=st.lists(st.integers(1, 3000), min_size=1, max_size=60))
def test_pings_are_answered_once_a_second_at_most_and_by_the_first_call_after_that(gaps):
    now, answers = 0, [0]
    for gap in gaps:  # in milliseconds, each with a call at its end
        now += gap
        if is_answer_due(now / 1000, answers[-1] / 1000):
            answers.append(now)
    assert all(later - earlier > 1000 for earlier, later in pairwise(answers))
    assert now - answers[-1] <= 1000
    assert all(later - earlier <= 1001 + max(gaps) for earlier, later in pairwise(answers))
