"""Drives all the blocking queries of one client: one at a time for each question, within the places there are."""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from consul_access import consul
from consul_access._live.question import CONSISTENT, Listener, Question
from consul_access._live.reading import Key, Reading
from consul_access._pairs.tasks import Bell
from consul_access.call import Call, Reply
from consul_access.errors import (
    BadAnswer,
    ClientClosed,
    ConnectionLimit,
    ConsulAccessError,
    NoLeader,
    PoolExhausted,
    RequestRefused,
    Unavailable,
)
from consul_access.models.meta import QueryMeta
from consul_access.rules.blocking import Ask, BlockingQuery
from consul_access.rules.guarding import Verdict
from consul_access.wire import WireAnswer

__all__ = ["Exchanger", "Hub"]

log = logging.getLogger("consul_access")

ROUND: Final = 15.0
"""Seconds within which every question has its turn when there are more than may wait at once."""
SPARE: Final = 4
"""Places that are kept from waiting, so that first answers and confirmations need not queue."""
PROBE_EVERY: Final = 5.0
"""Agents leave a frozen server after 6 s or more. What has waited there is never answered, so the gap must be seen."""
PROBE_SOON: Final = 1.0
PROBE_PAUSE: Final = 4.5
PROBE_PATIENCE: Final = 4.0
PROBE_SLOW: Final = 1.0
TOKEN_LOOK: Final = 1.0
ACLS_KNOWN: Final = 60.0
HIDDEN: Final = "access is controlled here, and perhaps the token may not see it: service:read and node:read are needed"
DOUBTFUL: Final = "the list vanished together with the registry's index: lost by the servers, more likely than true"


class Exchanger(Protocol):
    """What carries the calls."""

    @property
    def room(self) -> int:
        """How many calls may be under way at once; another number when another server is asked, or it was restarted."""
        ...

    def attend(self, group: TaskGroup) -> None:
        """Has it do in this group what has to be done beside the calls."""
        ...

    async def reply(
        self,
        call: Call[Any],
        *,
        within: float | None = None,
        arrived: Callable[[WireAnswer], None] | None = None,
    ) -> Reply:
        """Sends a call and returns the reply, unread; may tell of it, unjudged, as soon as it has arrived."""
        ...

    async def aclose(self, *, lent: bool = False) -> None:
        """Closes every connection."""
        ...


