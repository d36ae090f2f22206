"""Waits for a condition, and for nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], within: float = 10.0, what: str = "") -> T:
    """What the condition answers as soon as that is true; fails when it has not become true in time."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"within {within:g} s it did not come true: {what or condition}")
        time.sleep(0.01)
    return found
