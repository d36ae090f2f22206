"""The registry's own entries, whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from consul_access.errors import InvalidInput, NoInstances
from consul_access.models.address import Address
from consul_access.models.catalog import AgentInfo, AgentService, CatalogEntry, Check, HealthEntry, Node, Weights
from consul_access.models.effective import NamedPort
from consul_access.models.status import CheckStatus


@pytest.fixture
def redis(samples: Path) -> dict[str, Any]:
    (entry,) = json.loads((samples / "iiip-redis-core.json").read_text())
    return dict(entry)


def read(entry: dict[str, Any], **changes: object) -> CatalogEntry:
    return CatalogEntry.model_validate_json(json.dumps({**entry, **changes}))


def test_the_answer_that_started_the_project_leads_to_its_redis(redis: dict[str, Any]) -> None:
    found = read(redis)

    assert found.effective_address == Address("192.168.3.200", 32211)
    assert found.port_named("redisport") == NamedPort("redisport", 6379, verified=False)
    assert found.kubernetes is not None
    assert (found.kubernetes.namespace, found.kubernetes.ports) == ("core", {"redisport": 6379})
    assert (found.tagged_addresses, found.service_tags, found.modify_index) == ({}, ("k8s",), 44663)


def test_the_answer_that_started_the_project_reads_the_same_when_flat(redis: dict[str, Any]) -> None:
    found = read(redis).instance

    assert str(found.address) == "192.168.3.200:32211"
    assert (found.id, found.service, found.node) == ("iiip-redis-core-b6d8976ede75", "iiip-redis-core", "k8s-sync")
    assert (found.source, found.status, found.weight) == ("kubernetes", CheckStatus.PASSING, 1)
    assert found.kubernetes == read(redis).kubernetes
    assert not found.port_named("redisport").verified


@pytest.mark.parametrize(
    "key",
    ["TaggedAddresses", "NodeMeta", "ServiceTags", "ServiceMeta", "ServiceWeights", "ServiceTaggedAddresses",
     "ServicePorts", "ServiceAddress", "ServicePort", "ServiceSocketPath", "ServiceKind"],
)  # fmt: skip
def test_null_means_the_same_as_a_missing_key(redis: dict[str, Any], key: str) -> None:
    missing = {name: value for name, value in redis.items() if name != key}

    assert read(redis, **{key: None}) == read(missing)


def test_a_catalog_entry_needs_no_more_than_its_names() -> None:
    found = read({"ServiceID": "a", "ServiceName": "a"})

    assert (found.host, found.effective_port, found.kubernetes) == ("", 0, None)
    with pytest.raises(NoInstances):
        _ = found.effective_address


@pytest.mark.parametrize("key", ["ServiceID", "ServiceName"])
def test_an_entry_without_its_names_is_none(redis: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError):
        read({name: value for name, value in redis.items() if name != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [("ServicePort", value) for value in (99999, -1, "80", 80.5, True)]
    + [("ServiceAddress", value) for value in ("http://evil", "a b", "host:80", "10.0.0.5\n", "10.0.0.1/24")]
    + [("Address", "http://evil"), ("ServicePorts", [{"Name": "x", "Port": 0}]), ("ServicePorts", [{"Name": "x"}])],
)
def test_an_impossible_port_or_address_is_refused(redis: dict[str, Any], key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        read(redis, **{key: value})


def test_a_synced_entry_without_an_own_address_cannot_be_called(redis: dict[str, Any]) -> None:
    found = read(redis, ServiceAddress="")

    assert found.host == ""
    assert not found.instance.is_callable


def test_named_ports_of_the_catalog_are_read(redis: dict[str, Any]) -> None:
    ports = [{"Name": "http", "Port": 8080}, {"Name": "redisport", "Port": 6380, "Default": True}]
    found = read(redis, ServicePort=0, ServicePorts=ports)

    assert found.effective_port == found.instance.port == 6380
    assert found.port_named("redisport") == NamedPort("redisport", 6380, verified=True, default=True)


def test_a_health_entry_tells_maintenance_from_an_ordinary_critical() -> None:
    checks = [
        {"CheckID": "serfHealth", "Status": "passing", "ServiceID": ""},
        {"CheckID": "_service_maintenance:web-1", "Status": "critical", "ServiceID": "web-1", "Notes": "by hand"},
    ]
    entry = {"Node": {"Node": "n1"}, "Service": {"ID": "web-1", "Service": "web"}, "Checks": checks}
    found = HealthEntry.model_validate(entry)

    assert found.status is CheckStatus.MAINTENANCE
    assert found.checks[1].status is CheckStatus.CRITICAL
    assert [check.is_own for check in found.checks] == [False, True]


def test_a_check_in_a_state_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValidationError):
        Check.model_validate({"Status": "splendid"})


def test_a_node_needs_nothing_at_all() -> None:
    assert Node.model_validate({"Meta": None, "TaggedAddresses": None}) == Node()


def test_an_agent_tells_its_version_or_is_no_agent() -> None:
    assert AgentInfo.model_validate({"Version": "1.8.7", "NodeName": "n1", "Server": True}).server
    for answer in ({}, {"Version": ""}, {"Version": None}):
        with pytest.raises(ValidationError):
            AgentInfo.model_validate(answer)


def test_the_service_of_an_agent_has_a_content_hash() -> None:
    answer = {"ID": "web-1", "Service": "web", "ContentHash": "d0", "Meta": None, "Tags": None, "Port": 80}

    assert AgentService.model_validate(answer).content_hash == "d0"


@pytest.mark.parametrize(
    ("passing", "warning"), [(0, 1), (65536, 1), (1, -1), (1, 65536), (True, 1), ("1", 1), (1.5, 1)]
)
def test_weights_that_no_agent_takes_are_refused(passing: Any, warning: Any) -> None:
    with pytest.raises(InvalidInput, match="out of bounds"):
        Weights.checked(passing, warning)


def test_weights_within_bounds_are_taken() -> None:
    assert Weights.checked(65535, 0) == Weights(passing=65535, warning=0)


def test_entries_cannot_be_changed(redis: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(redis).service_port = 1  # type: ignore[misc]