class Hub:
    """All questions of one client.

    Args:
        exchanger: what carries the calls; each is sent once.
        wait: seconds for the server to wait when nothing happens.
        read_timeout: seconds of silence that every call allows.
        token: a number that is another one when the token is another one.

    Everything but the constructor runs in the one event loop that `run` runs in.
    """

    def __init__(self, exchanger: Exchanger, *, wait: float, read_timeout: float, token: Callable[[], int]) -> None:
        self._exchanger = exchanger
        self._wait = wait
        self._read_timeout = read_timeout
        self._token = token
        self._random = random.Random()  # noqa: S311 - it spreads requests, it guards nothing
        self._questions: dict[Key, Question] = {}
        self._turns = itertools.count(1)
        self._at_once: list[tuple[float, int, Question]] = []
        self._waiting: list[tuple[float, int, Question]] = []
        self._busy = self._blocked = 0
        self._closed = False
        self._trouble = ""
        self._unreachable = False
        self._controlled: tuple[int, float, bool] | None = None
        self._probed_at = self._looked_at = time.monotonic()
        self._probe_at = self._probed_at + self._random.uniform(0.8, 1.0) * PROBE_EVERY
        self._probing = False
        self._bell = Bell()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._questions)} questions, {self._busy} requests under way>"

    # --- who wants to know --------------------------------------------------------------------------------

    def listen(self, reading: Reading[Any], listener: Listener) -> Question | None:
        """Has a listener told what is known, and whatever changes; None when it is all over."""
        if self._closed:
            listener.over()
            return None
        question = self._questions.get(reading.key)
        if question is None:
            now = time.monotonic()
            rule = BlockingQuery(spread=self._random.uniform, now=now, wait=self._wait)
            question = self._questions[reading.key] = Question(reading, rule, self._read_timeout)
            self._put(question)
        question.listen(listener)
        return question

    def forget(self, question: Question, listener: Listener) -> None:
        """The listener does not want to know any more; with the last one the question ends."""
        question.forget(listener)
        if question.listeners or not self._is_wanted(question):
            return
        del self._questions[question.key]
        question.turn = 0
        if question.scope is not None:
            question.scope.cancel()

    def close(self) -> None:
        """Ends it all."""
        self._closed = True
        self._bell.ring()

    # --- the one loop -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Asks, until it is closed."""
        try:
            async with anyio.create_task_group() as group:
                self._exchanger.attend(group)
                while not self._closed:
                    rung = self._bell.rung
                    self._start_due(group, time.monotonic())
                    await self._bell.wait(rung, self._pause(time.monotonic()))
                group.cancel_scope.cancel()
        finally:
            self._closed = True
            for question in self._questions.values():
                for listener in question.listeners:
                    listener.over()
            with anyio.CancelScope(shield=True):
                await self._exchanger.aclose(lent=True)

    def _start_due(self, group: TaskGroup, now: float) -> None:
        self._look_for_a_new_token(now)
        for question in self._due(now):
            question.busy = True
            question.turn = 0
            self._busy += 1
            group.start_soon(self._serve, question)
        if now >= self._probe_at and not self._probing and self._questions:
            self._probing = True
            group.start_soon(self._probe)

    def _due(self, now: float) -> Iterator[Question]:
        """The questions that are due and for which there is a place."""
        lanes, seats = self._lanes, self._seats
        while self._busy < lanes and (question := _first(self._at_once, now)):
            yield question
        while self._blocked < seats and self._busy < lanes:
            question = _first(self._waiting, now)
            if question is None:
                return
            self._blocked += 1
            yield question

    def _pause(self, now: float) -> float:
        """Seconds until something is due. With all places taken no clock is needed: whoever gives one back rings."""
        times = [self._probe_at] if self._questions and not self._probing else []
        if self._busy < self._lanes:
            heaps = (self._at_once, self._waiting) if self._blocked < self._seats else (self._at_once,)
            times += [heap[0][0] for heap in heaps if heap]
        if any(question.refused_token is not None for question in self._questions.values()):
            times.append(self._looked_at + TOKEN_LOOK)
        return max(0.0, min(times) - now) if times else 3600.0

    def _put(self, question: Question) -> None:
        question.turn = next(self._turns)
        heap = self._waiting if question.waits else self._at_once
        heapq.heappush(heap, (question.rule.due, question.turn, question))
        self._bell.ring()

    @property
    def _lanes(self) -> int:
        """How many questions may be asked at once; one place is for asking who leads."""
        return max(1, self._exchanger.room - 1)

    @property
    def _seats(self) -> int:
        """How many of them may wait for a change."""
        return max(1, self._exchanger.room - SPARE)

    @property
    def _shared(self) -> bool:
        return len(self._questions) > self._seats

    def _longest_wait(self) -> float:
        """How long a question may wait at the agent, so that every one has its turn."""
        return ROUND * self._seats / len(self._questions) if self._shared else 600.0

    def _is_wanted(self, question: Question) -> bool:
        return self._questions.get(question.key) is question

    # --- one request --------------------------------------------------------------------------------------

    async def _serve(self, question: Question) -> None:
        blocks = question.waits
        try:
            with anyio.CancelScope() as question.scope:
                if self._is_wanted(question):
                    await self._ask(question)
        except ClientClosed:
            return
        except ConsulAccessError as error:
            self._failed(question, error)
        except Exception as error:  # the engine outlives everything
            log.exception("watching %s failed in a way that was not foreseen; it goes on", question.reading.call.name)
            self._failed(question, BadAnswer(f"it cannot be read ({error!r})"))
        finally:
            question.scope = None
            question.busy = False
            self._busy -= 1
            self._blocked -= blocks
            if self._is_wanted(question):
                self._put(question)
            self._bell.ring()

    async def _ask(self, question: Question) -> None:
        ask = question.rule.ask(time.monotonic(), longest=min(self._longest_wait(), question.reading.longest))
        call = question.asking(ask, consistent=question.guard.is_holding)
        question.expect(calm=ask.index is not None and not self._trouble and not self._shared)
        reply = await self._exchanger.reply(call, arrived=question.take)
        if question.taken:
            return
        value = await self._read(question, reply)
        verdict = question.judge(value, reply, confirmed=ask.index is None and CONSISTENT in call.query)
        if verdict is Verdict.CONFIRM:
            reply = await self._exchanger.reply(question.asking(Ask(None, 0.0), consistent=True))
            value = await self._read(question, reply)
            verdict = question.judge(value, reply, confirmed=True)
        if verdict is Verdict.HOLD:
            question.rule.suspect(time.monotonic())
            self._doubted(question, DOUBTFUL, None)
            return
        was = question.latest
        hidden = "" if value else await self._hidden(QueryMeta(reply.headers))
        news = question.believe(value, reply, shared=self._shared, reason=hidden)
        self._has_answered()
        if question.rule.odd_indexes == 1:
            log.warning("%r: answers without a usable X-Consul-Index; changes are seen late", question.subject)
        if self._trouble:
            question.doubt(self._trouble)
        if not news and not was.is_stale and time.monotonic() - self._probed_at > PROBE_PAUSE:
            self._probe_at = min(self._probe_at, time.monotonic())
        if was.is_stale and not question.latest.is_stale:
            log.info("%s of %r can be confirmed again", question.reading.call.name, question.subject)
        question.tell()

    def _has_answered(self) -> None:
        """An answer proves that the agent can be reached, and asks for a look whether there is a leader again."""
        if self._trouble and self._unreachable:
            self._judged("")
        elif self._trouble and time.monotonic() - self._probed_at > PROBE_SOON / 4:
            self._probe_at = time.monotonic()

    async def _hidden(self, meta: QueryMeta) -> str:
        """Why nothing may be seen although there is something; empty when there is no sign of that."""
        if meta.filtered_by_acls:
            return HIDDEN
        if meta.default_acl_policy is not None:
            return HIDDEN if meta.default_acl_policy == "deny" else ""
        token, now = self._token(), time.monotonic()
        if self._controlled is None or self._controlled[0] != token or now > self._controlled[1] + ACLS_KNOWN:
            try:  # agents before 1.10 do not tell
                call = consul.acl.in_force()
                in_force = call.read(await self._exchanger.reply(call, within=PROBE_PATIENCE))
            except ConsulAccessError as error:
                log.debug("whether access is controlled cannot be told: %s", error)
                in_force = None
            self._controlled = token, now, bool(in_force)
        return HIDDEN if self._controlled[2] else ""

    async def _read(self, question: Question, reply: Reply) -> Any:
        steps = question.reading.read(reply)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            except ConsulAccessError as error:
                error.operation, error.address = question.reading.call.name, reply.address
                raise
            await checkpoint()

    def _failed(self, question: Question, error: ConsulAccessError) -> None:
        now = time.monotonic()
        if isinstance(error, RequestRefused):
            question.refused_token = self._token()
            question.rule.refused(now)
        else:
            question.rule.failed(now)
        self._doubted(question, str(error), error)

    def _doubted(self, question: Question, reason: str, error: ConsulAccessError | None) -> None:
        if not question.latest.is_stale:
            log.warning("%s of %r cannot be confirmed: %s", question.reading.call.name, question.subject, reason)
        question.doubt(reason, error)
        question.tell()

    # --- whether the servers are well ---------------------------------------------------------------------

    async def _probe(self) -> None:
        """Asks who leads: agents go on answering 200 with old lists when nobody does."""
        begun = time.monotonic()
        try:
            reply = await self._exchanger.reply(consul.status.leader(), within=PROBE_PATIENCE)
            trouble = "" if consul.status.leader().read(reply) else "the servers have no leader"
            self._unreachable = False
        except (ConnectionLimit, PoolExhausted):
            trouble = self._trouble  # that says nothing about the servers
        except Unavailable as error:
            trouble = str(error)
            self._unreachable = not isinstance(error, NoLeader)
        except ConsulAccessError as error:
            log.debug("who leads cannot be asked here: %s", error)
            trouble = ""
        except Exception:  # such as a token function's own
            log.exception("asking who leads failed in a way that was not foreseen; the watches go on")
            trouble = ""
        finally:
            self._probing = False
            self._probed_at = time.monotonic()
            self._probe_at = self._probed_at + self._random.uniform(0.8, 1.0) * PROBE_EVERY
            self._bell.ring()
        if trouble:
            self._probe_at = self._probed_at + PROBE_SOON
        elif self._trouble or self._probed_at - begun > PROBE_SLOW:
            self._ask_anew()
        self._judged(trouble)

    def _ask_anew(self) -> None:
        """Servers were stuck. Agents move on to others, but what waits at a frozen one is not moved with them."""
        now = time.monotonic()
        for question in self._questions.values():
            if question.scope is not None and question.waits:
                question.rule.anew(now)
                question.scope.cancel()

    def _judged(self, trouble: str) -> None:
        if trouble and not self._trouble:
            log.warning("no list can be confirmed: %s", trouble)
        before, self._trouble = self._trouble, trouble
        for question in self._questions.values():
            if trouble and not question.latest.is_stale:
                question.doubt(trouble)
                question.tell()
            elif before and not trouble and question.rule.is_failing:
                self._hasten(question)
            elif before and not trouble and not question.guard.is_holding:
                question.trust()
                question.tell()

    def _hasten(self, question: Question) -> None:
        """After a long outage its pause is long, too; but now the agent answers."""
        if not question.busy and question.refused_token is None:
            question.rule.anew(time.monotonic())
            self._put(question)

    def _look_for_a_new_token(self, now: float) -> None:
        if now - self._looked_at < TOKEN_LOOK:
            return
        self._looked_at = now
        refused = [question for question in self._questions.values() if question.refused_token is not None]
        if not refused:
            return
        token = self._token()
        for question in refused:
            if question.refused_token != token and not question.busy:
                question.refused_token = None
                question.rule.hasten(now)
                self._put(question)


def _first(heap: list[tuple[float, int, Question]], now: float) -> Question | None:
    """Takes the question that has been due for the longest; entries that were replaced are thrown away."""
    while heap and heap[0][0] <= now:
        _, turn, question = heapq.heappop(heap)
        if question.turn == turn:
            return question
    return None
