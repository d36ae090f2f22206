"""Empty lists, over simulated time: when they are believed, and when not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.guarding import GRACE, Guard, Verdict, may_be_another, went_back

lengths = st.integers(0, 10_000)


@given(lengths, lengths, st.booleans(), st.booleans())
def test_an_empty_list_after_a_longer_one_is_never_believed_at_first_sight(before, after, restarted, confirmed):
    verdict = Guard().judge(before, after, restarted=restarted, confirmed=False, now=0.0)
    if before and not after:
        assert verdict is Verdict.CONFIRM
    elif not restarted or after * 100 >= before * 15:
        assert verdict is Verdict.BELIEVE


@given(st.integers(1, 10_000))
def test_a_confirmed_deregistration_with_a_growing_index_passes_at_once(before):
    guard = Guard()
    assert guard.judge(before, 0, restarted=False, confirmed=False, now=0.0) is Verdict.CONFIRM
    assert guard.judge(before, 0, restarted=False, confirmed=True, now=0.0) is Verdict.BELIEVE
    assert not guard.is_holding


@given(st.integers(1, 10_000), st.lists(st.floats(0.1, 20.0), min_size=1, max_size=80))
def test_f30_a_list_that_vanished_with_its_index_is_kept_for_the_grace_and_no_longer(before, gaps):
    guard, now = Guard(), 0.0
    for gap in (0.0, *gaps):
        now += gap
        verdict = guard.judge(before, 0, restarted=True, confirmed=True, now=now)
        assert (verdict is Verdict.HOLD) == (now < GRACE)
        if verdict is Verdict.BELIEVE:
            return
        assert guard.is_holding


@given(st.integers(20, 10_000))
def test_f30_a_remainder_counts_as_lost_only_when_the_index_went_back(before):
    remainder = before * 14 // 100
    assert Guard().judge(before, remainder, restarted=True, confirmed=True, now=0.0) is Verdict.HOLD
    if remainder:
        assert Guard().judge(before, remainder, restarted=False, confirmed=False, now=0.0) is Verdict.BELIEVE
    assert Guard().judge(before, before // 2, restarted=True, confirmed=False, now=0.0) is Verdict.BELIEVE


def test_a_list_that_comes_back_ends_the_doubt_and_the_next_loss_has_its_own_grace():
    guard = Guard()
    assert guard.judge(10, 0, restarted=True, confirmed=True, now=0.0) is Verdict.HOLD
    assert guard.judge(10, 8, restarted=True, confirmed=True, now=100.0) is Verdict.BELIEVE
    assert not guard.is_holding
    assert guard.judge(8, 0, restarted=True, confirmed=True, now=130.0) is Verdict.HOLD


@given(lengths)
def test_nothing_was_known_so_nothing_is_doubted(after):
    assert Guard().judge(0, after, restarted=True, confirmed=False, now=0.0) is Verdict.BELIEVE


@given(lengths, st.integers(1, 10_000), st.booleans())
def test_another_list_of_an_earlier_time_is_confirmed_and_then_believed(before, after, restarted):
    guard = Guard()
    verdict = guard.judge(before, after, restarted=restarted, confirmed=False, now=0.0, older=True)
    assert verdict is Verdict.CONFIRM
    assert not guard.is_holding
    if after >= before:
        assert guard.judge(before, after, restarted=True, confirmed=True, now=0.0, older=True) is Verdict.BELIEVE


@given(lengths, st.integers(1, 10_000), st.integers(0, 2**40), st.one_of(st.none(), st.integers(0, 2**40)))
def test_news_after_which_nobody_is_asked_is_news_that_the_guard_would_have_believed(before, after, believed, index):
    """What is taken over on arrival is never what would have been confirmed or held back."""
    restarted = may_be_another(index, believed)
    guard = Guard()
    verdict = guard.judge(before, after, restarted=restarted, confirmed=False, now=0.0)
    assert restarted or verdict is Verdict.BELIEVE
    assert not guard.is_holding


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_only_an_index_that_does_not_go_back_speaks_for_the_same_registry(believed, index):
    assert may_be_another(index, believed) is (index == 0 or index < believed)
    assert went_back(index, believed) is (index != 0 and index < believed)
    assert not went_back(None, believed)
    assert may_be_another(None, believed)
