"""A way to a server that can be made bad, and good again: slow, silent, cut, reset, refused, or with bytes spoilt."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

RST = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Way:
    """What the way does with what is sent over it.

    Args:
        delay: seconds that every piece is held back, in both directions.
        silent: nothing arrives any more, in either direction; connections stay open.
        refused: connections are reset as soon as they are made, and those that are open at once.
        cut: connections end after so many bytes of the server's; None lets them live.
        reset: an end is a reset, not an orderly one.
        spoil: makes what arrives from the server's bytes; None leaves them alone.
    """

    delay: float = 0.0
    silent: bool = False
    refused: bool = False
    cut: int | None = None
    reset: bool = False
    spoil: Callable[[bytes], bytes] | None = None


GOOD = Way()
PROXY_THREADS = "faulty proxy"
"""The name of all its threads."""


class FaultyProxy:
    """Passes connections on to a server, as well as its present `Way` allows.

    Args:
        port: the server's.
        host: where it listens.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._behind = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._way = GOOD
        self._changed = threading.Condition()
        self._over = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept, name=PROXY_THREADS)]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._open) // 2

    @contextlib.contextmanager
    def way(self, way: Way) -> Iterator[None]:
        """Is like this within the block, and good after it; connections that were hurt stay so until they end."""
        self._turn(way)
        try:
            yield
        finally:
            self._turn(GOOD)

    def hang_up(self, *, reset: bool = False) -> None:
        """Ends the connections that are open now."""
        for sock in list(self._open):
            self._end(sock, reset=reset)

    def _turn(self, way: Way) -> None:
        was_silent = self._way.silent
        with self._changed:
            self._way = way
            self._changed.notify_all()
        if way.refused or was_silent:  # what was swallowed on the way is lost for good
            self.hang_up(reset=True)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = None
            if not self._way.refused:
                with contextlib.suppress(OSError):
                    far = socket.create_connection(self._behind, timeout=2)
            if far is None:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                near.close()
            else:
                self._pass(near, far)

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        far.settimeout(None)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for end in (near, far):
            with contextlib.suppress(OSError):  # it may be gone already
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(end)
        if self._over:  # it ended at this very moment
            self.hang_up()
        answers = threading.Thread(target=self._answers, args=(far, near), name=PROXY_THREADS)
        requests = threading.Thread(target=self._requests, args=(near, far, answers), name=PROXY_THREADS)
        self._threads += [answers, requests]
        answers.start()
        requests.start()

    def _requests(self, near: socket.socket, far: socket.socket, answers: threading.Thread) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                if not self._held():
                    far.sendall(data)
        self._end(far)
        answers.join()
        for sock in (near, far):
            self._open.discard(sock)
            sock.close()

    def _answers(self, far: socket.socket, near: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if self._held():
                    continue
                way = self._way
                if way.spoil is not None:
                    data = way.spoil(data)
                if way.cut is not None and passed + len(data) > way.cut:
                    near.sendall(data[: max(0, way.cut - passed)])
                    self._end(near, reset=way.reset)
                    return
                near.sendall(data)
                passed += len(data)
        self._end(near)

    def _held(self) -> bool:
        """Waits as long as the way is slow; whether the piece is swallowed."""
        deadline = time.monotonic() + self._way.delay
        with self._changed:
            while not self._over and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._way.silent

    def _end(self, sock: socket.socket, *, reset: bool = False) -> None:
        with contextlib.suppress(OSError):
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            sock.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)  # a write end shut down would send a FIN

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(10)
        self.hang_up()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection of the faulty proxy does not end"
