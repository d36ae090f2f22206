"""What a health function may answer."""

from __future__ import annotations

import pytest

from consul_access import CheckStatus, InvalidInput
from consul_access.rules.reporting import report_of


@pytest.mark.parametrize(
    ("answer", "status", "output"),
    [
        (None, "passing", ""),
        (True, "passing", ""),
        (False, "critical", ""),
        ("passing", "passing", ""),
        ("warning", "warning", ""),
        (CheckStatus.CRITICAL, "critical", ""),
        ((True, "42 jobs"), "passing", "42 jobs"),
        ((None, "42 jobs"), "passing", "42 jobs"),
        ((False, "no disk"), "critical", "no disk"),
        (("warning", "slow"), "warning", "slow"),
    ],
)
def test_every_answer_has_a_status_and_a_text(answer, status, output):
    assert report_of(answer) == (status, output)


@pytest.mark.parametrize(
    "answer", [1, 0, [], "critcal", (True, 5), ("fine", "x"), (True, "a", "b"), CheckStatus.MAINTENANCE]
)
def test_anything_else_is_refused_with_what_to_answer_instead(answer):
    with pytest.raises(InvalidInput, match="answer None, a bool"):
        report_of(answer)
