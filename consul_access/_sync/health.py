# Written by tools/faces.py from consul_access/_async/health.py; edit that one.
"""Asks a service's own checks: all at the same time, each within its limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self, TypeAlias

from consul_access._pairs.threads import Examiner, Slots, at_once, shielded
from consul_access.errors import InvalidInput
from consul_access.models.status import CheckStatus
from consul_access.rules.health import CheckResult, HealthReport, failed, hung, result_of

__all__ = ["HealthChecks"]

Question: TypeAlias = Callable[[], object]


class HealthChecks:
    """Named checks of a service, asked together; what `/health` answers and what a TTL check can be reported with.

    `HealthChecks({"database": ping, "queue": length})`. One that raises, or does not answer in time, is a failing
    check with the reason as its output.

    Args:
        checks: functions by name, plain or async. Each answers None or True (passing), False (critical), a status, or a
            pair of that and a text.
        limit: seconds that each may take; 2 by default. They are asked at the same time, so this is also about how
            long the whole takes.
        limits: other limits, by name.

    Raises:
        InvalidInput: a name, function or limit cannot be right.

    It can be called itself, and then answers status and text, as `health=` of `ConsulAccess.registered` wants it.
    """

    def __init__(
        self, checks: Mapping[str, Question], *, limit: float = 2.0, limits: Mapping[str, float] | None = None
    ) -> None:
        unknown = set(limits or {}) - set(checks)
        if unknown:
            raise InvalidInput(
                f"limits={limits!r} names {min(unknown)!r}, which is no check: give one of {list(checks)}"
            )
        self._limits = {name: _seconds((limits or {}).get(name, limit), name) for name in checks}
        self._examiners = {name: _examiner(name, function) for name, function in checks.items()}
        self._turn = Slots(1)
        self._latest = HealthReport({})
        self._latest_at = float("-inf")

    @classmethod
    def of(cls, health: Health | None) -> Self:
        """What a `health=` argument means: a function, functions by name, or such checks themselves."""
        if isinstance(health, cls):
            return health
        if isinstance(health, Mapping):
            return cls(health)
        return cls({} if health is None else {"health": health})

    def report(self) -> HealthReport:
        """Asks all of them. Who asks while they are being asked already gets the same report."""
        asked = time.monotonic()
        # At most one round is ahead of us, and none takes longer than the longest limit; the rest is for slow machines.
        self._turn.acquire(asked + max(self._limits.values(), default=0.0) + 30.0)
        try:
            if self._latest_at < asked:
                with shielded():  # who gives up asking must not make a check look busy to the next
                    results = at_once([partial(self._result, name) for name in self._examiners])
                self._latest = HealthReport(dict(zip(self._examiners, results, strict=True)))
                self._latest_at = time.monotonic()
            return self._latest
        finally:
            self._turn.release()

    def __call__(self) -> tuple[CheckStatus, str]:
        """Status and text of a report."""
        report = self.report()
        return report.status, report.output

    def _result(self, name: str) -> CheckResult:
        begun = time.monotonic()
        try:
            answer = self._examiners[name].ask(self._limits[name])
            return result_of(answer, time.monotonic() - begun)
        except TimeoutError as error:
            # The function's own TimeoutError comes early, and says more than ours.
            taken = time.monotonic() - begun
            return failed(error, taken) if taken < self._limits[name] and str(error) else hung(self._limits[name])
        except Exception as error:  # noqa: BLE001 - it is the check's result
            return failed(error, time.monotonic() - begun)


Health: TypeAlias = Question | Mapping[str, Question] | HealthChecks
"""A function, functions by name, or checks made of them."""


def _examiner(name: str, function: Question) -> Examiner:
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"a check's name is {name!r}: write a text")
    if not callable(function):
        raise InvalidInput(f"the check {name!r} is {function!r}: give a function")
    return Examiner(function)


def _seconds(limit: float, name: str) -> float:
    if not 0 < limit < float("inf"):
        raise InvalidInput(f"the check {name!r} has {limit!r} as its limit: give seconds, more than 0")
    return float(limit)
