"""Signs of life on a connection: when to ask for one, and when to give one. No clock, no I/O."""

from __future__ import annotations

from typing import Final

__all__ = ["is_answer_due", "is_doubtful"]

ANSWER_SECONDS: Final = 1.0


def is_doubtful(now: float, heard_at: float, sent_at: float) -> bool:
    """Whether a sign of life should be asked for: nobody was answered for most of the time that the late one waits.

    Where others are answered meanwhile, the server is slow with this one, and the connection is well.

    Args:
        now: the monotonic time.
        heard_at: when anything came last.
        sent_at: when the question was sent whose answer is late.
    """
    return now - heard_at > (now - sent_at) / 2


def is_answer_due(now: float, answered_at: float) -> bool:
    """Whether a server's pings are answered with the next call: once a second, which is soon enough for each of them.

    Etcd's server measures how quick the way is with a ping for every call, unless its last one is not answered yet, and
    each wakes whoever waits for his own answer (observed, 3.4 and 3.5; grpc-go: internal/transport/bdp_estimator.go).

    Args:
        now: the monotonic time.
        answered_at: when they were answered last.
    """
    return now - answered_at > ANSWER_SECONDS
