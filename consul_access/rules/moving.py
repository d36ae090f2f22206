"""When an agent is gone for good, and what is owed to agents that a registration was moved away from.

A copy that callers are still sent to is never doubled. So the others are asked how the registry shows the copy at the
agent that does not answer: only when nobody is sent there any more is it registered elsewhere. That moment is the
cluster's own (5 to 6.5 s for a killed agent, observed), and no clock of ours has to guess it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access.models.address import Target
    from consul_access.models.catalog import HealthEntry

__all__ = ["Orphan", "Orphans", "Trace", "is_for_good", "trace_of"]

SURE_AFTER: Final = 1.0
"""Seconds without an answer before an agent is given up that the registry has given up, too: restarts are quicker."""
CUT_OFF_AFTER: Final = 15.0
"""The same for an agent that the registry believes in, and that cannot be reached from here."""
EAGER: Final = 120.0
"""Seconds in which a former agent's return is looked for every second; most come back soon."""
SETTLED_AFTER: Final = 180.0
"""An agent that holds a copy brings it back within 70 s (observed: 58 to 70 s); after this time it holds none."""


class Trace(StrEnum):
    """How the registry shows the copy at an agent that does not answer."""

    SHOWN = "shown"
    """Callers are still sent there."""
    SILENT = "silent"
    """The node lives, and its copy is critical: no heartbeat arrives."""
    DOWN = "down"
    """The node is dead in the cluster's eyes."""
    ABSENT = "absent"
    """There is no copy: the agent has left in order, or never passed it on."""


def trace_of(entries: Iterable[HealthEntry], service_id: str, node: str) -> Trace:
    """What the registry shows.

    Args:
        entries: what a health look-up of the service gave, in any state.
        service_id: whose copy.
        node: the agent's node; empty when that was never learnt, and any node may be it.
    """
    found = [
        _trace(entry) for entry in entries if entry.service.id == service_id and (not node or entry.node.name == node)
    ]
    return min(found, key=_ORDER.index, default=Trace.ABSENT)


def is_for_good(trace: Trace, away: float, ttl: float) -> bool:
    """Whether to register at another agent.

    Args:
        trace: how the registry shows the copy there.
        away: seconds without an answer from it.
        ttl: the time of the service's TTL check, in seconds; 0 without one.
    """
    if trace is Trace.SHOWN:
        return False
    return away >= (max(CUT_OFF_AFTER, ttl) if trace is Trace.SILENT else SURE_AFTER)


@dataclass(slots=True, eq=False)
class Orphan:
    """A copy that was left behind.

    Args:
        node: where; empty when that was never learnt.
        place: how to reach its agent; None when that is not known.
        since: when it was left, in monotonic time.
    """

    node: str
    place: Target | None
    since: float
    visible: bool = True
    unseen_since: float | None = None

    def __str__(self) -> str:
        return f"node {self.node!r}" if self.node else str(self.place)


class Orphans:
    """What is owed to former agents."""

    def __init__(self) -> None:
        self._all: list[Orphan] = []

    def __iter__(self) -> Iterator[Orphan]:
        return iter(tuple(self._all))

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def nodes(self) -> frozenset[str]:
        """Where they are, as far as that is known."""
        return frozenset(orphan.node for orphan in self._all if orphan.node)

    def leave(self, node: str, place: Target | None, now: float) -> None:
        """A copy is left there."""
        self._all = [orphan for orphan in self._all if not self._same(orphan, node, place)]
        self._all.append(Orphan(node, place, now))

    def come_home(self, node: str, place: Target | None) -> None:
        """It is registered there again, so that copy is the registration itself."""
        self._all = [orphan for orphan in self._all if not self._same(orphan, node, place)]

    def seen(self, orphan: Orphan, *, held: bool | None, shown: bool, now: float) -> bool:
        """Notes how one stands.

        Args:
            orphan: which.
            held: whether its agent holds it; None when it does not answer.
            shown: whether the catalog shows it.
            now: the monotonic time.

        Returns:
            Whether it has just gone out of the catalog, which is worth telling.
        """
        went = orphan.visible and not shown
        orphan.visible = shown
        if shown:
            orphan.unseen_since = None
        elif orphan.unseen_since is None:
            orphan.unseen_since = now
        lasting = orphan.place is None and not shown and now - (orphan.unseen_since or now) >= SETTLED_AFTER
        if (held is False and not shown) or lasting:
            self._all = [other for other in self._all if other is not orphan]
        return went

    def pause(self, now: float) -> float | None:
        """Seconds until they should be seen to again; None when nothing is owed."""
        if not self._all:
            return None
        return 1.0 if any(now - orphan.since < EAGER for orphan in self._all) else 5.0

    @staticmethod
    def _same(orphan: Orphan, node: str, place: Target | None) -> bool:
        if orphan.node and node:
            return orphan.node == node
        return place is not None and orphan.place == place


_ORDER: Final = (Trace.SHOWN, Trace.SILENT, Trace.DOWN, Trace.ABSENT)
_NODE_IS_ALIVE: Final = "serfHealth"


def _trace(entry: HealthEntry) -> Trace:
    if any(check.id == _NODE_IS_ALIVE and check.status is CheckStatus.CRITICAL for check in entry.checks):
        return Trace.DOWN
    return Trace.SHOWN if entry.status in {CheckStatus.PASSING, CheckStatus.WARNING} else Trace.SILENT
