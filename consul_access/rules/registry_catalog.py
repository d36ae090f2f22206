"""The instances of a registry at etcd as they stand in Consul's catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from consul_access.errors import InvalidInput, NoInstances
from consul_access.models import inputs
from consul_access.models.instance import ServiceInstance
from consul_access.models.status import CheckStatus
from consul_access.models.sync import LeftOut, SyncInstance, SyncList, SyncRules, tags_of

__all__ = ["catalog_of_registry"]

_OWN_META = 3
"""So many pairs of meta a sync adds."""


def catalog_of_registry(
    instances: Iterable[ServiceInstance],
    rules: SyncRules,
    *,
    unreadable: Mapping[str, str] | None = None,
    revision: int = 0,
) -> SyncList:
    """What of a registry should be in the catalog.

    Args:
        instances: all there are.
        rules: how they are named; namespaces are none of theirs.
        unreadable: the services of which something cannot be read, each with the reason.
        revision: as of which revision of etcd's store.
    """
    doubts = unreadable or {}
    made: list[SyncInstance] = []
    left_out = [LeftOut(service, reason) for service, reason in sorted(doubts.items())]
    for one in instances:
        try:
            made.append(_instance(one, rules))
        except (InvalidInput, NoInstances) as error:
            left_out.append(LeftOut(f"{one.service}/{one.id}", str(error)))
    return SyncList(
        instances=tuple(made),
        left_out=tuple(left_out),
        doubtful=frozenset(doubts),
        source="etcd",
        revision=revision,
    )


def _instance(one: ServiceInstance, rules: SyncRules) -> SyncInstance:
    """The id is made of both names: at etcd an id is unique in its service only."""
    name = inputs.service_name(f"{rules.prefix}{one.service}")
    digest = hashlib.sha1(f"{name}-{one.id}".encode(), usedforsecurity=False).hexdigest()
    service_id = inputs.identifier(f"{name}-{digest[:12]}", "the service's id")
    address = one.address
    meta = dict(list(one.meta.items())[: inputs.META_PAIRS - _OWN_META])
    status = CheckStatus.CRITICAL if one.status is CheckStatus.MAINTENANCE else one.status
    return SyncInstance(
        id=service_id,
        name=name,
        address=inputs.host(address.host, "the address"),
        port=address.port,
        ports=tuple(entry.named() for entry in one.port_entries),
        tags=tags_of(rules, one.tags),
        meta=inputs.check_meta(meta),
        weight=one.passing_weight,
        origin=one.service,
        status=status,
        check_id=f"etcd/{service_id}",
        check_name="Registered at etcd",
        check_type="etcd",
        output=f"{one.id} is registered at etcd, and {one.status.value}",
    )
