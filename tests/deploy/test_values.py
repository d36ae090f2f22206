"""The Helm values: their schemas find what is misspelt, and they agree with the volumes and each other."""

from __future__ import annotations

import copy

import pytest

from tests.support.manifests import DEPLOY, HELM, documents, merged, schema_of, values_problems
from tests.support.meaning import oversized, quantity

CHART_DEFAULTS = {
    "server": {
        "replicas": 1,
        "resources": {"requests": {"memory": "200Mi", "cpu": "100m"}, "limits": {"memory": "200Mi", "cpu": "100m"}},
    },
    "syncCatalog": {
        "resources": {"requests": {"memory": "50Mi", "cpu": "50m"}, "limits": {"memory": "50Mi", "cpu": "50m"}}
    },
}
"""Of hashicorp/consul 1.7.13 to 2.0.3; test_chart compares them with a real chart."""


def values(name):
    (found,) = documents((HELM / f"values-{name}.yaml").read_text())
    return found


def volumes():
    folder = DEPLOY / "k8s" / "storage-static"
    return [one for name in ("local-pv", "hostpath-pv") for one in documents((folder / f"{name}.yaml").read_text())]


@pytest.mark.parametrize("chart", ["consul", "csi-driver-nfs", "nfs-subdir-external-provisioner"])
def test_the_schemas_are_schemas(chart):
    import jsonschema  # takes its time

    jsonschema.Draft202012Validator.check_schema(schema_of(chart))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("server.replica", 1),
        ("server.storageclass", "consul"),
        ("server.storageClass", ""),
        ("server.replicas", 2),
        ("server.securityContext", {"runAsUser": 0}),
        ("server.affinity", {"podAntiAffinity": {}}),
        ("syncCatalog.enable", True),
        ("ui.service.nodePort", 30850),
        ("global.tls.enable", True),
        ("server.resources.limits.memory", "2 GB"),
    ],
)
def test_what_helm_would_ignore_or_misunderstand_is_found(path, value):
    broken = copy.deepcopy(values("production"))
    *folders, key = path.split(".")
    place = broken
    for folder in folders:
        place = place.setdefault(folder, {})
    place[key] = value
    assert values_problems("consul", broken) != []


def test_the_image_tag_of_the_first_guide_is_refused():
    broken = values("nfs-subdir")
    broken["image"]["tag"] = "v4.0.18"
    assert values_problems("nfs-subdir-external-provisioner", broken) != []


def test_the_labs_claim_fits_the_volumes_made_by_hand():
    (storage_class,) = documents((DEPLOY / "k8s" / "storage-static" / "storageclass.yaml").read_text())
    server = values("lab")["server"]
    for volume in volumes():
        assert volume["spec"]["storageClassName"] == server["storageClass"] == storage_class["metadata"]["name"]
        assert quantity(volume["spec"]["capacity"]["storage"]) >= quantity(server["storage"])
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_the_labs_claim_fits_the_class_of_the_nfs_driver():
    on_nfs = merged(values("lab"), values("lab-nfs"))
    assert on_nfs["server"]["storageClass"] == values("nfs-csi")["storageClass"]["name"]
    assert values("nfs-subdir")["storageClass"]["name"] != values("nfs-csi")["storageClass"]["name"]


@pytest.mark.parametrize("name", ["lab", "production"])
def test_requests_stay_below_limits_once_the_charts_defaults_are_merged(name):
    whole = merged(CHART_DEFAULTS, values(name))
    for part in ("server", "syncCatalog"):
        assert list(oversized(whole[part]["resources"])) == []


def test_the_charts_own_limit_is_noticed():
    careless = {"server": {"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}}}}
    (problem,) = oversized(merged(CHART_DEFAULTS, careless)["server"]["resources"])
    assert problem == "requests cpu 500m, and its limit is 100m"


def test_null_removes_what_the_chart_says():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": {"e": None}}}) == {"a": {"c": 2, "d": {}}}


def test_one_server_has_no_budget_and_three_have_one():
    assert values("lab")["server"]["replicas"] == 1
    assert values("lab")["server"]["disruptionBudget"]["enabled"] is False
    assert values("production")["server"]["replicas"] == 3
    assert "disruptionBudget" not in values("production")["server"]


def test_production_is_closed():
    found = values("production")
    assert found["global"]["tls"] == {"enabled": True, "httpsOnly": True, "verify": True}
    assert found["global"]["acls"]["manageSystemACLs"]
    assert found["global"]["gossipEncryption"]["autoGenerate"]
    assert found["ui"]["service"]["type"] == "ClusterIP"
    assert found["syncCatalog"]["default"] is False
    assert found["syncCatalog"]["toK8S"] is False
