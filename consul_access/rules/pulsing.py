"""When one worker makes the heartbeats of many: how far ahead it may take them along, and who is too late."""

from __future__ import annotations

from typing import Final

__all__ = ["LINGER", "is_late", "patience", "reach"]

SLACK: Final = 0.1
"""The part of a heartbeat's interval by which a step may come early, to be made in a row with others."""
LONGEST_SLACK: Final = 0.5
"""Seconds."""
LINGER: Final = 5.0
"""Seconds for which the worker waits for somebody to serve."""
LEAST_PATIENCE: Final = 0.05
"""Seconds between two looks for somebody who is late."""


def reach(now: float, interval: float) -> float:
    """Until when steps are made now, those that are not due yet included.

    Args:
        now: the monotonic time.
        interval: seconds between two heartbeats of whoever has them the most often.
    """
    return now + min(LONGEST_SLACK, SLACK * interval)


def is_late(due: float, interval: float, now: float) -> bool:
    """Whether a step that was due then is late by a whole interval, so that its owner should help himself."""
    return due <= now - interval


def patience(earliest: float | None, interval: float, now: float) -> float:
    """Seconds until somebody may be late.

    Args:
        earliest: when the first step is due; None when there is none.
        interval: seconds between two heartbeats of whoever has them the most often.
        now: the monotonic time.
    """
    first = now if earliest is None else earliest
    return max(LEAST_PATIENCE, min(LINGER, first + interval - now))
