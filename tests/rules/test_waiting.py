"""Waiting for services: what is asked when, and what is told, over simulated time."""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from consul_access import NotReady, Progress, ProgressKind, errors
from consul_access.rules.seeing import Surroundings, Wanted
from consul_access.rules.waiting import LONGEST_PAUSE, TURN, WAIT, Waiting, is_hopeless
from tests.support.entries import entry
from tests.test_errors import FAMILY


@pytest.mark.parametrize("kind", FAMILY)
def test_everything_that_may_pass_by_itself_is_waited_for(kind):
    error = kind("it broke")
    if error.retryable:
        assert not is_hopeless(error)
    if isinstance(error, (errors.PermissionDenied, errors.UnknownDatacenter, errors.BadAnswer)):
        assert is_hopeless(error) == isinstance(error, errors.AnswerTooLarge)
    if isinstance(error, (errors.InvalidInput, errors.FilterError, errors.InvalidRequest, errors.ClientClosed)):
        assert is_hopeless(error)


# --- what is asked when -----------------------------------------------------------------------------------


def wait_for(wanted, seed=0, timeout=30.0):
    return Waiting(wanted, spread=random.Random(seed).uniform, now=0.0, deadline=timeout)


def live(rule, server):
    """Asks whenever it is time. The server answers with what it did, how long it took and what came.

    Yields (when, service, ask); ends when all are ready or the time is up.
    """
    now = 0.0
    while (turn := rule.next(now)) is not None:
        now = max(now, turn.due)
        if now >= rule.deadline:
            return
        ask, within = rule.ask(turn.wanted, now)
        assert 0 < within <= rule.deadline - now
        yield now, turn.wanted.service, ask
        took, answer = server(turn.wanted.service, ask, now)
        cut = took >= within
        now += min(took, within)
        if cut:
            answer = errors.DeadlineExceeded("silence")
        if isinstance(answer, errors.ConsulAccessError):
            rule.failed(turn.wanted, answer, now)
        else:
            rule.answered(turn.wanted, answer, None, 7, now)


FAILURES = [
    errors.ConnectFailed("refused"),
    errors.NoLeader("none"),
    errors.TokenUnknown("who?"),
    errors.BadAnswer("?"),
]
OUTCOMES = st.lists(
    st.tuples(st.sampled_from([0.001, 0.5, 7.0, 60.0]), st.sampled_from([[], [entry()], *FAILURES])), max_size=60
)


@given(OUTCOMES, st.integers(0, 9), st.integers(1, 3))
def test_it_ends_in_time_with_the_truth_whatever_happens(outcomes, seed, services):
    names = [f"s{number}" for number in range(services)]
    rule = wait_for([Wanted(name) for name in names], seed)
    script = iter(outcomes)
    asked = list(live(rule, lambda service, ask, now: next(script, (0.001, []))))
    assert all(when < rule.deadline for when, _, _ in asked)
    ready = all(progress.is_ready for progress in rule.progress)
    assert (rule.next(rule.deadline) is None) == ready or ready
    if not ready:
        error = rule.over(rule.deadline)
        assert error.progress == rule.progress
        assert error.elapsed == 30.0
        for progress in rule.progress:
            assert progress.is_ready or progress.text in str(error)


@given(st.sampled_from([[], [entry(serf="critical")], *FAILURES]), st.integers(0, 99), st.integers(1, 3))
def test_f13_a_server_that_answers_at_once_is_never_asked_in_a_busy_loop(answer, seed, services):
    rule = wait_for([Wanted(f"s{number}") for number in range(services)], seed, timeout=60.0)
    asked = Counter(
        (service, int(when / 5)) for when, service, _ in live(rule, lambda service, ask, now: (0.001, answer))
    )
    most = max(asked.values())
    assert most <= (25 if isinstance(answer, errors.ConsulAccessError) else 4)


def test_a_failing_agent_is_asked_again_soon():
    rule = wait_for([Wanted("web")], timeout=600.0)
    times = [when for when, _, _ in live(rule, lambda service, ask, now: (0.001, errors.TokenUnknown("who?")))]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= LONGEST_PAUSE + 0.01


def test_one_service_is_waited_for_in_long_blocking_queries():
    rule = wait_for([Wanted("web")], timeout=60.0)
    asks = [ask for _, _, ask in live(rule, lambda service, ask, now: (0.001 if ask.index is None else ask.wait, []))]
    assert asks[0].index is None
    assert {ask.index for ask in asks[1:]} == {7}
    assert len(asks) <= 9
    assert all(0.9 * WAIT <= ask.wait <= WAIT for ask in asks)


