"""What became of a client in a scenario, as numbers, and whether one client is ahead of another in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

NOISE = 1.0
"""Seconds by which two runs of the same client differ: their pauses are a second long, and machines are busy."""


@dataclass(frozen=True)
class Met:
    """What became of one client.

    Args:
        said: in words, for the page.
        bad: how often something was so that must never be: a wrong answer, a lost event or registration, a token
            elsewhere, an old list that does not say so, an exit code that changed, no end.
        failed: calls that raised although a good answer was to be had, and errors that are not the client's own.
        seconds: what took how long; only what both clients did can be compared.
    """

    said: str
    bad: int = 0
    failed: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Met:
        """From what `stored` made."""
        return cls(**stored)

    def stored(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def is_ahead(one: Met, other: Met) -> bool:
    """Whether one client did better than another in anything at all, by more than noise."""
    both = one.seconds.keys() & other.seconds.keys()
    is_quicker = any(one.seconds[what] < other.seconds[what] - NOISE for what in both)
    return one.bad < other.bad or one.failed < other.failed or is_quicker
