"""What a user's health function may answer, and what is then reported."""

from __future__ import annotations

from consul_access.errors import InvalidInput
from consul_access.models.status import CheckStatus

__all__ = ["report_of"]

_REPORTABLE = (CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL)


def report_of(answer: object) -> tuple[CheckStatus, str]:
    """Status and text to report.

    Args:
        answer: None or True (passing), False (critical), a status, or a pair of one of these and a text. A text alone
            is refused: a misspelt status would otherwise count as passing.

    Raises:
        InvalidInput: it is something else.
    """
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], str):
        return _status(answer[0]), answer[1]
    return _status(answer), ""


def _status(answer: object) -> CheckStatus:
    if answer is None or answer is True:
        return CheckStatus.PASSING
    if answer is False:
        return CheckStatus.CRITICAL
    if isinstance(answer, str) and answer in _REPORTABLE:
        return CheckStatus(answer)
    raise InvalidInput(
        f"the health function answered {answer!r}: answer None, a bool, 'passing', 'warning' or 'critical', "
        "or a pair of that and a text"
    )
