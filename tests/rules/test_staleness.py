"""How long a list that cannot be confirmed is used."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import InvalidInput, StalePolicy

times = st.floats(0, 1e9)


@given(times, times)
def test_both_ways_to_ask_agree(stale_at, limit):
    policy = StalePolicy.keep_for(limit)
    for stale_for in (0.0, limit / 2, limit * 2):
        assert policy.allows(stale_for) == (stale_for < limit)
    assert policy.until(stale_at) == stale_at + limit
    assert policy.allows(None)
    assert policy.until(None) == math.inf


@given(times)
def test_the_default_keeps_for_ever(stale_for):
    assert StalePolicy() == StalePolicy.keep_forever()
    assert StalePolicy().allows(stale_for)


@given(times)
def test_failing_now_allows_nothing_stale(stale_for):
    assert not StalePolicy.fail_now().allows(stale_for)
    assert StalePolicy.fail_now().allows(None)


def test_they_print_as_what_they_do():
    policies = (StalePolicy.keep_forever(), StalePolicy.keep_for(90), StalePolicy.fail_now())
    assert [str(policy) for policy in policies] == ["keep for ever", "keep for 90 s", "fail now"]


@pytest.mark.parametrize("seconds", [-1, math.nan, True, "90"])
def test_no_time_at_all_is_refused(seconds):
    with pytest.raises(InvalidInput, match="seconds, 0 or more"):
        StalePolicy.keep_for(seconds)
