"""Who leaves a registration that several processes keep: whether it goes on, has been ended, or is theirs to end."""

from __future__ import annotations

from enum import Enum

__all__ = ["HandingOver", "Rest"]


class Rest(Enum):
    """What the others do."""

    KEEPING = "keeping"
    """At least one of them keeps it."""
    ENDING = "ending"
    """The last of them is ending it."""
    GONE = "gone"
    """There are none any more."""


class HandingOver:
    """One process leaves while others may go on.

    It goes on answering for its drain, since all may have been told to end; and when the last of the others is ending
    the registration, until that has been done, so that nobody is sent to a closed port meanwhile.

    Args:
        now: the monotonic time.
        drain: seconds of grace that each of them gives.
        stop_timeout: seconds that each may need to deregister after that.
    """

    __slots__ = ("_longest", "_seen_ending", "_until")

    def __init__(self, now: float, drain: float, stop_timeout: float) -> None:
        self._until = now + drain
        self._longest = self._until + drain + stop_timeout
        self._seen_ending = False

    def is_theirs(self, rest: Rest, now: float) -> bool | None:
        """Whether they have taken it over, or ended it; None while that cannot be said yet.

        Args:
            rest: what the others do.
            now: the monotonic time.

        Returns:
            False when they have gone otherwise, such as killed: then it is ours to end.
        """
        if rest is Rest.GONE:
            return self._seen_ending
        self._seen_ending = self._seen_ending or rest is Rest.ENDING
        return True if now >= self.limit(rest) else None

    def limit(self, rest: Rest) -> float:
        """Until when to wait at most, in monotonic time."""
        return self._longest if rest is Rest.ENDING else self._until
