"""A client's process, which takes orders: a JSON object a line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from benchmarks.common.environments import ROOT, environment

__all__ = ["Stopped", "Worker"]


class Stopped(Exception):
    """A client's process ended before it was told to; the text has the end of what it said."""


class Worker:
    """A client in a process of its own.

    Args:
        name: the client's.
        command: what starts it.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
        )

    def order(self, **order: Any) -> None:
        """Sends an order, and does not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, float]:
        """What it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Stopped(f"{self.name} ended with code {self.process.wait()}")
        found: dict[str, float] = json.loads(line)
        return found

    def ask(self, **order: Any) -> dict[str, float]:
        """An order, and what it amounts to."""
        self.order(**order)
        return self.answer()

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()
