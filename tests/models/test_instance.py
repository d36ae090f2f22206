"""One running copy of a service, as look-ups hand it out."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from consul_access.errors import NoInstances
from consul_access.models.address import Address
from consul_access.models.catalog import HealthEntry
from consul_access.models.effective import NamedPort
from consul_access.models.instance import AllPassing, ServiceInstance, Standing
from consul_access.models.status import CheckStatus

INSTANCE: TypeAdapter[ServiceInstance] = TypeAdapter(ServiceInstance)
# Pydantic keeps the validator of a class that was used once; the mark has to work after that as well.
BY_HAND = ServiceInstance(id="web-1", service="web")
ALL_PASSING: TypeAdapter[ServiceInstance] = TypeAdapter(Annotated[ServiceInstance, AllPassing()])
ENTRY: TypeAdapter[HealthEntry] = TypeAdapter(HealthEntry)

WHOLE: dict[str, Any] = {
    "Node": {
        "ID": "b6d8", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
        "TaggedAddresses": {"lan": "10.0.0.1"}, "Meta": {"consul-network-segment": ""},
        "CreateIndex": 1, "ModifyIndex": 2,
    },
    "Service": {
        "ID": "web-1", "Service": "web", "Tags": ["a", "b"], "Address": "10.0.0.5", "Meta": {"version": "2"},
        "TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": 80}}, "Port": 8080,
        "Ports": [{"Name": "http", "Port": 8080}, {"Name": "admin", "Port": 9090, "Default": True}],
        "Weights": {"Passing": 10, "Warning": 3}, "EnableTagOverride": False, "Proxy": {"Mode": ""}, "Connect": {},
        "CreateIndex": 3, "ModifyIndex": 4,
    },
    "Checks": [
        {"Node": "n1", "CheckID": "serfHealth", "Name": "Serf", "Status": "passing", "ServiceID": "", "Definition": {}},
        {"Node": "n1", "CheckID": "service:web-1", "Name": "web", "Status": "warning", "ServiceID": "web-1"},
    ],
}  # fmt: skip
SMALLEST: dict[str, Any] = {"Node": {}, "Service": {"ID": "web-1", "Service": "web"}}


def changed(*path: str, to: object) -> dict[str, Any]:
    """The whole entry with one value changed."""
    entry = copy.deepcopy(WHOLE)
    place = entry
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return entry


def without(*path: str) -> dict[str, Any]:
    entry = copy.deepcopy(WHOLE)
    place = entry
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return entry


def decoded(entry: dict[str, Any]) -> ServiceInstance:
    return INSTANCE.validate_json(json.dumps(entry))


def test_an_instance_is_flat() -> None:
    found = decoded(WHOLE)

    assert (found.id, found.service, found.node, found.datacenter) == ("web-1", "web", "n1", "dc1")
    assert (found.host, found.port, found.address) == ("10.0.0.5", 8080, Address("10.0.0.5", 8080))
    assert (found.tags, found.meta, found.modify_index) == (("a", "b"), {"version": "2"}, 4)
    assert (found.status, found.weight, found.kubernetes) == (CheckStatus.WARNING, 3, None)


def test_an_instance_needs_no_more_than_its_names() -> None:
    found = decoded(SMALLEST)

    assert (found.tags, found.meta, found.port, found.host, found.status) == ((), {}, 0, "", CheckStatus.PASSING)
    assert not found.is_callable


NULLABLE = [
    ("Node", "Meta"), ("Node", "TaggedAddresses"), ("Service", "Tags"), ("Service", "Meta"), ("Service", "Ports"),
    ("Service", "Weights"), ("Service", "TaggedAddresses"), ("Service", "Address"), ("Service", "Port"),
    ("Node", "Address"), ("Service", "Proxy"), ("Service", "Connect"), ("Checks",),
]  # fmt: skip


@pytest.mark.parametrize("path", NULLABLE, ids=".".join)
def test_null_means_the_same_as_a_missing_key(path: tuple[str, ...]) -> None:
    assert decoded(changed(*path, to=None)) == decoded(without(*path))


@pytest.mark.parametrize("path", NULLABLE, ids=".".join)
def test_the_flat_instance_and_the_whole_entry_read_nulls_alike(path: tuple[str, ...]) -> None:
    entry = changed(*path, to=None)

    assert ENTRY.validate_json(json.dumps(entry)).instance == decoded(entry)


@pytest.mark.parametrize("path", [(), ("Node",), ("Service",), ("Service", "Weights")], ids=str)
def test_unknown_keys_are_overlooked(path: tuple[str, ...]) -> None:
    assert decoded(changed(*path, "Novelty", to={"deep": [1, None]})) == decoded(WHOLE)


@pytest.mark.parametrize("path", [("Service", "ID"), ("Service", "Service"), ("Service",)], ids=".".join)
def test_an_instance_without_its_names_is_none(path: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        decoded(without(*path))


@pytest.mark.parametrize("port", [99999, 65536, -1, "80", 80.5, True, [80]])
def test_an_impossible_port_is_refused(port: object) -> None:
    with pytest.raises(ValidationError):
        decoded(changed("Service", "Port", to=port))


@pytest.mark.parametrize("field", ["Service", "Node"])
@pytest.mark.parametrize("address", ["http://evil", "a b", "host:80", "10.0.0.5\n", "10.0.0.1/24", 5, ["10.0.0.1"]])
def test_an_impossible_address_is_refused(field: str, address: object) -> None:
    with pytest.raises(ValidationError):
        decoded(changed(field, "Address", to=address))


def test_an_own_address_of_zeros_gives_way_to_that_of_the_node() -> None:
    assert decoded(changed("Service", "Address", to="0.0.0.0")).host == "10.0.0.1"


def test_without_an_own_address_the_node_is_called() -> None:
    assert decoded(changed("Service", "Address", to="")).address == Address("10.0.0.1", 8080)


def test_without_an_own_port_the_default_port_is_called() -> None:
    assert decoded(changed("Service", "Port", to=0)).address == Address("10.0.0.5", 9090)
    assert decoded(without("Service", "Port")).port == 9090


def test_an_instance_without_a_port_cannot_be_called_and_says_so() -> None:
    found = decoded({**SMALLEST, "Node": {"Address": "10.0.0.1"}})

    with pytest.raises(NoInstances, match="instance 'web-1' of 'web' has registered no port"):
        _ = found.address


def test_a_synced_instance_is_never_called_at_the_loopback_address_of_its_node() -> None:
    node = {"Node": "k8s-sync", "Address": "127.0.0.1", "Meta": {"external-source": "kubernetes"}}
    found = decoded({"Node": node, "Service": {"ID": "a", "Service": "a", "Port": 80}})

    assert found.source == "kubernetes"
    assert not found.is_callable
    with pytest.raises(NoInstances, match="no address that can be called"):
        _ = found.address


def test_ports_can_be_asked_for_by_name() -> None:
    assert decoded(WHOLE).port_named("admin") == NamedPort("admin", 9090, verified=True, default=True)


def check(status: str, check_id: str = "c", service_id: str = "web-1") -> dict[str, str]:
    return {"CheckID": check_id, "Status": status, "ServiceID": service_id}


@pytest.mark.parametrize(
    ("checks", "overall", "own"),
    [
        ([], "passing", "passing"),
        ([check("passing"), check("critical", "serfHealth", "")], "critical", "passing"),
        ([check("warning"), check("passing", "serfHealth", "")], "warning", "warning"),
        ([check("critical", "_node_maintenance", "")], "maintenance", "maintenance"),
        ([check("critical", "_service_maintenance:web-1"), check("critical")], "maintenance", "maintenance"),
    ],
)
def test_checks_add_up_to_a_standing_over_all_and_over_its_own(
    checks: list[dict[str, str]], overall: str, own: str
) -> None:
    found = decoded(changed("Checks", to=checks)).standing

    assert found == Standing(CheckStatus(overall), CheckStatus(own))


CHECKS = st.lists(
    st.builds(
        check,
        st.sampled_from(["passing", "warning", "critical"]),
        st.sampled_from(["serfHealth", "c"]),
        st.sampled_from(["", "web-1"]),
    )
    | st.sampled_from([check("critical", "_node_maintenance", ""), check("critical", "_service_maintenance:web-1")]),
    max_size=4,
)
PORTS = st.lists(
    st.fixed_dictionaries(
        {"Port": st.integers(1, 65535)}, optional={"Name": st.text(max_size=4), "Default": st.booleans()}
    ),
    max_size=3,
)
TEXT_MAPS = st.dictionaries(st.sampled_from(["external-source", "port-http", "a"]), st.text(max_size=5), max_size=3)
HOSTS = st.sampled_from(["", "0.0.0.0", "10.0.0.5", "127.0.0.1", "::1", "web.example", "http://evil", "a b"])
ENTRIES = st.fixed_dictionaries(
    {
        "Node": st.fixed_dictionaries(
            {"Node": st.text(max_size=3)}, optional={"Address": HOSTS, "Meta": TEXT_MAPS | st.none()}
        ),
        "Service": st.fixed_dictionaries(
            {"ID": st.text(max_size=3), "Service": st.text(max_size=3)},
            optional={
                "Address": HOSTS,
                "Port": st.integers(-1, 70000) | st.none(),
                "Ports": PORTS | st.none(),
                "Tags": st.lists(st.text(max_size=3), max_size=2) | st.none(),
                "Meta": TEXT_MAPS | st.none(),
            },
        ),
    },
    optional={"Checks": CHECKS | st.none()},
)


@given(ENTRIES)
def test_the_flat_instance_and_the_whole_entry_agree(entry: dict[str, Any]) -> None:
    text = json.dumps(entry)
    try:
        flat = INSTANCE.validate_json(text)
    except ValidationError:
        with pytest.raises(ValidationError):
            ENTRY.validate_json(text)
        return
    whole = ENTRY.validate_json(text)
    assert whole.instance == flat
    assert (whole.host, whole.effective_port, whole.status) == (flat.host, flat.port, flat.status)
    assert whole.kubernetes == flat.kubernetes


@given(ENTRIES)
def test_leaving_the_checks_unread_changes_the_standing_and_nothing_else(entry: dict[str, Any]) -> None:
    text = json.dumps(entry)
    try:
        expected = dataclasses.replace(INSTANCE.validate_json(text), standing=Standing())
    except ValidationError:
        with pytest.raises(ValidationError):
            ALL_PASSING.validate_json(text)
        return
    assert ALL_PASSING.validate_json(text) == expected


@pytest.mark.parametrize(("status", "weight"), [("passing", 10), ("warning", 3), ("critical", 0)])
def test_the_weight_is_that_of_the_present_state(status: str, weight: int) -> None:
    assert decoded(changed("Checks", to=[check(status)])).weight == weight


def test_an_instance_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        decoded(WHOLE).id = "other"  # type: ignore[misc]


def test_equal_instances_have_equal_hashes_and_survive_pickling() -> None:
    found = decoded(WHOLE)

    assert len({found, decoded(WHOLE)}) == 1
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    "wrong",
    [{"id": 1}, {"service_port": 70000}, {"service_address": "http://evil"}, {"tags": "ab"}, {"standing": "passing"}],
)
def test_what_is_made_by_hand_is_checked_like_an_answer(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ServiceInstance(**({"id": "web-1", "service": "web"} | wrong))


def test_the_schema_reads_every_field_with_the_default_that_the_class_has() -> None:
    read = {part["name"] for part in ServiceInstance.core_schema()["schema"]["fields"]}  # type: ignore[typeddict-item]

    assert read == {field.name for field in dataclasses.fields(ServiceInstance)}
    assert decoded(SMALLEST) == BY_HAND
    assert not hasattr(BY_HAND, "__dict__")
