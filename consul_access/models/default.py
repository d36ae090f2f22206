"""What stands for "nothing said", where None says "none"."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["DEFAULT", "Default"]


class Default(Enum):
    """The type of `DEFAULT`, which says: the check that is made when nothing else is said."""

    CHECK = "HTTP GET /health every 10 s"


DEFAULT: Final = Default.CHECK
