"""Every YAML file of deploy/ and every YAML block of the documentation is held against a schema; none is left out."""

from __future__ import annotations

import pytest

from tests.support.blocks import blocks_of
from tests.support.manifests import (
    DEPLOY,
    KINDS,
    VERSIONS,
    block_problems,
    built,
    compose_problems,
    documents,
    is_kustomization,
    is_object,
    schema_problems,
    values_problems,
)
from tests.support.meaning import problems
from tests.support.pages import PAGES, ROOT

FILES = sorted(str(path.relative_to(ROOT)) for end in ("yaml", "yml") for path in DEPLOY.rglob(f"*.{end}"))
FOLDERS = sorted(str(path.parent.relative_to(ROOT)) for path in DEPLOY.rglob("kustomization.yaml"))
CHARTS = {
    "values-lab.yaml": "consul",
    "values-lab-nfs.yaml": "consul",
    "values-production.yaml": "consul",
    "values-nfs-csi.yaml": "csi-driver-nfs",
    "values-nfs-subdir.yaml": "nfs-subdir-external-provisioner",
}
PARTIAL = "overlays/"
"""A patch of an overlay is part of an object; the schemas see it in what kustomize builds of it."""
BLOCKS = [
    pytest.param(block, id=f"{page}:{block.line}")
    for page in PAGES
    for block in blocks_of((ROOT / page).read_text())
    if block.language == "yaml"
]


def file_problems(name):
    """What is wrong with a file, by what it is."""
    path = ROOT / name
    if path.parent.name == "helm":
        return values_problems(CHARTS[path.name], *documents(path.read_text()))
    if path.parent.name == "compose":
        return compose_problems(path)
    found = documents(path.read_text())
    assert found, f"{name} is empty"
    if path.name == "kustomization.yaml":
        assert all(is_kustomization(one) for one in found)
        return [] if built(path.parent) else ["it builds nothing"]
    assert all(is_object(one) for one in found), f"nobody knows what {name} is"
    if PARTIAL in name:
        return [] if path.name in (path.parent / "kustomization.yaml").read_text() else ["no overlay uses it"]
    return schema_problems(found)


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_what_its_schema_wants(name):
    assert file_problems(name) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_kustomize_builds_is_accepted_by_three_versions_and_fits_together(folder):
    objects = built(ROOT / folder)
    assert schema_problems(objects) == []
    assert problems(objects) == []


@pytest.mark.parametrize("block", BLOCKS)
def test_each_yaml_block_is_what_it_says(block):
    assert block_problems(block.source, block.yaml) == []


def test_all_of_them_are_there():
    assert len(FILES) >= 25
    assert len(FOLDERS) >= 7
    assert VERSIONS == ("1.28", "1.30", "1.34")
    assert {kind for kind in KINDS if any(block.values[0].yaml == kind for block in BLOCKS)} >= {"values of consul"}


def test_every_kustomization_names_every_file_beside_it():
    for folder in FOLDERS:
        text = (ROOT / folder / "kustomization.yaml").read_text()
        for path in (ROOT / folder).glob("*.yaml"):
            assert path.name in text or path.name == "kustomization.yaml", path


MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (MAP | {"dta": {}}, "'dta' was unexpected"),
        (MAP | {"data": {"a": 1}}, "1 is not of type"),
        ({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "one"}}, "no schema"),
        ({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "one"}, "spec": {}}, "required"),
    ],
)
def test_what_kubernetes_would_refuse_is_found_for_each_version(one, problem):
    found = schema_problems([one])
    assert {text.partition(":")[0] for text in found} == set(VERSIONS)
    assert all(problem in text for text in found)


def test_what_is_too_new_for_the_oldest_version_is_found():
    container = {"name": "main", "image": "a:1", "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}
    found = schema_problems(
        [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {"containers": [container]}}]
    )
    assert found
    assert {text.partition(":")[0] for text in found} == {"1.28"}


@pytest.mark.parametrize(
    ("text", "kind", "problem"),
    [
        ("replicas: 1\n", None, "no line above says what it is"),
        ("a: 1\n", "values of nobody", "nobody can check"),
        ("server: {replica: 1}\n", "values of consul", "'replica' was unexpected"),
        ("initContainers: [{nme: wait}]\n", "part of a PodSpec", "initContainers"),
        ("# nothing\n", None, "it is empty"),
    ],
)
def test_a_block_that_is_not_what_it_says(text, kind, problem):
    assert problem in block_problems(text, kind)[0]


def test_a_key_that_is_there_twice_is_refused():
    with pytest.raises(Exception, match="twice"):
        documents("a: 1\nb: 2\na: 3\n")


def test_kustomize_refuses_a_misspelt_field(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resource: [a.yaml]\n")
    with pytest.raises(ValueError, match="resource"):
        built(tmp_path)


def test_compose_refuses_a_misspelt_field(tmp_path):
    path = tmp_path / "compose.yaml"
    path.write_text("services: {consul: {image: a, port: ['1']}}\n")
    assert "port" in compose_problems(path)[0]
