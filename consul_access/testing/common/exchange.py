"""One request and what comes of it: an answer, perhaps one that goes on, or word that it has to wait."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

__all__ = ["LOST", "Answer", "Live", "Pending", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as it came.

    Args:
        method: its verb.
        target: path and query, as on the request line.
        headers: by name in lower case.
        body: all of it.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Live(Protocol):
    """The body of an answer that goes on."""

    @property
    def over(self) -> bool:
        """Whether nothing comes any more."""
        ...

    @property
    def broken(self) -> bool:
        """Whether it ends in the middle, as when the connection is lost."""
        ...

    def take(self) -> bytes:
        """What has come since the last time; nothing else may happen meanwhile."""
        ...

    def cut(self, number: int) -> None:
        """The last bytes of what comes next are never sent, and nothing after them."""
        ...

    def close(self) -> None:
        """Ends it, from the reader's side."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and how well it arrives.

    Args:
        status: the HTTP status.
        headers: pairs, in order.
        body: all of it.
        cut: how many bytes at its end are never sent.
        lost: the connection is reset instead of it.
        delay: seconds that it takes longer.
        closes: the connection ends after it.
        live: instead of a body, one that goes on.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: int = 0
    lost: bool = False
    delay: float = 0.0
    closes: bool = False
    live: Live | None = None

    def header(self, name: str) -> str | None:
        """A header, by name in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


LOST: Final = Answer(lost=True)


class Pending(Protocol):
    """A request whose answer has to wait."""

    @property
    def until(self) -> float | None:
        """When it is looked at again in any case; None: only after a change."""
        ...
