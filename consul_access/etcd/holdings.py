"""What is below a registry's prefix, kept up to date by the events of a watch. It never waits."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from consul_access.errors import BadValue
from consul_access.etcd.codecs import ServiceCodec, instance_of
from consul_access.models.instance import ServiceInstance
from consul_access.models.keys import EventKind, KeyEvent, KeyValue

__all__ = ["Holdings", "read_instances", "tags_in_use"]

log = logging.getLogger("consul_access")


def read_instances(
    codec: ServiceCodec, prefix: str, items: Iterable[KeyValue]
) -> tuple[dict[bytes, ServiceInstance], int]:
    """The instances by key, and how many values could not be read; these are left out, and the log says so."""
    found: dict[bytes, ServiceInstance] = {}
    rejected = 0
    for item in items:
        try:
            instance = instance_of(codec, prefix, item)
        except BadValue as error:
            log.warning("%s; it is left out", error.message)
            rejected += 1
            continue
        if instance is not None:
            found[item.key] = instance
    return found, rejected


def tags_in_use(instances: Iterable[ServiceInstance]) -> dict[str, list[str]]:
    """The services of these instances, each with the tags that they carry."""
    found: dict[str, set[str]] = {}
    for instance in instances:
        found.setdefault(instance.service, set()).update(instance.tags)
    return {name: sorted(found[name]) for name in sorted(found)}


class Holdings:
    """All instances below a prefix.

    Args:
        codec: how they are written.
        prefix: what their keys begin with.
    """

    def __init__(self, codec: ServiceCodec, prefix: str) -> None:
        self._codec = codec
        self._prefix = prefix
        self._services: dict[str, dict[bytes, ServiceInstance]] = {}

    def instances(self, service: str) -> tuple[ServiceInstance, ...]:
        """Those of a service, in the order of their keys."""
        held = self._services.get(service, {})
        return tuple(held[key] for key in sorted(held))

    def tags(self) -> dict[str, list[str]]:
        """All services with their tags."""
        return tags_in_use(instance for held in self._services.values() for instance in held.values())

    def fill(self, items: Iterable[KeyValue]) -> set[str]:
        """From now on there are these and no others; the services that may have changed."""
        before = set(self._services)
        found, _ = read_instances(self._codec, self._prefix, items)
        self._services = {}
        for key, instance in found.items():
            self._services.setdefault(instance.service, {})[key] = instance
        return before | set(self._services)

    def take(self, event: KeyEvent) -> set[str]:
        """One event; the services that may have changed."""
        if event.kind is EventKind.RESYNC:
            return self.fill(event.items)
        changed = self._drop(event.key)
        if event.kind is EventKind.PUT and event.metadata is not None:
            found, _ = read_instances(self._codec, self._prefix, [KeyValue(event.value, event.metadata)])
            for key, instance in found.items():
                self._services.setdefault(instance.service, {})[key] = instance
                changed.add(instance.service)
        return changed

    def _drop(self, key: bytes) -> set[str]:
        names = self._codec.names(self._prefix, key)
        if names is None:
            return set()
        held = self._services.get(names[0], {})
        held.pop(key, None)
        if not held:
            self._services.pop(names[0], None)
        return {names[0]}
