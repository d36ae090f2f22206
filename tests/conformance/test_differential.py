"""Random sequences of operations, done to a real agent and to the fake: every answer must be the same.

Blocking queries wait at both meanwhile, and whatever is done wakes both or neither.

`make test` does 2,000 operations, `make soak` 50,000 (`CONSUL_ACCESS_SOAK` is their number).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.conformance.conftest import SCRIPTS, real_version, since
from tests.conformance.differential import Pair
from tests.support.agents import ConsulAgent

OPERATIONS = int(os.environ.get("CONSUL_ACCESS_SOAK", "2000"))
STEPS = 50

NAMES = st.sampled_from(["web", "db", "Web", "a b", "ä/ö"])
IDS = st.sampled_from(["web", "web-1", "db", "x y", "ä"])
CHECK_IDS = st.sampled_from(["service:web", "service:web:1", "service:web:2", "c1", "c2", "service:web-1", "nope"])
STATUSES = st.sampled_from(["passing", "warning", "critical"])
OUTPUTS = st.sampled_from(["", "fine", "é☃", "x" * 4096, "y" * 5000, '"<&>'])
TAGS = st.lists(st.sampled_from(["a", "b", "A", "", "é"]), max_size=3)
META = st.dictionaries(st.sampled_from(["v", "zone", "x-y"]), st.sampled_from(["1", "2", "", "é"]), max_size=2)
NODES = st.sampled_from(["ext-1", "ext-2", "EXT-1"])


def sparse(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


TTL = sparse({"TTL": st.sampled_from(["1h", "2h"])}, {})
PROBES = st.sampled_from(
    [
        {"HTTP": "http://127.0.0.1:1/", "Interval": "10h"},
        {"TCP": "127.0.0.1:1", "Interval": "10h"},
        {"GRPC": "127.0.0.1:1", "Interval": "10h"},
        {"HTTP": "http://127.0.0.1:1/", "TCP": "127.0.0.1:1", "Interval": "10h"},
        {"Args": ["/bin/true"], "Interval": "10h"},
    ]
)
ABOUT_CHECK = sparse(
    {},
    {
        "Name": st.sampled_from(["n", "Name é"]),
        "Notes": st.sampled_from(["note", ""]),
        "Status": st.sampled_from(["passing", "warning", "critical", ""]),
        "DeregisterCriticalServiceAfter": st.just("10h"),
        "Timeout": st.just("1s"),
        "OutputMaxSize": st.sampled_from([0, 100]),
        "SuccessBeforePassing": st.sampled_from([0, 2]),
    },
)
BAD_CHECK = st.sampled_from(
    [
        {"TTL": "10"},
        {"TTL": "x"},
        {"TTL": -1},
        {"HTTP": "http://x"},
        {"Nope": 1},
        {"TTL": "1h", "Status": "bad"},
        {"TTL": "1h", "Interval": "1h"},
        {"TTL": "1h", "OutputMaxSize": -1},
        {"TTL": "1h", "Header": {"a": "b"}},
        {"TTL": "1h", "Args": "x"},
        {"AliasService": "web", "TTL": "1h"},
        {"Interval": "1h"},
        {"TTL": "1h", "Name": 1},
        {"TTL": "1h", "UDP": "x"},
        {"TTL": "1h", "TLSSkipVerify": 1},
        {"Notes": "n"},
        {"TTL": [], "Nope": 2},
    ]
)
GOOD_CHECK = st.builds(lambda one, about: {**about, **one}, TTL | PROBES, ABOUT_CHECK)
SERVICE_CHECK = st.builds(
    lambda check, check_id: check | ({"CheckID": check_id} if check_id else {}), GOOD_CHECK, st.none() | CHECK_IDS
)
ANY_CHECK = SERVICE_CHECK | SERVICE_CHECK | SERVICE_CHECK | BAD_CHECK | st.sampled_from([{}, {"TTL": "0s"}])
BAD_FIELDS = st.sampled_from(
    [
        {"Port": "80"},
        {"Port": 1.5},
        {"Tags": "x"},
        {"Tags": [1]},
        {"Meta": []},
        {"Meta": {"a": 1}},
        {"Nope": 1},
        {"Meta": {"a b": ""}},
        {"Meta": {"consul-x": ""}},
        {"Meta": {"": ""}},
        {"Address": "0.0.0.0"},
        {"Address": "::"},
        {"Weights": {"Passing": 0}},
        {"Weights": {"Passing": 70000}},
        {"Weights": 3},
        {"Weights": {"Passing": "1"}},
        {"TaggedAddresses": {"wan": "x"}},
        {"Name": ""},
        {"Name": None},
        {"Name": 1},
        {"EnableTagOverride": "x"},
        {"Check": []},
        {"Checks": {}},
        {"Checks": [1]},
        {"Check": "x"},
        {"SocketPath": "x"},
        {"Ports": 1},
        {"Namespace": "x"},
        {"Meta": {"a": "x" * 513}},
        {"Weights": {"Passing": 1, "Warning": -1}},
        {"Kind": "connect-proxy"},
    ]
)
GOOD_FIELDS = sparse(
    {},
    {
        "ID": IDS,
        "Port": st.sampled_from([0, 80, 70000, -1]),
        "Address": st.sampled_from(["", "10.0.0.1", "2001:db8::1", "host.example"]),
        "Tags": TAGS | st.none(),
        "Meta": META | st.none(),
        "Weights": st.sampled_from([{"Passing": 3, "Warning": 0}, {"Passing": 1, "Warning": 1}, None]),
        "TaggedAddresses": st.sampled_from(
            [{}, {"wan": {"Address": "1.2.3.4", "Port": 9}}, {"lan_ipv4": {"Address": "x"}}]
        ),
        "EnableTagOverride": st.booleans(),
        "Kind": st.sampled_from(["", "odd"]),
        "Check": ANY_CHECK | st.none(),
        "Checks": st.lists(ANY_CHECK, max_size=3) | st.none(),
        "Token": st.just(""),
    },
)


def service(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A service without accidents.

    Ids that differ only in their case are one and the same to the servers, and which of both they keep is one. When an
    agent compares itself with the catalog is another: where others may say what the tags are, none become empty then,
    and are told once more (see test_agents.py).
    """
    made = {"Name": name} | ({"ID": "web"} if name == "Web" else {}) | fields
    return made | {"Tags": []} if made.get("EnableTagOverride") and made.get("Tags") is None else made


