"""What to say when a framework's package is not there."""

from __future__ import annotations

__all__ = ["missing"]


def missing(error: ImportError, what: str, extra: str) -> ImportError:
    """The same kind of error, which says what to install."""
    return ImportError(f"{what} is not installed: pip install 'consul-access[{extra}]'", name=error.name)
