"""What a hook is told about every exchange, so that metrics and tracing need no dependency of ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from consul_access.errors import ConsulAccessError

__all__ = ["Exchange", "Hook", "masked"]

_SECRET = re.compile(r"(?<=[?&]token=)[^&\s]*")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it; a call that is repeated makes several.

    Args:
        operation: the call's name, such as `health.service`.
        method: GET or PUT.
        path: path and query as sent, but for the value of a `token=` in it.
        address: the server, as `host:port` or `unix:///path`.
        status: the HTTP status, or None when no answer came.
        elapsed: seconds this attempt took.
        attempt: 1 for the first.
        error: what the attempt failed with, or None.
        server: the server as a URL, with what every path there begins with; no secret is ever part of it.
        blocking: the server was asked to hold its answer back until something changes, so `elapsed` tells when that was
            and not how fast the server is.
    """

    operation: str
    method: str
    path: str
    address: str
    status: int | None
    elapsed: float
    attempt: int
    error: ConsulAccessError | None = None
    server: str = ""
    blocking: bool = False


Hook: TypeAlias = Callable[[Exchange], None]
"""Called after every exchange, in the thread or task that made it; it should return at once."""


def masked(text: str) -> str:
    """The text without the value of a `token=` in a query: calls of other origin may have one there."""
    return _SECRET.sub("REDACTED", text) if "token=" in text else text
