"""One question that is asked again and again: what is known, who wants to know, and when it is asked next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from anyio import CancelScope

from consul_access._live.reading import Key, Reading, Snapping
from consul_access.call import Call, Reply
from consul_access.errors import ConsulAccessError
from consul_access.models.meta import QueryMeta, number
from consul_access.rules.blocking import Ask, BlockingQuery, silence_allowed
from consul_access.rules.guarding import Guard, Verdict, may_be_another, went_back
from consul_access.wire import WireAnswer

__all__ = ["Driver", "Known", "Listener", "Question"]

log = logging.getLogger("consul_access")

CONSISTENCIES: Final = frozenset({"stale", "cached", "consistent"})
CONSISTENT: Final = ("consistent", None)


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """Who is told what is known, in the engine's thread or task.

    Args:
        tell: takes the newest snapshot, and what stands in the way of a newer one.
        over: there will be no more.
    """

    tell: Callable[[Any, ConsulAccessError | None], None]
    over: Callable[[], None]


class Known:
    """What is known about one question, and who is told.

    Args:
        reading: the question.
    """

    __slots__ = ("error", "guard", "latest", "listeners", "reading")

    def __init__(self, reading: Snapping[Any]) -> None:
        self.reading: Any = reading
        self.guard = Guard()
        self.latest: Any = reading.blank
        self.error: ConsulAccessError | None = None
        self.listeners: tuple[Listener, ...] = ()

    @property
    def key(self) -> Key:
        """Equal for equal questions."""
        key: Key = self.reading.key
        return key

    @property
    def subject(self) -> str:
        """Whom it concerns, for a person to read."""
        subject: str = self.reading.subject
        return subject

    def doubt(self, reason: str, error: ConsulAccessError | None = None) -> None:
        """What is known cannot be confirmed at the moment."""
        self.error = error
        since = {} if self.latest.is_stale else {"stale_since": datetime.now(UTC), "stale_at": time.monotonic()}
        source = "memory" if self.latest.source == "live" else self.latest.source
        self.latest = replace(self.latest, **since, source=source, reason=reason)

    def trust(self) -> None:
        """What is known was only doubted because of the servers, and they are well again."""
        source = "live" if self.latest.source == "memory" else self.latest.source
        self.latest = replace(self.latest, stale_since=None, stale_at=None, source=source, reason="")

    def tell(self) -> None:
        """Tells all listeners."""
        for listener in self.listeners:
            self._tell(listener)

    def listen(self, listener: Listener) -> None:
        """Has a listener told, now if something is known already."""
        self.listeners = (*self.listeners, listener)
        if self.latest.source != "nothing" or self.latest.is_stale:
            self._tell(listener)

    def _tell(self, listener: Listener) -> None:
        try:
            listener.tell(self.latest, self.error)
        except Exception:  # such as a user's balancer
            log.exception("a new list of %r could not be taken over; the last one stays in use there", self.subject)

    def forget(self, listener: Listener) -> None:
        """Does not tell it any more."""
        self.listeners = tuple(other for other in self.listeners if other is not listener)


class Driver(Protocol):
    """What drives the questions of one client, in one event loop."""

    def listen(self, reading: Any, listener: Listener, /) -> Known | None:
        """Has a listener told what is known, and whatever changes; None when it is all over."""
        ...

    def forget(self, known: Any, listener: Listener, /) -> None:
        """The listener does not want to know any more."""
        ...

    def close(self) -> None:
        """Ends it all."""
        ...

    async def run(self) -> None:
        """Goes on until it is closed."""
        ...


class Question(Known):
    """One question that is asked again and again.

    Args:
        reading: the question.
        rule: when it is asked.
        read_timeout: seconds of silence that every call allows; what a blocking query needs comes on top.
    """

    __slots__ = ("_read_timeout", "believed_index", "busy", "calm", "refused_token", "rule", "scope", "taken", "turn")

    def __init__(self, reading: Reading[Any], rule: BlockingQuery, read_timeout: float) -> None:
        super().__init__(reading)
        self.rule = rule
        self.believed_index = 0
        self.busy = False
        self.turn = 0
        self.taken = self.calm = False
        self.scope: CancelScope | None = None
        self.refused_token: int | None = None
        self._read_timeout = read_timeout

    @property
    def waits(self) -> bool:
        """Whether it will wait at the agent when it is asked next."""
        return self.rule.index > 0 and not self.guard.is_holding

    def expect(self, *, calm: bool) -> None:
        """An answer is waited for.

        Args:
            calm: nothing speaks against taking good news over at once.
        """
        self.taken = False
        is_live = self.latest.source == "live" and not self.latest.is_stale
        self.calm = calm and is_live and not self.rule.is_failing and not self.guard.is_holding

    def doubt(self, reason: str, error: ConsulAccessError | None = None) -> None:
        """What is known cannot be confirmed at the moment."""
        self.calm = False
        super().doubt(reason, error)

    def asking(self, ask: Ask, *, consistent: bool = False) -> Call[Any]:
        """The call for one request.

        Args:
            ask: what to wait for. What has to be proven is read consistently, unless another consistency was chosen.
            consistent: read consistently, whatever was chosen.
        """
        call: Call[Any] = self.reading.call
        pairs = call.query
        if consistent:
            pairs = tuple(pair for pair in pairs if pair[0] not in CONSISTENCIES)
        if consistent or (ask.proven and not any(pair[0] in CONSISTENCIES for pair in pairs)):
            pairs = (*pairs, CONSISTENT)
        if ask.index is None:
            return call._replace(query=pairs)
        waiting = ("index", str(ask.index)), ("wait", f"{ask.wait * 1000:.0f}ms")
        patience = silence_allowed(ask.wait) - self._read_timeout
        return call._replace(query=(*pairs, *waiting), patience=patience)

    def take(self, answer: WireAnswer) -> None:
        """Takes an answer over at the moment it has arrived, if it is news and nothing about it is in doubt.

        Whatever else there is to an answer has time until its task's turn comes, where `taken` is looked at.
        """
        if not self.calm or answer.status != 200:
            return
        index = number(answer.headers.first(b"X-Consul-Index"))
        if may_be_another(index, self.believed_index):
            return
        try:
            value = self.reading.read_at_once(answer)
        except ConsulAccessError:
            return  # it is read again, and judged, in its task
        if value and not self.reading.same(self.reading.value(self.latest), value):
            self.taken = True
            now = time.monotonic()
            self._confirm(value, index, now, shared=False, reason="")
            self.tell()
            self.rule.answered(index, changed=True, now=now)

    def judge(self, value: Any, reply: Reply, *, confirmed: bool) -> Verdict:
        """What to do with an answer.

        Args:
            value: what it says.
            reply: the answer.
            confirmed: it was read consistently.
        """
        index, before = QueryMeta(reply.headers).index, self.reading.value(self.latest)
        # After an outage it may be another registry that answers, with whatever index.
        restarted = may_be_another(index, self.believed_index) or self.rule.is_failing or self.guard.is_holding
        older = went_back(index, self.believed_index) and not self.reading.same(before, value)
        now = time.monotonic()
        return self.guard.judge(len(before), len(value), restarted=restarted, confirmed=confirmed, now=now, older=older)

    def believe(self, value: Any, reply: Reply, *, shared: bool, reason: str) -> bool:
        """The answer is what is known from now on; whether that is news."""
        before = self.reading.value(self.latest)
        same = self.latest.source in {"live", "memory"} and self.reading.same(before, value)
        value = before if same else value
        index, now = QueryMeta(reply.headers).index, time.monotonic()
        self._confirm(value, index, now, shared=shared, reason=reason)
        self.rule.answered(index, changed=not same, now=now)
        return not same

    def _confirm(self, value: Any, index: int | None, now: float, *, shared: bool, reason: str) -> None:
        self.latest = self.reading.confirmed(value, index, now, shared=shared, reason=reason)
        self.believed_index = index or 0
        self.error = None
        self.refused_token = None
