"""Several checks of one service, taken together: one status, one HTTP answer, one text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from consul_access.models.status import CheckStatus, aggregate
from consul_access.rules.reporting import report_of

__all__ = ["CheckResult", "HealthReport", "failed", "hung", "result_of"]

LONGEST: Final = 1000
"""Characters of one check's text that are passed on; agents keep 4 KB of a whole answer."""

HTTP_STATUS: Final = {CheckStatus.PASSING: 200, CheckStatus.WARNING: 429, CheckStatus.CRITICAL: 503}
"""As agents read an HTTP check: 2xx passes, 429 is a warning, all else is critical."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check said.

    Args:
        status: passing, warning or critical.
        output: a text for people.
        seconds: how long it took.
    """

    status: CheckStatus
    output: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What all checks of a service said, at one time.

    Args:
        checks: the results by name.
    """

    checks: Mapping[str, CheckResult]

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", MappingProxyType(dict(self.checks)))

    @property
    def status(self) -> CheckStatus:
        """The worst of them; passing when there is none."""
        return aggregate(result.status for result in self.checks.values())

    @property
    def http_status(self) -> int:
        """200 when all pass, 429 for a warning, 503 when one is critical: what agents read out of an HTTP check."""
        return HTTP_STATUS[self.status]

    @property
    def output(self) -> str:
        """A line a check, the worst first; what a TTL check is reported with."""
        worst_first = sorted(self.checks.items(), key=lambda item: -HTTP_STATUS[item[1].status])
        return "\n".join(f"{name}: {result.status} {result.output}".rstrip() for name, result in worst_first)

    def body(self) -> bytes:
        """The report as JSON: `{"status": ..., "checks": {name: {"status": ..., "output": ..., "seconds": ...}}}`."""
        checks = {
            name: {"status": result.status.value, "output": result.output, "seconds": round(result.seconds, 4)}
            for name, result in self.checks.items()
        }
        return json.dumps({"status": self.status.value, "checks": checks}).encode()


def result_of(answer: object, seconds: float) -> CheckResult:
    """What a check's answer means.

    Args:
        answer: None or True (passing), False (critical), a status, or a pair of one of these and a text.
        seconds: how long it took.

    Raises:
        InvalidInput: it is something else.
    """
    status, output = report_of(answer)
    return CheckResult(status, _short(output), seconds)


def failed(error: BaseException, seconds: float) -> CheckResult:
    """A check that crashed is a failing check."""
    return CheckResult(CheckStatus.CRITICAL, _short(f"failed: {error!r}"), seconds)


def hung(limit: float) -> CheckResult:
    """A check that has not answered in time is a failing check."""
    return CheckResult(CheckStatus.CRITICAL, f"has not answered within {limit:g} s", limit)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
