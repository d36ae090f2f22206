"""What the servers hold: nodes, services, checks, and an index for each of them that only grows.

Which index a change moves, and which one a look-up tells, is the servers' own odd arithmetic
(agent/consul/state/catalog.go of 1.8): it decides who is woken by what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from consul_access.testing.consul.dialect import Dialect

__all__ = ["Catalog", "CatalogFault", "Check", "Node", "Service"]

FIRST_INDEX: Final = 10
SERF: Final = "serfHealth"


class CatalogFault(Exception):
    """A write that the servers refuse; the text is theirs, the status 500."""


@dataclass(slots=True)
class Service:
    """One instance, as the servers know it.

    What was not said at all is None, and to the servers that is not the same as empty.
    """

    id: str
    name: str
    address: str = ""
    port: int = 0
    tags: list[str] | None = None
    meta: dict[str, str] | None = None
    weights: dict[str, int] = field(default_factory=lambda: {"Passing": 1, "Warning": 1})
    tagged: dict[str, dict[str, Any]] | None = None
    override: bool = False
    kind: str = ""
    native: bool = False
    socket: str = ""
    node: str = ""
    """Its node, as it was written; nothing for what the node's own agent said."""
    created: int = 0
    modified: int = 0

    def same_as(self, other: Service) -> bool:
        """Whether both say the same, whenever they said it; sockets are not compared."""
        return self._said() == other._said()

    def _said(self) -> Service:
        return replace(self, created=0, modified=0, socket="", node="")


@dataclass(slots=True)
class Check:
    """One check, as the servers or an agent know it."""

    id: str
    name: str = ""
    node: str = ""
    status: str = "critical"
    notes: str = ""
    output: str = ""
    service_id: str = ""
    service_name: str = ""
    service_tags: list[str] | None = None
    type: str = ""
    definition: dict[str, Any] = field(default_factory=dict)
    interval: str = ""
    timeout: str = ""
    created: int = 0
    modified: int = 0
    written: int = 0
    """When it was told last, changed or not."""

    def same_as(self, other: Check) -> bool:
        """Whether both say the same, whenever they said it. What kind of check says it is not compared."""
        return self._said() == other._said()

    def _said(self) -> Check:
        return replace(self, created=0, modified=0, written=0, type="", interval="", timeout="")


@dataclass(slots=True)
class Node:
    """One node, with what is registered on it."""

    name: str
    address: str
    id: str = ""
    tagged: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    created: int = 0
    modified: int = 0
    services: dict[str, Service] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)

    def described(self) -> tuple[object, ...]:
        """What it says about itself."""
        return (self.id, self.name, self.address, self.tagged, self.meta)


