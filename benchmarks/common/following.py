"""A client that follows services, in a process of its own: it says what it sees, and when."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common.environments import ENVIRONMENTS, OURS, ROOT, Python, environment

__all__ = ["Following", "followed"]

PATIENCE = 20.0
"""Seconds; a change that is not seen by then is missed."""
BRINGING_UP = 120.0
"""Seconds that a client may take to follow everything."""


class Following:
    """What the client says.

    Args:
        process: the client's.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._data = b""
        self.cpu = 0.0
        """Seconds of CPU that it had used when it saw what was asked for last."""

    def line(self, within: float = PATIENCE) -> str:
        """The next one.

        Args:
            within: seconds to wait for it.

        Raises:
            TimeoutError: it says nothing.
            EOFError: it has ended.
        """
        assert self.process.stdout is not None
        until = time.monotonic() + within
        while b"\n" not in self._data:
            if not select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError
            data = self.process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                raise EOFError(f"a client ended with code {self.process.wait()}")
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        return line.decode()

    def began(self) -> dict[str, float]:
        """What a client that follows many says when it has everything."""
        while not (line := self.line(BRINGING_UP)).startswith("{"):
            pass  # an answer without a change, which servers give now and then
        found: dict[str, float] = json.loads(line)
        return found

    def seen(self, port: int) -> float:
        """When it saw that port."""
        while True:
            found, moment, cpu = self.line().split()
            if int(found) == port:
                self.cpu = float(cpu)
                return float(moment)


@contextlib.contextmanager
def followed(
    name: str, port: int, number: int = 0, *, modest: bool = False, trust: Path | None = None
) -> Iterator[Following]:
    """Starts a client at that agent.

    Args:
        name: one of benchmarks/clients/following.py.
        port: the agent's.
        number: how many services, s0 and so on; the one called "followed" by default.
        modest: with the client's own limits, instead of a connection for each.
        trust: a file of certificates; with it the port speaks https.
    """
    place = ENVIRONMENTS.get(name.partition(",")[0], OURS)
    assert isinstance(place, Python)
    command = place.command(
        "-m", "benchmarks.clients.following", name, "127.0.0.1", str(port), str(number), str(int(modest))
    )
    secured = {} if trust is None else {"CONSUL_HTTP_SSL": "true", "CONSUL_CACERT": str(trust)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**environment(), **secured}, cwd=ROOT) as process:
        try:
            yield Following(process)
        finally:
            process.kill()
