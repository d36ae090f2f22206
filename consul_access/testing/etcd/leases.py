"""Leases: which there are, until when, and which keys end with them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from consul_access.testing.etcd.dialect import Refused

__all__ = ["Lease", "Leases"]

SHORTEST: Final = 2
LONGEST: Final = 9_000_000_000
NOT_FOUND: Final = "etcdserver: requested lease not found"


@dataclass(slots=True)
class Lease:
    """A lease: its id, the seconds it was granted for, when it ends, and its keys."""

    id: int
    ttl: int
    until: float
    keys: set[bytes] = field(default_factory=set)


class Leases:
    """The leases of a cluster.

    Args:
        dice: what ids are made with.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._known: dict[int, Lease] = {}

    def grant(self, ttl: int, number: int, now: float) -> Lease:
        """A new one.

        Raises:
            Refused: it would live too long, or there is one with this id.
        """
        if ttl > LONGEST:
            raise Refused(11, "etcdserver: too large lease TTL")
        number = number or self._dice.getrandbits(62) + 1
        if number in self._known:
            raise Refused(9, "etcdserver: lease already exists")
        lasts = max(ttl, SHORTEST)
        self._known[number] = Lease(number, lasts, now + lasts)
        return self._known[number]

    def get(self, number: int) -> Lease | None:
        """A lease that lives."""
        return self._known.get(number)

    def expect(self, number: int) -> Lease:
        """A lease that must live.

        Raises:
            Refused: it does not.
        """
        found = self._known.get(number)
        if found is None:
            raise Refused(5, NOT_FOUND)
        return found

    def end(self, number: int) -> list[bytes]:
        """Ends one; the keys that end with it."""
        found = self._known.pop(number, None)
        return sorted(found.keys) if found is not None else []

    def move(self, key: bytes, before: int, after: int) -> None:
        """A key ends with another lease than before; 0 for none."""
        for number, change in ((before, set.discard), (after, set.add)):
            if number in self._known:
                change(self._known[number].keys, key)

    def all(self) -> list[Lease]:
        """Those that live, the first to end in front."""
        return sorted(self._known.values(), key=lambda lease: lease.until)

    def postpone(self, seconds: float) -> None:
        """All of them live longer: nothing ends while nobody leads."""
        for lease in self._known.values():
            lease.until += seconds

    def next_due(self) -> float | None:
        """When the first ends."""
        return min((lease.until for lease in self._known.values()), default=None)
