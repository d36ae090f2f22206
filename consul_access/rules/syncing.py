"""One way into the catalog: what to write so that it has what the source has, and what must not be removed.

Level-triggered: it goes by what there is on both sides, never by what has happened, so that a lost event, a lost write
or a restart changes nothing about where it ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from consul_access.models.sync import ORIGIN, OWNER, LeftOut, SyncInstance, SyncList, SyncPlan

if TYPE_CHECKING:
    from consul_access.models.catalog import Check, Service

__all__ = ["Present", "pause", "plan", "present_of"]

FEW: Final = 3
"""So many instances may always vanish, unless the source has none left at all."""
LONGEST_PAUSE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Present:
    """What is on the sync's node.

    Args:
        owned: what the sync has written.
        foreign: the ids of everything else.
    """

    owned: tuple[SyncInstance, ...] = ()
    foreign: frozenset[str] = frozenset()


def present_of(services: Mapping[str, Service | None], checks: Iterable[Check], owner: str) -> Present:
    """What is on a node, sorted by whether this sync has written it.

    Args:
        services: by id; None for one that cannot be read.
        checks: all checks of the node.
        owner: who this sync is.
    """
    by_service = {check.service_id: check for check in checks if check.id.endswith(f"/{check.service_id}")}
    owned = [
        _instance(service, by_service.get(service.id))
        for service in services.values()
        if service is not None and service.meta.get(OWNER) == owner
    ]
    return Present(tuple(owned), frozenset(services) - {one.id for one in owned})


def _instance(service: Service, check: Check | None) -> SyncInstance:
    found = SyncInstance(
        id=service.id,
        name=service.name,
        address=service.address,
        port=service.port,
        ports=tuple(port.named() for port in service.ports),
        tags=service.tags,
        meta=service.meta,
        weight=service.weights.passing,
        origin=service.meta.get(ORIGIN, ""),
        status=None,
    )
    if check is None:
        return found
    return replace(
        found,
        status=check.status,
        check_id=check.id,
        check_name=check.name,
        check_type=check.type,
        output=check.output,
    )


def plan(
    wanted: SyncList,
    present: Present,
    *,
    owner: str,
    ports: bool = False,
    stale: str = "",
    may_vanish: float = 0.5,
) -> SyncPlan:
    """What to write.

    Args:
        wanted: everything the source has. Only a complete list may be given.
        present: what there is on the node.
        owner: who this sync is.
        ports: the servers know several ports of one instance.
        stale: why the list may be old; nothing is removed then. Empty when it is not.
        may_vanish: the share of the instances there, 0 to 1, that may go at once without others in their places.
    """
    desired, left_out = _desired(wanted, present.foreign, owner, ports)
    there = {one.id: one for one in present.owned}
    register = tuple(one for one in desired.values() if there.get(one.id) != one)
    extra = [one for one in present.owned if one.id not in desired]
    doubtful = [one for one in extra if _is_doubtful(one.origin, wanted.doubtful)]
    gone = [one for one in extra if one not in doubtful]
    reason = stale or _too_many(gone, register, present, wanted, may_vanish)
    held = extra if reason else doubtful
    if held and not reason:
        reason = f"what they are made of cannot be read in full: {', '.join(sorted(wanted.doubtful))}"
    return SyncPlan(
        register=register,
        deregister=tuple(one for one in extra if one not in held),
        held=tuple(held),
        reason=reason if held else "",
        left_out=(*wanted.left_out, *left_out),
        unchanged=len(desired) - len(register),
        foreign=tuple(sorted(present.foreign)),
    )


def _desired(
    wanted: SyncList, foreign: frozenset[str], owner: str, ports: bool
) -> tuple[dict[str, SyncInstance], list[LeftOut]]:
    """What should be there, by id, each id once and none that others have."""
    desired: dict[str, SyncInstance] = {}
    left_out: list[LeftOut] = []
    for one in wanted.instances:
        if one.id in foreign:
            left_out.append(LeftOut(one.id, "somebody else has registered this id on the node"))
        elif one.id in desired:
            left_out.append(LeftOut(one.id, f"{desired[one.id].origin} has the same name and address as {one.origin}"))
        else:
            desired[one.id] = _written(one, owner, wanted.source, ports)
    return desired, left_out


def _written(one: SyncInstance, owner: str, source: str, ports: bool) -> SyncInstance:
    """As it is written: several ports only where they are known, since they exclude the single one."""
    several = ports and len(one.ports) > 1
    named = tuple(port._replace(default=not number, verified=True) for number, port in enumerate(one.ports))
    return replace(
        one,
        port=0 if several else one.port,
        ports=named if several else (),
        meta={**one.meta, "external-source": source, OWNER: owner, ORIGIN: one.origin},
    )


def _is_doubtful(origin: str, doubtful: frozenset[str]) -> bool:
    return origin in doubtful or origin.partition("/")[0] in doubtful


def _too_many(
    gone: list[SyncInstance],
    register: tuple[SyncInstance, ...],
    present: Present,
    wanted: SyncList,
    may_vanish: float,
) -> str:
    """Why so many must not vanish at once; empty when they may. Those that others replace do not count."""
    there = {one.id for one in present.owned}
    replaced = Counter(one.name for one in register if one.id not in there)
    left = Counter(one.name for one in gone)
    vanishing = (left - replaced).total()
    if vanishing <= (FEW if wanted.instances else 0) or vanishing <= may_vanish * len(present.owned):
        return ""
    return (
        f"{vanishing} of {len(present.owned)} instances would vanish, more than the {may_vanish:.0%} that may: "
        "if the source is right, approve() it or give a larger may_vanish"
    )


def pause(failures: int, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait before source or catalog are tried again: back-off with jitter, for ever.

    Args:
        failures: how many attempts have failed in a row.
        uniform: a random number between two.
    """
    return uniform(0.0, min(LONGEST_PAUSE, 0.2 * 2 ** min(failures, 10)))
