"""The soak's judge condemns bad histories, each for its reason, and lets good ones pass."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.judging import MEBIBYTE, Bounds, Held, History, Told, Trouble, Used, Write, judge

BOUNDS = Bounds(slack=0.5, follow=2.0, recover=10.0, flag=5.0, replay=1.0)
CAME = Write("a", True, 1.0, 1.1)
WENT = Write("a", False, 20.0, 20.1)


def told(when: float, *ids: str, age: float = 0.0, stale: bool = False) -> Told:
    return Told("orders", when, frozenset(ids), age, stale)


def used(when: float, **more: int) -> Used:
    return dataclasses.replace(Used(when, threads=5, tasks=2, files=20, memory=100 * MEBIBYTE), **more)


MEASURED = [36, 38, 32, 36, 39, 33, 33, 39, 35, 32, 35, 35, 32, 35, 32, 35, 32, 39, 38, 38, 35]
GOOD = {
    "it is there": History([CAME], [told(5, "a")]),
    "it is not there yet": History([CAME], [told(0.5)]),
    "just registered, and known or not": History([CAME], [told(1.05), told(1.2, "a"), told(2.5)]),
    "while it is registered": History([Write("a", True, 1.0, 9.0)], [told(5, "a"), told(6), told(8, "a")]),
    "gone a moment ago": History([CAME, WENT], [told(21, "a", age=1.0)]),
    "gone, and the list says how old it is": History(
        [CAME, WENT], [told(40, "a", age=20.0, stale=True)], [Trouble("killed", 19, 45)]
    ),
    "a fault that is short": History([CAME], [told(22, "a")], [Trouble("killed", 20, 23)]),
    "flagged in a fault and a while after it": History(
        [CAME], [told(26, "a", age=6, stale=True), told(39, "a", age=1, stale=True)], [Trouble("silent", 20, 30)]
    ),
    "what was true once, from a server that has just been started again": History(
        [CAME, WENT], [told(40.2, "a")], [Trouble("killed in part", 30, 40)]
    ),
    "let through by a server that is about to be ready again": History(
        [CAME], [told(30, "a", age=9, stale=True), told(39.95, "a")], [Trouble("killed", 20, 40, lifted=39.9)]
    ),
    "late after a fault": History([CAME, Write("b", True, 30, 30)], [told(36, "a")], [Trouble("reset", 20, 29)]),
    "kept": History(held=[Held(1, frozenset("ab"), frozenset("ab"))]),
    "it warms up and stays": History(used=[used(n, threads=5 + min(n, 3)) for n in range(12)]),
    "up and down, as measured": History(used=[used(n, files=count) for n, count in enumerate(MEASURED)]),
    "up and down": History(used=[used(n, files=20 + n % 3) for n in range(12)]),
}
BAD = {
    "never registered": (History([CAME], [told(5, "a", "x")]), "handed out x"),
    "before its time": (History([CAME], [told(0.4, "a")]), "handed out a"),
    "long gone": (History([CAME, WENT], [told(23, "a")]), "handed out a"),
    "what was true once, long after a restart": (
        History([CAME, WENT], [told(41.5, "a")], [Trouble("killed", 30, 40)]),
        "handed out a",
    ),
    "what was true once, after a fault that restarts nobody": (
        History([CAME, WENT], [told(40.2, "a")], [Trouble("silent", 30, 40)]),
        "handed out a",
    ),
    "older than it says": (
        History([CAME, WENT], [told(40, "a", age=10.0, stale=True)], [Trouble("killed", 19, 45)]),
        "handed out a",
    ),
    "missing": (History([CAME], [told(5)]), "has missed a"),
    "late": (History([CAME, Write("b", True, 6, 6.1)], [told(9, "a")]), "has missed b"),
    "late long after a fault": (
        History([CAME, Write("b", True, 22, 22)], [told(45, "a")], [Trouble("reset", 20, 23)]),
        "has missed b",
    ),
    "empty in a calm": (History([CAME], [told(50)], [Trouble("reset", 2, 3)]), "has missed a"),
    "flagged without a reason": (History([CAME], [told(50, "a", stale=True)]), "is flagged"),
    "never flagged": (History([CAME], [told(26, "a", age=6)], [Trouble("silent", 20, 30)]), "is not flagged"),
    "let through before the end": (
        History([CAME], [told(39.85, "a")], [Trouble("killed", 20, 40, lifted=39.9)]),
        "is not flagged",
    ),
    "what was true once, where no server has been started": (
        History([CAME, WENT], [told(40.2, "a")], [Trouble("frozen", 30, 40)]),
        "handed out a",
    ),
    "lost": (History(held=[Held(1, frozenset("ab"), frozenset("a"))]), "b is lost"),
    "left behind": (History(held=[Held(1, frozenset("a"), frozenset("ab"))]), "b is left behind"),
    "a thread for every fault": (History(used=[used(n, threads=5 + n) for n in range(12)]), "threads grow"),
    "files in one jump": (History(used=[used(n, files=20 + 10 * (n > 5)) for n in range(12)]), "files grow"),
    "tasks": (History(used=[used(n, tasks=2 + n // 2) for n in range(12)]), "tasks grow"),
    "memory": (History(used=[used(n, memory=(100 + 5 * n) * MEBIBYTE) for n in range(12)]), "memory grows"),
    "what was seen": (History(failures=["a pick failed"]), "a pick failed"),
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_a_good_history_passes(history):
    assert judge(history, BOUNDS) == []


@pytest.mark.parametrize(("history", "why"), BAD.values(), ids=BAD)
def test_a_bad_history_is_condemned_for_its_reason(history, why):
    assert [finding for finding in judge(history, BOUNDS) if why in finding] != []


MOMENTS = st.lists(st.integers(0, 400), min_size=2, max_size=12, unique=True).map(sorted)


@given(moments=MOMENTS, delay=st.floats(0, 1.9), asked=st.integers(0, 500))
def test_a_reader_that_follows_within_the_bound_is_never_condemned(moments, delay, asked):
    writes = [Write("a", number % 2 == 0, float(at), at + 0.1) for number, at in enumerate(moments)]
    seen = [write.present for write in writes if write.done + delay <= asked]
    ids = ["a"] if seen and seen[-1] else []
    assert judge(History(writes, [told(float(asked), *ids, age=delay + 0.2)]), BOUNDS) == []


@given(moments=MOMENTS, behind=st.floats(2.3, 100))
def test_a_reader_that_stands_still_is_condemned_once_the_bound_has_passed(moments, behind):
    writes = [Write("a", number % 2 == 0, float(at), at + 0.1) for number, at in enumerate(moments)]
    last = writes[-1]
    ids = [] if last.present else ["a"]
    assert judge(History(writes, [told(last.done + behind, *ids)]), BOUNDS) != []
