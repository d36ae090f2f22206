"""The objects of deploy/ fit together, and each rule finds what would not."""

from __future__ import annotations

import copy

import pytest

from tests.support.manifests import DEPLOY, built, documents
from tests.support.meaning import problems, quantity


@pytest.fixture(scope="module")
def service():
    return built(DEPLOY / "k8s" / "example-service" / "overlays" / "lab")


@pytest.fixture(scope="module")
def server():
    return built(DEPLOY / "k8s" / "consul-lab")


def by_kind(objects, kind):
    (found,) = (one for one in objects if one["kind"] == kind)
    return found


def container(objects):
    return by_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]


def rename(mapping, old, new):
    mapping[new] = mapping.pop(old)


BREAKS = {
    "its selector does not select its pods": lambda o: by_kind(o, "Deployment")["spec"]["selector"][
        "matchLabels"
    ].update(app="x"),
    "Service testservice: it selects no pod": lambda o: by_kind(o, "Service")["spec"]["selector"].update(app="x"),
    "PodDisruptionBudget testservice: it selects no pod": lambda o: by_kind(o, "PodDisruptionBudget")[
        "metadata"
    ].update(namespace="other"),
    "NetworkPolicy testservice: it selects no pod": lambda o: by_kind(o, "NetworkPolicy")["spec"]["podSelector"][
        "matchLabels"
    ].update(tier="x"),
    "Service testservice: no pod of it has a port 'web'": lambda o: by_kind(o, "Service")["spec"]["ports"][0].update(
        targetPort="web"
    ),
    "NetworkPolicy testservice: no pod of it has a port 'web'": lambda o: by_kind(o, "NetworkPolicy")["spec"][
        "ingress"
    ][0]["ports"][0].update(port="web"),
    "livenessProbe asks port 'web'": lambda o: container(o)["livenessProbe"]["tcpSocket"].update(port="web"),
    "readinessProbe asks port 'web'": lambda o: container(o)["readinessProbe"]["httpGet"].update(port="web"),
    "requests memory 1Gi, and its limit is 128Mi": lambda o: container(o)["resources"]["requests"].update(memory="1Gi"),
    "there is no volume 'data'": lambda o: container(o)["volumeMounts"][0].update(name="data"),
    "there is no ServiceAccount 'other'": lambda o: by_kind(o, "Deployment")["spec"]["template"]["spec"].update(
        serviceAccountName="other"
    ),
    "uses $(LATER)": lambda o: container(o)["env"].insert(0, {"name": "A", "value": "http://$(LATER):1"}),
    "is not pinned": lambda o: container(o).update(image="registry.example:5000/testservice"),
    "was never there": lambda o: container(o).update(image="registry.example/provisioner:v4.0.18"),
    "are not enough": lambda o: container(o)["lifecycle"]["preStop"]["exec"].update(command=["sleep", "40"]),
}


@pytest.mark.parametrize("problem", BREAKS)
def test_each_rule_finds_what_does_not_fit(service, problem):
    broken = copy.deepcopy(service)
    BREAKS[problem](broken)
    found = problems(broken)
    assert any(problem in text for text in found), found
    assert problems(service) == []


SERVER_BREAKS = {
    "there is no class 'other'": lambda o: by_kind(o, "PersistentVolume")["spec"].update(storageClassName="other"),
    "no volume fits its claim 'data'": lambda o: by_kind(o, "PersistentVolume")["spec"]["capacity"].update(
        storage="1Gi"
    ),
    "there is no ConfigMap 'consul-server'": lambda o: by_kind(o, "ConfigMap")["metadata"].update(name="other"),
}


@pytest.mark.parametrize("problem", SERVER_BREAKS)
def test_storage_and_configuration_that_do_not_fit(server, problem):
    broken = copy.deepcopy(server)
    SERVER_BREAKS[problem](broken)
    assert any(problem in text for text in problems(broken))
    assert problems(server) == []


def test_both_static_volumes_fit_the_claim(server):
    (other,) = documents((DEPLOY / "k8s" / "storage-static" / "hostpath-pv.yaml").read_text())
    exchanged = [other if one["kind"] == "PersistentVolume" else one for one in server]
    assert problems(exchanged) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("100m", "0.1"), ("2", "2"), (1, "1"), ("1Ki", "1024"), ("2Gi", str(2 * 1024**3)), ("1.5G", "1500000000")],
)
def test_quantities(text, number):
    assert quantity(text) == quantity(number)


def test_agents_on_nodes_are_found_by_the_address_of_the_node():
    objects = built(DEPLOY / "k8s" / "example-service" / "overlays" / "node-agents")
    names = [variable["name"] for variable in container(objects)["env"]]
    assert names.index("HOST_IP") < names.index("CONSUL_HTTP_ADDR")
    assert {"POD_IP", "POD_NAME", "POD_NAMESPACE", "NODE_NAME"} <= set(names)
