"""What deploy/ describes, run here as far as a machine without a cluster can: real Consul, the real example program."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from consul_access import ConsulAccess
from tests.support.manifests import DEPLOY, ROOT, built, documents
from tools import servers

FIELDS = {
    "status.podIP": "127.0.0.1",
    "status.hostIP": "127.0.0.1",
    "metadata.name": "testservice-6c9f-x2x7b",
    "metadata.namespace": "apps",
    "spec.nodeName": "node-1",
}
OVERLAYS = DEPLOY / "k8s" / "example-service" / "overlays"


def deployment(overlay):
    (found,) = (one for one in built(OVERLAYS / overlay) if one["kind"] == "Deployment")
    return found["spec"]["template"]["spec"]


def environment(container):
    """The variables that a pod gets."""
    found = {}
    for variable in container["env"]:
        value = variable.get("value") or FIELDS[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found


def entry_point():
    """What the image runs, here."""
    (line,) = re.findall(r"^ENTRYPOINT (.+)$", (DEPLOY / "image" / "Dockerfile").read_text(), re.MULTILINE)
    program, script = json.loads(line)
    assert program == "python"
    path = ROOT / "examples" / script.removeprefix("/app/")
    assert path.is_file()
    return [sys.executable, str(path)]


def asked(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.status


def test_the_pod_of_the_lab_is_found_and_gone_within_its_grace(consul, record_property):
    pod = deployment("lab")
    (container,) = pod["containers"]
    variables = os.environ | environment(container) | {"CONSUL_HTTP_ADDR": consul.address}
    command = [*entry_point(), "--port=0", "--host=127.0.0.1"]
    with ConsulAccess(url=f"http://{consul.address}") as access:
        program = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
        try:
            began = time.monotonic()
            (instance,) = access.wait_for("testservice", timeout=30)
            record_property("seconds until it passes", round(time.monotonic() - began, 2))
            assert instance.address.host == "127.0.0.1"
            assert instance.id == f"testservice-{FIELDS['metadata.name']}-{instance.port}"
            assert instance.meta["pod_namespace"] == "apps"
            for probe in ("startupProbe", "readinessProbe"):
                assert asked(instance.port, container[probe]["httpGet"]["path"]) == 200

            began = time.monotonic()
            program.send_signal(signal.SIGTERM)
            pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
            program.wait(pod["terminationGracePeriodSeconds"] - pause)
            record_property("seconds until it has ended", round(time.monotonic() - began, 2))
            assert access.catalog("testservice") == []
        finally:
            program.kill()
            program.wait()
            program.stdout.close()


def names_read():
    """The variables that the library reads."""
    pattern = re.compile(r'"((?:CONSUL|POD|NODE)_[A-Z_]+)"')
    return {name for path in (ROOT / "consul_access").rglob("*.py") for name in pattern.findall(path.read_text())}


@pytest.mark.parametrize("overlay", ["lab", "production", "node-agents"])
def test_each_variable_is_one_that_somebody_reads(overlay):
    (container,) = deployment(overlay)["containers"]
    variables = [variable["name"] for variable in container["env"]]
    used = " ".join(variable.get("value") or "" for variable in container["env"])
    assert set(variables) - names_read() <= {"HOST_IP"}
    assert "$(HOST_IP)" in used or overlay != "node-agents"
    assert len(variables) == len(set(variables))


def test_production_names_files_that_are_mounted():
    pod = deployment("production")
    (container,) = pod["containers"]
    variables, mounts = environment(container), {one["mountPath"] for one in container["volumeMounts"]}
    for name in ("CONSUL_CACERT", "CONSUL_HTTP_TOKEN_FILE"):
        assert variables[name].rpartition("/")[0] in mounts
    assert variables["CONSUL_HTTP_ADDR"] == "https://consul-server.consul.svc:8501"  # a name of its certificate


class ByNameOnly:
    """An authority whose certificates name the server, and no address, as those of the chart do for pods."""

    def __init__(self, authority):
        self.authority, self.cert_pem = authority, authority.cert_pem

    def issue_cert(self, *_names):
        return self.authority.issue_cert("localhost")


def test_a_registration_that_stays_with_one_address_is_held_against_the_name_in_the_certificate(
    agents, authority, tmp_path, monkeypatch
):
    agent, ca = agents(authority=ByNameOnly(authority)), tmp_path / "tls.crt"
    authority.cert_pem.write_to_path(str(ca))
    monkeypatch.setenv("CONSUL_HTTP_ADDR", f"https://localhost:{agent.https_port}")
    monkeypatch.setenv("CONSUL_CACERT", str(ca))
    with ConsulAccess() as access, access.registered("orders", "10.0.0.5", 8080, check=None) as keeper:
        assert keeper.agent.host == "127.0.0.1"
        assert access.search_service("orders") == [("10.0.0.5", 8080)]


def lab_config():
    objects = built(DEPLOY / "k8s" / "consul-lab")
    (found,) = (one["data"]["server.json"] for one in objects if one["kind"] == "ConfigMap")
    return json.loads(found)


def test_the_plain_server_accepts_its_configuration_and_gets_ready(agents, tmp_path):
    path = tmp_path / "server.json"
    path.write_text(json.dumps(lab_config()))
    done = subprocess.run(
        [servers.consul(), "validate", str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

    elsewhere = {"data_dir", "client_addr", "bootstrap_expect", "server"}  # the test's own
    agent = agents(server=True, config={key: value for key, value in lab_config().items() if key not in elsewhere})
    (container,) = (
        one["spec"]["template"]["spec"]["containers"][0]
        for one in built(DEPLOY / "k8s" / "consul-lab")
        if one["kind"] == "StatefulSet"
    )
    assert asked(agent.port, container["readinessProbe"]["httpGet"]["path"]) == 200
    with urllib.request.urlopen(f"http://{agent.address}/ui/", timeout=10) as page:
        assert b"Consul" in page.read()


def jwt():
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "system:serviceaccount:consul:consul-token-review"})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def test_the_auth_method_is_made_and_can_be_made_again(acl_consul, authority, tmp_path):
    ca, token = tmp_path / "ca.crt", tmp_path / "token"
    authority.cert_pem.write_to_path(str(ca))
    token.write_text(jwt())
    variables = os.environ | {
        "PATH": f"{servers.consul().parent}:{os.environ['PATH']}",
        "CONSUL_HTTP_ADDR": acl_consul.address,
        "CONSUL_HTTP_TOKEN": acl_consul.token,
    }

    def run(namespace):
        command = ["sh", str(DEPLOY / "k8s" / "consul-auth" / "auth-method.sh"), namespace, str(ca), str(token)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def asked_of_consul(path):
        request = urllib.request.Request(f"http://{acl_consul.address}{path}")
        request.add_header("X-Consul-Token", acl_consul.token)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    try:
        run("apps")
        assert "already" in run("apps")
        run("shop")
        method = asked_of_consul("/v1/acl/auth-method/kubernetes")
        rules = asked_of_consul("/v1/acl/binding-rules?authmethod=kubernetes")
        assert method["Config"]["Host"] == "https://kubernetes.default.svc"
        assert method["MaxTokenTTL"] == "24h0m0s"
        assert {rule["Selector"] for rule in rules} == {
            'serviceaccount.namespace=="apps"',
            'serviceaccount.namespace=="shop"',
        }
        assert {(rule["BindType"], rule["BindName"]) for rule in rules} == {("service", "${serviceaccount.name}")}
    finally:
        request = urllib.request.Request(f"http://{acl_consul.address}/v1/acl/auth-method/kubernetes", method="DELETE")
        request.add_header("X-Consul-Token", acl_consul.token)
        urllib.request.urlopen(request, timeout=10).close()


def test_the_annotations_are_ones_that_catalog_sync_knows():
    known = {"sync", "name", "port", "tags", "weight"}
    folders = [OVERLAYS / name for name in ("lab", "production", "node-agents")]
    found = [name for folder in folders for one in built(folder) for name in one["metadata"].get("annotations", {})]
    assert found
    for name in found:
        prefix, _, key = name.partition("/service-")
        assert prefix == "consul.hashicorp.com"
        assert key in known or key.startswith("meta-")


def test_the_compose_file_runs_programs_that_are_there():
    (compose,) = documents((DEPLOY / "compose" / "compose.yaml").read_text())
    folder = DEPLOY / "compose"
    for name in ("testservice", "requestservice"):
        service = compose["services"][name]
        context = folder / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).is_file()
        assert (context / "consul_access").is_dir()
        assert service["environment"]["CONSUL_HTTP_ADDR"] == "consul:8500"
    script = compose["services"]["requestservice"]["entrypoint"][1]
    assert (ROOT / "examples" / script.removeprefix("/app/")).is_file()
