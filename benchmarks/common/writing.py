"""Changes in the catalog, of which it is known when they were acknowledged."""

from __future__ import annotations

import json
import socket
import time

from tests.support.agents import ConsulAgent

__all__ = ["Writer"]


class Writer:
    """Changes services in the catalog over one bare socket, so that the acknowledgement is seen as soon as it comes."""

    def __init__(self, agent: ConsulAgent) -> None:
        self._sock = socket.create_connection(("127.0.0.1", agent.port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._node: dict[str, object] = {"Node": "external", "Address": "10.9.0.1"}

    def change(self, service: str, port: int) -> float:
        """Gives the service another port; when that was acknowledged."""
        kept = {"ID": service, "Service": service, "Address": "10.9.0.2", "Port": port}
        body = json.dumps({**self._node, "Service": kept})
        self._node["SkipNodeUpdate"] = True  # the first change made the node
        head = f"PUT /v1/catalog/register HTTP/1.1\r\nHost: consul\r\nContent-Length: {len(body)}\r\n\r\n"
        self._sock.sendall((head + body).encode())
        data = self._sock.recv(65536)
        acknowledged = time.monotonic()
        assert data.startswith(b"HTTP/1.1 200"), data
        return acknowledged

    def close(self) -> None:
        self._sock.close()
