"""A client's process of the fault laboratory, from outside: it is given orders, asked, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PATIENCE = 45.0


class Hung(Exception):
    """The client did not answer in time."""


class Unmade(Exception):
    """The client cannot be made like that; the text is its error's name."""


class Process:
    """A process that is one client.

    Args:
        name: which one, as peer.py calls it.
        host: of the registry.
        port: of the registry.
        environ: what else is in its environment.
        options: what else the client is made with.
    """

    def __init__(
        self, name: str, host: str, port: int, *, environ: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        paths = [str(ROOT)] if name != "etcd3" else [str(ROOT / ".venv" / "protobuf-3"), str(ROOT)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("CONSUL_", "ETCD"))}
        program = [sys.executable, "-W", "ignore", str(HERE / "peer.py")]
        self.process = subprocess.Popen(
            [*program, name, host, str(port), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**clean, "PYTHONPATH": os.pathsep.join(paths), **(environ or {})},
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        if error := self.answer().get("error"):
            self.close()
            raise Unmade(error)

    def tell(self, do: str, **order: Any) -> None:
        """Gives an order and does not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self.process.stdin.flush()

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Gives an order and waits for its answer."""
        self.tell(do, **order)
        return self.answer()

    def answer(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next answer.

        Raises:
            Hung: there was none in time.
        """
        try:
            line = self._answers.get(timeout=patience)
        except queue.Empty:
            raise Hung(f"hung for {patience:g} s") from None
        if not line:
            raise Hung("ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def ended(self, within: float = 60.0) -> int | None:
        """Its exit code; None when it did not end in time."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def close(self) -> None:
        """Kills it, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self._reading.join()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what it was told last, it did not read any more
            self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def running(name: str, host: str, port: int, **given: Any) -> Iterator[Process]:
    """The process, as long as the block takes."""
    made = Process(name, host, port, **given)
    try:
        yield made
    finally:
        made.close()
