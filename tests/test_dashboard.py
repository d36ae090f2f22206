"""The Grafana dashboard and the page about it speak of metrics that the integrations export, and of all of them."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from consul_access.integrations import _metrics

ROOT = Path(__file__).parent.parent
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "consul-access.json").read_text())
PAGE = (ROOT / "docs" / "observability.md").read_text()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
NAMED = re.compile(r"\b(?:consul_access|http_client)_[a-z_]+")
OF_PROMETHEUS = {"job", "le"}


def samples():
    """The metrics, by the names of their samples as Prometheus stores them."""
    found = {}
    for metric in _metrics.ALL:
        counted = ["_total"] if metric.counts else [""]
        endings = ["_bucket", "_sum", "_count"] if metric.buckets else counted
        found |= {f"{metric.prometheus_name}{ending}": metric for ending in endings}
    return found


SAMPLES = samples()
LABELS = {label for metric in _metrics.ALL for label in metric.labels}


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_an_expression_asks_for_a_metric_that_is_exported_and_its_labels(title, expression):
    for name, braces in re.findall(r"([a-z_]+)\{([^}]*)\}", expression):
        metric = SAMPLES[name]
        selected = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", braces))
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
        assert selected | grouped <= {*metric.labels, *OF_PROMETHEUS}, title
    assert set(NAMED.findall(expression)) <= SAMPLES.keys() | LABELS
    assert expression.count("{") == expression.count("}")
    assert expression.count("(") == expression.count(")")


def test_legends_name_labels_that_are_grouped_by():
    for panel in PANELS:
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert f"by ({label})" in target["expr"], panel["title"]


def test_variables_are_read_from_metrics_that_are_exported():
    queries = [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    assert len(queries) == 2
    for query in queries:
        assert set(NAMED.findall(query)) <= SAMPLES.keys() | LABELS
    assert {f"${one['name']}" for one in DASHBOARD["templating"]["list"]} >= {
        variable
        for _, expression in EXPRESSIONS
        for variable in re.findall(r"\$\w+", expression)
        if not variable.startswith("$__")
    }


def test_every_metric_has_its_place_on_the_dashboard():
    shown = {SAMPLES[name] for _, expression in EXPRESSIONS for name in NAMED.findall(expression) if name in SAMPLES}
    assert shown == set(_metrics.ALL)


def test_panels_have_a_text_and_do_not_overlap():
    places = []
    for panel in PANELS:
        at = panel["gridPos"]
        assert panel["description"]
        assert at["x"] + at["w"] <= 24
        places.append((at["x"], at["y"], at["x"] + at["w"], at["y"] + at["h"]))
    for one, other in combinations(places, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_page_tells_of_every_metric_and_of_no_other():
    rows = re.findall(r"^\| `([a-z_.]+)` \| `([a-z_]+)` \| ([^|]*) \|", PAGE, re.MULTILINE)
    told = {name: (prometheus, set(re.findall(r"`([a-z_.]+)`", attributes))) for name, prometheus, attributes in rows}
    expected = {
        metric.name: (metric.prometheus_name + ("_total" if metric.counts else ""), set(metric.attributes))
        for metric in _metrics.ALL
    }
    assert told == expected
    names = {metric.prometheus_name for metric in _metrics.ALL}
    assert set(NAMED.findall(PAGE)) <= SAMPLES.keys() | LABELS | names
