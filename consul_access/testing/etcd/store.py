"""Keys and everything they ever held since the last compaction, by revisions. No time, no leases, no users."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from consul_access.testing.etcd.dialect import Refused

__all__ = ["Event", "Pair", "Store", "covers"]

COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"
FUTURE: Final = "etcdserver: mvcc: required revision is a future revision"


@dataclass(frozen=True, slots=True)
class Pair:
    """A key as it was written once; with version 0 it was deleted.

    Args:
        key: the key.
        value: what it holds.
        create: the revision that created it.
        mod: the revision that wrote this.
        version: how often it was written since it was created.
        lease: the lease that it ends with; 0 for none.
    """

    key: bytes
    value: bytes
    create: int
    mod: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a key."""

    pair: Pair

    @property
    def is_delete(self) -> bool:
        """Whether it was deleted."""
        return self.pair.version == 0


def covers(key: bytes, end: bytes, wanted: bytes) -> bool:
    """Whether a range holds a key. Without end it is a single key; the end of one zero byte means all that follow."""
    if not end:
        return wanted == key
    return key <= wanted and (end == b"\0" or wanted < end)


class Store:
    """The keys of a member.

    Args:
        keeps_last_deletions: a compaction keeps what was deleted at its very revision, for those who watch from there.
    """

    def __init__(self, *, keeps_last_deletions: bool = True) -> None:
        self._keeps_last_deletions = keeps_last_deletions
        self.revision = 1
        self.compacted = -1
        self._written: dict[bytes, list[Pair]] = {}
        self._keys: list[bytes] = []
        self._events: list[Event] = []
        self._changes: list[Event] = []
        self.on_commit: Callable[[Sequence[Event]], None] = lambda _: None

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def present(self) -> int:
        """The revision that is read now: within a step that has written, the one to come."""
        return self.revision + 1 if self._changes else self.revision

    def at(self, key: bytes, revision: int) -> Pair | None:
        """A key as of a revision; None if it was not there, or nobody knows any more."""
        written = self._written.get(key, ())
        place = bisect.bisect_right(written, revision, key=lambda pair: pair.mod)
        found = written[place - 1] if place else None
        return found if found is not None and found.version else None

    def find(self, key: bytes, end: bytes = b"", revision: int = 0) -> list[Pair]:
        """The keys of a range as of a revision, in order; 0 for now."""
        wanted = revision or self.present
        if not end:
            keys = [key]
        else:
            last = len(self._keys) if end == b"\0" else bisect.bisect_left(self._keys, end)
            keys = self._keys[bisect.bisect_left(self._keys, key) : last]
        return [found for one in keys if (found := self.at(one, wanted)) is not None]

    def expect_revision(self, revision: int) -> None:
        """Refuses a revision that cannot be read.

        Raises:
            Refused: it is compacted, or to come.
        """
        if revision > self.present:
            raise Refused(11, FUTURE)
        if 0 < revision < self.compacted:
            raise Refused(11, COMPACTED)

    def events_since(self, revision: int) -> list[Event]:
        """What has happened from this revision on, as far as it is known."""
        place = bisect.bisect_left(self._events, revision, key=lambda event: event.pair.mod)
        return self._events[place:]

    # --- writing: several of these make one step, which ends with `commit` --------------------------------

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Pair | None:
        """Writes a key; what was there before."""
        before = self.at(key, self.revision + 1)
        mod = self.revision + 1
        made = Pair(key, value, before.create if before else mod, mod, before.version + 1 if before else 1, lease)
        self._write(made)
        return before

    def delete(self, key: bytes, end: bytes = b"") -> list[Pair]:
        """Deletes the keys of a range; what was there."""
        gone = self.find(key, end)
        for pair in gone:
            self._write(Pair(pair.key, b"", 0, self.revision + 1, 0))
        return gone

    def commit(self) -> int:
        """Ends a step; the revision."""
        changes, self._changes = self._changes, []
        if changes:
            self.revision += 1
            self._events += changes
            self.on_commit(changes)
        return self.revision

    def compact(self, revision: int) -> None:
        """Forgets what was before this revision.

        Raises:
            Refused: it was forgotten already, or is to come.
        """
        if revision <= self.compacted:
            raise Refused(11, COMPACTED)
        if revision > self.revision:
            raise Refused(11, FUTURE)
        self.compacted = revision
        for key, written in list(self._written.items()):
            if kept := self._kept(written):
                self._written[key] = kept
            else:
                del self._written[key]
                del self._keys[bisect.bisect_left(self._keys, key)]
        # One step may write a key, delete it and write it again: its revision alone does not tell which is known.
        known = {id(pair) for written in self._written.values() for pair in written}
        self._events = [event for event in self._events if id(event.pair) in known]

    def _kept(self, written: list[Pair]) -> list[Pair]:
        """What a compaction leaves of a key: all that came later, and what it was by then."""
        later = bisect.bisect_right(written, self.compacted, key=lambda pair: pair.mod)
        if not later:
            return written
        last = written[later - 1]
        is_kept = last.version or (last.mod == self.compacted and self._keeps_last_deletions)
        return written[later - 1 if is_kept else later :]

    def _write(self, pair: Pair) -> None:
        if pair.key not in self._written:
            self._written[pair.key] = []
            bisect.insort(self._keys, pair.key)
        self._written[pair.key].append(pair)
        self._changes.append(Event(pair))
