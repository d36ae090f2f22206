"""Several writes in one: what is sent, and what an answer means."""

from __future__ import annotations

import json

import pytest

from consul_access import CheckStatus, InvalidInput, ServiceDefinition
from consul_access.call import Headers, Repeat, Reply
from consul_access.consul import catalog, txn
from consul_access.errors import BadAnswer
from consul_access.models.external import CatalogCheck, CatalogRegistration

WEB = CatalogRegistration(
    node="n",
    service=ServiceDefinition(id="web-1", name="web", address="10.0.0.5", port=80),
    checks=(CatalogCheck(id="shop/web-1", name="Ready", status=CheckStatus.PASSING, service_id="web-1", type="t"),),
)


def answer(status: int, body: object) -> Reply:
    return Reply(status, Headers(), json.dumps(body).encode())


def test_a_registration_becomes_a_service_and_its_checks():
    call = txn.apply(txn.register(WEB))
    assert (call.name, call.method, call.path, call.repeat) == ("txn", "PUT", "/v1/txn", Repeat.IDEMPOTENT)
    assert json.loads(call.body or b"") == [
        {
            "Service": {
                "Verb": "set",
                "Node": "n",
                "Service": {"ID": "web-1", "Service": "web", "Address": "10.0.0.5", "Port": 80},
            }
        },
        {
            "Check": {
                "Verb": "set",
                "Check": {
                    "Node": "n",
                    "CheckID": "shop/web-1",
                    "Name": "Ready",
                    "Status": "passing",
                    "ServiceID": "web-1",
                    "Notes": "",
                    "Output": "",
                    "Type": "t",
                },
            }
        },
    ]


def test_a_removal_names_node_and_service():
    assert txn.remove("n", "web-1") == [{"Service": {"Verb": "delete", "Node": "n", "Service": {"ID": "web-1"}}}]
    for node, service_id in (("", "web-1"), ("n", ""), ("n", "../x")):
        with pytest.raises(InvalidInput):
            txn.remove(node, service_id)


def test_it_has_at_least_one_operation_and_at_most_64():
    one = txn.remove("n", "web-1")
    assert txn.apply(one * 64).body
    for operations in ([], one * 65):
        with pytest.raises(InvalidInput, match="1 to 64"):
            txn.apply(operations)


def test_what_was_refused_is_told_whatever_the_shape():
    call = txn.apply(txn.remove("n", "web-1"))
    assert call.read(answer(200, {"Results": [], "Errors": None})) == ()
    refused = {"Results": None, "Errors": [{"OpIndex": 0, "What": "Permission denied"}]}
    assert call.read(answer(409, refused)) == ("Permission denied",)
    assert call.read(answer(409, {})) == ("the transaction was rolled back",)
    assert 409 in call.statuses
    with pytest.raises(BadAnswer):
        call.read(answer(200, []))


def test_services_of_a_node_that_cannot_be_read_are_there_all_the_same():
    call = catalog.node_services("etcd sync")
    assert call.target_path == "/v1/catalog/node/etcd%20sync"
    told = {
        "Node": {"Node": "n", "Address": "127.0.0.1"},
        "Services": {
            "web-1": {"ID": "web-1", "Service": "web", "Port": 80, "Tags": None, "Meta": None},
            "odd": {"ID": "odd", "Service": "odd", "Port": 70000},
        },
    }
    found = call.read(answer(200, told))
    assert found is not None
    assert found["odd"] is None
    assert found["web-1"] is not None
    assert (found["web-1"].port, found["web-1"].tags) == (80, ())
    assert call.read(answer(200, told | {"Services": None})) == {}
    assert call.read(answer(200, None)) is None
