"""What a token may do, one thing at a time."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Right"]


class Right(NamedTuple):
    """One thing that a token may do or not.

    `str()` writes it as policies do: `service:write of 'orders'`.

    Args:
        resource: `service`, `node` or `agent`.
        access: `read` or `write`.
        segment: which of them; empty for those that no rule names.
    """

    resource: str
    access: str
    segment: str = ""

    def __str__(self) -> str:
        return f"{self.resource}:{self.access}" + (f" of {self.segment!r}" if self.segment else "")
