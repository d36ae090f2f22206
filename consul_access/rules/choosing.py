"""From the instances of a look-up to addresses."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from consul_access.errors import NoInstances
from consul_access.models.address import Address

if TYPE_CHECKING:
    from consul_access.models.instance import ServiceInstance
    from consul_access.rules.balancing import Balancer
    from consul_access.rules.balancing.protocol import Dice

__all__ = ["addresses_of", "one_of"]

log = logging.getLogger("consul_access")


def addresses_of(instances: Iterable[ServiceInstance], name: str) -> list[Address]:
    """The addresses of those that can be called; the log names the others."""
    found = []
    for instance in instances:
        if instance.is_callable:
            found.append(instance.address)
        else:
            missing = "address that can be called" if instance.port else "port"
            log.warning("%s of service %r has no %s and is left out", instance.id, name, missing)
    return found


def one_of(
    found: Sequence[ServiceInstance],
    name: str,
    query: Mapping[str, object],
    *,
    balancer: str | Balancer,
    key: str | None,
    dice: Dice,
) -> Address:
    """The address of one of them.

    Args:
        found: the instances.
        name: the service's.
        query: what was asked for.
        balancer: how to choose.
        key: what a `sticky` balancer sticks to.
        dice: for a balancer that is given by name.

    Raises:
        NoInstances: none can be called.
    """
    from consul_access.rules.balancing import balancer_named  # a first look-up must stay light

    choose = balancer_named(balancer, dice) if isinstance(balancer, str) else balancer
    callable_ones = tuple(instance for instance in found if instance.is_callable)
    if not callable_ones:
        raise NoInstances(_nobody(name, len(found), query), operation="health.service")
    return choose.prepare(callable_ones)(key).address


def _nobody(name: str, unusable: int, query: Mapping[str, object]) -> str:
    if unusable:
        return f"all {unusable} instances of {name!r} have registered no port, or no address that can be called"
    policy = query.get("policy", "passing")
    narrowed = ", ".join(f"{key}={value!r}" for key, value in query.items() if key != "policy")
    return (
        f"no instance of {name!r} (policy {str(policy)!r}{', ' + narrowed if narrowed else ''}); "
        f"either it is not registered, or none is in that state: instances({name!r}, policy='any') shows all"
    )