SERVICES = st.builds(service, NAMES, GOOD_FIELDS)
MAYBE_BAD = st.builds(lambda good, bad: good | bad, SERVICES, st.just({}) | st.just({}) | BAD_FIELDS)
BODIES = st.sampled_from(
    [b"", b"null", b"[]", b"{", b"x", b'{"Name": "web"', b'{"Name"}', b'{"Name":"web"} rest', b'"x"']
)
CATALOG_CHECKS = sparse(
    {"CheckID": st.sampled_from(["k1", "k2"])},
    {
        "Name": st.just("k"),
        "Status": STATUSES | st.just("odd"),
        "ServiceID": IDS,
        "ServiceName": NAMES,
        "ServiceTags": TAGS | st.none(),
        "Output": OUTPUTS,
    },
)
CATALOG_SERVICES = sparse(
    {"Service": NAMES, "ID": IDS},
    {"Port": st.just(80), "Tags": TAGS, "Meta": META, "Address": st.sampled_from(["", "10.9.9.9", "::"])},
)

HEALTH_FILTERS = [
    "Service.Port == 80",
    "Service.Tags contains a",
    '"a" not in Service.Tags',
    'Service.Meta.v == "1"',
    "v in Service.Meta",
    'Checks.Status == "passing"',
    "not Checks.Status == critical",
    'Checks.Status != "critical"',
    'Service.ID matches "^w"',
    'Node.Node == "ext-1" or Service.Service == web',
    "Service.Tags is empty",
    "Service.Weights.Passing == 3",
    'Service.Meta["x-y"] != "2" and Service.EnableTagOverride == true',
    "Service.TaggedAddresses.wan.Port == 9",
    "Service.Kind == odd",
    "Checks.Type == ttl",
    'Service.Address not matches "^10"',
    "Nope == 1",
    "Service.Port ==",
    "(",
    "Service.Port == x",
    "Service.Tags == a",
    'Service.ID matches "("',
    'Node.Meta.zone == "1"',
]
CATALOG_FILTERS = [
    "ServicePort == 80",
    "ServiceTags contains a",
    'ServiceMeta.v == "1"',
    "NodeMeta is empty",
    "Nope == 1",
]
CHECK_FILTERS = [
    "Status == passing",
    'ServiceName == "web"',
    "ServiceTags contains a",
    "Type == ttl",
    "Nope == 1",
    "a b",
]
SERVICE_FILTERS = ["Port == 80", "Service == web", "Tags contains a", 'Meta.v == "1"', "Nope == 1", "Kind == odd"]
NODE_FILTERS = ['Node == "ext-1"', "Meta is empty", 'Meta.zone == "1"', 'Address == "10.1.1.1"', "Nope"]
FLAGS = [
    "stale",
    "consistent",
    "stale&consistent",
    "dc=dc1",
    "dc=nope",
    "ns=x",
    "near=_agent",
    "wait=5",
    "wait=1s",
    "index=x",
    "index=0",
    "node-meta=zone:1",
    "node-meta=zone",
    "unknown=1",
    "partition=x",
]
PLAIN_FLAGS = ["dc=dc1", "ns=x", "stale", "near=_agent"]
"""For the one path that answers a refusal and, in the same body, what it had refused."""
STREAMED = ("/v1/health/service/{name}", "/v1/health/connect/{name}")
"""What is answered from a view that the agent keeps, when it is asked with an index."""
READS: dict[str, list[str]] = {
    "/v1/health/service/{name}": HEALTH_FILTERS,
    "/v1/health/checks/{name}": CHECK_FILTERS,
    "/v1/health/connect/{name}": HEALTH_FILTERS,
    "/v1/health/node/{node}": CHECK_FILTERS,
    "/v1/health/state/{state}": CHECK_FILTERS,
    "/v1/catalog/service/{name}": CATALOG_FILTERS,
    "/v1/catalog/connect/{name}": CATALOG_FILTERS,
    "/v1/catalog/node/{node}": SERVICE_FILTERS,
    "/v1/catalog/node-services/{node}": SERVICE_FILTERS,
    "/v1/catalog/services": SERVICE_FILTERS,
    "/v1/catalog/nodes": NODE_FILTERS,
    "/v1/catalog/datacenters": ["x"],
    "/v1/agent/services": SERVICE_FILTERS,
    "/v1/agent/checks": CHECK_FILTERS,
    "/v1/agent/service/{id}": ["x"],
    "/v1/agent/health/service/id/{id}": ["x"],
    "/v1/agent/health/service/name/{name}": ["x"],
}

