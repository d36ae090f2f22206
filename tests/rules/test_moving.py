"""When an agent is gone for good, and what is owed to former ones: any order of answers, over simulated time."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import Address, HealthEntry, KeeperState, Target
from consul_access.rules.keeping import LONGEST_PAUSE, Keeping, Step
from consul_access.rules.moving import (
    CUT_OFF_AFTER,
    SETTLED_AFTER,
    SURE_AFTER,
    Orphans,
    Trace,
    is_for_good,
    trace_of,
)

HERE, THERE = Target(Address("10.0.0.1", 8500)), Target(Address("10.0.0.2", 8500))


def entry(node="a", service_id="orders-1", *, serf="passing", own="passing"):
    return HealthEntry.model_validate(
        {
            "Node": {"Node": node},
            "Service": {"ID": service_id, "Service": "orders"},
            "Checks": [
                {"CheckID": "serfHealth", "Status": serf},
                {"CheckID": f"service:{service_id}", "Status": own, "ServiceID": service_id},
            ],
        }
    )


@pytest.mark.parametrize(
    ("entries", "node", "trace"),
    [
        ([], "a", Trace.ABSENT),
        ([entry(node="b")], "a", Trace.ABSENT),
        ([entry(service_id="orders-2")], "a", Trace.ABSENT),
        ([entry()], "a", Trace.SHOWN),
        ([entry(own="warning")], "a", Trace.SHOWN),
        ([entry(own="critical")], "a", Trace.SILENT),
        ([entry(serf="critical")], "a", Trace.DOWN),
        ([entry(serf="critical"), entry(node="b")], "a", Trace.DOWN),
        ([entry(serf="critical"), entry(node="b")], "", Trace.SHOWN),  # any of them may be it
    ],
)
def test_what_the_registry_shows_of_the_copy(entries, node, trace):
    assert trace_of(entries, "orders-1", node) is trace


@given(st.sampled_from(Trace), st.floats(0, 1e6), st.floats(0, 1e4))
def test_a_copy_that_callers_are_sent_to_is_never_doubled(trace, away, ttl):
    if is_for_good(trace, away, ttl):
        assert trace is not Trace.SHOWN
        assert away >= SURE_AFTER


@given(st.floats(0, 1e4))
def test_an_agent_that_only_we_cannot_reach_is_given_the_time_of_its_ttl_check(ttl):
    assert not is_for_good(Trace.SILENT, max(CUT_OFF_AFTER, ttl) - 0.001, ttl)
    assert is_for_good(Trace.SILENT, max(CUT_OFF_AFTER, ttl), ttl)
    assert is_for_good(Trace.DOWN, SURE_AFTER, ttl)
    assert is_for_good(Trace.ABSENT, SURE_AFTER, ttl)


def test_an_orphan_is_told_when_it_goes_out_of_the_catalog_and_settled_when_its_agent_agrees():
    orphans = Orphans()
    orphans.leave("a", HERE, 0.0)
    (orphan,) = orphans
    assert not orphans.seen(orphan, held=None, shown=True, now=1.0)
    assert orphans.seen(orphan, held=None, shown=False, now=2.0)
    assert not orphans.seen(orphan, held=None, shown=False, now=1000.0)
    assert orphans
    assert not orphans.seen(orphan, held=True, shown=True, now=1001.0)  # the agent is back, and has brought it back
    assert orphans.seen(orphan, held=False, shown=False, now=1002.0)
    assert not orphans
    assert orphans.pause(1002.0) is None


def test_an_orphan_whose_agent_cannot_be_named_is_settled_when_it_has_stayed_away():
    orphans = Orphans()
    orphans.leave("a", None, 0.0)
    (orphan,) = orphans
    orphans.seen(orphan, held=None, shown=False, now=1.0)
    orphans.seen(orphan, held=None, shown=True, now=100.0)
    orphans.seen(orphan, held=None, shown=False, now=101.0)
    orphans.seen(orphan, held=None, shown=False, now=100.0 + SETTLED_AFTER)
    assert orphans
    orphans.seen(orphan, held=None, shown=False, now=101.0 + SETTLED_AFTER)
    assert not orphans


def test_where_it_lives_again_nothing_is_owed():
    orphans = Orphans()
    orphans.leave("a", HERE, 0.0)
    orphans.leave("b", THERE, 1.0)
    assert orphans.nodes == {"a", "b"}
    orphans.come_home("", HERE)
    assert orphans.nodes == {"b"}
    orphans.come_home("b", None)
    assert not orphans


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["leave", "home", "seen"]),
            st.sampled_from(["a", "b", ""]),
            st.sampled_from([HERE, THERE, None]),
            st.sampled_from([True, False, None]),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_a_debt_ends_only_when_paid_forgiven_or_outlived(script):
    orphans, now = Orphans(), 0.0
    for what, node, place, held, shown in script:
        now += 1.0
        before = list(orphans)
        if what == "leave":
            orphans.leave(node, place, now)
            assert any((orphan.node, orphan.place) == (node, place) for orphan in orphans)
        elif what == "home":
            orphans.come_home(node, place)
            assert node == "" or node not in orphans.nodes
        elif before:
            orphans.seen(before[0], held=held, shown=shown, now=now)
            assert (before[0] in list(orphans)) == (not (held is False and not shown))
        assert (orphans.pause(now) is None) == (not orphans)


# --- together with the keeper's rule ----------------------------------------------------------------------


class World:
    """An agent that may be away, another one that is always there, and a cluster that notices after 6 s."""

    def __init__(self, outages, serf=6.0):
        self.outages = outages
        self.serf = serf
        self.home = "a"

    def answers(self, now):
        return self.home == "b" or not any(begin <= now < end for begin, end in self.outages)

    def trace(self, now):
        begun = [begin for begin, end in self.outages if begin <= now < end]
        return Trace.DOWN if begun and now - begun[0] >= self.serf else Trace.SHOWN


def live(rule, world, until):
    """Lives so long; yields each step with its time."""
    now = 0.0
    while now < until:
        step, due = rule.next(now)
        now = max(now, due)
        if step is Step.MOVE:
            if is_for_good(world.trace(now), rule.away(now), 15.0):
                rule.moved(now, "gone")
                world.home = "b"
            else:
                rule.stayed(now)
        elif step is Step.CLEAN:
            rule.cleaned(now, 1.0)
        elif not world.answers(now):
            rule.failed(step, now, "no answer")
        elif step is Step.REGISTER:
            rule.registered(now)
        elif step is Step.CONFIRM:
            rule.seen()
        else:
            rule.succeeded(step, now)
        yield now, step
        now += 0.001


def keeping(beat=5.0, seed=0, moves=True):
    return Keeping("orders-1", beat, spread=random.Random(seed).uniform, now=0.0, moves=moves)


@given(st.integers(0, 50), st.floats(1, 100), st.sampled_from([None, 0.4, 1.0, 5.0]))
def test_an_agent_that_dies_is_left_within_a_heartbeat_of_the_cluster_noticing(seed, dies, beat):
    rule, world = keeping(beat, seed), World([(dies, 1e9)])
    moved = next(now for now, _ in live(rule, world, dies + 60) if world.home == "b")
    assert moved - dies >= world.serf
    assert moved - dies <= world.serf + 1.0 + 0.1  # the others are asked every second
    registered = next(now for now, step in live(rule, world, dies + 120) if step is Step.REGISTER)
    assert registered is not None
    assert rule.re_registrations == 1


@given(st.integers(0, 50), st.lists(st.tuples(st.floats(1, 200), st.floats(0.1, 5.9)), max_size=8))
def test_an_agent_that_is_back_before_the_cluster_notices_is_never_left(seed, outages):
    rule, world = keeping(seed=seed), World([(begin, begin + length) for begin, length in outages])
    # outages that overlap would make a longer one
    ordered = sorted(world.outages)
    if any(first[1] > second[0] for first, second in itertools.pairwise(ordered)):
        return
    for _ in live(rule, world, 250.0):
        pass
    assert world.home == "a"
    assert rule.re_registrations == 0
    assert rule.state is KeeperState.REGISTERED


@given(st.integers(0, 50), st.floats(1, 100))
def test_without_another_address_nobody_else_is_asked(seed, dies):
    rule, world = keeping(seed=seed, moves=False), World([(dies, 1e9)])
    assert all(step is not Step.MOVE for _, step in live(rule, world, dies + 100))
    assert rule.state is KeeperState.RENEWING


@given(st.integers(0, 50), st.floats(1, 20))
def test_what_is_owed_is_not_forgotten_when_the_registration_is_lost_again(seed, dies):
    rule, world = keeping(seed=seed), World([(dies, 1e9)])
    for _ in live(rule, world, dies + 30):
        pass
    rule.gone(dies + 30, "forgotten")
    assert Step.CLEAN in rule._due
    rule.registered(dies + 31)
    assert Step.CLEAN in rule._due
    rule.cleaned(dies + 32, None)
    assert Step.CLEAN not in rule._due


@given(st.integers(0, 50), st.floats(0, 3600))
def test_the_others_are_asked_every_second_at_first_and_never_less_often_than_every_five(seed, away):
    rule = keeping(seed=seed)
    rule.registered(0.0)
    rule.failed(Step.BEAT, 0.0, "no answer")
    rule.stayed(away)
    assert 0.9 <= rule._due[Step.MOVE] - away <= LONGEST_PAUSE
    rule.succeeded(Step.BEAT, away)
    assert Step.MOVE not in rule._due
