"""Whether a connection that many share may be dead, when one of its answers is late. No clock, no I/O."""

from __future__ import annotations

__all__ = ["is_doubtful"]


def is_doubtful(now: float, heard_at: float, sent_at: float) -> bool:
    """Whether a sign of life should be asked for: nobody was answered for most of the time that the late one waits.

    Where others are answered meanwhile, the server is slow with this one, and the connection is well.

    Args:
        now: the monotonic time.
        heard_at: when anything came last.
        sent_at: when the question was sent whose answer is late.
    """
    return now - heard_at > (now - sent_at) / 2
