"""What `CatalogSync` reads at etcd, kept by key: Kubernetes' objects, or a registry's instances. It never waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from consul_access.errors import BadValue
from consul_access.etcd import kv
from consul_access.etcd.codecs import ServiceCodec, instance_of
from consul_access.etcd.kubernetes import endpoints_prefix, nodes_prefix, read_object, services_prefix, slices_prefix
from consul_access.etcd.watch import Range
from consul_access.models.instance import ServiceInstance
from consul_access.models.keys import KeyValue
from consul_access.models.kubernetes import Endpoints, EndpointSlice, KubernetesNode, KubernetesService
from consul_access.models.sync import SyncList, SyncRules
from consul_access.rules.kubernetes_catalog import Cluster, catalog_of
from consul_access.rules.registry_catalog import catalog_of_registry

__all__ = ["KubernetesSource", "RegistrySource", "Source"]

log = logging.getLogger("consul_access")


class Source(Protocol):
    """What was read, by key."""

    ranges: tuple[Range, ...]
    """All that is read; no key is in two of them."""

    def fill(self, wanted: Range, items: Iterable[KeyValue]) -> None:
        """Takes all that there is in one of the ranges."""
        ...

    def put(self, wanted: Range, item: KeyValue) -> None:
        """Takes one key; of one that cannot be read keeps what it last was."""
        ...

    def forget(self, wanted: Range, key: bytes) -> None:
        """Takes a key out."""
        ...

    def listed(self, revision: int) -> SyncList:
        """All of it, as it should stand in the catalog."""
        ...


class _Kind(NamedTuple):
    """One kind of Kubernetes' objects: where they are, and how one is read."""

    range: Range
    read: Callable[[Any], Any]

    @classmethod
    def at(cls, prefix: str, read: Callable[[Any], Any]) -> _Kind:
        return cls(Range(*kv.prefix_range(prefix)), read)


class KubernetesSource:
    """The objects of a cluster.

    Args:
        prefix: what the keys of Kubernetes begin with.
        rules: which services are meant, and how they are named.
    """

    def __init__(self, prefix: str, rules: SyncRules) -> None:
        self._rules = rules
        self._services = _Kind.at(services_prefix(prefix, None), KubernetesService.from_api)
        self._slices = _Kind.at(slices_prefix(prefix, None), EndpointSlice.from_api)
        self._endpoints = _Kind.at(endpoints_prefix(prefix), Endpoints.from_api)
        self._nodes = _Kind.at(nodes_prefix(prefix), KubernetesNode.from_api)
        self._kinds = {kind.range: kind for kind in (self._services, self._slices, self._endpoints, self._nodes)}
        self.ranges = tuple(self._kinds)
        self._objects: dict[Range, dict[bytes, Any]] = {wanted: {} for wanted in self.ranges}
        self._unreadable: dict[Range, set[bytes]] = {wanted: set() for wanted in self.ranges}

    def fill(self, wanted: Range, items: Iterable[KeyValue]) -> None:
        """Takes all that there is of one kind."""
        self._objects[wanted].clear()
        self._unreadable[wanted].clear()
        for item in items:
            self.put(wanted, item)

    def put(self, wanted: Range, item: KeyValue) -> None:
        """Takes an object; of one that cannot be read keeps the last one that could be, if there was one."""
        found = read_object(item, self._kinds[wanted].read)
        if found is None:
            self._unreadable[wanted].add(item.key)
        else:
            self._unreadable[wanted].discard(item.key)
            self._objects[wanted][item.key] = found

    def forget(self, wanted: Range, key: bytes) -> None:
        """Takes an object out."""
        self._objects[wanted].pop(key, None)
        self._unreadable[wanted].discard(key)

    def listed(self, revision: int) -> SyncList:
        """All services, as they should stand in the catalog."""
        cluster = Cluster(
            self._in_order(self._services),
            self._in_order(self._slices),
            self._in_order(self._endpoints),
            self._in_order(self._nodes),
            unreadable=dict(self._doubts()),
            unreadable_nodes=frozenset(self._names(self._nodes)),
            revision=revision,
        )
        return catalog_of(cluster, self._rules)

    def _in_order(self, kind: _Kind) -> list[Any]:
        found = self._objects[kind.range]
        return [found[key] for key in sorted(found)]

    def _doubts(self) -> Iterable[tuple[str, str]]:
        """What is made of objects that cannot be read: of a service by its name, else all of the namespace."""
        for kind in (self._services, self._slices, self._endpoints):
            for name in self._names(kind):
                yield name.partition("/")[0] if kind is self._slices else name, f"{_text(kind.range.key)}{name} {_BAD}"

    def _names(self, kind: _Kind) -> Iterable[str]:
        """Of what cannot be read, the keys behind the prefix."""
        return (_text(key.removeprefix(kind.range.key)) for key in sorted(self._unreadable[kind.range]))


class RegistrySource:
    """The instances of a registry.

    Args:
        codec: how they are written.
        prefix: what their keys begin with.
        rules: how they are named.
    """

    def __init__(self, codec: ServiceCodec, prefix: str, rules: SyncRules) -> None:
        self._codec = codec
        self._prefix = prefix
        self._rules = rules
        self.ranges: tuple[Range, ...] = (Range(*kv.prefix_range(prefix)),)
        self._instances: dict[bytes, ServiceInstance] = {}
        self._unreadable: dict[bytes, str] = {}

    def fill(self, wanted: Range, items: Iterable[KeyValue]) -> None:
        """Takes all that there are."""
        self._instances.clear()
        self._unreadable.clear()
        for item in items:
            self.put(wanted, item)

    def put(self, wanted: Range, item: KeyValue) -> None:  # noqa: ARG002 - there is one
        """Takes an instance; of one that cannot be read keeps what it last was."""
        try:
            instance = instance_of(self._codec, self._prefix, item)
        except BadValue as error:
            log.warning("%s; it is left out", error.message)
            self._unreadable[item.key] = error.message
            return
        self._unreadable.pop(item.key, None)
        if instance is None:
            self._instances.pop(item.key, None)
        else:
            self._instances[item.key] = instance

    def forget(self, wanted: Range, key: bytes) -> None:  # noqa: ARG002
        """Takes an instance out."""
        self._instances.pop(key, None)
        self._unreadable.pop(key, None)

    def listed(self, revision: int) -> SyncList:
        """All instances, as they should stand in the catalog."""
        found = [self._instances[key] for key in sorted(self._instances)]
        return catalog_of_registry(found, self._rules, unreadable=dict(self._doubts()), revision=revision)

    def _doubts(self) -> Iterable[tuple[str, str]]:
        for key, reason in sorted(self._unreadable.items()):
            names = self._codec.names(self._prefix, key)
            if names is not None:
                yield names[0], reason


_BAD = "cannot be read"


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
