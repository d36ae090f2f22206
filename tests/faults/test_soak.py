"""Random faults, one after the other, with a seed that can be given again: N08.

CONSUL_ACCESS_SOAK_SECONDS says for how long in all, CONSUL_ACCESS_SOAK_SEED with which dice; `make soak` gives both.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import threading

import pytest

from consul_access import Keeper, ServiceSnapshot
from consul_access._async import carrier as async_carrier
from consul_access._sync import carrier
from consul_access.rules.keeping import Keeping
from tests.faults.judging import MEBIBYTE, Bounds, judge
from tests.faults.soaking import GROUNDS, Soak

SECONDS = float(os.environ.get("CONSUL_ACCESS_SOAK_SECONDS") or 0)
SEED = int(os.environ.get("CONSUL_ACCESS_SOAK_SEED") or random.SystemRandom().randrange(10**6))


def soaked(where: str, seed: int, seconds: float, longest: float, record_property) -> None:
    with contextlib.ExitStack() as stack:
        soak = Soak(GROUNDS[where](stack), seed, longest)
        history = soak.run(seconds)
    record_property("seed", seed)
    record_property("faults", len(history.troubles))
    record_property("writes", len(history.writes))
    record_property("lists looked at", len(history.told))
    assert len(history.told) > 10
    assert history.troubles
    findings = judge(history, soak.ground.bounds)
    assert not findings, "\n".join([f"seed {seed}", *findings[:100], *map(str, history.troubles)])


@pytest.mark.parametrize("where", ["consul", "etcd"])
def test_n08_a_few_faults(where, record_property):
    soaked(where, 7, 6.0, 1.5, record_property)


@pytest.mark.skipif(not SECONDS, reason="`make soak` runs it: an hour, unless SECONDS says something else")
@pytest.mark.parametrize("where", GROUNDS)
def test_n08_faults_for_an_hour(where, record_property):
    soaked(where, SEED, SECONDS / len(GROUNDS), 30.0, record_property)


# --- the checker, checked: libraries that were broken on purpose ------------------------------------------------

QUICK = Bounds(slack=0.5, follow=4.0, recover=8.0, flag=3.0)
LEAKING = ("refused", "hung up", "cut")


class Break:
    """Breaks the library within its block.

    Args:
        monkeypatch: undoes it.
        stack: ends what was leaked.
    """

    def __init__(self, monkeypatch, stack):
        self._set = monkeypatch.setattr
        self._stack = stack

    def when_a_connection_closes(self, module, leak):
        """Leaks one thing more whenever this face closes a connection."""
        connection = getattr(module, "Connection", None) or module.AsyncConnection
        close = connection.close

        def closing(self):
            leak(self)
            close(self)

        self._set(connection, "close", closing)

    def sockets(self):
        kept = []
        self._stack.callback(lambda: [sock.close() for sock in kept])
        self.when_a_connection_closes(carrier, lambda connection: kept.append(connection.sock.dup()))

    def threads(self):
        over = threading.Event()
        self._stack.callback(over.set)
        self.when_a_connection_closes(carrier, lambda _: threading.Thread(target=over.wait, daemon=True).start())

    def tasks(self):
        def leak(_):
            asyncio.get_running_loop().create_task(asyncio.sleep(3600))

        self.when_a_connection_closes(async_carrier, leak)

    def memory(self):
        kept = []
        self.when_a_connection_closes(carrier, lambda _: kept.append(b"x" * (8 * MEBIBYTE)))

    def flags(self):
        self._set(ServiceSnapshot, "is_stale", property(lambda _: False))

    def ages(self):
        self._set(ServiceSnapshot, "at", lambda snapshot, _: dataclasses.replace(snapshot, age=0.0))

    def registrations(self):
        self._set(Keeping, "gone", lambda *_: [])

    def ends(self):
        self._set(Keeper, "_end", lambda keeper: keeper._is_over(keeper._rule.stopped()))


BROKEN = {
    "sockets": (LEAKING, 0.5, "files grow"),
    "threads": (LEAKING, 0.5, "threads grow"),
    "tasks": (LEAKING, 0.5, "tasks grow"),
    "memory": (LEAKING, 0.5, "memory grows"),
    "flags": (("silent",), 8.0, "is not flagged"),
    "ages": (("silent",), 8.0, "handed out orders-"),
    "registrations": (("forgotten",), 0.5, "is lost"),
    "ends": (("slow",), 0.5, "is left behind"),
}


@pytest.mark.skipif(not SECONDS, reason="`make soak` runs it: it takes minutes")
@pytest.mark.parametrize("what", BROKEN)
def test_n08_the_checker_notices_a_library_that_was_broken_on_purpose(what, monkeypatch):
    kinds, longest, why = BROKEN[what]
    with contextlib.ExitStack() as stack:
        getattr(Break(monkeypatch, stack), what)()
        history = Soak(GROUNDS["consul"](stack), 7, longest, QUICK, kinds).run(30)
    assert [finding for finding in judge(history, QUICK) if why in finding] != []


@pytest.mark.skipif(not SECONDS, reason="`make soak` runs it, before it believes the others")
def test_n08_the_bounds_that_notice_it_let_the_library_pass_as_it_is():
    with contextlib.ExitStack() as stack:
        history = Soak(GROUNDS["consul"](stack), 7, 0.5, QUICK, LEAKING).run(6)
    assert judge(history, QUICK) == []
