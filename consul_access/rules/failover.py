"""Which of several servers to ask next, from the memory of who answered and who did not."""

from __future__ import annotations

from collections.abc import Sequence

from consul_access.models.address import Target

__all__ = ["Failover"]

FIRST_PENALTY = 1.0
LONGEST_PENALTY = 30.0


class Failover:
    """Keeps asking the server that answers; one that failed rests for 1 to 30 s, doubling, before it is asked again.

    Args:
        targets: the servers, in the order of preference.

    Being pushed back is a preference, never a ban: when all rest, the one whose rest ends first is asked.
    """

    __slots__ = ("_rest", "_targets")

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = tuple(targets)
        self._rest: dict[Target, tuple[float, float]] = {}  # until when, and how long

    @property
    def targets(self) -> tuple[Target, ...]:
        return self._targets

    def add(self, targets: Sequence[Target]) -> None:
        """Takes up further servers, behind those there are."""
        self._targets = (*self._targets, *(target for target in targets if target not in self._targets))

    def order(self, now: float) -> tuple[Target, ...]:
        """All servers, the one to ask first in front."""
        if not self._rest:
            return self._targets
        return tuple(sorted(self._targets, key=lambda target: max(0.0, self._rest.get(target, (0.0, 0.0))[0] - now)))

    def failed(self, target: Target, now: float) -> None:
        """Notes that this server gave no usable answer; of others nothing is remembered."""
        if target not in self._targets:
            return
        _, last = self._rest.get(target, (0.0, 0.0))
        length = min(last * 2 or FIRST_PENALTY, LONGEST_PENALTY)
        self._rest[target] = (now + length, length)

    def worked(self, target: Target) -> None:
        """Notes that this server answered."""
        if self._rest:
            self._rest.pop(target, None)
