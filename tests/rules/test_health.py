"""Several checks taken together."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import CheckResult, CheckStatus, HealthReport, InvalidInput
from consul_access.rules.health import failed, hung, result_of

STATUSES = st.sampled_from([CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL])
RESULTS = st.builds(CheckResult, STATUSES, st.text(max_size=30), st.floats(0, 60))
REPORTS = st.builds(HealthReport, st.dictionaries(st.text(min_size=1), RESULTS, max_size=6))


@given(REPORTS)
def test_the_report_is_as_bad_as_its_worst_check(report):
    statuses = {result.status for result in report.checks.values()}
    worst = next((status for status in ("critical", "warning") if status in statuses), "passing")
    assert report.status == worst
    assert report.http_status == {"passing": 200, "warning": 429, "critical": 503}[worst]


@given(REPORTS)
def test_the_body_tells_of_every_check(report):
    body = json.loads(report.body())
    assert body["status"] == report.status
    assert set(body["checks"]) == set(report.checks)
    for name, told in body["checks"].items():
        result = report.checks[name]
        assert (told["status"], told["output"]) == (result.status, result.output)
        assert told["seconds"] == pytest.approx(result.seconds, abs=0.0001)


def test_the_text_has_a_line_a_check_and_begins_with_the_worst():
    checks = {
        "cache": result_of(True, 0.1),
        "queue": result_of(("warning", "long"), 0.1),
        "database": failed(OSError("refused"), 0.1),
        "mail": hung(2.0),
    }
    assert HealthReport(checks).output.splitlines() == [
        "database: critical failed: OSError('refused')",
        "mail: critical has not answered within 2 s",
        "queue: warning long",
        "cache: passing",
    ]


def test_no_checks_at_all_pass():
    report = HealthReport({})
    assert (report.status, report.http_status, report.output) == ("passing", 200, "")
    assert json.loads(report.body()) == {"status": "passing", "checks": {}}


@given(st.text())
def test_no_text_grows_beyond_what_agents_keep(text):
    assert len(failed(ValueError(text * 100), 0.0).output) <= 1000
    assert len(result_of((True, text * 100), 0.0).output) <= 1000


def test_a_report_does_not_change_afterwards():
    checks = {"database": result_of(True, 0.0)}
    report = HealthReport(checks)
    checks["queue"] = result_of(False, 0.0)
    assert report.status == "passing"
    with pytest.raises(TypeError):
        report.checks["queue"] = result_of(False, 0.0)


def test_a_misspelt_answer_is_refused():
    with pytest.raises(InvalidInput, match="critcal"):
        result_of("critcal", 0.0)
