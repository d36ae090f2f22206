"""What a port can be read from, instead of being told: a bound socket, or a server that has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from consul_access.errors import InvalidInput

__all__ = ["Listening", "listening_at"]


class _Bound(Protocol):
    """A socket."""

    def getsockname(self) -> object: ...


class _ServesOne(Protocol):
    """A server with one socket, such as `http.server.HTTPServer`."""

    @property
    def socket(self) -> _Bound: ...


class _ServesMany(Protocol):
    """A server with several, such as `asyncio.Server`; the first counts."""

    @property
    def sockets(self) -> Sequence[_Bound]: ...


Listening: TypeAlias = _Bound | _ServesOne | _ServesMany
"""A bound socket, or a server that has one in `socket` or `sockets`."""


def listening_at(server: Listening) -> tuple[str, int]:
    """The address and the port that it listens at.

    Raises:
        InvalidInput: it listens at none.
    """
    sockets = getattr(server, "sockets", None)
    bound: object = sockets[0] if sockets else getattr(server, "socket", server)
    ask = getattr(bound, "getsockname", None)
    name: object = ask() if callable(ask) else None
    if isinstance(name, tuple) and len(name) >= 2 and isinstance(name[1], int) and name[1] > 0:
        return str(name[0]), name[1]
    raise InvalidInput(
        f"port={server!r} listens at no port: give a number from 1 to 65535, a bound socket, or a server that has one"
    )
