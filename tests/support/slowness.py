"""How much longer everything takes on this machine just now than it should: for bounds that a busy one keeps, too."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

STEP = 0.05


class Slowness:
    """Sleeps in short steps beside the block, and adds up by how much each of them was late.

    What is measured in the block may be as much longer: `seconds` tells.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._over.wait(STEP):
            now = time.monotonic()
            self.seconds += max(0.0, now - begun - STEP)
            begun = now

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