def test_what_may_be_hidden_is_asked_for_again_soon_since_new_rights_wake_nobody():
    rule = wait_for([wanted := Wanted("web")])
    rule.ask(wanted, 0.0)
    rule.answered(wanted, [], Surroundings(acls=True), 7, 0.1)
    ask, _ = rule.ask(wanted, 0.1)
    assert ask.index == 7
    assert ask.wait <= TURN


def test_several_are_all_asked_about_at_first_and_then_in_turn():
    rule = wait_for([Wanted("a"), Wanted("b"), Wanted("c")])
    asked = list(live(rule, lambda service, ask, now: (0.001 if ask.index is None else ask.wait, [])))
    assert [(service, ask.index) for _, service, ask in asked[:3]] == [("a", None), ("b", None), ("c", None)]
    assert [service for _, service, _ in asked[3:9]] == ["a", "b", "c"] * 2
    assert all(ask.wait <= TURN for _, _, ask in asked[3:])


def test_the_last_one_missing_is_waited_for_without_loss_of_time_and_the_others_are_confirmed():
    there = {"a": 0.0, "b": 5.0}
    gone = {"a": float("inf")}

    def server(service, ask, now):
        begins = there[service]
        took = 0.001
        if ask.index is not None and begins > now:
            took = min(ask.wait, begins - now)
        up = begins <= now + took < gone.get(service, float("inf"))
        return took, [entry(service=service)] if up else []

    rule = wait_for([Wanted("a"), Wanted("b")])
    asked = list(live(rule, server))
    assert rule.next(6.0) is None
    assert [service for _, service, _ in asked] == ["a", "b", "b", "a"]
    assert asked[-1][0] == pytest.approx(5.0, abs=0.01)

    gone["a"] = 3.0
    rule = wait_for([Wanted("a"), Wanted("b")])
    list(live(rule, server))
    assert [progress.kind for progress in rule.progress] == [ProgressKind.UNKNOWN_SERVICE, ProgressKind.READY]


def test_progress_is_told_once_and_again_when_it_changes():
    rule = wait_for([wanted := Wanted("web")])
    told = []
    for answer in ([], [], [entry(serf="critical")], [entry(serf="critical")], [entry()]):
        rule.ask(wanted, 1.0)
        told.append(rule.answered(wanted, answer, None, 7, 1.0))
    assert [progress and progress.kind for progress in told] == [
        ProgressKind.UNKNOWN_SERVICE,
        None,
        ProgressKind.TOO_FEW,
        None,
        ProgressKind.READY,
    ]


def test_an_answer_cut_short_by_the_end_of_the_wait_changes_nothing_unless_there_never_was_one():
    silence = errors.DeadlineExceeded("the time for the whole call ran out without an answer")
    rule = wait_for([wanted := Wanted("web")])
    rule.ask(wanted, 1.0)
    rule.answered(wanted, [], None, 7, 1.0)
    rule.ask(wanted, 25.0)
    assert rule.failed(wanted, silence, 30.0) is None
    assert "unknown service" in str(rule.over(30.0))
    assert rule.over(30.0).__cause__ is None

    rule = wait_for([wanted])
    rule.ask(wanted, 0.0)
    assert rule.failed(wanted, silence, 30.0).kind is ProgressKind.AGENT_UNREACHABLE
    assert rule.over(30.0).__cause__ is silence


def test_the_error_names_only_those_that_are_missing():
    rule = wait_for([first := Wanted("a"), Wanted("b"), Wanted("c")])
    rule.ask(first, 0.0)
    rule.answered(first, [entry()], None, 7, 0.1)
    error = rule.over(30.0)
    assert isinstance(error, NotReady)
    assert isinstance(error, TimeoutError)
    assert error.message == "'b', 'c' not ready after 30.0 s: b: no answer yet | c: no answer yet"
    assert error.progress[0] == Progress("a", ProgressKind.READY, 1, 1, 1)
    assert pickle.loads(pickle.dumps(error)).progress == error.progress


@given(st.integers(1, 3))
def test_whatever_is_asked_for_first_is_asked_at_once(services):
    rule = wait_for([Wanted(f"s{number}") for number in range(services)])
    turn = rule.next(0.0)
    assume(turn is not None)
    assert turn.due == 0.0
