"""`/v1/txn`: several writes to the catalog in one. https://developer.hashicorp.com/consul/api-docs/txn"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from consul_access.call import Call, Repeat, Reply, json_body
from consul_access.decoding import decode
from consul_access.errors import InvalidInput
from consul_access.models import inputs
from consul_access.models.external import CatalogRegistration
from consul_access.models.nullable import NullAs

__all__ = ["MAX_OPERATIONS", "Operation", "apply", "register", "remove"]

MAX_OPERATIONS: Final = 64
"""More are refused by the agent (agent/txn_endpoint.go)."""

Operation = dict[str, Any]
"""One operation, as agents read it."""


class _Refused(BaseModel, defer_build=True):
    what: Annotated[str, Field(alias="What")] = ""


class _Outcome(BaseModel, defer_build=True):
    errors: Annotated[list[_Refused], NullAs(list), Field(alias="Errors")] = []


def register(registration: CatalogRegistration) -> list[Operation]:
    """Writes a service and its checks on a node that is there already."""
    written = registration.payload()
    operations: list[Operation] = []
    if "Service" in written:
        operations.append({"Service": {"Verb": "set", "Node": registration.node, "Service": written["Service"]}})
    operations += [
        {"Check": {"Verb": "set", "Check": {"Node": registration.node} | check}} for check in written.get("Checks", [])
    ]
    return operations


def remove(node: str, service_id: str) -> list[Operation]:
    """Removes a service with its checks."""
    service = {"ID": inputs.identifier(service_id, "service_id")}
    return [{"Service": {"Verb": "delete", "Node": inputs.identifier(node, "node"), "Service": service}}]


def apply(operations: Sequence[Operation]) -> Call[tuple[str, ...]]:
    """Does all of the operations or none of them.

    Args:
        operations: at most `MAX_OPERATIONS`, each of which may be done again without harm.

    Returns:
        A call that answers with what was refused; nothing when all is done.
    """
    if not 0 < len(operations) <= MAX_OPERATIONS:
        raise InvalidInput(f"a transaction has 1 to {MAX_OPERATIONS} operations, and not {len(operations)}")
    return Call(
        name="txn",
        method="PUT",
        path="/v1/txn",
        body=json_body([*operations]),
        repeat=Repeat.IDEMPOTENT,
        read=_read,
        statuses=frozenset({200, 409}),
    )


def _read(reply: Reply) -> tuple[str, ...]:
    refused = tuple(error.what for error in decode(_Outcome, reply).errors)
    return refused if reply.status == 200 else refused or ("the transaction was rolled back",)
