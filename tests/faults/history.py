"""Whether what a watch told is what happened: ordered, unique, whole, and in the end the same as the store (N07)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from consul_access import EventKind, KeyEvent

__all__ = ["Stored", "Written", "judge"]


class Stored(NamedTuple):
    """A key as the store has it."""

    value: bytes
    mod_revision: int
    version: int


@dataclass
class Written:
    """What was written, as far as that is known. Each value is written once at most.

    Args:
        attempts: every value that was sent, by key.
        certain: what is known to have been done, by revision; the value None is a deletion.
    """

    attempts: dict[bytes, set[bytes]] = field(default_factory=dict)
    certain: dict[int, tuple[bytes, bytes | None]] = field(default_factory=dict)

    def attempt(self, key: bytes, value: bytes) -> None:
        """This is going to be sent."""
        self.attempts.setdefault(key, set()).add(value)


def judge(events: Iterable[KeyEvent], written: Written, store: Mapping[bytes, Stored]) -> list[str]:
    """What is wrong with what a watch told, that began before the first write; nothing if all is well."""
    course = _Course(written)
    findings = [finding for event in events for finding in course.take(event)]
    findings += course.missing()
    if course.cache != store:
        wrong = sorted(key for key in {*course.cache, *store} if course.cache.get(key) != store.get(key))
        findings.append(
            f"the cache is not the store: {[(key, course.cache.get(key), store.get(key)) for key in wrong]}"
        )
    return findings


class _Course:
    """The watch, as far as it has been looked at, and the cache that it keeps.

    etcd counts how often a key was written since it was created. As every event tells that number, none can be missing
    unseen, whether its writer got an answer or not.
    """

    def __init__(self, written: Written) -> None:
        self.written = written
        self.cache: dict[bytes, Stored] = {}
        self.revision = 0
        self.told: dict[int, tuple[bytes, bytes | None]] = {}
        self.stood_for: list[tuple[int, int]] = []

    def take(self, event: KeyEvent) -> Iterator[str]:
        if event.revision <= self.revision:
            yield f"revision {event.revision} is told after {self.revision}"
        if event.kind is EventKind.RESYNC:
            self.stood_for.append((self.revision, event.revision))
            held = {one.key: Stored(one.value, one.metadata.mod_revision, one.metadata.version) for one in event.items}
            yield from self._unwritten((key, one.value) for key, one in held.items())
            self.cache = held
        elif event.kind is EventKind.DELETE:
            if self.cache.pop(event.key, None) is None:
                yield f"{event.key!r} is deleted at {event.revision}, and was not there"
            self.told[event.revision] = (event.key, None)
        else:
            yield from self._put(event)
        self.revision = max(self.revision, event.revision)

    def _put(self, event: KeyEvent) -> Iterator[str]:
        assert event.metadata is not None
        before = self.cache.get(event.key)
        expected = 1 if before is None else before.version + 1
        if event.metadata.version != expected:
            yield f"{event.key!r} at {event.revision} is version {event.metadata.version}, not {expected}"
        yield from self._unwritten([(event.key, event.value)])
        self.cache[event.key] = Stored(event.value, event.metadata.mod_revision, event.metadata.version)
        self.told[event.revision] = (event.key, event.value)

    def _unwritten(self, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
        for key, value in pairs:
            if value not in self.written.attempts.get(key, ()):
                yield f"{key!r} = {value!r} was never written"

    def missing(self) -> Iterator[str]:
        """What was done for certain, and neither told nor within what a resync stood for."""
        for revision, done in self.written.certain.items():
            skipped = any(before < revision <= after for before, after in self.stood_for)
            if not skipped and self.told.get(revision) != done:
                yield f"revision {revision}: {done} was done, and {self.told.get(revision)} was told"
