"""What takes an agent a minute or two. It begins with the session and is looked at when that ends (see conftest.py)."""

from __future__ import annotations

from urllib.parse import quote

import pytest

LONGEST = 200.0
"""A minute until a critical service is removed, half a minute for the sweep; two minutes between full comparisons."""


@pytest.fixture
def seen(wire, in_time):
    return in_time[wire]


def test_a_service_that_is_critical_for_long_is_removed_a_minute_later_at_the_earliest(seen, record_property):
    took = seen.took("reaped", LONGEST)
    record_property("seconds", took)
    assert took >= 60


def test_what_was_taken_out_of_the_catalog_is_put_back_by_its_agent(seen, record_property):
    took = seen.took("restored", LONGEST)
    record_property("seconds", took)
    assert took <= 150


@pytest.mark.parametrize("name", ["never", "without", "by another", "maintained"])
def test_nothing_else_is_removed(seen, name):
    """What was never anything but critical, has no such limit, or is critical by another check or by maintenance."""
    seen.took("reaped", LONGEST)
    (entry,) = seen.agent.read(f"/v1/health/service/{quote(name)}")
    assert "critical" in {check["Status"] for check in entry["Checks"]}
