"""The inventory is complete: each scenario has a test, each test that names one belongs to one that is there."""

from __future__ import annotations

import re

import pytest

from tests.faults.scenarios import ROOT, SCENARIOS, functions, holders, named_in, scenarios_of

COUNTS = {"F": 32, "C": 9, "E": 10, "L": 15, "N": 9}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_tests_that_are_there(name):
    assert holders(name)
    assert set(holders(name)) <= functions()
    assert SCENARIOS[name].what
    assert SCENARIOS[name].bar


def test_a_test_names_only_scenarios_that_are_there():
    named = {(function, name) for function in functions() for name in named_in(function)}
    assert [pair for pair in sorted(named) if pair[1] not in SCENARIOS] == []
    assert len(named) > 60


def test_the_series_have_no_gaps():
    wanted = [f"{series}{number:02}" for series, count in COUNTS.items() for number in range(1, count + 1)]
    assert list(SCENARIOS) == wanted


def test_the_ways_out_that_end_by_themselves_are_those_of_the_inventory():
    text = (ROOT / "tests/live/test_ways_out.py").read_text()
    listed = {name for name in SCENARIOS if any("test_l_series" in one for one in holders(name))}
    assert set(re.findall(r'id="(L\d\d)', text)) == listed


def test_a_test_knows_its_scenarios(request):
    assert scenarios_of("tests/faces/test_faults.py", "test_f10_f11_f12_silence_and_drips_end_at_the_deadline") == [
        "F10", "F11", "F12",
    ]  # fmt: skip
    assert request.node.get_closest_marker("scenario") is None