WAITED_FOR = [
    "health/service/{name}", "health/service/{name}?passing", "health/node/{own}", "health/node/{node}",
    "health/state/critical", "catalog/service/{name}", "catalog/services", "catalog/nodes", "catalog/node/{own}",
]  # fmt: skip
"""Not `health/checks/NAME`: a check that goes over to another owner wakes who waits there at the fake, and sometimes at
a real agent."""


class Differential(RuleBasedStateMachine):
    pair: Pair
    """Set by the test."""

    @initialize()
    def begin(self) -> None:
        self.pair.clear()

    @rule(
        body=MAYBE_BAD | SERVICES,
        query=st.sampled_from(
            ["", "", "?replace-existing-checks=true", "?replace-existing-checks", "?replace-existing-checks=1"]
        ),
    )
    def register(self, body: dict[str, Any], query: str) -> None:
        self.pair.do("PUT", f"/v1/agent/service/register{query}", body)

    @rule(body=BODIES, where=st.sampled_from(["service/register", "check/register", "check/update/c1"]))
    def send_odd_bodies(self, body: bytes, where: str) -> None:
        self.pair.do("PUT", f"/v1/agent/{where}", body)

    @rule(service_id=IDS | st.just("nope"))
    def deregister(self, service_id: str) -> None:
        self.pair.do("PUT", f"/v1/agent/service/deregister/{quote(service_id, safe='')}")

    @rule(service_id=IDS, enable=st.sampled_from(["true", "false", "1", "x", ""]), reason=st.sampled_from(["", "disk"]))
    def maintain(self, service_id: str, enable: str, reason: str) -> None:
        query = urlencode({"enable": enable, "reason": reason})
        self.pair.do("PUT", f"/v1/agent/service/maintenance/{quote(service_id, safe='')}?{query}")

    @rule(query=st.sampled_from(["?enable=true&reason=x", "?enable=false", "?enable=false", "?enable=true", ""]))
    def maintain_node(self, query: str) -> None:
        self.pair.do("PUT", f"/v1/agent/maintenance{query}")

    @rule(check=GOOD_CHECK | BAD_CHECK, check_id=st.none() | CHECK_IDS, owner=st.none() | IDS)
    def register_check(self, check: dict[str, Any], check_id: str | None, owner: str | None) -> None:
        body = (
            {"Name": "lone", **check} | ({"ID": check_id} if check_id else {}) | ({"ServiceID": owner} if owner else {})
        )
        self.pair.do("PUT", "/v1/agent/check/register", body)

    @rule(check_id=CHECK_IDS)
    def deregister_check(self, check_id: str) -> None:
        self.pair.do("PUT", f"/v1/agent/check/deregister/{check_id}")

    @rule(check_id=CHECK_IDS, verb=st.sampled_from(["pass", "warn", "fail"]), note=OUTPUTS)
    def report(self, check_id: str, verb: str, note: str) -> None:
        self.pair.do("PUT", f"/v1/agent/check/{verb}/{check_id}?{urlencode({'note': note})}")

    @rule(check_id=CHECK_IDS, status=STATUSES | st.just("odd"), output=OUTPUTS)
    def update(self, check_id: str, status: str, output: str) -> None:
        self.pair.do("PUT", f"/v1/agent/check/update/{check_id}", {"Status": status, "Output": output})

    @rule(
        node=NODES,
        service=st.none() | CATALOG_SERVICES,
        checks=st.lists(CATALOG_CHECKS, max_size=2),
        about=sparse({}, {"NodeMeta": META, "SkipNodeUpdate": st.booleans(), "Nope": st.just(1)}),
        address=st.sampled_from(["10.1.1.1", "10.1.1.2", ""]),
    )
    def register_past_the_agent(
        self, node: str, service: dict[str, Any] | None, checks: list[Any], about: dict[str, Any], address: str
    ) -> None:
        body = {"Node": node, "Address": address, **about} | ({"Service": service} if service else {})
        self.pair.do("PUT", "/v1/catalog/register", body | ({"Checks": checks} if checks else {}))

    @rule(
        node=NODES,
        which=st.sampled_from([{}, {"ServiceID": "web"}, {"ServiceID": "db"}, {"CheckID": "k1"}, {"Nope": 1}]),
    )
    def deregister_past_the_agent(self, node: str, which: dict[str, Any]) -> None:
        self.pair.do("PUT", "/v1/catalog/deregister", {"Node": node, **which})

    @rule(node=NODES, verb=st.sampled_from(["get", "set", "delete", "cas", "delete-cas", "odd"]), check=CATALOG_CHECKS)
    def transact(self, node: str, verb: str, check: dict[str, Any]) -> None:
        self.pair.do("PUT", "/v1/txn", [{"Check": {"Verb": verb, "Check": {"Node": node, **check}}}])

    @rule(data=st.data(), pattern=st.sampled_from(sorted(READS)), name=NAMES, service_id=IDS)
    def read(self, data: st.DataObject, pattern: str, name: str, service_id: str) -> None:
        filled = pattern.format(
            name=quote(name, safe=""),
            id=quote(service_id, safe=""),
            node=data.draw(NODES | st.just(self.pair.real.node)) if "{node}" in pattern else "",
            state=data.draw(STATUSES | st.sampled_from(["any", "odd"])) if "{state}" in pattern else "",
        )
        flags = PLAIN_FLAGS if pattern == "/v1/catalog/datacenters" else FLAGS
        if since(1, 10) and pattern in STREAMED:
            flags = [*FLAGS, "index=1&wait=300ms", "index=1&wait=300ms&node-meta=x-y:1"]
        options = data.draw(st.lists(st.sampled_from(flags), max_size=2, unique=True))
        options += data.draw(
            st.sampled_from([[], [], ["passing"], ["passing=false"], ["passing=x"], ["tag=a"], ["tag=A&tag=b"]])
        )
        if data.draw(st.booleans()):
            options.append(urlencode({"filter": data.draw(st.sampled_from(READS[pattern]))}, quote_via=quote))
        self.pair.do("GET", filled + (f"?{'&'.join(options)}" if options else ""))

    @rule(path=st.sampled_from(WAITED_FOR), name=NAMES, node=NODES)
    def wait_for_a_change(self, path: str, name: str, node: str) -> None:
        filled = path.format(name=quote(name, safe=""), node=node, own=self.pair.real.node)
        self.pair.wait_for_a_change(f"/v1/{filled}")

    @rule(
        method=st.sampled_from(["POST", "DELETE", "OPTIONS", "PATCH"]),
        path=st.sampled_from(
            ["/v1/agent/services", "/v1/health/service/web", "/v1/agent/service/register", "/v1/nothing"]
        ),
    )
    def use_odd_verbs(self, method: str, path: str) -> None:
        self.pair.do(method, path)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with ConsulAgent(config=SCRIPTS) as real:
        both = Pair(real, real_version())
        yield both
        both.close()


def test_random_operations_get_the_same_answers_from_both(pair, record_property):
    Differential.pair = pair
    chosen = settings(
        max_examples=max(OPERATIONS // STEPS // 10, 20),
        stateful_step_count=STEPS,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # a failure names the operation; what came before is still to be seen at both
    )
    try:
        while pair.operations < OPERATIONS:
            run_state_machine_as_test(Differential, settings=chosen)
    except Exception:  # also when Hypothesis could not repeat it
        print(pair.history())  # noqa: T201 - shown with the failure
        raise
    record_property("operations", pair.operations)
