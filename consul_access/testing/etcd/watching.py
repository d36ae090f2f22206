"""Watches: what was asked for on one stream, and the lines that it is answered with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consul_access.testing.etcd.dialect import Refused
from consul_access.testing.etcd.store import Event, Store, covers

__all__ = ["PROGRESS_EVERY", "Stream", "Watcher"]

PROGRESS_EVERY: Final = 600.0
FRAGMENT_BYTES: Final = 2 * 1024 * 1024
_NOPUT, _NODELETE = 0, 1


@dataclass(slots=True)
class Watcher:
    """One watch of a stream.

    Args:
        key: the first key.
        end: the end of the range; empty for a single key.
        start: the first revision of interest.
        filters: events that are left out: 0 for writing, 1 for deleting.
        previous: events tell what was there before.
        progress: it is told from time to time that nothing has happened.
        fragment: long lines are split.
        lost: it began before what has been compacted: it is told nothing, and keeps its number until it is canceled.
    """

    key: bytes
    end: bytes
    start: int
    filters: frozenset[int]
    previous: bool
    progress: bool
    fragment: bool
    lost: bool

    def wants(self, event: Event) -> bool:
        """Whether it is to be told of this."""
        if self.lost:
            return False
        left_out = _NODELETE if event.is_delete else _NOPUT
        pair = event.pair
        return pair.mod >= self.start and left_out not in self.filters and covers(self.key, self.end, pair.key)


class Stream:
    """The answer to one request for watches; it goes on until one side ends it.

    Args:
        store: what is watched.
        write: makes a line of what is told about a watch.
        allowed: refuses who may not watch a range.
        ended: called when the reader ends it.
        needs_leader: it ends when its member loses the leader.
        now: the time.
    """

    def __init__(
        self,
        store: Store,
        *,
        write: Callable[[dict[str, Any], int | None], bytes],
        allowed: Callable[[bytes, bytes], None],
        ended: Callable[[Stream], None],
        needs_leader: bool,
        now: float,
    ) -> None:
        self._store = store
        self._write = write
        self._allowed = allowed
        self._ended = ended
        self.needs_leader = needs_leader
        self._watchers: dict[int, Watcher] = {}
        self._next = 0
        self._ready: list[bytes] = []
        self._cut = 0
        self._over = self._broken = False
        self.told_at = now

    # --- for whoever carries it ---------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing comes any more."""
        return self._over

    @property
    def broken(self) -> bool:
        """Whether it ends in the middle."""
        return self._broken

    def take(self) -> bytes:
        """What has come since the last time."""
        data, self._ready = b"".join(self._ready), []
        if self._cut and data:
            data, self._over, self._broken = data[: -self._cut], True, True
        return data

    def cut(self, number: int) -> None:
        """The last bytes of what comes next are never sent, and nothing after them."""
        self._cut = number

    def close(self) -> None:
        """Ends it, from the reader's side."""
        self._over = True
        self._ended(self)

    # --- for the state ------------------------------------------------------------------------------------

    def end(self, line: bytes = b"", *, broken: bool = False) -> None:
        """Ends it, from the server's side: with a last line, or in the middle."""
        if line:
            self._ready.append(line)
        self._over, self._broken = True, broken

    def take_request(self, asked: Mapping[str, Any]) -> bool:
        """Does what one document asks for; whether it asks for anything."""
        if "create_request" in asked:
            self._create(asked["create_request"])
        elif "cancel_request" in asked:
            number = asked["cancel_request"].get("watch_id", 0)
            if self._watchers.pop(number, None) is not None:
                self._tell(number, canceled=True)
        elif "progress_request" in asked:
            self._tell(-1)
        else:
            return False
        return True

    def _create(self, asked: Mapping[str, Any]) -> None:
        key, end = asked.get("key", b"") or b"\0", asked.get("range_end", b"")
        try:
            self._allowed(key, end)
            if end and end != b"\0" and key >= end:
                raise Refused(3, "mvcc: watcher range is empty")
            number = self._number(asked.get("watch_id", 0))
        except Refused as refused:
            reason = refused.text if refused.text.startswith("mvcc") else refused.reason
            self._tell(-1, created=True, canceled=True, cancel_reason=reason)
            return
        start = asked.get("start_revision", 0)
        lost = start < 0 or 0 < start < self._store.compacted
        made = Watcher(
            key,
            end,
            start or self._store.revision + 1,
            frozenset(asked.get("filters", ())),
            bool(asked.get("prev_kv")),
            bool(asked.get("progress_notify")) and not lost,
            bool(asked.get("fragment")),
            lost,
        )
        self._watchers[number] = made
        self._tell(number, created=True)

    def catch_up(self) -> None:
        """Tells what had happened before it was asked for: real servers do so in the background, after all requests."""
        for number, watcher in self._watchers.items():
            if watcher.lost:
                self._tell(number, None, canceled=True, compact_revision=str(self._store.compacted))
            else:
                self._tell_events(number, watcher, self._store.events_since(watcher.start))

    def _number(self, wanted: int) -> int:
        if wanted and wanted in self._watchers:
            raise Refused(3, "mvcc: duplicate watch ID provided on the WatchStream")
        if wanted:
            return wanted
        while self._next in self._watchers:
            self._next += 1
        self._next += 1  # also when this watch has ended, its number is not given to another one
        return self._next - 1

    def happen(self, events: Sequence[Event], now: float) -> None:
        """Tells of what has just happened to the store."""
        for number, watcher in self._watchers.items():
            if self._tell_events(number, watcher, events):
                self.told_at = now

    def progress(self, now: float) -> None:
        """Tells those that asked for it that nothing has happened."""
        self.told_at = now
        for number, watcher in self._watchers.items():
            if watcher.progress:
                self._tell(number)

    @property
    def wants_progress(self) -> bool:
        """Whether one of its watches asked for it."""
        return any(watcher.progress for watcher in self._watchers.values())

    def _tell_events(self, number: int, watcher: Watcher, events: Iterable[Event]) -> bool:
        wanted = [event for event in events if watcher.wants(event)]
        if not wanted:
            return False
        parts = list(_fragments(wanted)) if watcher.fragment else [wanted]
        for place, part in enumerate(parts, 1):
            told = [self._told(event, watcher) for event in part]
            more = {"fragment": True} if place < len(parts) else {}
            self._tell(number, events=told, **more)
        return True

    def _told(self, event: Event, watcher: Watcher) -> dict[str, Any]:
        from consul_access.testing.etcd.keyspace import told_pair

        told: dict[str, Any] = {"type": "DELETE"} if event.is_delete else {}
        told["kv"] = told_pair(event.pair)
        pair = event.pair
        if watcher.previous and pair.create != pair.mod and pair.mod > self._store.compacted:
            before = self._store.at(pair.key, pair.mod - 1)
            if before is not None:
                told["prev_kv"] = told_pair(before)
        return told

    def _tell(self, number: int, revision: int | None = 0, **told: Any) -> None:
        shown = {"watch_id": str(number)} if number else {}
        self._ready.append(self._write({**shown, **told}, self._store.revision if revision == 0 else revision))


def _fragments(events: Sequence[Event]) -> Iterable[list[Event]]:
    part: list[Event] = []
    size = 0
    for event in events:
        more = len(event.pair.key) + len(event.pair.value)
        if part and size + more > FRAGMENT_BYTES:
            yield part
            part, size = [], 0
        part.append(event)
        size += more
    yield part
