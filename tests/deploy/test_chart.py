"""Our values and a chart: every key is one that the chart knows, and what Helm makes of both holds.

`make chart CONSUL_CHART=DIR` runs this with a real chart; without one the checks are tried on a small one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.deploy.test_values import CHART_DEFAULTS, values
from tests.support.manifests import HELM, documents, schema_problems
from tests.support.meaning import problems, variables_in_order

HELM_PROGRAM = os.environ.get("HELM_BIN") or shutil.which("helm")
CHART = os.environ.get("CONSUL_CHART")  # read here: tests themselves find no CONSUL_* variables
NAMES = ["lab", "lab-nfs", "production"]
needs_helm = pytest.mark.skipif(
    HELM_PROGRAM is None, reason="there is no helm 3.11 or newer here; `make chart` fetches one"
)
needs_chart = pytest.mark.skipif(
    CHART is None, reason="CONSUL_CHART names no folder with the chart hashicorp/consul 1.7 to 2.0"
)


def unknown_keys(ours: Mapping, chart: Mapping, above: str = "") -> Iterator[str]:
    """Keys of ours that the chart's own values do not have. What is null or empty there may hold anything."""
    for key, value in ours.items():
        if key not in chart:
            yield f"{above}{key}"
        elif isinstance(value, Mapping) and isinstance(chart[key], Mapping) and chart[key]:
            yield from unknown_keys(value, chart[key], f"{above}{key}.")


def differing(expected: Mapping, chart: Mapping, above: str = "") -> Iterator[str]:
    """Where a chart's values are not what we take them for."""
    for key, value in expected.items():
        if isinstance(value, Mapping):
            yield from differing(value, chart.get(key) or {}, f"{above}{key}.")
        elif chart.get(key) != value:
            yield f"{above}{key}: {chart.get(key)!r}"


def rendered(chart: Path, *files: Path) -> list:
    """What `helm template` makes of it, as on a cluster of today."""
    named = [part for file in files for part in ("--values", str(file))]
    command = [str(HELM_PROGRAM), "template", "consul", str(chart), "--namespace", "consul", "--kube-version", "1.30.0"]
    command += ["--api-versions", "policy/v1/PodDisruptionBudget", *named]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


@pytest.fixture
def small_chart(tmp_path):
    """A chart with one Service for one Deployment, and the values that decide about them."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: small\nversion: 1.0.0\n")
    (tmp_path / "values.yaml").write_text("server:\n  port: web\n  replicas: 1\n  extra: {}\n  nothing: null\n")
    (tmp_path / "templates" / "all.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: consul}\n"
        "spec: {selector: {app: a}, ports: [{port: 80, targetPort: {{ .Values.server.port }}}]}\n---\n"
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: consul}\n"
        "spec:\n  replicas: {{ .Values.server.replicas }}\n  selector: {matchLabels: {app: a}}\n  template:\n"
        "    metadata: {labels: {app: a}}\n"
        "    spec: {containers: [{name: a, image: 'a:1', ports: [{name: web, containerPort: 80}]}]}\n"
    )
    return tmp_path


def test_keys_that_a_chart_does_not_know_are_named(small_chart):
    (known,) = documents((small_chart / "values.yaml").read_text())
    ours = {"server": {"replica": 1, "port": "web", "extra": {"any": 1}, "nothing": {"any": 1}}, "servr": {}}
    assert list(unknown_keys(ours, known)) == ["server.replica", "servr"]


def test_defaults_that_are_others_are_named():
    assert list(differing({"a": {"b": 1, "c": 2}, "d": {"e": 3}}, {"a": {"b": 1, "c": 3}})) == ["a.c: 3", "d.e: None"]


@needs_helm
def test_a_small_chart_is_rendered_and_checked(small_chart, tmp_path):
    good = rendered(small_chart)
    assert [one["kind"] for one in good] == ["Service", "Deployment"]
    assert schema_problems(good) == []
    assert problems(good) == []

    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"server": {"port": "metrics", "replicas": "two"}}))
    bad = rendered(small_chart, other)
    assert problems(bad) == ["Service a: no pod of it has a port 'metrics'"]
    assert len(schema_problems(bad)) == 3


@pytest.fixture
def chart():
    return Path(str(CHART))


@needs_chart
@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_ours_is_one_of_the_chart(chart, name):
    (known,) = documents((chart / "values.yaml").read_text())
    assert list(unknown_keys(values(name), known)) == []


@needs_chart
def test_the_charts_defaults_are_what_we_take_them_for(chart):
    (known,) = documents((chart / "values.yaml").read_text())
    assert list(differing(CHART_DEFAULTS, known)) == []


@needs_chart
def test_every_key_that_our_schema_allows_is_one_of_the_chart(chart):
    from tests.support.manifests import schema_of

    def shape(schema):
        return {key: shape(part) for key, part in schema.get("properties", {}).items()}

    (known,) = documents((chart / "values.yaml").read_text())
    assert list(unknown_keys(shape(schema_of("consul")), known)) == []


@needs_chart
@needs_helm
@pytest.mark.parametrize("names", [["lab"], ["lab", "lab-nfs"], ["production"]], ids="+".join)
def test_what_helm_makes_of_them_holds(chart, names):
    objects = rendered(chart, *(HELM / f"values-{name}.yaml" for name in names))
    assert not any(one["apiVersion"].startswith("consul.hashicorp.com/") for one in objects)
    assert schema_problems(objects) == []
    # The chart (1.7.13 to 2.0.3) has CONSUL_LOGIN_META above what it uses; that is only a note at a token.
    assert problems(objects, without=[variables_in_order]) == []
    (server,) = (one for one in objects if one["kind"] == "StatefulSet")
    (claim,) = server["spec"]["volumeClaimTemplates"]
    assert server["spec"]["replicas"] == (3 if names == ["production"] else 1)
    assert claim["spec"]["storageClassName"] == values(names[-1])["server"]["storageClass"]
