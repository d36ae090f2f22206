"""Running a program as a service, over simulated time: any order of ports, signals, ends, refusals and delays."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consul_access.rules.running import (
    ENDS,
    FAILED,
    FAREWELL,
    KILL,
    PATIENCE,
    UNDER_WAY,
    Announce,
    Finish,
    Forward,
    Leave,
    Running,
    RunState,
    Say,
)

TERM, INT, HUP, USR1 = (int(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1))

signals = st.tuples(st.just("signal"), st.sampled_from([TERM, TERM, INT, HUP, USR1]), st.booleans())
events = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["port", "announced", "refused", "left"])),
        signals,
        st.tuples(st.just("ended"), st.sampled_from([0, 3, -TERM, -KILL])),
        st.tuples(st.just("later"), st.floats(0, 100)),
    ),
    max_size=30,
)
limits = st.tuples(st.sampled_from([None, 60.0]), st.sampled_from([None, 5.0]))


def running(ready_within=60.0, kill_after=None):
    return Running(8080, ready_within=ready_within, kill_after=kill_after, now=0.0)


class Life:
    """A program and a registry that do what they are told, and keep count."""

    def __init__(self, ready_within=60.0, kill_after=None):
        self.rule = running(ready_within, kill_after)
        self.now = 0.0
        self.port_open = self.announcing = self.announced = self.leaving = self.gone = False
        self.childs_end = None
        self.done = []
        self.log = []

    def happens(self, event):
        """Whatever is possible at this moment; returns what was done then."""
        kind, *rest = event
        actions = getattr(self, f"_{kind}")(*rest)
        for action in actions:
            assert not any(isinstance(before, Finish) for before in self.done), "nothing follows the end"
            self.done.append(action)
            self._does(action)
        self.log.append((event, actions))
        return actions

    def _does(self, action):
        if isinstance(action, Forward):
            assert self.childs_end is None, "the number of a program that has ended may be somebody else's"
        if isinstance(action, Announce):
            assert not self.announcing
            self.announcing = True
        if isinstance(action, Leave):
            assert self.announcing
            assert not self.gone
            self.leaving = True

    def _port(self):
        if self.port_open or self.childs_end is not None:
            return []
        self.port_open = True
        return self.rule.port_opened(self.now)

    def _announced(self):
        if not self.announcing or self.announced or self.gone:
            return []
        self.announced = True
        return self.rule.announced(self.now)

    def _refused(self):
        if not self.announcing or self.announced or self.gone:
            return []
        self.gone = True
        return self.rule.refused("no permission", self.now)

    def _left(self):
        if not self.leaving or self.gone:
            return []
        self.gone = True
        return self.rule.left(self.now)

    def _signal(self, number, from_terminal):
        return self.rule.signalled(number, from_terminal, self.now)

    def _ended(self, code):
        if self.childs_end is not None:
            return []
        self.childs_end = code
        return self.rule.child_ended(code, self.now)

    def _later(self, seconds):
        self.now += seconds
        return self.rule.time_passed(self.now)

    def to_the_end(self):
        """From here on everybody does their part, and nobody sends anything."""
        if self.childs_end is None:
            self.happens(("ended", 0))
        if self.announcing:
            self.happens(("left",))
        return self


def lived(script, limit):
    life = Life(*limit)
    for event in script:
        life.happens(event)
    return life


@settings(max_examples=500)
@given(events, limits)
def test_it_ends_once_after_the_program_and_with_its_code_unless_we_ended_it(script, limit):
    life = lived(script, limit).to_the_end()
    finishes = [action for action in life.done if isinstance(action, Finish)]
    assert len(finishes) == 1
    assert life.rule.state is RunState.ENDED
    assert finishes[0].code in (life.childs_end, FAILED)
    if finishes[0].code == FAILED != life.childs_end:
        assert any(isinstance(action, Say) for action in life.done)


@settings(max_examples=500)
@given(events, limits)
def test_what_was_announced_leaves_before_the_end_or_time_has_run_out(script, limit):
    life = lived(script, limit).to_the_end()
    if life.announcing and not life.gone:
        assert any("left behind" in action.text for action in life.done if isinstance(action, Say))


@settings(max_examples=500)
@given(events, limits)
def test_the_terminals_own_signals_are_never_sent_twice(script, limit):
    life = Life(*limit)
    for event in script:
        actions = life.happens(event)
        if event[0] == "signal" and event[2]:
            assert not any(isinstance(action, Forward) for action in actions)


@settings(max_examples=500)
@given(events, limits)
def test_signals_that_do_not_end_a_program_reach_it_at_once_and_change_nothing(script, limit):
    life = Life(*limit)
    for event in script:
        before = life.rule.state, life.rule.due
        actions = life.happens(event)
        if event[0] == "signal" and event[1] not in ENDS:
            assert actions == ([Forward(event[1])] if not event[2] and life.childs_end is None else [])
            assert (life.rule.state, life.rule.due) == before


@settings(max_examples=500)
@given(events, limits)
def test_every_signal_to_end_is_sent_on_held_for_the_drain_or_overtaken_by_a_second_one(script, limit):
    life = Life(*limit)
    held = None
    for event in script:
        alive, state = life.childs_end is None, life.rule.state
        actions = life.happens(event)
        forwarded = [action.number for action in actions if isinstance(action, Forward)]
        if event[0] == "signal" and event[1] in ENDS and alive and state is not RunState.ENDED:
            if life.rule.state is RunState.DRAINING:
                assert (forwarded, held) == ([], None)
                assert Leave(at_once=False) in actions
                held = event[1]
            else:
                assert forwarded == ([] if event[2] else [event[1]])
                held = None
        elif held is not None and not alive:
            held = None
        elif held is not None and forwarded and event[0] != "signal":
            assert forwarded == [held]
            assert life.gone or event[0] == "later"
            held = None
    assert held is None or life.rule.state is RunState.DRAINING or life.childs_end is not None


@settings(max_examples=500)
@given(events, limits)
def test_nothing_is_announced_once_the_end_has_begun(script, limit):
    life = Life(*limit)
    ending = False
    for event in script:
        actions = life.happens(event)
        assert not (ending and Announce() in actions)
        ending = ending or life.rule.state in (RunState.DRAINING, RunState.ENDING, RunState.ENDED)
        assert not ending or life.rule.state in (RunState.DRAINING, RunState.ENDING, RunState.ENDED)


@settings(max_examples=500)
@given(events, limits)
def test_when_time_is_up_something_is_done_and_said(script, limit):
    life = lived(script, limit)
    if life.rule.due is None:
        assert life.rule.time_passed(1e9) == []
        return
    assert life.rule.time_passed(life.rule.due - 0.01) == []
    state = life.rule.state
    *said, last = life.rule.time_passed(life.rule.due)
    assert isinstance(last, Forward | Finish)
    assert any(isinstance(action, Say) for action in said) or state is RunState.DRAINING


def test_sigterm_while_serving_first_leaves_the_registry_and_then_reaches_the_program():
    life = Life()
    assert life.happens(("port",)) == [Announce()]
    assert life.happens(("announced",)) == []
    assert life.happens(("signal", TERM, False)) == [Leave(at_once=False)]
    assert life.rule.state is RunState.DRAINING
    assert life.happens(("left",)) == [Forward(TERM)]
    assert life.happens(("ended", -TERM)) == [Finish(-TERM)]


def test_a_second_signal_goes_straight_through_and_the_first_is_not_sent_any_more():
    life = lived([("port",), ("announced",), ("signal", TERM, False)], (60.0, None))
    assert life.happens(("signal", INT, False)) == [Leave(at_once=True), Forward(INT)]
    assert life.happens(("left",)) == []
    assert life.happens(("signal", INT, False)) == [Forward(INT)]
    assert life.happens(("ended", 0)) == [Finish(0)]


def test_ctrl_c_at_a_terminal_only_leaves_the_registry_since_the_program_has_got_it_too():
    life = lived([("port",), ("announced",)], (60.0, None))
    assert life.happens(("signal", INT, True)) == [Leave(at_once=True)]
    assert life.rule.state is RunState.ENDING


@pytest.mark.parametrize("code", [0, 3, -KILL])
def test_a_program_that_ends_by_itself_is_deregistered_at_once(code):
    life = lived([("port",), ("announced",)], (60.0, None))
    assert life.happens(("ended", code)) == [Leave(at_once=True)]
    assert life.happens(("left",)) == [Finish(code)]


def test_a_program_that_ends_during_the_drain_is_not_sent_the_signal():
    life = lived([("port",), ("announced",), ("signal", TERM, False)], (60.0, None))
    assert life.happens(("ended", 0)) == [Leave(at_once=True)]
    assert life.happens(("left",)) == [Finish(0)]


def test_a_program_that_ends_while_a_signal_is_held_is_not_sent_it_later():
    life = lived([("port",), ("signal", TERM, False)], (60.0, None))
    assert life.happens(("ended", 0)) == [Leave(at_once=True)]
    said, finish = life.happens(("later", FAREWELL))
    assert "left behind" in said.text
    assert finish == Finish(0)


def test_a_program_that_ends_before_its_port_opens_gives_its_code():
    assert running().child_ended(3, 1.0) == [Say("it ended before port 8080 took connections"), Finish(3)]


def test_a_signal_before_the_port_opens_reaches_the_program_and_nothing_is_registered():
    life = Life()
    assert life.happens(("signal", TERM, False)) == [Forward(TERM)]
    assert life.happens(("port",)) == []
    assert life.happens(("ended", -TERM)) == [Finish(-TERM)]


def test_a_signal_while_it_is_being_registered_waits_for_the_agent_for_two_seconds_only():
    life = lived([("port",)], (60.0, None))
    assert life.happens(("signal", TERM, False)) == [Leave(at_once=False)]
    assert life.happens(("later", UNDER_WAY)) == [Leave(at_once=True), Forward(TERM)]
    assert life.rule.state is RunState.ENDING


def test_a_signal_while_it_is_being_registered_is_followed_by_the_whole_drain():
    life = lived([("port",), ("signal", TERM, False), ("announced",)], (60.0, None))
    assert life.happens(("later", 3600.0)) == []
    assert life.happens(("left",)) == [Forward(TERM)]


def test_a_signal_while_a_registration_is_refused_reaches_the_program():
    life = lived([("port",), ("signal", TERM, False)], (60.0, None))
    assert life.happens(("refused",)) == [Say("no permission"), Forward(TERM)]
    assert life.happens(("ended", 7)) == [Finish(7)]


def test_a_port_that_never_opens_ends_the_program_and_if_it_must_be_by_force():
    rule = running()
    said, forwarded = rule.time_passed(60.0)
    assert "within 60 s" in said.text
    assert forwarded == Forward(TERM)
    assert rule.due == 60.0 + PATIENCE
    assert rule.time_passed(rule.due)[1] == Forward(KILL)
    assert rule.child_ended(-KILL, 71.0) == [Finish(FAILED)]


def test_without_a_limit_a_port_may_take_for_ever():
    assert running(ready_within=None).time_passed(1e9) == []


def test_a_refused_registration_ends_the_program():
    life = lived([("port",)], (60.0, None))
    assert life.happens(("refused",)) == [Say("no permission"), Forward(TERM)]
    assert life.happens(("ended", 0)) == [Finish(FAILED)]


def test_a_program_that_ignores_the_signal_is_killed_only_when_that_was_asked_for():
    patient = lived([("port",), ("announced",), ("signal", TERM, False), ("left",)], (60.0, None))
    assert patient.rule.due is None
    strict = lived([("port",), ("announced",), ("signal", TERM, False), ("left",)], (60.0, 5.0))
    assert strict.happens(("later", 5.0))[1] == Forward(KILL)


def test_an_agent_that_never_confirms_delays_the_end_by_a_few_seconds():
    life = lived([("port",), ("announced",), ("ended", 3)], (60.0, None))
    said, finish = life.happens(("later", FAREWELL))
    assert "left behind" in said.text
    assert finish == Finish(3)
