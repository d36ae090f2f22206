"""The page, its pictures and the command, made of results; nothing is measured here."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.cases import CASES
from benchmarks.common.figures import Figures, Measured, Results
from benchmarks.common.plots import Bar, Panel, Plot, drawing
from benchmarks.common.rendering import page, plots, table
from benchmarks.common.session import Session, turn
from benchmarks.common.statistics import number

SVG = "{http://www.w3.org/2000/svg}"
DOCS = Path(__file__).parents[2] / "docs"
CASES_BY_NAME = {case.name: case for case in CASES}
LOOKUP = CASES_BY_NAME["lookup"]


def lookups(ours: float) -> Results:
    """Of three clients, where ours takes so many times as long as the floor."""
    figures = Figures()
    for scale in (1.0, 1.1, 0.9):
        for client, times in (("raw", 1.0), ("ours", ours), ("py-consul", 9.0)):
            for size in (1, 10, 100, 1000):
                found = {"p50": times * scale * 1e-4, "p99": times * 2e-4, "cpu": times * 5e-5, "rate": 1e4}
                figures.note(client, found, f":{size}")
    return Results("full", {"lookup": Measured("Python 3, one core", figures)})


def test_every_target_is_in_the_table_also_when_nothing_was_measured():
    lines = page(CASES, Results("full")).splitlines()
    rows = [line for line in lines if line.startswith("| ") and line.endswith(" |  |") and not line.startswith("| #")]
    assert len(rows) == sum(claim.row is not None for case in CASES for claim in case.claims)
    assert {int(row.split("|")[1]) for row in rows} == set(range(1, 25))
    assert all("not measured" in row for row in rows)


def test_a_target_says_whether_it_is_met_and_one_that_is_not_says_why():
    (claim, *_) = (claim for claim in LOOKUP.claims if claim.row == 1)
    met, missed = page(CASES, lookups(1.5)), page(CASES, lookups(1.7))
    assert "| 1 | a look-up of 1 instance / raw socket | 1.5 (1.5 to 1.5) | ≤ 1.6 | met |" in met
    assert "| 1 | a look-up of 1 instance / raw socket | 1.7 (1.7 to 1.7) | ≤ 1.6 | not met |" in missed
    assert claim.why in missed
    assert claim.why not in met


def test_every_target_that_was_missed_in_the_documentation_is_explained():
    results = Results.read(DOCS / "benchmarks.json")
    for case in CASES:
        for claim in case.claims:
            found = claim.of(results.cases[case.name].figures) if case.name in results.cases else None
            if claim.row is not None and found is not None and not claim.is_met_by(found.median):
                assert claim.why, f"{claim.row}, {claim.what}: {found.median:.3g} is not explained"


def test_what_is_missed_for_the_same_reason_is_explained_once():
    (one, *_) = (claim for claim in LOOKUP.claims if claim.row == 1)
    case = replace(LOOKUP, claims=(one, replace(one, what="the same again", row=2)))
    assert f"- **1, {one.what}; 2, the same again**: {one.why}" in page([case], lookups(1.7))


def test_a_client_that_was_not_there_has_no_row():
    text = page([LOOKUP], lookups(1.5))
    assert "| ours | 1.50 (p99 1.50, CPU 1.5) |" in text
    assert "\n| go |" not in text


def test_the_page_of_the_documentation_is_the_one_its_figures_amount_to():
    results = Results.read(DOCS / "benchmarks.json")
    assert page(CASES, results) == (DOCS / "benchmarks.md").read_text("utf-8")
    for plot in plots(CASES, results):
        assert drawing(plot) == (DOCS / "benchmarks" / f"{plot.name}.svg").read_text("utf-8")


def test_names_of_cases_and_claims_are_unique():
    assert len(CASES_BY_NAME) == len(CASES)
    for case in CASES:
        assert not [what for what, times in Counter(claim.what for claim in case.claims).items() if times > 1]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_bar_is_as_long_as_its_figure_and_a_target_stands_where_it_is(logarithmic):
    bars = [Bar("raw <&>", 1.0, 1.0, 1.0), Bar("ours", 2.0, 1.5, 4.0)]
    panel = Panel("look-ups", bars, " ms", target=2.0, logarithmic=logarithmic)
    root = ET.fromstring(drawing(Plot("lookup", "a picture", [panel])))
    told = [text.text for text in root.iter(f"{SVG}text")]
    assert {"look-ups", "raw <&>", "ours", "1 ms", "2 ms"} <= set(told)
    _, one, other = (dict(rect.attrib) for rect in root.iter(f"{SVG}rect"))
    ends = [float(rect["x"]) + float(rect["width"]) for rect in (one, other)]
    dashed = next(path for path in root.iter(f"{SVG}path") if "stroke-dasharray" in path.attrib)
    assert dashed.attrib["d"].startswith(f"M{ends[1]:.1f} ")
    if not logarithmic:
        assert float(other["width"]) == pytest.approx(2 * float(one["width"]), abs=0.2)


def test_panels_stand_two_in_a_row_and_inside_the_picture():
    panels = [Panel(f"panel {which}", [Bar("ours", 1.0, 0.5, 3.0)] * (which + 1)) for which in range(3)]
    root = ET.fromstring(drawing(Plot("three", "three", panels)))
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    titles = {t.text: t for t in root.iter(f"{SVG}text") if (t.text or "").startswith("panel")}
    assert titles["panel 0"].attrib["y"] == titles["panel 1"].attrib["y"]
    assert float(titles["panel 1"].attrib["y"]) < float(titles["panel 2"].attrib["y"])
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height


def test_a_panel_without_bars_is_drawn_all_the_same():
    ET.fromstring(drawing(Plot("none", "nothing", [Panel("nothing", [])])))


def test_numbers_have_as_many_digits_as_say_something():
    assert [number(value) for value in (1234.5, 12.34, 1.234, 0.0123, 0.0)] == ["1234", "12.3", "1.23", "0.0123", "0"]


def test_a_table_has_a_head_and_an_empty_line_behind_it():
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|", "| 1 | 2 |", ""]


def test_everybody_is_first_in_turn():
    rounds = [turn("abc", number) for number in range(6)]
    assert [order[0] for order in rounds] == list("abcabc")
    assert all(sorted(order) == list("abc") for order in rounds)


def test_a_session_counts_its_rounds():
    assert list(Session(quick=False).rounds(3)) == [0, 1, 2]
    assert list(Session(quick=False, rounds=2).rounds(9)) == [0, 1]
    assert list(Session(quick=True, rounds=7).rounds(9)) == [0]


def test_there_is_one_round_at_least_and_none_after_the_limit():
    assert list(Session(quick=False, limit=0.0).rounds(9)) == [0]
    assert list(Session(quick=False, limit=3600.0).rounds(3)) == [0, 1, 2]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where results are written, with some that were measured before."""
    monkeypatch.setattr(command, "FULL", tmp_path)
    (tmp_path / "benchmarks.json").write_text(lookups(1.5).text())
    return tmp_path


