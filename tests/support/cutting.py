"""A way to a server that breaks once, after a given number of bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

RST = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Passes connections on; the first is reset after `cut` bytes, counted in both directions.

    Args:
        port: of the server behind it, on this machine.
        cut: how many bytes are let through.
    """

    def __init__(self, port: int, cut: int) -> None:
        self._behind = port
        self._left = cut
        self.has_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._behind))
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [near, far]
            broken = threading.Event()
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pass, args=(source, sink, near, far, broken))
                self._threads.append(thread)
                thread.start()

    def _pass(
        self,
        source: socket.socket,
        sink: socket.socket,
        near: socket.socket,
        far: socket.socket,
        broken: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(65536)) and not broken.is_set():  # an answer may be quicker than the reset
                if not self.has_cut and len(data) >= self._left:
                    broken.set()
                    self.has_cut = True
                    sink.sendall(data[: self._left])
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                    break
                self._left -= len(data)
                sink.sendall(data)
        for sock in (near, far):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if self.has_cut:
            near.close()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads[1:]:
            thread.join()
