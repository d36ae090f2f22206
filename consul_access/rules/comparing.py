"""What differs between two lists of instances, and which of a list stand for the same address."""

from __future__ import annotations

from collections.abc import Sequence

from consul_access.models.instance import ServiceInstance
from consul_access.models.snapshot import Changed, Diff
from consul_access.models.status import CheckStatus

__all__ = ["difference", "distinct"]

_SEVERITY = {status: place for place, status in enumerate(CheckStatus)}
_SAME = Diff()


def difference(before: Sequence[ServiceInstance], after: Sequence[ServiceInstance]) -> Diff:
    """What has come, gone and changed. Instances are the same ones by datacenter, node and id.

    What is one and the same object in both lists costs next to nothing.
    """
    if before is after:
        return _SAME
    known, kept = set(map(id, before)), set(map(id, after))
    old = {_key(instance): instance for instance in before if id(instance) not in kept}
    added: list[ServiceInstance] = []
    changed: list[Changed] = []
    for instance in after:
        if id(instance) in known:
            continue
        earlier = old.pop(_key(instance), None)
        if earlier is None:
            added.append(instance)
        elif earlier != instance:
            changed.append(Changed(earlier, instance))
    return Diff(tuple(added), tuple(old.values()), tuple(changed))


def distinct(instances: Sequence[ServiceInstance]) -> tuple[ServiceInstance, ...]:
    """The instances that can be called, one for each address and port, in the order in which they came.

    Of several at one address the healthiest counts, and of equally healthy ones the one that was registered last: the
    others are left-overs of an earlier life, or registered at two agents.
    """
    if len(instances) == 1 and instances[0].is_callable:
        return tuple(instances)
    best: dict[tuple[str, int], ServiceInstance] = {}
    for instance in instances:
        place = instance.host, instance.port
        if not place[0] or not place[1]:
            continue
        rival = best.get(place)
        if rival is None or _rank(instance) < _rank(rival):
            best[place] = instance
    return tuple(best.values())


def _rank(instance: ServiceInstance) -> tuple[int, int]:
    return _SEVERITY[instance.status], -instance.modify_index


def _key(instance: ServiceInstance) -> tuple[str, str, str]:
    return instance.datacenter, instance.node, instance.id
