"""How much memory the process has needed."""

from __future__ import annotations

import resource


def peak_memory() -> int:
    """Bytes, at the worst moment so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
