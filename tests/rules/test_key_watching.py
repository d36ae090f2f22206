"""Watching keys: nothing lost, twice or out of order, wherever the stream breaks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consul_access.errors import NoLeader, PermissionDenied, TokenUnknown
from consul_access.etcd.texts import meaning_of
from consul_access.models.keys import EventKind, KeyEvent
from consul_access.rules.key_watching import STEADY_SECONDS, Then, Watching, WatchLine, is_at_once, reopening_pause

# --- a server to watch, made of memory: a history, cut into lines as etcd may cut it ---------------------------

histories = st.lists(st.integers(1, 4), max_size=12)
"""How many events each revision has; revisions begin at 2, as at a new etcd."""


def history_of(sizes: list[int]) -> list[KeyEvent]:
    return [
        KeyEvent(EventKind.PUT, b"k%d" % number, revision=revision)
        for revision, size in enumerate(sizes, start=2)
        for number in range(size)
    ]


@st.composite
def streams(draw: st.DrawFn, history: list[KeyEvent], start: int) -> list[WatchLine]:
    """The lines of one stream from a revision on, fragments and progress included, up to a break anywhere."""
    last = history[-1].revision if history else 1
    lines = [WatchLine(created=True, revision=last)]
    left = [event for event in history if event.revision >= start]
    while left:
        revisions = sorted({event.revision for event in left})
        upto = draw(st.sampled_from(revisions))
        batch = [event for event in left if event.revision <= upto]
        left = left[len(batch) :]
        while len(batch) > 1 and draw(st.booleans()):  # a fragment may end within a revision
            size = draw(st.integers(1, len(batch) - 1))
            lines.append(WatchLine(revision=last, events=tuple(batch[:size]), fragment=True))
            batch = batch[size:]
        lines.append(WatchLine(revision=last, events=tuple(batch)))
        if not left and draw(st.booleans()):
            lines.append(WatchLine(revision=last))
    return lines


@given(st.data(), histories)
def test_whatever_a_stream_ends_at_the_next_one_loses_and_repeats_nothing(data: st.DataObject, sizes: list[int]):
    history = history_of(sizes)
    watching = Watching(meaning_of, start=2)
    told: list[KeyEvent] = []
    for _ in range(data.draw(st.integers(0, 4))):
        lines = data.draw(streams(history, watching.opens_at))
        for line in lines[: data.draw(st.integers(0, len(lines)))]:
            told += watching.take(line).events
        watching.lost()
    for line in data.draw(streams(history, watching.opens_at)):
        told += watching.take(line).events

    assert told == history
    assert watching.resume_at == (history[-1].revision + 1 if history else 2)


@given(st.data(), histories.filter(bool))
def test_revisions_are_told_whole(data: st.DataObject, sizes: list[int]):
    history = history_of(sizes)
    watching = Watching(meaning_of, start=2)
    for line in data.draw(streams(history, 2)):
        told = watching.take(line).events
        for event in told:
            assert sum(one.revision == event.revision for one in told) == sizes[event.revision - 2]


@given(st.data(), histories.filter(bool))
def test_a_line_that_comes_twice_is_told_once(data: st.DataObject, sizes: list[int]):
    history = history_of(sizes)
    watching = Watching(meaning_of, start=2)
    told: list[KeyEvent] = []
    for line in data.draw(streams(history, 2)):
        told += watching.take(line).events
        if not line.fragment:
            told += watching.take(line).events
    assert told == history


anything = st.builds(
    WatchLine,
    revision=st.integers(0, 50),
    watch_id=st.just(0),
    created=st.booleans(),
    canceled=st.booleans(),
    compact_revision=st.integers(0, 50),
    cancel_reason=st.just(""),
    fragment=st.booleans(),
    events=st.lists(st.integers(0, 50), max_size=2).map(
        lambda revisions: tuple(KeyEvent(EventKind.PUT, b"k", revision=one) for one in revisions)
    ),
    error=st.none(),
)
"""Lines in no sensible order."""


@given(st.lists(anything, max_size=20))
@example(  # the watch begins when something is held already
    [
        WatchLine(events=(KeyEvent(EventKind.PUT, b"k"),), fragment=True),
        WatchLine(created=True, revision=9),
        WatchLine(revision=9, events=(KeyEvent(EventKind.PUT, b"k"),)),
    ]
)
def test_the_cursor_never_goes_back(lines: list[WatchLine]):
    watching = Watching(meaning_of)
    cursors = [0]
    for line in lines:
        watching.take(line)
        cursors.append(watching.resume_at)
    assert all(one <= other for one, other in pairwise(cursors))


# --- one line after the other ----------------------------------------------------------------------------------


def test_a_watch_from_now_on_resumes_behind_the_moment_it_began():
    watching = Watching(meaning_of)
    assert watching.resume_at == 0
    watching.take(WatchLine(created=True, revision=7))
    assert watching.resume_at == 8


@pytest.mark.parametrize(("start", "opened"), [(0, 0), (1, 1), (2, 1), (9, 8)])
def test_a_stream_is_opened_at_a_revision_that_nothing_is_wanted_of(start, opened):
    """One that is compacted where the watch would go on may have lost what was deleted there, and not say so."""
    watching = Watching(meaning_of, start=start)
    assert watching.opens_at == opened
    before = KeyEvent(EventKind.PUT, b"k", revision=start - 1)
    assert watching.take(WatchLine(revision=start, events=(before,))).events == ()


def test_a_member_that_catches_up_has_not_told_all_up_to_its_own_revision():
    watching = Watching(meaning_of, start=3)
    watching.take(WatchLine(revision=100, events=(KeyEvent(EventKind.PUT, b"k", revision=5),)))
    assert watching.resume_at == 6


def test_progress_moves_the_cursor_only_while_no_fragment_is_held():
    watching = Watching(meaning_of, start=3)
    watching.take(WatchLine(revision=9, events=(KeyEvent(EventKind.PUT, b"k", revision=5),), fragment=True))
    watching.take(WatchLine(revision=9))
    assert watching.resume_at == 5
    watching.lost()
    watching.take(WatchLine(revision=9))
    assert watching.resume_at == 10


def test_it_is_behind_until_all_that_the_member_knew_has_been_told():
    watching = Watching(meaning_of, start=5)
    watching.take(WatchLine(created=True, revision=9))
    assert watching.is_behind
    watching.take(WatchLine(revision=9, events=(KeyEvent(EventKind.PUT, b"k", revision=8),)))
    assert watching.is_behind
    watching.take(WatchLine(revision=9))
    assert not watching.is_behind


def test_it_is_not_behind_when_nothing_has_happened_meanwhile():
    watching = Watching(meaning_of, start=5)
    watching.take(WatchLine(created=True, revision=4))
    assert not watching.is_behind


def test_a_compacted_watch_is_read_anew_and_goes_on_behind_that():
    watching = Watching(meaning_of, start=3)
    watching.take(WatchLine(created=True, revision=20))
    assert watching.take(WatchLine(canceled=True, compact_revision=15)).then is Then.RESYNC
    watching.restart(20)
    assert watching.resume_at == 21


def test_a_store_that_knows_less_than_was_told_is_doubted():
    watching = Watching(meaning_of, start=30)
    assert watching.take(WatchLine(created=True, revision=29)).then is Then.GO_ON
    assert watching.take(WatchLine(created=True, revision=28)).then is Then.DOUBT


@pytest.mark.parametrize(
    ("line", "then", "error"),
    [
        (WatchLine(error=("etcdserver: no leader", 14)), Then.REOPEN, NoLeader),
        (WatchLine(error=("etcdserver: permission denied", 7)), Then.FAIL, PermissionDenied),
        (
            WatchLine(
                created=True,
                canceled=True,
                watch_id=-1,
                cancel_reason="rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            ),
            Then.FAIL,
            PermissionDenied,
        ),
        (
            WatchLine(
                created=True,
                canceled=True,
                watch_id=-1,
                cancel_reason="rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            ),
            Then.RENEW,
            TokenUnknown,
        ),
    ],
)
def test_a_watch_that_ends_says_why(line, then, error):
    step = Watching(meaning_of, start=3).take(line)
    assert step.then is then
    assert step.meaning.error is error


def test_a_watch_that_is_canceled_without_a_reason_is_opened_again():
    assert Watching(meaning_of).take(WatchLine(canceled=True)).then is Then.REOPEN


@given(st.integers(1, 10_000), st.floats(0, 1e6))
def test_pauses_stay_below_a_second_at_first_and_below_a_quarter_of_a_minute_for_ever(failures, down_for):
    longest = reopening_pause(failures, down_for, lambda low, high: high)
    assert 0 < longest <= (1.0 if down_for < 30 else 15.0)


def test_the_first_attempt_waits_for_nothing():
    assert reopening_pause(0, 1e6, lambda low, high: high) == 0.0


@pytest.mark.parametrize("lasted", [None, 0.0, 0.999 * STEADY_SECONDS])
def test_a_stream_that_has_hardly_begun_is_not_followed_at_once_unless_it_was_ended_on_purpose(lasted):
    assert not is_at_once(lasted, is_deliberate=False)
    assert is_at_once(lasted, is_deliberate=True)


@given(lasted=st.floats(0, 1e6), longer=st.floats(0, 1e6))
def test_one_that_has_lasted_longer_is_never_followed_later(lasted, longer):
    assert is_at_once(STEADY_SECONDS + lasted, is_deliberate=False)
    assert is_at_once(lasted + longer, is_deliberate=False) >= is_at_once(lasted, is_deliberate=False)
