"""One worker serves all keepers of a client, those that are due about now in a row."""

from __future__ import annotations

import os
import threading
import time

import pytest

from consul_access._async import pulse as tasks
from consul_access._sync import pulse as threads


class Members:
    """Makes members on one of the faces, and takes down who was served, and where."""

    def __init__(self, face):
        self.face = face
        self.module = tasks if face.is_async else threads
        self.pulse = self.module.AsyncPulse() if face.is_async else self.module.Pulse()
        self.served = []
        self.workers = set()
        self.late = []

    def join(self, name, due=0.0, *, again=None, hang=0.0, interval=5.0):
        def note():
            self.served.append(name)
            self.workers.add(threading.current_thread())
            return None if again is None else time.monotonic() + again

        async def serve_tasks(_):
            await self.face.sleep(hang)
            return note()

        def serve_threads(_):
            time.sleep(hang)
            return note()

        make = self.module.AsyncStay if self.face.is_async else self.module.Stay
        stay = make(serve_tasks if self.face.is_async else serve_threads, lambda: self.late.append(name), interval)
        self.pulse.join(stay, time.monotonic() + due)
        return stay


@pytest.fixture
def members(face):
    return Members(face)


def test_who_is_due_about_now_is_served_in_a_row_by_one_worker_in_order(face, members):
    async def story():
        for number in range(20):
            members.join(number, due=0.2 + number / 100)
        await face.eventually(lambda: len(members.served) == 20)
        assert members.served == list(range(20))
        assert len(members.workers) == 1
        assert members.late == []

    face.run(story)


def test_it_comes_again_when_it_is_told_to_and_never_after_somebody_left(face, members):
    async def story():
        stay = members.join("a", again=0.05)
        members.join("b", again=0.05)
        await face.eventually(lambda: members.served.count("a") >= 3)
        stay.leave()
        await face.sleep(0.1)  # it may be in the middle of it
        count = members.served.count("a")
        others = members.served.count("b")
        await face.eventually(lambda: members.served.count("b") >= others + 3)
        assert members.served.count("a") == count
        members.pulse.end()

    face.run(story)


def test_a_step_may_come_a_little_early_and_no_more(face, members):
    async def story():
        begun = time.monotonic()
        members.join("now", interval=4.0)
        members.join("soon", due=0.3, interval=4.0)  # within a tenth of an interval
        members.join("later", due=1.0, interval=4.0)
        await face.eventually(lambda: "later" in members.served)
        assert members.served == ["now", "soon", "later"]
        assert time.monotonic() - begun > 0.5

    face.run(story)


def test_who_is_late_by_a_heartbeat_is_told_to_help_itself(face, members):
    async def story():
        members.join("hangs", hang=2.0, interval=0.3)
        await face.sleep(0.05)
        members.join("waits", interval=0.3)
        _, after = await face.eventually(lambda: "waits" in members.late, within=2)
        assert after > 0.2
        await face.eventually(lambda: "waits" in members.served)

    face.run(story)


def test_the_worker_ends_when_there_is_nobody_and_another_begins_for_the_next(face, members, monkeypatch):
    monkeypatch.setattr(members.module, "LINGER", 0.05)

    async def story():
        members.join("a")
        await face.eventually(lambda: not members.pulse._round.goes_on)
        assert members.served == ["a"]
        members.join("b")
        await face.eventually(lambda: members.served == ["a", "b"])

    face.run(story)


def test_in_a_forked_child_it_begins_anew(face, members, monkeypatch):
    async def story():
        members.join("the parent's", due=30.0)
        former = members.pulse._round
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            assert not former.goes_on
            members.join("the child's")
            await face.eventually(lambda: members.served == ["the child's"])
            assert members.pulse._round is not former
            members.pulse.end()
        former.end()

    face.run(story)
