"""How far ahead heartbeats are made in a row, and who is too late, over simulated time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.pulsing import LEAST_PATIENCE, LINGER, LONGEST_SLACK, is_late, patience, reach

moments = st.floats(0.0, 1e6)
intervals = st.one_of(st.floats(0.01, 3600.0), st.just(math.inf))


@given(moments, intervals)
def test_steps_are_made_ahead_by_a_tenth_of_an_interval_and_half_a_second_at_most(now, interval):
    ahead = reach(now, interval) - now
    assert 0 < ahead <= LONGEST_SLACK + 1e-6
    assert ahead <= interval / 10 + 1e-6


@given(moments, st.floats(0.01, 3600.0))
def test_nobody_who_is_made_ahead_is_late(now, interval):
    assert not is_late(reach(now, interval), interval, now)
    assert not is_late(now, interval, now)
    assert is_late(now, interval, now + interval * 1.001 + 1e-3)


@given(moments, st.one_of(st.none(), moments), intervals)
def test_a_look_comes_when_the_first_may_be_late_and_never_in_a_busy_loop(now, earliest, interval):
    pause = patience(earliest, interval, now)
    assert LEAST_PATIENCE <= pause <= LINGER
    if earliest is not None and LEAST_PATIENCE < pause < LINGER:
        assert is_late(earliest, interval, now + pause + 1e-3)
        assert not is_late(earliest, interval, now + pause - 1e-3)


@pytest.mark.parametrize(("earliest", "pause"), [(None, 1.0), (10.0, 1.0), (10.5, 1.5), (5.0, LEAST_PATIENCE)])
def test_patience(earliest, pause):
    assert patience(earliest, 1.0, 10.0) == pause
