"""A server that a test plays: a socket to listen at, and a thread for each connection. All ends with its block."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["Listening"]


class Listening:
    """What scripted servers have in common. A class derived from it serves one connection in `_serve`."""

    accepted = 0
    """How many connections there have been."""

    def _listen(self, listener: socket.socket) -> None:
        """Takes the socket over, which is bound."""
        listener.listen(128)
        self._listener = listener
        self._threads: list[threading.Thread] = []
        self.ended = threading.Event()

    def _serve(self, sock: socket.socket, number: int) -> None:
        raise NotImplementedError

    def _hang_up(self) -> None:
        """Ends what is open, so that no thread waits for it."""

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), f"a connection of {type(self).__name__} does not end"

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            self.accepted += 1
            self._spawn(self._serve, sock, self.accepted)
