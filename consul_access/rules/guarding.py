"""Whether a list that has suddenly become empty is believed, and one that is older than what is known.

Agents that are being stopped answer waiting queries with 200 and an empty list; servers that have lost their data do
so for 38 to 87 s, until the agents have told them again; fresh views of the agent's cache do so now and then. No header
tells. So an empty list after a longer one is confirmed by a consistent read, and when the index went back as well, it
has to last.

A server that was started again answers while it still reads back what had happened (observed, up to 5 s), and so does
a leader that was frozen and does not know of the next one: with what was true once, and the index of that time. So
another list with a lower index is confirmed as well.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["GRACE", "Guard", "Verdict", "may_be_another", "went_back"]

GRACE: Final = 120.0
"""Seconds for which a list is kept that vanished together with the index it had."""
REMAINS: Final = 0.15
"""A list that keeps less than this share of its length, while the index goes back, has not shrunk but been lost."""


def may_be_another(index: int | None, believed: int) -> bool:
    """Whether it may be another registry that answers, or one that was restored.

    Args:
        index: the answer's index; None when it has none that can be read.
        believed: the index of the last answer that was believed.

    An answer with entries of which this is not so, and before which all was well, is believed whatever it says.
    """
    return not index or index < believed


def went_back(index: int | None, believed: int) -> bool:
    """Whether an answer is of an earlier time than the last one that was believed; without an index nothing tells.

    Args:
        index: the answer's index; None when it has none that can be read.
        believed: the index of the last answer that was believed; 0 before there is one.
    """
    return index is not None and 0 < index < believed


class Verdict(Enum):
    """What to do with an answer."""

    BELIEVE = "believe"
    CONFIRM = "confirm"
    """Ask for a consistent read, and judge that."""
    HOLD = "hold"
    """Keep the last good list, say that it is doubtful, and look again in a few seconds."""


class Guard:
    """Judges one answer after the other."""

    __slots__ = ("_doubtful_since",)

    def __init__(self) -> None:
        self._doubtful_since: float | None = None

    @property
    def is_holding(self) -> bool:
        """Whether the last answer was not believed."""
        return self._doubtful_since is not None

    def judge(
        self, before: int, after: int, *, restarted: bool, confirmed: bool, now: float, older: bool = False
    ) -> Verdict:
        """What to do with an answer.

        Args:
            before: the length of the last list that was believed.
            after: the length of this one.
            restarted: its index is lower than that of the last one believed, it has none, or there was an outage
                before it: it may be another registry's.
            confirmed: it is a consistent read.
            now: the monotonic time.
            older: it says something else than the last one believed, and its index is lower.
        """
        vanished = before > 0 and after == 0
        lost = restarted and after < before * REMAINS
        if not vanished and not lost and (confirmed or not older):
            self._doubtful_since = None
            return Verdict.BELIEVE
        if not confirmed:
            return Verdict.CONFIRM
        if not restarted:
            self._doubtful_since = None
            return Verdict.BELIEVE
        if self._doubtful_since is None:
            self._doubtful_since = now
        if now - self._doubtful_since < GRACE:
            return Verdict.HOLD
        self._doubtful_since = None
        return Verdict.BELIEVE
