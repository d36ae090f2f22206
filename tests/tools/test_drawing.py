"""The drawing of a dashboard's panels."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from tools.drawing import Drawn, Series, _runs, _stacked, drawing, nice

PANELS = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "consul-access.json").read_text())["panels"]
SVG = "{http://www.w3.org/2000/svg}"


def test_every_panel_is_drawn_with_its_title_and_its_legend():
    series = [Series("a <b> & c", [(0, 1), (1, 2), (2, 0.5)]), Series("nothing", [])]
    drawn = [Drawn(panel, series if panel["type"] != "row" else ()) for panel in PANELS]
    root = ET.fromstring(drawing(drawn, 2, "a run"))
    told = [text.text for text in root.iter(f"{SVG}text")]
    assert {panel["title"] for panel in PANELS} <= set(told)
    assert told.count("a <b> & c") == sum(panel["type"] != "row" for panel in PANELS)
    assert root.find(f"{SVG}title").text == "a run"


def test_stacked_series_stand_on_each_other():
    lower, upper = _stacked([Series("a", [(0, 1), (1, 2)]), Series("b", [(1, 3), (2, 4)])])
    assert lower.points == [(0, 1), (1, 2)]
    assert upper.points == [(1, 5), (2, 4)]


def test_there_is_no_line_where_there_is_no_value():
    assert list(_runs([(0, 1), (1, 1), (5, 2), (6, 2)])) == [[(0, 1), (1, 1)], [(5, 2), (6, 2)]]
    assert list(_runs([])) == []
    assert list(_runs([(3, 1)])) == [[(3, 1)]]


def test_axes_end_at_round_numbers():
    assert [nice(value) for value in (0, 0.9, 1, 1.1, 47, 0.0031)] == [1, 1, 1, 2, 50, 0.004]
