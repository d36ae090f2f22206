# Written by tools/faces.py from consul_access/_async/watching.py; edit that one.
"""`watch`: an iterator of snapshots, one whenever something has changed."""

from __future__ import annotations

import logging
import math
import os
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from consul_access._pairs.threads import BEGINS_AGAIN_AFTER_FORK, Bell, Host, Worker, settled
from consul_access.errors import ClientClosed, ConsulAccessError
from consul_access.models.snapshot import ServiceSnapshot, ServicesSnapshot
from consul_access.rules.comparing import difference

if TYPE_CHECKING:
    from consul_access._live.question import Driver, Known, Listener
    from consul_access._live.reading import Snapping

__all__ = ["Engine", "Watch"]

S = TypeVar("S", ServiceSnapshot, ServicesSnapshot)
log = logging.getLogger("consul_access")


class _Subscription:
    """Somebody who wants to know."""

    __slots__ = ("listener", "question", "reading")

    def __init__(self, reading: Snapping[Any], listener: Listener) -> None:
        self.reading = reading
        self.listener = listener
        self.question: Known | None = None


class Engine:
    """The engine of one client, as this face has it: started when it is first needed, ended with the client.

    Args:
        make: makes what drives it.
    """

    def __init__(self, make: Callable[[], Driver]) -> None:
        self._make = make
        self._hub: Driver | None = None
        self._host: Host | None = None
        self._subscriptions: set[_Subscription] = set()
        self._closed = False
        if BEGINS_AGAIN_AFTER_FORK:
            _engines.add(self)

    def listen(
        self,
        reading: Snapping[Any],
        tell: Callable[[Any, ConsulAccessError | None], None],
        over: Callable[[], None],
    ) -> Callable[[], None]:
        """Has somebody told what is known of a question; returns what ends that.

        Args:
            reading: the question.
            tell: takes the newest snapshot, and what stands in the way of a newer one.
            over: there will be no more.

        Raises:
            ClientClosed: the client is closed.
        """
        from consul_access._live.question import Listener

        subscription = _Subscription(reading, Listener(tell, over))
        self._begin(subscription)
        self._subscriptions.add(subscription)
        return lambda: self._end(subscription)

    def close(self) -> None:
        """Ends it; all listeners are told that it is over."""
        self._closed = True
        hub, host = self._hub, self._host
        if hub is not None and host is not None:
            host.call(hub.close)
            host.join(1.0)

    def _begin(self, subscription: _Subscription) -> None:
        hub, host = self._running()

        def begin() -> None:
            subscription.question = hub.listen(subscription.reading, subscription.listener)

        host.call(begin)

    def _end(self, subscription: _Subscription) -> None:
        self._subscriptions.discard(subscription)
        hub, host = self._hub, self._host
        if hub is None or host is None:
            return

        def end() -> None:
            question, subscription.question = subscription.question, None
            if question is not None:
                hub.forget(question, subscription.listener)

        host.call(end)

    def _running(self) -> tuple[Driver, Host]:
        if self._closed:
            raise ClientClosed("the client is closed")
        if self._hub is None or self._host is None or not self._host.is_running:
            self._hub = self._make()
            self._host = Host(self._hub.run, "consul-access watches")
            self._host.start()
        return self._hub, self._host

    def _begin_again(self) -> None:
        """In a forked child: the thread stayed with the parent, so another one takes over."""
        if self._hub is None or self._closed:
            return
        self._hub = self._host = None
        for subscription in tuple(self._subscriptions):
            self._begin(subscription)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _begin_again_in_child() -> None:
    for engine in list(_engines):
        engine._begin_again()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again_in_child)


