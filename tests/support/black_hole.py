"""A port where connecting leads to nothing."""

from __future__ import annotations

import contextlib
import socket


class BlackHole:
    """A port that takes no further connections and refuses none: its queue is full."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self.port = listener.getsockname()[1]
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
