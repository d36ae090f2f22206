"""What to do with a list that cannot be confirmed at the moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from consul_access.errors import InvalidInput

__all__ = ["StalePolicy"]


@dataclass(frozen=True, slots=True)
class StalePolicy:
    """For how long a resolver goes on with a list that the registry cannot confirm.

    Make it with `keep_forever`, `keep_for` or `fail_now`. A list is stale from the moment at which its confirmation
    failed; how long that is good enough depends on who calls: a wrong instance costs a retry, no instance an outage.

    Args:
        seconds: so long after it has become stale it is still used.
    """

    seconds: float = math.inf

    def __post_init__(self) -> None:
        value: object = self.seconds
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
            raise InvalidInput(f"a stale list cannot be used for {value!r} s: write seconds, 0 or more")

    @classmethod
    def keep_forever(cls) -> Self:
        """Uses the last good list until there is a newer one. The default: an outage of the registry is not ours."""
        return cls()

    @classmethod
    def keep_for(cls, seconds: float) -> Self:
        """Uses the last good list for so long, and then fails with `StaleList`."""
        return cls(seconds)

    @classmethod
    def fail_now(cls) -> Self:
        """Fails with `StaleList` as soon as the list cannot be confirmed."""
        return cls(0.0)

    def allows(self, stale_for: float | None) -> bool:
        """Whether a list is good enough that has been stale for so many seconds; None when it is not stale."""
        return stale_for is None or stale_for < self.seconds

    def until(self, stale_at: float | None) -> float:
        """The moment at which a list is no longer good enough, on the clock of `stale_at` (None: it is not stale)."""
        return math.inf if stale_at is None else stale_at + self.seconds

    def __str__(self) -> str:
        if math.isinf(self.seconds):
            return "keep for ever"
        return f"keep for {self.seconds:g} s" if self.seconds else "fail now"