def test_the_page_is_made_of_the_figures_there_are(folder, capsys):
    assert command.main(["--render"]) == 0
    assert "| 1 | a look-up of 1 instance" in capsys.readouterr().out
    assert (folder / "benchmarks.md").read_text("utf-8") == page(CASES, lookups(1.5))
    ET.parse(folder / "benchmarks" / "lookup.svg")


def test_a_regression_ends_with_code_1_and_none_with_0(folder, tmp_path, capsys):
    old = tmp_path / "old.json"
    old.write_text(lookups(1.0).text())
    assert command.main(["--render", "--compare", str(old)]) == 1
    assert "worse: lookup: a look-up of 1 instance / raw socket was 1 and is 1.5" in capsys.readouterr().err
    old.write_text(lookups(1.49).text())
    assert command.main(["--render", "--compare", str(old)]) == 0


def test_results_that_cannot_be_compared_end_with_code_2(folder, tmp_path, capsys):
    old = tmp_path / "old.json"
    old.write_text(lookups(1.0).text().replace('"full"', '"quick"'))
    assert command.main(["--render", "--compare", str(old)]) == 2
    assert "cannot be compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "rounds", "amount"),
    [(["--rounds", "5"], 5, 100), (["--rounds", "5", "--limit", "0"], 1, 100), (["--quick"], 1, 10)],
)
def test_options_reach_the_session(options, rounds, amount):
    session = command._session(command._parser().parse_args(options))
    assert len(list(session.rounds(9))) == rounds
    assert session.amount(100, 10) == amount


def test_a_case_that_does_not_exist_is_refused(folder):
    with pytest.raises(SystemExit, match="there is no case look-up; there are lookup, callers"):
        command.main(["--only", "look-up"])
