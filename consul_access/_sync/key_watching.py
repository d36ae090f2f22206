# Written by tools/faces.py from consul_access/_async/key_watching.py; edit that one.
"""A watch over keys that outlives its streams: members may die, freeze, lose their leader or forget old revisions.

It decides nothing itself (`rules.key_watching` does). It opens streams, reads them, and pauses in between.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from consul_access._pairs.threads import Flag
from consul_access._sync.gateway import Gateway, Opened
from consul_access._sync.keys import KeyReader
from consul_access.errors import BadAnswer, ClientClosed, Compacted, ConsulAccessError
from consul_access.etcd import kv, texts
from consul_access.etcd.watch import Range, open_watch
from consul_access.models.keys import EventKind, KeyEvent
from consul_access.rules.key_watching import KeyWatchState, Then, Watching, WatchLine, is_at_once, reopening_pause
from consul_access.wire import Broken

__all__ = ["KeyWatch"]

log = logging.getLogger("consul_access")

CATCH_UP_SECONDS = 1.0
"""What a watch has missed is sent within a tenth of that after it has begun (etcd's `syncWatchersLoop`)."""
QUIET_SECONDS = 4.0
"""How long a stream may say nothing before its member is asked whether it is still there."""


class KeyWatch:
    """What happens to keys, as it happens; made by `watch_key` and `watch_prefix`.

    Iterate over it. No event is lost, told twice, or told out of order, whatever happens to members and connections:
    after a break the watch goes on behind the last event. Only when etcd has compacted away what happened meanwhile
    does it tell a `resync` instead, with all the keys that there are now.

    In a `with` block it has begun when the block begins; otherwise it begins with the first event that is asked for.
    Iteration ends after `close()`, which may come from elsewhere, and when the client is closed.

    One thread or task iterates at a time.
    """

    def __init__(
        self,
        gateway: Gateway,
        reader: KeyReader,
        ranges: Sequence[Range],
        *,
        start: int = 0,
        previous: bool = False,
        on_state: Callable[[KeyWatchState], None] | None = None,
        quiet: float = QUIET_SECONDS,
    ) -> None:
        self._gateway = gateway
        self._reader = reader
        self._ranges = tuple(ranges)
        self._previous = previous
        self._on_state = on_state
        self._quiet = quiet
        self._watches = tuple(Watching(texts.meaning_of, start) for _ in self._ranges)
        self._events: deque[KeyEvent] = deque()
        self._behind: set[int] = set()
        self._opened: Opened | None = None
        self._unconfirmed: set[int] = set()
        self._stop = Flag()
        self._state = KeyWatchState.PENDING
        self._since = self._confirmed_at = time.monotonic()
        self._failures = 0
        self._renewed = self._renewing = self._doubted = False
        self._token: str | None = None
        self._told = start
        self._why = ""
        self._heard_at = self._since

    # --- for users ----------------------------------------------------------------------------------------

    @property
    def state(self) -> KeyWatchState:
        """How it stands; `on_state` is told each change."""
        return self._state

    @property
    def suspended_for(self) -> float:
        """Seconds for which no member could be watched; 0 while one is."""
        return time.monotonic() - self._since if self._state is KeyWatchState.SUSPENDED else 0.0

    @property
    def reason(self) -> str:
        """What the last stream ended with, or why none could be opened."""
        return self._why

    @property
    def heard_at(self) -> float:
        """When the member was last known to be there, on the clock of `time.monotonic()`."""
        return self._heard_at

    @property
    def is_behind(self) -> bool:
        """Whether it has begun a moment ago, and events of the time before that may still be on their way."""
        is_new = time.monotonic() - self._since < CATCH_UP_SECONDS
        return is_new and any(one.is_behind for one in self._watches)

    @property
    def pending(self) -> int:
        """How many events have come and were not asked for yet."""
        return len(self._events)

    @property
    def next_revision(self) -> int:
        """The revision to give as `start_revision` to go on from here, perhaps in another process; 0 for now.

        While events of one revision were handed out in part, it is that revision: they will come again.
        """
        return self._told if self._events else min(watch.resume_at for watch in self._watches)

    def close(self) -> None:
        """Ends it; whoever waits for the next event is told that there is none."""
        self._stop.set()
        opened = self._opened
        if opened is not None:
            opened.stream.interrupt()
        self._become(KeyWatchState.CLOSED)

    def __enter__(self) -> Self:
        try:
            while self._state is not KeyWatchState.CONNECTED and not self._stop.is_set():
                self._step()
        except BaseException:  # no block has begun that would end it
            self._drop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._drop()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> KeyEvent:
        while not self._stop.is_set():
            if self._events:
                return self._hand_out()
            self._step()
        self._drop()
        raise StopIteration

    def __repr__(self) -> str:
        keys = ", ".join(repr(one.key) + ("..." if one.end is not None else "") for one in self._ranges)
        return f"<{type(self).__name__} of {keys}: {self._state}, from revision {self.next_revision}>"

    def _hand_out(self) -> KeyEvent:
        event = self._events.popleft()
        in_part = bool(self._events) and self._events[0].revision == event.revision
        self._told = event.revision if in_part else event.revision + 1
        return event

    def _step(self) -> None:
        opened = self._opened
        (self._open() if opened is None else self._advance(opened))

    # --- opening ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Tries once to open a stream, after the pause that is due."""
        pause = reopening_pause(self._failures, time.monotonic() - self._since, random.uniform)
        if pause and self._stop.wait(pause):
            return
        try:
            self._prepare()
            starts = [(one, watch.opens_at) for one, watch in zip(self._ranges, self._watches, strict=True)]
            self._opened = self._gateway.open(open_watch(starts, previous=self._previous))
        except ClientClosed:
            self.close()
        except ConsulAccessError as error:
            if not error.retryable and not isinstance(error, Compacted):  # compacted while it was read anew
                raise
            self._broke(f"{error}")
        else:
            self._token = self._opened.token
            self._unconfirmed = set(range(len(self._ranges)))
            if self._stop.is_set():  # close() came when there was nothing to interrupt
                self._drop()

    def _prepare(self) -> None:
        """Does what the end of the last stream calls for."""
        if self._renewing:
            self._gateway.renew(self._token)
            self._renewing = False
        if self._doubted:
            page = self._gateway.send(kv.get(kv.Get(self._ranges[0].key, limit=1, count_only=True)))
            if page.revision + 1 < max(watch.resume_at for watch in self._watches):
                log.warning("etcd's store has gone back to revision %d; reading all of it", page.revision)
                self._behind.update(range(len(self._ranges)))
            self._doubted = False
        for number in sorted(self._behind):
            self._read_anew(number)

    def _read_anew(self, number: int) -> None:
        """Reads a whole range, since events of it are missing, and tells that."""
        wanted = self._ranges[number]
        items, revision = self._reader.read_all(kv.Get(wanted.key, wanted.end))
        self._watches[number].restart(revision)
        self._events.append(
            KeyEvent(EventKind.RESYNC, _named(wanted), revision=revision, items=items),
        )
        self._behind.discard(number)

    # --- reading ------------------------------------------------------------------------------------------

    def _advance(self, opened: Opened) -> None:
        """Reads on: what comes next, or whether the member is still there when nothing does."""
        try:
            lines = opened.read(time.monotonic() + self._quiet)
        except TimeoutError:
            if not self._gateway.is_alive(opened.target, self._quiet / 2):
                self._lose(opened, "the member says nothing any more", distrust=True)
            else:
                self._heard_at = time.monotonic()
            return
        except Broken as broken:
            self._lose(opened, str(broken.error), distrust=True)
            return
        except BadAnswer:
            self._drop()
            raise
        self._heard_at = time.monotonic()
        for line in lines:
            if not self._take(opened, line):
                return
        if opened.has_ended:
            self._lose(opened, "the member ended the stream", distrust=True)

    def _take(self, opened: Opened, line: WatchLine) -> bool:
        """Does what a line calls for; whether to read on. What may fail or take long is left to the next opening."""
        number = line.watch_id if 0 <= line.watch_id < len(self._watches) else 0
        step = self._watches[number].take(line)
        self._events += step.events
        if step.then is Then.GO_ON:
            if line.created:
                self._confirm(number)
            return True
        if step.then is Then.RESYNC:
            # All of the ranges, so that what is told of them next belongs together.
            self._behind.update(range(len(self._ranges)))
            log.info("what happened to %r is compacted away; reading all of it", self._ranges[number].key)
        elif step.then is Then.DOUBT:
            self._doubted = True
        elif step.then is Then.RENEW and not self._renewed:
            self._renewed = self._renewing = True
        elif step.then is not Then.REOPEN:
            self._drop()
            raise step.meaning.error(
                step.meaning.message, operation="watch", address=str(opened.target), excerpt=step.text
            )
        distrust = step.then in {Then.REOPEN, Then.DOUBT}
        self._lose(opened, step.text or "the watch was canceled", distrust=distrust, at_once=not distrust)
        return False

    # --- what becomes of it -------------------------------------------------------------------------------

    def _confirm(self, number: int) -> None:
        self._unconfirmed.discard(number)
        self._told = self._told or self._watches[number].resume_at
        if not self._unconfirmed:
            self._renewed = False
            self._confirmed_at = time.monotonic()
            self._become(KeyWatchState.CONNECTED)

    def _lose(self, opened: Opened, why: str, *, distrust: bool, at_once: bool = False) -> None:
        lasted = None if self._unconfirmed else time.monotonic() - self._confirmed_at
        self._drop()
        if self._stop.is_set():
            return
        if distrust:
            self._gateway.distrust(opened.target)
        self._broke(f"{opened.target}: {why}", again_at_once=is_at_once(lasted, is_deliberate=at_once))

    def _broke(self, why: str, *, again_at_once: bool = False) -> None:
        log.log(logging.DEBUG if again_at_once else logging.INFO, "the watch will be opened again: %s", why)
        self._why = why
        self._failures = 0 if again_at_once else self._failures + 1
        self._become(KeyWatchState.SUSPENDED)

    def _drop(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.stream.close()
        for watch in self._watches:
            watch.lost()

    def _become(self, state: KeyWatchState) -> None:
        if state is self._state or self._state is KeyWatchState.CLOSED:
            return
        self._state, self._since = state, time.monotonic()
        if self._on_state is not None:
            try:
                self._on_state(state)
            except Exception:
                log.exception("on_state failed; the watch goes on")


def _named(wanted: Range) -> bytes:
    return b"" if wanted.key == b"\0" and wanted.end == b"\0" else wanted.key
