"""The pages of the guide agree with the files, and answer the first guide."""

from __future__ import annotations

import re

import pytest

from tests.deploy.test_values import values
from tests.support.pages import PAGES, ROOT

DEPLOY_PAGES = [page for page in PAGES if page.startswith("docs/deploy/")]
FIRST_GUIDE = [
    "global.name: consul",
    "ui.service.type: NodePort",
    "server.replicas: 1",
    'server.affinity: ""',
    "server.storage: 2Gi",
    'server.storageClass: ""',
    "server.securityContext",
    "syncCatalog.enabled: true",
    "image.repository",
    "image.tag: v4.0.18",
    "nfs.server",
    "nfs.path",
    "storageClass.defaultClass",
    "storageClass.name",
    "--consulip=HOST:PORT",
    "serach_service",
    "HOST_IP:8500",
    "iiip-redis-core",
    "mqttbroker001",
]
VERDICT = re.compile(r"kept|corrected|dropped|replaced")


def text(page):
    return (ROOT / page).read_text()


@pytest.mark.parametrize("value", FIRST_GUIDE)
def test_every_value_of_the_first_guide_has_a_verdict_and_a_reason(value):
    (row,) = (
        line
        for line in text("docs/deploy/first-guide.md").splitlines()
        if line.startswith("|") and f"{value}" in line.split("|")[1]
    )
    _, _, verdict, *reasons, _ = row.split("|")
    assert VERDICT.search(verdict)
    assert all(reason.strip() for reason in reasons)


@pytest.mark.parametrize("page", DEPLOY_PAGES)
def test_every_file_that_a_page_names_is_there(page):
    named = set(re.findall(r"(?<![\w./-])((?:deploy|examples)/[\w./*-]*\w)", text(page)))
    missing = [name for name in named if not list(ROOT.glob(name))]
    assert missing == []


def test_every_file_of_deploy_is_named_by_a_page():
    told = "".join(text(page) for page in [*DEPLOY_PAGES, "docs/observability.md"])
    for folder in (ROOT / "deploy").rglob("kustomization.yaml"):
        parts = folder.parent.relative_to(ROOT).parts
        assert "/".join(parts[:3]) in told
    for file in (ROOT / "deploy" / "helm").glob("values-*.yaml"):
        assert file.name in told


@pytest.mark.parametrize("page", DEPLOY_PAGES)
def test_helm_is_told_which_chart_of_consul(page):
    versions = re.findall(r"helm install consul hashicorp/consul (\S+ \S+)", text(page))
    assert set(versions) <= {"--version 1.7.13", "--version 2.0.3"}


def test_the_port_of_the_lab_is_the_one_the_pages_name():
    port = str(values("lab")["ui"]["service"]["nodePort"]["http"])
    for page in ("docs/deploy/kubernetes-lab.md", "docs/deploy/first-guide.md"):
        assert port in text(page)
    assert f"nodePort: {port}" in (ROOT / "deploy" / "k8s" / "consul-lab" / "services.yaml").read_text()
