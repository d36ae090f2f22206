"""The course of one request: held up, frozen, made to wait for a change, changed on its way back."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consul_access.testing.common.clock import SimulatedClock
from consul_access.testing.common.exchange import LOST, Answer, Live, Pending, Request

if TYPE_CHECKING:
    from consul_access.testing.common.fake import Fake
    from consul_access.testing.common.faults import Fault

__all__ = ["AgentDown", "Course"]


class AgentDown(ConnectionRefusedError):
    """There is nobody to take the request."""


class Course:
    """Looks again and again whether a request can be answered; somebody else waits in between.

    Args:
        fake: who answers.
        request: what is asked.
        too_many: it comes by one connection too many.
    """

    def __init__(self, fake: Fake[Any], request: Request, *, too_many: bool) -> None:
        self._fake = fake
        self._request = request
        self._too_many = too_many
        self._met: list[Fault] | None = None
        self._not_before = 0.0
        self._waiting: Pending | None = None
        self._answer: Answer | None = None

    def look(self) -> Answer | None:
        """The answer, if it can be given now.

        Raises:
            ConnectionResetError: the agent went down in the middle of it.
        """
        with self._fake.locked():
            if self._too_many:
                return self._fake.turned_away()
            if self._answer is None:
                self._answer = self._look()
            if self._answer is None or self._fake.now < self._not_before:
                return None
            return self._changed(self._answer)

    def pause(self) -> float | None:
        """Seconds of the fake's clock until it is worth looking again; None: not before somebody wakes it."""
        shared = self._fake.shared
        with shared.changed:
            moments = [shared.next_due()]
            if self._waiting is not None:
                moments.append(self._waiting.until)
            if self._not_before > self._fake.now:
                moments.append(self._not_before)
            known = [moment for moment in moments if moment is not None]
            return max(0.0, min(known) - shared.clock.now()) if known else None

    def wait(self, timeout: float | None) -> Answer:
        """Waits for the answer, in a thread.

        Args:
            timeout: real seconds at most.

        Raises:
            TimeoutError: there was none.
        """
        shared = self._fake.shared
        deadline = None if timeout is None else time.monotonic() + timeout
        with shared.changed:
            while (answer := self.look()) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError("the fake did not answer in time")
                self._sleep(left)
        return answer

    def _sleep(self, left: float | None) -> None:
        shared = self._fake.shared
        pause = self.pause()
        if self.jump():
            return
        if shared.clock.passes_by_itself and pause is not None:
            left = pause if left is None else min(left, pause)
        shared.changed.wait(left)

    def jump(self) -> bool:
        """Sets an automatic clock forward to the next moment at which something happens; whether there is one."""
        clock, pause = self._fake.shared.clock, self.pause()
        if not isinstance(clock, SimulatedClock) or not clock.automatic or pause is None:
            return False
        clock.advance(pause)
        return True

    def _look(self) -> Answer | None:
        if self._met is None:
            self._met = self._fake.faults.meet(self._request)
            self._not_before = self._fake.now + sum(fault.delay for fault in self._met)
        if not self._fake.is_up:
            return self._interrupted()
        if self._fake.faults.is_frozen(self._request) or self._is_stuck():
            return None
        instead = next((fault.instead for fault in self._met if fault.instead is not None), None)
        return instead or self._asked()

    def _asked(self) -> Answer | None:
        """What the agent says now, which it is asked when the request has arrived and again after every change."""
        if self._waiting is not None:
            return self._fake.resume(self._waiting)
        if self._fake.now < self._not_before:
            return None
        outcome = self._fake.begin(self._request)
        if not isinstance(outcome, Answer):
            self._waiting = outcome
            return None
        self._fake.wake_others()
        return outcome if self._fake.is_up else LOST

    def _is_stuck(self) -> bool:
        until = self._fake.stuck_until
        if self._fake.now >= until:
            return False
        self._not_before = max(self._not_before, until)
        return True

    def _interrupted(self) -> Answer:
        return LOST if self._waiting is None else self._fake.interrupted(self._waiting)

    def _changed(self, answer: Answer) -> Answer:
        live = answer.live
        for fault in self._met or ():
            if fault.change is not None:
                answer = fault.change(self._request, answer)
        if live is not None:
            return _live(answer, live)
        return replace(answer, closes=True) if answer.cut else answer


def _live(answer: Answer, live: Live) -> Answer:
    """An answer that goes on, changed on its way."""
    if answer.lost:
        live.close()
    elif answer.cut:
        live.cut(answer.cut)
    return answer if answer.lost else replace(answer, cut=0)