class Catalog:
    """The servers' state. Names and ids are found in any case, as the servers find them."""

    def __init__(self, datacenter: str, dialect: Dialect) -> None:
        self.datacenter = datacenter
        self._dialect = dialect
        self.index = FIRST_INDEX - 1
        self.nodes: dict[str, Node] = {}
        self._tables: dict[str, int] = {}

    # --- writing ------------------------------------------------------------------------------------------

    def register(
        self, node: Node, service: Service | None = None, checks: Sequence[Check] = (), *, skip_node: bool = False
    ) -> None:
        """Registers a node, a service on it, and checks, in one step.

        Raises:
            CatalogFault: something that it leans on is missing.
        """
        self.index += 1
        held = self.nodes.get(node.name.lower())
        self._refuse_orphans(held, service, checks)
        if held is None or not skip_node:
            held = self._put_node(node, held)
        if service is not None:
            self._put_service(held, service)
        for check in checks:
            self.put_check(held, check)

    def deregister(self, node: str, *, service_id: str = "", check_id: str = "") -> None:
        """Removes a service, a check, or a whole node; what is not there is no error.

        Raises:
            CatalogFault: servers that stream cannot tell of it.
        """
        self.index += 1
        held = self.nodes.get(node.lower())
        if held is None:
            return
        if service_id:
            self._refuse_untold(held, [one for one in held.services.values() if one.id.lower() == service_id.lower()])
            self._drop_service(held, service_id)
        elif check_id:
            self.drop_check(held, check_id)
        else:
            self._refuse_untold(held, list(held.services.values()), whole=True)
            self._drop_node(held)

    def put_check(self, node: Node, check: Check) -> None:
        """Adds a check, or replaces the one of its id.

        Raises:
            CatalogFault: its service is not registered.
        """
        held = node.checks.get(check.id.lower())
        new = replace(
            check, created=held.created if held else self.index, modified=held.modified if held else self.index
        )
        if new.service_id:
            service = node.services.get(new.service_id.lower())
            if service is None:
                raise CatalogFault("Missing service registration")
            new.service_name, new.service_tags = service.name, service.tags
        is_same = held is not None and held.same_as(new)
        if is_same and not self._dialect.notes_the_same:
            return
        node.checks[check.id.lower()] = new
        new.written = self._tables["checks"] = self.index
        if is_same:
            return
        if new.service_id:
            self._tables[_index_of(new.service_name)] = self.index
        else:
            self._touch_services(node)
        new.modified = self.index

    def drop_check(self, node: Node, check_id: str) -> None:
        """Removes a check; what is not there is no error."""
        held = node.checks.pop(check_id.lower(), None)
        if held is None:
            return
        if held.service_id:
            self._tables[_index_of(held.service_name)] = self.index
        else:
            self._touch_services(node)
            self._tables["services"] = self.index
        self._tables["checks"] = self.index

    def rewind(self, to: int) -> None:
        """Sets every index back, as servers do that were restored from an older snapshot."""
        self.index = min(self.index, to)
        self._tables = {name: min(index, to) for name, index in self._tables.items()}
        for node in self.nodes.values():
            holders: list[Node | Service | Check] = [node, *node.services.values(), *node.checks.values()]
            for held in holders:
                held.created, held.modified = min(held.created, to), min(held.modified, to)

    def _put_node(self, node: Node, held: Node | None) -> Node:
        if node.id and held is not None and held.id and held.id != node.id and _is_alive(held):
            raise CatalogFault(
                f'failed inserting node: Error while renaming Node ID: "{node.id}": Node name {node.name} is reserved '
                f"by node {held.id} with name {held.name} ({held.address})"
            )
        former = self._node_of_id(node.id) if node.id else None
        if former is not None and former is not held:
            self._drop_node(former)
        if held is None:
            held = replace(node, services={}, checks={}, modified=self.index)
            held.created = former.created if former else self.index
            self.nodes[node.name.lower()] = held
            self._tables["nodes"] = self.index
        elif held.described() != node.described():
            held.id, held.name, held.address = node.id, node.name, node.address
            held.tagged, held.meta, held.modified = node.tagged, node.meta, self.index
            self._tables["nodes"] = self.index
            self._touch_services(held)
        return held

    def _node_of_id(self, node_id: str) -> Node | None:
        return next((node for node in self.nodes.values() if node.id == node_id), None)

    def _put_service(self, node: Node, service: Service) -> None:
        held = node.services.get(service.id.lower())
        if held is not None and held.same_as(service):
            return
        new = replace(service, created=held.created if held else self.index, modified=self.index)
        node.services[service.id.lower()] = new
        if held is not None and held.name != new.name:
            self._tables[_view_of(held.name)] = self.index
        self._tables["services"] = self._tables[_index_of(new.name)] = self.index

    def _drop_service(self, node: Node, service_id: str) -> None:
        held = node.services.get(service_id.lower())
        if held is None:
            return
        for check in [check for check in node.checks.values() if check.service_id.lower() == service_id.lower()]:
            self.drop_check(node, check.id)
        del node.services[service_id.lower()]
        self._tables["services"] = self._tables["checks"] = self.index
        if any(True for _ in self.instances(held.name)):
            self._tables[_index_of(held.name)] = self.index
        else:
            self._tables.pop(_index_of(held.name), None)
            self._tables["extinction"] = self.index

    def _drop_node(self, node: Node) -> None:
        for service in list(node.services.values()):
            self._drop_service(node, service.id)
        for check in list(node.checks.values()):
            self.drop_check(node, check.id)
        del self.nodes[node.name.lower()]
        self._tables["nodes"] = self.index

    def _touch_services(self, node: Node) -> None:
        for service in node.services.values():
            self._tables[_index_of(service.name)] = self.index

    @staticmethod
    def _refuse_orphans(node: Node | None, service: Service | None, checks: Sequence[Check]) -> None:
        """All or nothing: a check whose service is missing must not leave half of its registration behind."""
        known = set(node.services if node else ()) | ({service.id.lower()} if service else set())
        if any(check.service_id and check.service_id.lower() not in known for check in checks):
            raise CatalogFault("Missing service registration")

    def _refuse_untold(self, node: Node, gone: Sequence[Service], *, whole: bool = False) -> None:
        """Servers that stream tell of what is gone by the names that were written, and these in one case or another.

        A check that was written in another case than its node, or its service, is taken for one of a node that is still
        there; that is looked for in vain, and everything stays (agent/consul/state/catalog_events.go).
        """
        if not self._dialect.streams:
            return
        told = {(one.node or node.name, one.id) for one in gone}
        services = {one.id.lower() for one in gone}
        for check in node.checks.values():
            written = check.node or node.name
            is_of_service = check.service_id.lower() in services and (written, check.service_id) not in told
            if whole and written != node.name and (is_of_service or not check.service_id):
                raise CatalogFault("failed generating events from changes: Missing node registration")
            if not whole and is_of_service:
                raise CatalogFault("failed generating events from changes: Missing service registration")

    # --- looking up ---------------------------------------------------------------------------------------

    def all_nodes(self) -> list[Node]:
        """All nodes, by name."""
        return [node for _, node in sorted(self.nodes.items())]

    def instances(self, name: str) -> Iterator[tuple[Node, Service]]:
        """The instances of a service, by node and id."""
        wanted = name.lower()
        for node in self.all_nodes():
            for _, service in sorted(node.services.items()):
                if service.name.lower() == wanted:
                    yield node, service

    def checks_of(self, node: Node, service: Service | None) -> list[Check]:
        """The node's own checks and those of a service, in this order."""
        checks = [check for _, check in sorted(node.checks.items())]
        own = [check for check in checks if not check.service_id]
        if service is None:
            return own
        return own + [check for check in checks if check.service_id.lower() == service.id.lower()]

    def all_checks(self) -> Iterator[tuple[Node, Check]]:
        """All checks, by node and id."""
        for node in self.all_nodes():
            for _, check in sorted(node.checks.items()):
                yield node, check

    def highest(self, *tables: str) -> int:
        """The highest index of these tables."""
        return max((self._tables.get(table, 0) for table in tables), default=0)

    def view_index(self, name: str, exists: bool) -> int:
        """The index that a streamed view of a service tells: it also hears of an instance that took another name."""
        return max(self.service_index(name, exists, checks=True), self.highest(_view_of(name)))

    def service_index(self, name: str, exists: bool, *, checks: bool) -> int:
        """The index that a look-up of a service tells."""
        if exists and _index_of(name) in self._tables:
            return self._tables[_index_of(name)]
        if not exists and "extinction" in self._tables:
            return self._tables["extinction"]
        return self.highest("nodes", "services", *(("checks",) if checks else ()))


def _index_of(service: str) -> str:
    """Where a service's index is kept: names that differ by their case alone share one."""
    return f"service.{service.lower()}"


def _view_of(service: str) -> str:
    """Where the index of a service's views is kept, for what moves no other."""
    return f"view.{service.lower()}"


def _is_alive(node: Node) -> bool:
    health = node.checks.get(SERF.lower())
    return health is not None and health.status == "passing"
