"""`/v1/txn`: several writes to checks at once, all of them or none."""

from __future__ import annotations

import copy
from typing import Any, Final

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.catalog import Catalog, CatalogFault, Check, Node
from consul_access.testing.consul.endpoints.catalog import CHECK, knows, read_check
from consul_access.testing.consul.endpoints.common import authorized
from consul_access.testing.consul.exchange import Ask, Refused, Told
from consul_access.testing.consul.rendering import catalog_check
from consul_access.testing.consul.strict import ANYTHING, STRING, Items, Malformed, Struct, decode

__all__ = ["transaction"]

MOST: Final = 64
_OPERATION: Final = Struct(
    "TxnOp",
    {
        "Check": Struct("CheckTxnOp", {"Verb": STRING, "Check": CHECK}, "api.CheckTxnOp"),
        **dict.fromkeys(("KV", "Node", "Service"), ANYTHING),
    },
    "api.TxnOp",
)
_OPERATIONS: Final = Items(_OPERATION, "api.TxnOps")
_WRITES: Final = frozenset({"set", "cas", "delete", "delete-cas"})


class _Stopped(Exception):
    """An operation that cannot be done; the text is the servers'."""


def transaction(agent: Agent, ask: Ask) -> Told:
    """Does all operations, or none. Only those on checks are known here."""
    try:
        given: list[dict[str, Any] | None] = (
            decode(ask.request.body, _OPERATIONS, knows=lambda name: knows(agent, name)) or []
        )
    except Malformed as mistake:
        raise Refused(400, f"Failed to parse body: {mistake}") from None
    if len(given) > MOST:
        raise Refused(413, f"Transaction contains too many operations ({len(given)} > {MOST})")
    if any(name in operation for operation in given if operation for name in ("KV", "Node", "Service")):
        raise Refused(400, "FakeConsul does transactions on checks only")
    authorized(agent, ask)
    operations = [operation["Check"] for operation in given if operation and "Check" in operation]
    reads = all(operation.get("Verb") == "get" for operation in operations)
    return _done(agent, operations, reads=reads)


def _done(agent: Agent, operations: list[dict[str, Any]], *, reads: bool) -> Told:
    cluster = agent.cluster
    catalog = agent.write()
    scratch = catalog if reads else copy.deepcopy(catalog)
    scratch.index += 0 if reads else 1
    results: list[dict[str, Any]] = []
    for number, operation in enumerate(operations):
        try:
            results += _operation(agent, scratch, operation)
        except (_Stopped, CatalogFault) as fault:
            return _told(agent, [{"OpIndex": number, "What": str(fault)}], None, reads=reads)
    if not reads:
        cluster.catalog = scratch
        cluster.changed()
    return _told(agent, None, results, reads=reads)


def _told(
    agent: Agent, errors: list[dict[str, Any]] | None, results: list[dict[str, Any]] | None, *, reads: bool
) -> Told:
    made: dict[str, Any] = {"Results": results, "Errors": errors}
    headers: tuple[tuple[str, str], ...] = ()
    if reads:
        made |= agent.cluster.dialect.read_meta
        headers = (("X-Consul-Knownleader", "true"), ("X-Consul-Lastcontact", "0"))
    return Told(made, 409 if errors else 200, headers)


def _operation(agent: Agent, catalog: Catalog, operation: dict[str, Any]) -> list[dict[str, Any]]:
    verb, given = operation.get("Verb", ""), operation.get("Check", {})
    check_id, node_name = given.get("CheckID", ""), given.get("Node", "")
    node = catalog.nodes.get(node_name.lower())
    held = node.checks.get(check_id.lower()) if node else None
    if verb == "get":
        if node is None or held is None:
            raise _Stopped(f'check "{check_id}" on node "{node_name}" doesn\'t exist')
        return [_shown(agent, node, check_id)]
    if verb not in _WRITES:
        raise _Stopped(f'unknown Check verb "{verb}"')
    if _is_stale(verb, held, given.get("ModifyIndex", 0)):
        what = "delete" if verb == "delete-cas" else "set"
        raise _Stopped(f'failed to {what} check "{check_id}" on node "{node_name}", index is stale')
    return _written(agent, catalog, verb, node, given)


def _written(
    agent: Agent, catalog: Catalog, verb: str, node: Node | None, given: dict[str, Any]
) -> list[dict[str, Any]]:
    check_id = given.get("CheckID", "")
    if verb.startswith("delete"):
        if node is not None:
            catalog.drop_check(node, check_id)
        return []
    try:
        if node is None:
            raise CatalogFault("Missing node registration")
        catalog.put_check(node, read_check(given, check_id=check_id, node=given["Node"]))
    except CatalogFault:
        if verb == "cas":
            return []  # so it is: nothing is written, and nothing is said (observed on 1.8.7)
        raise
    return [_shown(agent, node, check_id)]


def _is_stale(verb: str, held: Check | None, index: int) -> bool:
    if verb == "cas":
        return (held.modified if held else 0) != index
    return verb == "delete-cas" and (held is None or held.modified != index)


def _shown(agent: Agent, node: Node, check_id: str) -> dict[str, Any]:
    check = node.checks[check_id.lower()]
    return {"Check": catalog_check(agent.cluster.dialect, node, check) | {"ServiceTags": check.service_tags}}
