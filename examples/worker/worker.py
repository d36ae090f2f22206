"""A worker without a port: it takes jobs out of a folder, and tells Consul itself how it is (a TTL check).

    python worker.py FOLDER [--ttl=15] [--many=100] [--patience=60]

A job is a file `NAME.job`; its text is counted and written to `NAME.done`. The worker is

- passing while it keeps up,
- in warning when more than `--many` jobs wait,
- critical when the oldest job has waited for longer than `--patience` seconds: it is stuck, whatever else it says.

If the whole process hangs or dies, nobody reports, and Consul calls it critical when the TTL has passed.
On SIGTERM and Ctrl-C it finishes the job it is at, deregisters, and ends.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path

from consul_access import ConsulAccess, TtlCheck

log = logging.getLogger("worker")


class Worker:
    """Does jobs, one after the other.

    Args:
        folder: where they are.
        many: so many may wait.
        patience: seconds that a job may wait.
    """

    def __init__(self, folder: Path, many: int, patience: float) -> None:
        self._folder = folder
        self._many = many
        self._patience = patience
        self.stopped = threading.Event()

    def run(self) -> None:
        """Works until it is stopped."""
        while not self.stopped.is_set():
            jobs = self._waiting()
            for _, job in jobs[:1]:
                self._do(job)
            if not jobs:
                self.stopped.wait(0.2)

    def health(self) -> tuple[str, str]:
        """How it is; asked before every heartbeat, in a thread of its own."""
        jobs = self._waiting()
        oldest = time.time() - jobs[0][0] if jobs else 0.0
        if oldest > self._patience:
            return "critical", f"stuck: {jobs[0][1].name} has waited for {oldest:.0f} s"
        return ("warning" if len(jobs) > self._many else "passing"), f"{len(jobs)} jobs wait"

    def _waiting(self) -> list[tuple[float, Path]]:
        """The jobs, and since when they wait, the oldest first; one that somebody takes away meanwhile is none."""
        found = []
        for job in self._folder.glob("*.job"):
            with contextlib.suppress(FileNotFoundError):
                found.append((job.stat().st_mtime, job))
        return sorted(found)

    def _do(self, job: Path) -> None:
        try:
            words = len(job.read_text().split())
        except (OSError, UnicodeDecodeError) as error:  # it stays, and health says so when it has waited too long
            log.warning("%s cannot be read: %s", job.name, error)
            self.stopped.wait(1.0)
            return
        job.with_suffix(".done").write_text(f"{words}\n")
        job.unlink()


def main() -> None:
    """Works, registered, until it is told to end."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--ttl", type=float, default=15.0, metavar="SECONDS", help="15 by default")
    options.add_argument("--many", type=int, default=100, help="100 by default")
    options.add_argument("--patience", type=float, default=60.0, metavar="SECONDS", help="60 by default")
    given = options.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    worker = Worker(given.folder, given.many, given.patience)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stopped.set())
    with (
        ConsulAccess() as access,
        access.registered(
            "worker",
            id=f"worker-{socket.gethostname()}-{os.getpid()}",  # there is no port to tell several apart by
            check=TtlCheck(given.ttl, deregister_critical_service_after="10m"),
            health=worker.health,
            fail_fast=False,  # it can work without Consul, and is registered as soon as that is there
        ),
    ):
        worker.run()


if __name__ == "__main__":
    main()
