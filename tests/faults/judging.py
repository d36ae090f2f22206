"""Judges what happened in a soak: a rule over its history, with no clock and no server in it.

A history says when something was true in the registry (`Write`), what was handed out (`Told`), when faults were
(`Trouble`), what was registered in a quiet moment (`Held`), and what the process used then (`Used`). Moments are
those of one monotonic clock.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

MEBIBYTE = 1024 * 1024
MEMORY_GROWTH = 0.05
MEMORY_ALLOWANCE = 8 * MEBIBYTE
COUNTS_ALLOWANCE = {"threads": 2, "tasks": 2, "files": 8}
"""By how much they may differ: pools keep connections for a while, more of them after some faults than after others."""


@dataclass(frozen=True)
class Write:
    """One instance was registered, or deregistered: at some moment between `begun` and `done`."""

    id: str
    present: bool
    begun: float
    done: float


@dataclass(frozen=True)
class Told:
    """A list that was handed out, by a resolver's name, with what it said about itself."""

    who: str
    when: float
    ids: frozenset[str]
    age: float
    stale: bool


@dataclass(frozen=True)
class Trouble:
    """A fault: from `begun` on, until its end was asked for (`lifted`) and had come (`ended`)."""

    kind: str
    begun: float
    ended: float
    lifted: float | None = None


@dataclass(frozen=True)
class Held:
    """What the registry held in a quiet moment, of what should be kept and of nothing else."""

    when: float
    wanted: frozenset[str]
    found: frozenset[str]


@dataclass(frozen=True)
class Used:
    """What the process used in a quiet moment."""

    when: float
    threads: int
    tasks: int
    files: int
    memory: int


@dataclass
class History:
    """All that happened."""

    writes: list[Write] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Picks that brought none, and errors that nobody was to see."""


@dataclass(frozen=True)
class Bounds:
    """What is promised.

    Args:
        slack: seconds between an answer's making and its arrival.
        follow: seconds after which a change is seen, when nothing is wrong.
        recover: seconds after a fault within which everything is as without it.
        flag: seconds of a fault after which a list that cannot be confirmed says so.
        replay: seconds around the end of a fault in which servers may tell what was true once.
        replaying: after which faults: those that killed servers, or also those that froze one that may have led.
    """

    slack: float = 1.0
    follow: float = 3.0
    recover: float = 15.0
    flag: float = 15.0
    replay: float = 0.0
    replaying: tuple[str, ...] = ("killed", "without quorum")


DEAFENING = frozenset({"silent", "refused", "frozen", "killed"})
"""Faults behind which nobody can confirm anything."""


def judge(history: History, bounds: Bounds) -> list[str]:
    """Everything in a history that should not have been; nothing when all is well."""
    return [
        *_wrong(history, bounds),
        *_late(history, bounds),
        *_unflagged(history, bounds),
        *_lost_or_left(history.held),
        *_leaks(history.used),
        *history.failures,
    ]


# --- addresses ------------------------------------------------------------------------------------------------


def _wrong(history: History, bounds: Bounds) -> Iterator[str]:
    """No address is handed out that was not registered at any moment since the list's own age."""
    spans = _spans(history.writes)
    restarts = [trouble.ended for trouble in history.troubles if trouble.kind.startswith(bounds.replaying)]
    for told in history.told:
        if any(abs(told.when - ended) < bounds.replay for ended in restarts):
            continue
        since = told.when - told.age - bounds.slack
        for name in sorted(told.ids):
            if not any(begun <= told.when and since <= ended for begun, ended in spans.get(name, ())):
                yield f"{told.who} at {told.when:.2f} handed out {name}, which was not there since {since:.2f}"


def _late(history: History, bounds: Bounds) -> Iterator[str]:
    """When nothing has been wrong for a while, a list that is not flagged is one that was true a moment ago."""
    writes = sorted(history.writes, key=lambda write: write.begun)
    for told in history.told:
        if _troubled(history.troubles, told.when - bounds.follow, told.when, bounds.recover):
            continue
        if told.stale:
            yield f"{told.who} at {told.when:.2f} is flagged, and nothing is wrong"
        elif wrong := _never_true(writes, told, told.when - bounds.follow):
            yield f"{told.who} at {told.when:.2f} has missed {', '.join(sorted(wrong))}"


def _unflagged(history: History, bounds: Bounds) -> Iterator[str]:
    """In a fault that lets nobody through, a list says so in time."""
    for trouble in history.troubles:
        if trouble.kind not in DEAFENING:
            continue
        for told in history.told:
            lifted = (
                trouble.ended if trouble.lifted is None else trouble.lifted
            )  # from then on somebody may get through
            if trouble.begun + bounds.flag < told.when < lifted and not told.stale:
                yield f"{told.who} at {told.when:.2f} is not flagged, {trouble.kind} since {trouble.begun:.2f}"
                break


def _never_true(writes: Sequence[Write], told: Told, since: float) -> set[str]:
    """The instances that were, or were not, in the list without having been so in the registry since then."""
    certain: dict[str, bool] = {}
    open_to_both: set[str] = set()
    for write in writes:
        if write.done < since:
            certain[write.id] = write.present
        elif write.begun <= told.when:
            open_to_both.add(write.id)
    settled = {name for name, present in certain.items() if present} - open_to_both
    return (settled ^ told.ids) - open_to_both


def _spans(writes: Iterable[Write]) -> dict[str, list[tuple[float, float]]]:
    """When each instance may have been there."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for write in sorted(writes, key=lambda one: one.begun):
        known = spans.setdefault(write.id, [])
        if write.present:
            known.append((write.begun, float("inf")))
        else:
            spans[write.id] = [(begun, min(ended, write.done)) for begun, ended in known]
    return spans


def _troubled(troubles: Iterable[Trouble], begin: float, end: float, after: float) -> bool:
    return any(trouble.begun < end and begin < trouble.ended + after for trouble in troubles)


# --- registrations and leaks ----------------------------------------------------------------------------------


def _lost_or_left(held: Iterable[Held]) -> Iterator[str]:
    for one in held:
        for name in sorted(one.wanted - one.found):
            yield f"at {one.when:.2f} the registration {name} is lost"
        for name in sorted(one.found - one.wanted):
            yield f"at {one.when:.2f} the registration {name} is left behind"


def _leaks(used: Sequence[Used]) -> Iterator[str]:
    """In the last quarter of the quiet moments not more than in the second: the first one warms everything up."""
    if len(used) < 8:
        return
    quarter = len(used) // 4
    before, after = used[quarter : 2 * quarter], used[-quarter:]
    for what, allowance in COUNTS_ALLOWANCE.items():
        if _least(after, what) > _least(before, what) + allowance or _only_grows(used, what):
            yield f"{what} grow: {[getattr(one, what) for one in used]}"
    if _median(after, "memory") > _median(before, "memory") * (1 + MEMORY_GROWTH) + MEMORY_ALLOWANCE:
        yield f"memory grows: {[one.memory // MEBIBYTE for one in used]} MiB"


def _least(used: Sequence[Used], what: str) -> int:
    """What does not go away: a moment that is quiet for us may not be so for a connection that is being closed."""
    return min(getattr(one, what) for one in used)


def _median(used: Sequence[Used], what: str) -> float:
    return statistics.median(getattr(one, what) for one in used)


def _only_grows(used: Sequence[Used], what: str) -> bool:
    """Whether there is more of it every time: too little each time to be noticed otherwise."""
    counts = [getattr(one, what) for one in used]
    return all(before < after for before, after in pairwise(counts))
