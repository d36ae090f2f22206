"""A real server as a process of its own, on free ports of the loopback interface, gone without a trace afterwards."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["ServerProcess", "free_ports"]

ENDED_WITHIN: Final = 20.0
ATTEMPTS: Final = 5
PAUSE: Final = 0.02


def free_ports(number: int) -> list[int]:
    """So many ports, all different. Between here and their use somebody else may take one: be ready to ask again."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


class ServerProcess:
    """What both kinds of servers can do; what they are told, and when they are ready, is their own."""

    host = "127.0.0.1"
    """Where it listens."""
    port = 0
    """At which port."""
    ready_within = 30.0
    """Seconds that it may take to become ready."""

    def __init__(self, binary: str | os.PathLike[str] | None = None) -> None:
        self._binary = binary
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.home = Path()
        """The folder with its data, its settings and its log, while it is there."""
        self.process: subprocess.Popen[bytes] | None = None
        """Its process; None while it does not run."""

    # --- where it is --------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where it is, as CONSUL_HTTP_ADDR and ETCDCTL_ENDPOINTS take it."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.address}"

    # --- coming and going ---------------------------------------------------------------------------------

    def start(self) -> Self:
        """Starts it, for whoever has no block; end it with `close()`. On free ports: others, when somebody was quicker.

        Raises:
            FileNotFoundError: there is no binary.
            RuntimeError: it does not start; the text has the end of its log.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.prepare()
                self.run()
            except BaseException as error:
                self.close()
                if attempt == ATTEMPTS or "address already in use" not in str(error):
                    raise
            else:
                break
        return self

    def prepare(self) -> None:
        """Gives it a folder, ports and settings."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="consul-access-")
            self.home = Path(self._folder.name)
        self._configure()

    def run(self) -> None:
        """Starts it with the ports, settings and data that it has, and waits until it is ready.

        Raises:
            RuntimeError: it does not start; the text has the end of its log.
        """
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Starts it with the ports, settings and data that it has, and does not wait."""
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - as asked for
                [str(self._found()), *self._arguments()],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
            )

    def await_ready(self) -> None:
        """Waits until it can be used.

        Raises:
            RuntimeError: it does not start; the text has the end of its log.
        """
        deadline = time.monotonic() + self.ready_within
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._found()} did not start:\n{self.log()[-3000:]}")
            time.sleep(PAUSE)

    def is_ready(self) -> bool:
        """Whether it can be used."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends it in good order, by SIGTERM; `run()` starts it again."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it without a word, by SIGKILL; `run()` starts it again."""
        self._end(signal.SIGKILL)

    def interrupt(self) -> None:
        """Kills it and does not wait."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()

    def restart(self) -> None:
        """Kills it and starts it again on the same ports, with what it has on disk."""
        self.kill()
        self.run()

    def pause(self) -> None:
        """Stops it in its tracks. Until its last thread has stopped it may still answer; that is waited for."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Has it go on after `pause()`."""
        self._running().send_signal(signal.SIGCONT)

    def log(self) -> str:
        """What it has said since it was started last."""
        path = self.home / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def close(self) -> None:
        """Ends it, and removes what it wrote."""
        self.kill()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url if self.process is not None else '(not running)'}>"

    # --- what each kind says for itself -------------------------------------------------------------------

    def _found(self) -> str | os.PathLike[str]:
        """The binary to run."""
        raise NotImplementedError

    def _configure(self) -> None:
        """Chooses ports and writes its settings."""
        raise NotImplementedError

    def _arguments(self) -> Sequence[str]:
        """What follows the binary on the command line."""
        raise NotImplementedError

    def _environment(self) -> Mapping[str, str] | None:
        """The environment to run in; None for that of the test."""
        return None

    # --- inside -------------------------------------------------------------------------------------------

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError(f"{self!r}: start it first")
        return self.process

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait(ENDED_WITHIN)

    def _answered(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a request; status 0 when nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=2.0)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()