class _Inbox:
    """What a watch has been told and not yet handed out: the newest of each question."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.news: dict[int, tuple[Any, ConsulAccessError | None]] = {}
        self.is_over = False

    def put(self, place: int, snapshot: Any, error: ConsulAccessError | None) -> None:
        self.news[place] = snapshot, error
        self.bell.ring()

    def close(self) -> None:
        self.is_over = True
        self.bell.ring()


class Watch(Generic[S]):
    """Gives a snapshot at first, and another one whenever something has changed; made by `watch`.

    Something is an instance, or whether the registry can confirm what is known. A reader who is slow gets the newest
    snapshot, whose `diff` is against the one before that he was given. It ends with `close()`, and with the client's.

    Iterate over it, in a `with` block or to the end of the client. It begins with the first snapshot asked for.
    """

    def __init__(self, engine: Engine, readings: Sequence[Snapping[S]], *, raise_errors: bool) -> None:
        self._engine = engine
        self._readings: Sequence[Snapping[Any]] = readings
        self._raise_errors = raise_errors
        self._inbox = _Inbox()
        self._given: dict[int, S] = {}
        self._ends: list[Callable[[], None]] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> S:
        if self._ends is None:
            self._begin()
        while True:
            rung = self._inbox.bell.rung
            if self._inbox.is_over:
                self.close()
                raise StopIteration
            found = self._next()
            if found is not None:
                return found
            self._inbox.bell.wait(rung, math.inf)

    def close(self) -> None:
        """Ends it; whoever waits for its next snapshot is told that there is none."""
        ends, self._ends = self._ends or [], []
        for end in ends:
            end()
        self._inbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        for end in getattr(self, "_ends", None) or ():
            end()

    def __repr__(self) -> str:
        names = ", ".join(repr(reading.subject) for reading in self._readings)
        return f"<{type(self).__name__} {names}{' closed' if self._inbox.is_over else ''}>"

    def _begin(self) -> None:
        self._ends = []
        for place, reading in enumerate(self._readings):
            self._ends.append(self._engine.listen(reading, partial(self._inbox.put, place), self._inbox.close))

    def _next(self) -> S | None:
        """The next snapshot worth giving, of those that have come."""
        while self._inbox.news:
            place = next(iter(self._inbox.news))
            snapshot, error = self._inbox.news.pop(place)
            if error is not None and self._raise_errors:
                raise error
            if snapshot.source == "nothing" or not _is_news(self._given.get(place), snapshot):
                continue
            before = self._given.get(place, self._readings[place].blank)
            self._given[place] = snapshot
            compared: S = _compared(before, snapshot)
            return compared
        return None


def _is_news(before: Any, after: Any) -> bool:
    return (
        before is None
        or any(getattr(before, name) != getattr(after, name) for name in ("source", "stale_since", "shared"))
        or _value(before) != _value(after)
    )


def _value(snapshot: ServiceSnapshot | ServicesSnapshot) -> object:
    return snapshot.instances if isinstance(snapshot, ServiceSnapshot) else snapshot.services


def _compared(before: Any, after: Any) -> Any:
    """The snapshot, with what is different from the one before."""
    age = 0.0 if after.answered_at is None else max(0.0, time.monotonic() - after.answered_at)
    if isinstance(after, ServiceSnapshot):
        return replace(after, diff=difference(before.instances, after.instances), age=age)
    added = tuple(name for name in after.services if name not in before.services)
    removed = tuple(name for name in before.services if name not in after.services)
    return replace(after, added=added, removed=removed, age=age)


class Caller:
    """Calls a function with every snapshot of a watch, in a thread or task of its own.

    Args:
        watch: the snapshots.
        function: what is called; if it raises, the log says so, and it is called with the next one all the same.
    """

    def __init__(self, watch: Watch[S], function: Callable[[S], object]) -> None:
        self._watch: Watch[Any] = watch
        self._function: Callable[[Any], object] = function
        self._worker = Worker(self._run, f"consul-access {watch!r}")

    def _run(self) -> None:
        for snapshot in self._watch:
            try:
                settled(self._function(snapshot))
            except Exception:
                log.exception("the function that watches failed; it will be called again")

    def stop(self) -> None:
        """Ends the watch, and waits until the function is done."""
        self._watch.close()
        self._worker.join(1.0)
