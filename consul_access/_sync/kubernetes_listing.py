# Written by tools/faces.py from consul_access/_async/kubernetes_listing.py; edit that one.
"""Everything that a Kubernetes cluster's etcd tells about its services, read at once and then followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from consul_access._sync.gateway import Gateway
from consul_access._sync.key_watching import KeyWatch
from consul_access._sync.keys import KeyReader
from consul_access._sync.kubernetes import read_object
from consul_access.etcd import kv
from consul_access.etcd.kubernetes import endpoints_prefix, nodes_prefix, services_prefix, slices_prefix
from consul_access.etcd.watch import Range
from consul_access.models.keys import EventKind, KeyEvent, KeyValue
from consul_access.models.kubernetes import Endpoints, EndpointSlice, KubernetesNode, KubernetesService
from consul_access.rules.key_watching import KeyWatchState
from consul_access.rules.kubernetes_catalog import Cluster, catalog_of

if TYPE_CHECKING:
    from consul_access.models.sync import SyncList, SyncRules

__all__ = ["KubernetesListing"]


class KubernetesListing:
    """All services of a cluster as they should stand in Consul's catalog; made by `etcd.kubernetes.listing`.

    Iterate over it: the first list comes at once, the next one whenever it differs. Every list is complete. While no
    member of etcd answers there is none, and `stale_for` tells since when.

    Args:
        gateway: what calls are sent with.
        reader: what ranges are read with.
        prefix: what all keys begin with.
        rules: which services are meant, and how they are named.
        on_state: called when `stale_for` begins or ends.
    """

    def __init__(
        self,
        gateway: Gateway,
        reader: KeyReader,
        prefix: str,
        rules: SyncRules,
        *,
        on_state: Callable[[], None] | None = None,
    ) -> None:
        self._gateway = gateway
        self._reader = reader
        self._rules = rules
        self._on_state = on_state
        self._store = _Store(prefix)
        self._events: KeyWatch | None = None
        self._told: SyncList | None = None
        self._closed = self._iterating = False
        self._suspended_since: float | None = None

    def read(self) -> SyncList:
        """All of it as of one revision, completely or not at all.

        Raises:
            ConsulAccessError: it cannot be read.
        """
        revision = 0
        for kind in self._store.kinds:
            items, told = self._reader.read_all(kv.Get(kind.range.key, kind.range.end, revision=revision))
            revision = revision or told
            self._store.fill(kind, items)
        return catalog_of(self._store.cluster(revision), self._rules)

    @property
    def stale_for(self) -> float:
        """Seconds for which changes could not be followed; 0 while they can."""
        since = self._suspended_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Ends it; whoever waits for the next list is told that there is none."""
        self._closed = True
        if self._events is not None:
            self._events.close()
            if not self._iterating:  # otherwise whoever iterates lets go of the connection
                self._events.__exit__(None, None, None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SyncList:
        if self._closed:
            raise StopIteration
        self._iterating = True
        try:
            return self._begin() if self._events is None else self._next(self._events)
        finally:
            self._iterating = False

    def _next(self, events: KeyWatch) -> SyncList:
        while True:
            event = next(events)
            self._store.take(event)
            if events.pending:  # what came together is told together
                continue
            found = catalog_of(self._store.cluster(event.revision), self._rules)
            if not _same(found, self._told):
                self._told = found
                return found

    def _begin(self) -> SyncList:
        self._told = found = self.read()
        ranges = [kind.range for kind in self._store.kinds]
        self._events = KeyWatch(self._gateway, self._reader, ranges, start=found.revision + 1, on_state=self._became)
        if self._closed:
            self._events.close()
        return found

    def _became(self, state: KeyWatchState) -> None:
        if state is KeyWatchState.CLOSED:
            return
        self._suspended_since = time.monotonic() if state is KeyWatchState.SUSPENDED else None
        if self._on_state is not None:
            self._on_state()


def _same(one: SyncList, other: SyncList | None) -> bool:
    return other is not None and (one.instances, one.left_out, one.doubtful) == (
        other.instances,
        other.left_out,
        other.doubtful,
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of object: where they are, and how one is read."""

    range: Range
    read: Callable[[Any], Any]

    @classmethod
    def at(cls, prefix: str, read: Callable[[Any], Any]) -> _Kind:
        first, end = kv.prefix_range(prefix)
        return cls(Range(first, end), read)


class _Store:
    """The objects of a cluster, by key."""

    def __init__(self, prefix: str) -> None:
        self.kinds = (
            _Kind.at(services_prefix(prefix, None), KubernetesService.from_api),
            _Kind.at(slices_prefix(prefix, None), EndpointSlice.from_api),
            _Kind.at(endpoints_prefix(prefix), Endpoints.from_api),
            _Kind.at(nodes_prefix(prefix), KubernetesNode.from_api),
        )
        self._objects: dict[bytes, dict[bytes, Any]] = {kind.range.key: {} for kind in self.kinds}
        self._unreadable: dict[bytes, _Kind] = {}

    def cluster(self, revision: int) -> Cluster:
        services, slices, endpoints, nodes = (self._in_order(kind) for kind in self.kinds)
        return Cluster(
            services,
            slices,
            endpoints,
            nodes,
            unreadable=dict(self._doubts()),
            unreadable_nodes=frozenset(self._unreadable_nodes()),
            revision=revision,
        )

    def _in_order(self, kind: _Kind) -> list[Any]:
        found = self._objects[kind.range.key]
        return [found[key] for key in sorted(found)]

    def _doubts(self) -> Iterable[tuple[str, str]]:
        """What is made of objects that cannot be read: of a service by its name, else all of the namespace."""
        services, _, endpoints, nodes = self.kinds
        for key, kind in self._unreadable.items():
            if kind is not nodes:
                namespace, _, name = _text(key.removeprefix(kind.range.key)).partition("/")
                origin = f"{namespace}/{name}" if kind in (services, endpoints) else namespace
                yield origin, f"{_text(key)} cannot be read"

    def _unreadable_nodes(self) -> Iterable[str]:
        return (
            _text(key.removeprefix(kind.range.key)) for key, kind in self._unreadable.items() if kind is self.kinds[3]
        )

    def fill(self, kind: _Kind, items: Iterable[KeyValue]) -> None:
        """Takes all that there is of one kind."""
        self._objects[kind.range.key].clear()
        self._unreadable = {key: other for key, other in self._unreadable.items() if other is not kind}
        for item in items:
            self._put(kind, item)

    def take(self, event: KeyEvent) -> None:
        """Takes a change."""
        (kind,) = (one for one in self.kinds if event.key.startswith(one.range.key))
        if event.kind is EventKind.RESYNC:
            self.fill(kind, event.items)
        elif event.kind is EventKind.DELETE:
            self._objects[kind.range.key].pop(event.key, None)
            self._unreadable.pop(event.key, None)
        elif event.metadata is not None:
            self._put(kind, KeyValue(event.value, event.metadata))

    def _put(self, kind: _Kind, item: KeyValue) -> None:
        """Keeps an object; of one that cannot be read the last one that could be, if there was one."""
        found = read_object(item, kind.read)
        if found is None:
            self._unreadable[item.key] = kind
        else:
            self._unreadable.pop(item.key, None)
            self._objects[kind.range.key][item.key] = found


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
