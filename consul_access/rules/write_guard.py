"""Which writes would go past Kubernetes' own checks."""

from __future__ import annotations

from consul_access.errors import InvalidInput
from consul_access.models.keys import EVERYTHING

__all__ = ["refuse_kubernetes"]


def refuse_kubernetes(key: bytes, end: bytes | None, prefix: str) -> None:
    """Refuses a write or deletion that concerns keys of Kubernetes.

    Args:
        key: the key, or the first of a range.
        end: the first key after the range; None for a single key.
        prefix: what Kubernetes' keys begin with, such as `/registry`.

    Raises:
        InvalidInput: it does concern them.
    """
    first = prefix.encode() + b"/"
    after = first[:-1] + bytes([first[-1] + 1])
    begins_before = key < after
    if end is None:
        concerned = first <= key < after
    elif end == EVERYTHING:
        concerned = begins_before
    else:
        concerned = begins_before and end > first
    if concerned:
        shown = key.decode("utf-8", "backslashreplace")
        raise InvalidInput(
            f"{shown!r} concerns keys of Kubernetes, whose API server alone checks and allocates what is written "
            "there: use kubectl or the Kubernetes API, or say allow_kubernetes_writes=True if you know what you do"
        )
