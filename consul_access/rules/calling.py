"""One request on its way from instance to instance: who is next, may it be repeated, whose fault was it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final

from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance

__all__ = ["IDEMPOTENT", "Course", "FailedAttempt", "How"]

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that mean the same once or twice (RFC 9110, 9.2.2)."""
FIRST_PAUSE: Final = 0.1


class How(Enum):
    """In which way an attempt failed."""

    NOT_SENT = "no connection"
    """There was no connection, so the instance has seen nothing."""
    BUSY = "all connections busy"
    """All of our own connections to it were in use, so it has seen nothing, and it is not its fault."""
    BROKEN = "the connection broke"
    """It ended in the middle, or with what is no answer."""
    TIMED_OUT = "no answer in time"
    """There was a connection, and silence on it."""
    UNFIT = "a status that says it cannot"
    """It answered with 502, 503 or 504 (or what else was given as failing), so it cannot serve now."""
    OUR_FAULT = "a request that cannot be sent"
    """No instance could do better."""

    @property
    def blames_the_instance(self) -> bool:
        """Whether it tells something about the instance."""
        return self not in (How.BUSY, How.OUR_FAULT)

    @property
    def unseen(self) -> bool:
        """Whether the instance certainly has not seen the request."""
        return self in (How.NOT_SENT, How.BUSY)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One attempt that failed.

    Args:
        address: the instance's address.
        instance_id: its id.
        how: in which way.
        reason: what exactly happened, for a person to read.
        elapsed: seconds it took.
    """

    address: Address
    instance_id: str
    how: How
    reason: str
    elapsed: float

    def __str__(self) -> str:
        return f"{self.address} ({self.instance_id}): {self.reason} after {self.elapsed:.2f} s"


class Course:
    """One request on its way.

    Args:
        method: GET, POST, ...
        attempts: how many instances are asked at most.

    A request is repeated when no instance has seen it, or when its method means the same once or twice; and only when
    its body can be sent again. Each attempt goes to an instance that was not asked yet, as long as there is one.
    """

    __slots__ = ("_attempts", "_method", "failures")

    def __init__(self, method: str, attempts: int) -> None:
        self._method = method
        self._attempts = attempts
        self.failures: list[FailedAttempt] = []

    def goes_on(self, failed: FailedAttempt, *, replayable: bool) -> bool:
        """Takes notice of a failure; whether there is to be another attempt.

        Args:
            failed: the attempt.
            replayable: whether the body can be sent once more, from its beginning.
        """
        self.failures.append(failed)
        if len(self.failures) >= self._attempts or not replayable or failed.how is How.OUR_FAULT:
            return False
        return failed.how.unseen or self._method in IDEMPOTENT

    def next(
        self,
        pick: Callable[[], ServiceInstance],
        instances: Collection[ServiceInstance],
        left_out: Collection[Address],
        chance: Callable[[], float],
    ) -> ServiceInstance:
        """Whom to ask now: as the balancer says; if it names only those asked before, any other, if there is one.

        Args:
            pick: asks the balancer.
            instances: all there are.
            left_out: those that keep failing; only asked when there is nobody else.
            chance: a number from 0 up to, not including, 1.
        """
        chosen = pick()
        asked = {failed.address for failed in self.failures}
        for _ in asked:
            if chosen.address not in asked:
                return chosen
            chosen = pick()
        others = [instance for instance in instances if instance.address not in asked]
        others = [instance for instance in others if instance.address not in left_out] or others
        if chosen.address not in asked or not others:
            return chosen
        return others[int(chance() * len(others))]

    def pause(self, address: Address, chance: Callable[[], float]) -> float:
        """Seconds to wait before this instance is asked: none, unless it was asked before."""
        times = sum(failed.address == address for failed in self.failures)
        return FIRST_PAUSE * 2 ** (times - 1) * (0.5 + chance()) if times else 0.0
