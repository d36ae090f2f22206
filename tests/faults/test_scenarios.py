"""The inventory is complete: each scenario has a test, each test that names one belongs to one that is there."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.laboratory.meetings import MEETINGS
from benchmarks.laboratory.page import MARK, PAGE, RESULTS, tables
from tests.faults.comparing import Met, is_ahead
from tests.faults.scenarios import ALONE, ROOT, SCENARIOS, functions, holders, named_in, scenarios_of

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


def test_others_are_met_in_each_scenario_or_a_word_says_why_not():
    assert sorted([*MEETINGS, *ALONE]) == sorted(SCENARIOS)


class TestWhatWasFound:
    """docs/reliability.json: what `make faults` found the last time it was run."""

    found = json.loads(RESULTS.read_text())

    @pytest.mark.parametrize("name", SCENARIOS)
    def test_ours_held_in_every_round(self, name):
        rounds = self.found["ours"][name]["rounds"]
        assert len(rounds) >= 2
        assert [one["failed"] for one in rounds] == [[]] * len(rounds)
        assert all(one["passed"] for one in rounds)

    def test_ours_held_with_the_other_consul_as_well(self):
        (found,) = self.found["beside"].values()
        assert set(found) == {name for name in SCENARIOS if not name.startswith("E") and name != "N07"}
        assert {name: [one["failed"] for one in result["rounds"]] for name, result in found.items()} == {
            name: [[], []] for name in found
        }

    @pytest.mark.parametrize("name", MEETINGS)
    def test_nobody_is_ahead(self, name):
        ours, other = (
            Met.of(one) for _, one in sorted(self.found["peers"][name].items(), key=lambda it: it[0] != "ours")
        )
        assert not is_ahead(other, ours)

    def test_the_page_says_what_was_found(self):
        assert PAGE.read_text().partition(MARK)[2].strip() == tables(self.found).strip()


@pytest.mark.parametrize(
    ("one", "is_better"),
    [
        (Met("", bad=1), True),
        (Met("", bad=2, failed=2), True),
        (Met("", bad=2, failed=3), False),
        (Met("", bad=3, failed=2), True),
        (Met("", bad=2, failed=3, seconds={"back": 8.5}), True),
        (Met("", bad=2, failed=3, seconds={"back": 9.5}), False),
        (Met("", bad=2, failed=3, seconds={"something else": 1.0}), False),
    ],
)
def test_who_is_better_in_anything_is_ahead(one, is_better):
    assert is_ahead(one, Met("", bad=2, failed=3, seconds={"back": 10.0})) is is_better


def test_the_ways_out_that_end_by_themselves_are_those_of_the_inventory():
    text = (ROOT / "tests/live/test_ways_out.py").read_text()
    listed = {name for name in SCENARIOS if any("test_l_series" in one for one in holders(name))}
    assert set(re.findall(r'id="(L\d\d)', text)) == listed


def test_a_test_knows_its_scenarios(request):
    assert scenarios_of("tests/faces/test_faults.py", "test_f10_f11_f12_silence_and_drips_end_at_the_deadline") == [
        "F10", "F11", "F12",
    ]  # fmt: skip
    assert request.node.get_closest_marker("scenario") is None
