"""All that an etcd knows, with a time of its own: leases end, watches are told, a leader can be lost."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final

from consul_access.testing.etcd.access import Access
from consul_access.testing.etcd.dialect import Dialect
from consul_access.testing.etcd.keyspace import Keyspace
from consul_access.testing.etcd.leases import Leases
from consul_access.testing.etcd.store import Event, Store
from consul_access.testing.etcd.watching import PROGRESS_EVERY, Stream

__all__ = ["NO_LEADER", "EtcdState"]

NO_LEADER: Final = "etcdserver: no leader"
LEADER_MISSED_AFTER: Final = 4.5


class EtcdState:
    """One member, and the cluster that it is all of.

    Args:
        dialect: the version that it speaks.
        name: its name.
        now: the time at the beginning, in seconds.
        token_ttl: seconds after its last use that a token ends.
        seed: what chance begins with.
    """

    def __init__(self, dialect: Dialect, *, name: str, now: float, token_ttl: float, seed: int) -> None:
        self.dialect = dialect
        self.name = name
        self.now = now
        self.changes = 0
        self.dice = random.Random(seed)  # noqa: S311 - nothing is kept secret
        self.cluster_id = self.dice.getrandbits(64)
        self.member_id = self.dice.getrandbits(64)
        self.term = 2
        self.is_up = True
        self.is_full = False
        self.lost_leader_at: float | None = None
        self.streams: list[Stream] = []
        self.access = Access(token_ttl, self.dice)
        self.wipe()

    def wipe(self) -> None:
        """Forgets every key and lease."""
        self.keys = Keyspace(Store(keeps_last_deletions=self.dialect.keeps_last_deletions), Leases(self.dice))
        self.keys.store.on_commit = self._happened

    # --- words --------------------------------------------------------------------------------------------

    def header(self, revision: int | None = None) -> dict[str, Any]:
        """What every answer begins with; without revision when it is 0."""
        shown = self.keys.store.revision if revision is None else revision
        told = {"cluster_id": str(self.cluster_id), "member_id": str(self.member_id)}
        return told | ({"revision": str(shown)} if shown else {}) | {"raft_term": str(self.term)}

    def line(self, told: dict[str, Any], revision: int | None = None) -> bytes:
        """A line of a stream; without a revision it has none."""
        result = {"header": self.header(revision or 0), **told}
        return json.dumps({"result": result}, separators=(",", ":")).encode() + b"\n"

    # --- what happens -------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Notes that something has changed."""
        self.changes += 1

    def _happened(self, events: Sequence[Event]) -> None:
        for stream in self.streams:
            stream.happen(events, self.now)
        self.changed()

    def end_streams(self, line: bytes = b"", *, broken: bool = False) -> None:
        """Ends every stream: with a last line, or in the middle."""
        for stream in self.streams:
            stream.end(line, broken=broken)
        self.streams.clear()
        self.changed()

    def lose_leader(self) -> None:
        """Nobody leads. Nothing is written, and no lease ends."""
        if self.lost_leader_at is None:
            self.lost_leader_at = self.now
            self.changed()

    def find_leader(self) -> None:
        """Somebody leads again; leases have their full time."""
        if self.lost_leader_at is not None:
            self.keys.leases.postpone(self.now - self.lost_leader_at)
            self.lost_leader_at = None
            self.term += 1
            self.changed()

    def advance(self, now: float) -> None:
        """Lets everything happen that is due by then."""
        while (due := self.next_due()) is not None and due <= now:
            self.now = max(self.now, due)
            self._happen()
            self.changed()
        self.now = max(self.now, now)

    def next_due(self) -> float | None:
        """When something happens of its own accord."""
        dues = [stream.told_at + PROGRESS_EVERY for stream in self.streams if stream.wants_progress]
        if self.lost_leader_at is None:
            first = self.keys.leases.next_due()
            dues += [] if first is None else [first]
        elif any(stream.needs_leader for stream in self.streams):
            dues.append(self.lost_leader_at + LEADER_MISSED_AFTER)
        return min(dues, default=None)

    def _happen(self) -> None:
        if self.lost_leader_at is None:
            for lease in self.keys.leases.all():
                if lease.until <= self.now:
                    self.keys.end_lease(lease.id)
        elif self.now >= self.lost_leader_at + LEADER_MISSED_AFTER:
            for stream in [stream for stream in self.streams if stream.needs_leader]:
                stream.end(self.dialect.stream_refusal(14, NO_LEADER))
                self.streams.remove(stream)
        for stream in self.streams:
            if stream.wants_progress and stream.told_at + PROGRESS_EVERY <= self.now:
                stream.progress(self.now)
