"""Blocking queries over simulated time: whatever servers answer, and whenever."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import InvalidInput
from consul_access.rules.blocking import BlockingQuery, silence_allowed

INDEXES = [None, 0, 1, 5, 10, 2**63]


def query(seed=0, now=0.0, wait=55.0):
    return BlockingQuery(spread=random.Random(seed).uniform, now=now, wait=wait)


def busiest(times, window=5.0):
    """The largest number of requests within any such window."""
    return max(sum(1 for time in times if begin <= time <= begin + window) for begin in times)


def run(rule, answers, until=300.0):
    """Has the query asked whenever it is due; yields when, and what was asked. An answer says how it goes."""
    now = 0.0
    for answer in answers:
        now = max(now, rule.due)
        if now > until:
            return
        ask = rule.ask(now)
        yield now, ask
        now = answer(rule, ask, now)


def at_once(index, changed=False):
    def answer(rule, ask, now):
        rule.answered(index, changed=changed, now=now + 0.001)
        return now + 0.001

    return answer


def blocks(index):
    """As a good server does when nothing happens."""

    def answer(rule, ask, now):
        now += 0.001 if ask.index is None else ask.wait
        rule.answered(index, changed=False, now=now)
        return now

    return answer


def fails(how="failed", took=0.001):
    def answer(rule, ask, now):
        getattr(rule, how)(now + took)
        return now + took

    return answer


def test_the_first_request_asks_for_an_answer_at_once_and_the_next_waits_beyond_its_index():
    rule = query()
    (_, first), (_, second), (when, third) = run(rule, [at_once(7, changed=True), blocks(7), blocks(7)])
    assert first.index is None
    assert second.index == third.index == 7
    assert 49.5 <= second.wait <= 55
    assert when >= 49.5


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("first", INDEXES)
def test_f13_a_server_that_never_waits_is_asked_four_times_in_five_seconds_at_most(first, index):
    rule = query()
    answers = itertools.chain([at_once(first, changed=True)], itertools.repeat(at_once(index), 500))
    times = [when for when, _ in run(rule, answers, until=60)]
    assert busiest(times) <= 3  # one is left for asking who leads
    assert len(times) <= 8


@given(st.lists(st.sampled_from(INDEXES), min_size=1, max_size=40), st.integers(0, 99))
def test_f13_whatever_the_index_says_the_pace_is_kept_and_an_index_is_always_usable(indexes, seed):
    rule = query(seed)
    answers = itertools.chain([at_once(3, changed=True)], (at_once(index) for index in indexes))
    times = []
    for when, ask in run(rule, answers, until=1e9):
        times.append(when)
        assert ask.index is None or ask.index >= 1
    assert busiest(times) <= 4


def test_an_index_that_grows_without_news_slows_the_pace_less_than_one_that_stands_still():
    growing = [when for when, _ in run(query(), (at_once(index) for index in range(1, 99)), until=100)]
    standing = [when for when, _ in run(query(), itertools.repeat(at_once(5), 99), until=100)]
    assert 12 <= len(growing) <= 26
    assert 6 <= len(standing) <= 12


def test_two_changes_are_followed_at_once_and_further_ones_ten_times_a_second():
    rule = query()
    times = [when for when, _ in run(rule, (at_once(index, changed=True) for index in range(1, 999)), until=10)]
    assert times[2] - times[0] < 0.01
    assert 65 <= len(times) <= 102


@given(st.integers(2, 2**63), st.data())
def test_f14_an_index_that_goes_back_begins_anew_at_once(index, data):
    lower = data.draw(st.integers(1, index - 1))
    rule = query()
    asked = list(run(rule, [at_once(index, changed=True), at_once(lower, changed=True), blocks(lower)]))
    assert [ask.index for _, ask in asked] == [None, index, None]
    assert asked[-1][0] < 0.2
    assert rule.index == lower


@pytest.mark.parametrize("index", [None, 0])
def test_an_index_that_is_none_counts_as_one(index):
    rule = query()
    rule.answered(index, changed=True, now=0.0)
    assert rule.ask(0.0).index == 1
    assert rule.odd_indexes == 1


def test_an_index_is_never_taken_from_an_error():
    rule = query()
    for _ in run(rule, [at_once(9, changed=True), fails()]):
        pass
    assert rule.index == 0  # and what happened meanwhile is seen at once
    assert rule.is_failing


@given(st.integers(0, 999))
def test_f29_through_an_outage_it_is_tried_every_second_and_later_every_fifteen_and_for_ever(seed):
    rule = query(seed)
    times = [when for when, _ in run(rule, itertools.repeat(fails()), until=3600)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    early = [gap for when, gap in zip(times, gaps, strict=False) if when < 29]
    assert max(early) <= 1.01
    assert min(gaps) >= 0.05
    assert max(gaps) <= 15.01
    assert 200 < len(times) < 700


@given(st.integers(0, 999), st.integers(1, 20))
def test_a_good_answer_ends_the_back_off(seed, failures):
    rule = query(seed)
    asked = list(run(rule, [*[fails()] * failures, at_once(4, changed=True), fails(), fails()]))
    assert asked[-1][0] - asked[-2][0] <= 0.21
    assert asked[failures][1].index is None


def test_refusals_are_not_hammered_and_repeated_every_minute():
    rule = query()
    times = [when for when, _ in run(rule, itertools.repeat(fails("refused")), until=3600)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert min(gaps) >= 2.5
    assert max(gaps) <= 60.01
    assert max(gaps[6:]) >= 40
    assert busiest(times) <= 2


def test_a_new_token_is_tried_at_once():
    rule = query()
    rule.ask(0.0)
    rule.refused(0.0)
    assert rule.due > 2
    rule.hasten(1.0)
    assert rule.due == 1.0


def test_what_is_not_believed_is_looked_at_again_in_seconds():
    rule = query()
    rule.answered(9, changed=True, now=0.0)
    rule.suspect(0.0)
    assert 2 <= rule.due <= 4
    assert rule.ask(rule.due).index is None


@given(st.integers(0, 99), st.sampled_from(["failed", "anew", "index"]))
def test_after_what_may_have_shaken_the_servers_one_answer_has_to_be_proven(seed, how):
    rule = query(seed)
    assert not rule.ask(0.0).proven
    rule.answered(9, changed=True, now=0.0)
    assert not rule.ask(0.0).proven
    if how == "index":
        rule.answered(8, changed=False, now=0.0)
    else:
        getattr(rule, how)(0.0)
    ask = rule.ask(rule.due)
    assert (ask.index, ask.proven) == (None, True)
    assert rule.ask(rule.due).proven, "until there is an answer"
    rule.answered(9, changed=False, now=rule.due)
    assert not rule.ask(rule.due).proven


@pytest.mark.parametrize("how", ["refused", "suspect"])
def test_a_refusal_and_what_is_confirmed_anyway_shake_nothing(how):
    rule = query()
    getattr(rule, how)(0.0)
    assert not rule.ask(rule.due).proven


@given(st.integers(0, 99))
def test_what_begins_anew_reads_within_a_second_and_then_waits_at_once(seed):
    rule = query(seed)
    for _ in run(rule, [at_once(9, changed=True), at_once(9), at_once(9)]):
        pass
    rule.anew(100.0)
    assert 100 <= rule.due <= 101
    asked = list(run(rule, [at_once(9), at_once(9)]))
    assert [ask.index for _, ask in asked] == [None, 9]
    assert asked[1][0] - asked[0][0] < 0.01


def test_queries_that_take_turns_wait_no_longer_than_they_are_told():
    rule = query()
    assert rule.ask(0.0, longest=3.0).wait == 3.0
    assert rule.ask(0.0, longest=0.01).wait == 1.0


def test_clients_that_start_together_do_not_stay_together():
    asks = [list(run(query(seed), [at_once(5, changed=True), blocks(5), blocks(5)])) for seed in range(200)]
    times = [when for *_, (when, _) in asks]
    assert max(times) - min(times) > 4
    assert len({round(when, 1) for when in times}) > 30


@pytest.mark.parametrize("wait", [0, 0.5, 601, float("nan")])
def test_an_impossible_wait_is_refused(wait):
    with pytest.raises(InvalidInput, match="1 to 600"):
        query(wait=wait)


def test_f31_silence_is_borne_a_little_longer_than_the_server_may_take():
    assert 10 * 17 / 16 < silence_allowed(10) <= 16
    assert silence_allowed(1) >= 7.4
    assert silence_allowed(55) <= 62
