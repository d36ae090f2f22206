"""Keeping a registration true, over simulated time: any sequence of answers, failures and delays."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import Address, AgentService, Check, KeeperState, ServiceDefinition, TcpCheck, TtlCheck, Weights
from consul_access.rules.keeping import (
    CONTEST_WINDOW,
    LONGEST_PAUSE,
    LOOK_EVERY,
    UNSEEN_AFTER,
    Keeping,
    Step,
    beat_interval,
    drift,
    time_to_end,
)

BEAT = 5.0
NEVER = float("inf")


def keeping(beat=BEAT, seed=0, now=0.0):
    return Keeping("orders-1", beat, spread=random.Random(seed).uniform, now=now)


def kinds(events):
    return [event.kind for event in events]


answers = st.lists(
    st.tuples(
        st.sampled_from(["good", "good", "good", "fails", "gone", "unseen"]),
        st.floats(0, 0.5) | st.sampled_from([0.0, 20.0, 3600.0]),  # how long the step took; a frozen process
    ),
    max_size=60,
)


def answered(rule, step, how, now):
    """Does the step, with that outcome."""
    if how == "fails":
        return rule.failed(step, now, "no answer")
    if step is Step.REGISTER:
        return rule.registered(now)
    if step is Step.CONFIRM:
        return rule.unseen(now, "not there") if how == "unseen" else rule.seen()
    return rule.gone(now, "forgotten") if how == "gone" else rule.succeeded(step, now)


def life(rule, script, now=0.0):
    """Lives through a script: yields each step with when it was due, begun and ended, its outcome and its events."""
    for how, took in script:
        step, due = rule.next(now)
        begun = max(now, due)
        now = begun + took
        yield step, due, begun, now, how, answered(rule, step, how, now)


@given(answers, st.integers(0, 9), st.sampled_from([None, 0.4, BEAT]))
def test_it_registers_only_at_first_and_after_a_loss_never_on_a_timer(script, seed, beat):
    rule = keeping(beat, seed)
    may = True
    for step, _, _, _, how, _ in life(rule, script):
        if step is Step.REGISTER:
            assert may
            may = how == "fails"
        elif how == "gone" and step in (Step.BEAT, Step.LOOK):
            may = True


@given(answers, st.integers(0, 9))
def test_it_never_gives_up_and_never_spins(script, seed):
    rule = keeping(seed=seed)
    for step, _, _, ended, how, _ in life(rule, script):
        upcoming = rule.next(ended)
        assert upcoming is not None
        assert upcoming[1] - ended <= 32
        if how == "fails":
            assert 0.05 <= rule._due[step] - ended <= LONGEST_PAUSE


@given(answers, st.integers(0, 9))
def test_it_is_steady_when_nothing_but_heartbeats_and_looks_is_due_and_none_was_missed(script, seed):
    rule = keeping(seed=seed)
    for *_, how, _ in life(rule, script):
        assert not (rule.is_steady and how == "fails")
        if rule.is_steady:
            assert rule.state is KeeperState.REGISTERED
            assert rule._due.keys() == {Step.BEAT, Step.LOOK}
    rule.draining()
    assert not rule.is_steady


def test_its_interval_is_that_of_the_heartbeats_or_else_of_the_looks():
    assert keeping().interval == BEAT
    assert keeping(None).interval == LOOK_EVERY


@given(answers, st.integers(0, 9))
def test_after_registering_the_first_heartbeat_is_due_at_once(script, seed):
    rule = keeping(seed=seed)
    for step, _, _, ended, how, _ in life(rule, script):
        if step is Step.REGISTER and how != "fails":
            assert rule.next(ended) == (Step.BEAT, ended)


@given(st.integers(0, 99), st.floats(0.3, 200))
def test_heartbeats_are_never_further_apart_than_a_third_of_the_ttl(seed, beat):
    rule = keeping(beat, seed)
    last = None
    for step, _, begun, ended, _, _ in life(rule, [("good", 0.001)] * 200):
        if step is Step.BEAT:
            assert last is None or begun - last <= beat + 0.01
            last = ended
    assert last is not None


@given(answers, st.integers(0, 9))
def test_an_outage_is_told_once_and_so_is_its_end(script, seed):
    rule = keeping(seed=seed)
    told = []
    for *_, events in life(rule, script):
        told += [kind for kind in kinds(events) if kind in {"missed", "recovered", "registered", "registered_again"}]
    for first, second in itertools.pairwise(told):
        assert (first, second) != ("missed", "missed")
        assert (first, second) != ("recovered", "recovered")


@given(answers, st.integers(0, 9))
def test_the_state_says_what_the_last_answers_said(script, seed):
    rule = keeping(seed=seed)
    for step, _, _, _, how, _ in life(rule, script):
        if how == "gone" and step in (Step.BEAT, Step.LOOK):
            assert rule.state is KeeperState.LOST
        if step is Step.REGISTER and how != "fails":
            assert rule.state is KeeperState.PENDING
            assert rule.misses == 0
        if step is Step.CONFIRM and how in ("good", "gone"):
            assert rule.state is KeeperState.REGISTERED
        if how == "fails":
            assert rule.misses > 0
            assert rule.state in (KeeperState.PENDING, KeeperState.RENEWING, KeeperState.LOST)


@given(answers, st.integers(0, 9))
def test_what_is_ending_has_nothing_left_to_do(script, seed):
    rule = keeping(seed=seed)
    for _ in life(rule, script):
        pass
    assert kinds(rule.draining()) == ["draining"]
    assert rule.next(0.0) is None
    late = [
        rule.gone(0.0, "an answer that comes late"),
        rule.failed(Step.BEAT, 0.0, "another"),
        rule.succeeded(Step.LOOK, 0.0),
        rule.registered(0.0),
        rule.moved(0.0, "a third"),
    ]
    assert late == [[]] * 5
    assert rule.next(0.0) is None
    assert kinds(rule.stopped()) == ["deregistered"]
    assert rule.next(NEVER) is None
    assert rule.state is KeeperState.STOPPED


def test_after_a_frozen_hour_the_heartbeat_comes_first():
    rule = keeping()
    rule.registered(0.0)
    rule.succeeded(Step.BEAT, 0.0)
    rule.succeeded(Step.LOOK, 0.0)
    rule.seen()
    assert rule.next(3600.0) == (Step.BEAT, 3600.0)


def test_the_first_losses_are_repaired_at_once_and_a_contested_id_ever_more_slowly():
    rule = keeping()
    pauses = []
    for number in range(8):
        rule.registered(float(number))
        rule.gone(float(number), "somebody else's")
        pauses.append(rule.next(float(number))[1] - number)
    assert pauses[:2] == [0, 0]
    assert all(0.5 * 2 ** (n - 1) <= pause <= min(30, 2 ** (n - 1)) for n, pause in enumerate(pauses[2:6], 2))
    assert max(pauses) <= 30
    peace = 7 + CONTEST_WINDOW
    rule.registered(peace)
    rule.gone(peace, "once more")
    assert rule.next(peace) == (Step.REGISTER, peace)
    assert rule.re_registrations == 8


def test_what_the_catalog_does_not_show_is_reported_once_after_10_seconds():
    rule = keeping()
    rule.registered(0.0)
    now, told = 0.0, []
    while now < 300:
        now = max(rule._due[Step.CONFIRM], now + 0.01)
        told += [(now, event) for event in rule.unseen(now, "not there")]
    ((when, event),) = told
    assert UNSEEN_AFTER <= when <= UNSEEN_AFTER + LONGEST_PAUSE
    assert (event.kind, event.state, event.cause) == ("unseen", KeeperState.PENDING, "not there")
    assert kinds(rule.seen()) == ["visible"]
    assert rule.state is KeeperState.REGISTERED


def test_an_unanswered_look_at_the_catalog_is_no_missed_heartbeat():
    rule = keeping()
    rule.registered(0.0)
    rule.unseen(1.0, "the servers are away")
    assert rule.misses == 0
    assert rule.state is KeeperState.PENDING


def test_a_heartbeat_is_due_at_a_third_of_the_shortest_ttl():
    checks = (TtlCheck("30s", id="a"), TcpCheck(), TtlCheck(12, id="b"))
    definition = ServiceDefinition(id="orders-1", name="orders", address="10.0.0.5", port=80, checks=checks)
    assert beat_interval(definition) == 4
    assert beat_interval(ServiceDefinition(id="orders-1", name="orders")) is None


DEFINITION = ServiceDefinition(
    id="orders-1",
    name="orders",
    address="10.0.0.5",
    port=80,
    tags=("b", "a"),
    meta={"v": "1"},
    weights=Weights(passing=10, warning=1),
    tagged_addresses={"lan": Address("10.0.0.5", 80)},
    checks=(TtlCheck(15),),
)
HELD = {
    "ID": "orders-1",
    "Service": "orders",
    "Address": "10.0.0.5",
    "Port": 80,
    "Tags": ["a", "b"],
    "Meta": {"v": "1"},
    "Weights": {"Passing": 10, "Warning": 1},
}
CHECKS = {"service:orders-1": Check.model_validate({"CheckID": "service:orders-1", "Status": "passing"})}


def held(**changes):
    return AgentService.model_validate(HELD | changes)


def test_what_is_held_as_it_was_registered_has_not_drifted():
    assert drift(DEFINITION, held(), CHECKS) is None
    assert drift(DEFINITION, held(), None) is None
    bare = ServiceDefinition(id="orders-1", name="orders")
    assert drift(bare, AgentService.model_validate({"ID": "orders-1", "Service": "orders", "Meta": None}), {}) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"Service": "other"}, "name is 'other' at the agent instead of 'orders'"),
        ({"Address": "10.0.0.6"}, "address is '10.0.0.6' at the agent instead of '10.0.0.5'"),
        ({"Port": 81}, "port is 81 at the agent instead of 80"),
        ({"Tags": ["a"]}, "tags is ['a'] at the agent instead of ['a', 'b']"),
        ({"Meta": {}}, "meta is {} at the agent instead of {'v': '1'}"),
        ({"Weights": {"Passing": 1, "Warning": 1}}, "weights is"),
    ],
)
def test_what_is_held_differently_is_named(changes, told):
    assert drift(DEFINITION, held(**changes), CHECKS).startswith(told)


def test_a_check_that_is_gone_is_named():
    assert "service:orders-1" in drift(DEFINITION, held(), {})


def test_tags_that_others_may_change_are_left_alone():
    free = ServiceDefinition(id="orders-1", name="orders", enable_tag_override=True)
    assert drift(free, AgentService.model_validate({"ID": "orders-1", "Service": "orders", "Tags": ["x"]}), {}) is None


def test_a_registration_that_others_go_on_keeping_is_handed_over():
    keeping = Keeping("orders-1", 5.0, spread=lambda low, _: low, now=0.0)
    keeping.registered(0.0)
    (event,) = keeping.handed_over()
    assert (event.kind, event.state, keeping.next(1.0)) == ("handed_over", KeeperState.STOPPED, None)


@given(stop_timeout=st.floats(0.01, 60), spent=st.floats(0, 100))
def test_taking_it_out_and_deregistering_share_the_time_to_stop(stop_timeout, spent):
    left = time_to_end(stop_timeout, spent)
    assert stop_timeout / 2 <= left <= stop_timeout
    if spent <= stop_timeout / 2:
        assert spent + left == pytest.approx(stop_timeout)
