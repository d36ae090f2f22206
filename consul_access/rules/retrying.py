"""Whether a failed attempt is worth another one, how long to pause before it, and what to say in the end.

No clock and no randomness in here: time left and a `uniform(low, high)` are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from consul_access.call import Call, Repeat, Reply
from consul_access.errors import BadAnswer, ConsulAccessError, OutcomeUnknown, UnexpectedRedirect
from consul_access.settings import RetryPolicy

__all__ = ["Failed", "Meaning", "conclude", "pause", "refusal", "worth_repeating"]


class Meaning(NamedTuple):
    """What a refusing answer says.

    Args:
        error: the error it stands for.
        message: what happened, for a person.
        applied: whether the server may have acted on the request all the same.
        advice: what to do next, where that is more than the error's own advice.
    """

    error: type[ConsulAccessError]
    message: str
    applied: bool
    advice: str = ""


class Failed(NamedTuple):
    """One attempt that brought no usable answer.

    Args:
        error: what to raise if no attempt follows.
        applied: whether the server may have acted on the request.
        wait: seconds to pause before another attempt; None leaves that to the back-off.
        again: another attempt makes sense although the error itself is final (a token was renewed meanwhile).
    """

    error: ConsulAccessError
    applied: bool
    wait: float | None = None
    again: bool = False


def refusal(call: Call[Any], reply: Reply, meaning: Callable[[int, str], Meaning], *, retry_after_cap: float) -> Failed:
    """A reply whose status is none of the call's, as a failure."""
    meant = meaning(reply.status, reply.text) if reply.status >= 400 else _unexpected(reply)
    error = meant.error(
        meant.message + (f": {call.subject!r}" if call.subject else ""),
        operation=call.name,
        address=reply.address,
        status=reply.status,
        excerpt=reply.excerpt(),
    )
    if meant.advice:
        error.advice = meant.advice
    return Failed(error, meant.applied, wait=_retry_after(reply, retry_after_cap) if error.retryable else None)


def _unexpected(reply: Reply) -> Meaning:
    if reply.status >= 300:
        return Meaning(UnexpectedRedirect, f"redirected to {reply.headers.get('location', 'nowhere')!r}", applied=False)
    return Meaning(BadAnswer, "this call is not answered with such a status", applied=True)


def _retry_after(reply: Reply, cap: float) -> float | None:
    """The pause the server asks for, bounded. Consul itself never asks; proxies before it do, in whole seconds."""
    text = reply.headers.get("retry-after", "").strip()
    return min(float(text), cap) if text.isascii() and text.isdigit() else None


def worth_repeating(repeat: Repeat, failed: Failed) -> bool:
    """Whether the same request may be sent again after this failure.

    A write that must not be applied twice is repeated only when it certainly was not applied once.
    """
    if failed.again:
        return True
    if not failed.error.retryable:
        return False
    return repeat is not Repeat.NEVER or not failed.applied


def pause(policy: RetryPolicy, attempt: int, failed: Failed, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait after this attempt (counted from 1): as the server asks, else back-off with full jitter."""
    if failed.wait is not None:
        return failed.wait
    return uniform(0.0, min(policy.cap, policy.base * 2 ** min(attempt - 1, 30)))


def conclude(call: Call[Any], failed: Failed, *, attempts: int, elapsed: float, applied: bool) -> ConsulAccessError:
    """The error to raise after the last attempt.

    Args:
        call: what was tried.
        failed: the last attempt.
        attempts: how many there were.
        elapsed: seconds over all of them.
        applied: whether any of them may have been applied.

    A write that may have been applied, and that no later answer refused, has an unknown outcome.
    """
    error = failed.error
    error.attempts, error.elapsed = attempts, elapsed
    if call.repeat is Repeat.READ or not applied or not (error.retryable or failed.applied):
        return error
    unknown = OutcomeUnknown(
        f"the request was sent, and no answer says whether it was applied ({error.message})",
        repeatable=call.repeat is Repeat.IDEMPOTENT,
        operation=error.operation,
        address=error.address,
        status=error.status,
        excerpt=error.excerpt,
        attempts=attempts,
        elapsed=elapsed,
    )
    unknown.__cause__ = error
    return unknown
