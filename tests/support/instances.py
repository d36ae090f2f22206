"""Instances and dice for the tests of balancers."""

from __future__ import annotations

import random
from typing import Any

from consul_access.models.instance import ServiceInstance, Standing
from consul_access.models.status import CheckStatus
from consul_access.rules.balancing import Balancer, balancer_named

DEAD = CheckStatus.CRITICAL
WARNED = CheckStatus.WARNING


def instance(
    name: str, passing: int = 1, warning: int = 1, status: CheckStatus = CheckStatus.PASSING, **fields: Any
) -> ServiceInstance:
    """An instance at the host of its own name."""
    return ServiceInstance(
        id=name,
        service="web",
        service_address=f"{name}.test",
        service_port=80,
        passing_weight=passing,
        warning_weight=warning,
        standing=Standing(status, status),
        **fields,
    )


def several(number: int) -> tuple[ServiceInstance, ...]:
    return tuple(instance(f"i{place}") for place in range(number))


def named(name: str, seed: int = 1) -> Balancer:
    return balancer_named(name, random.Random(seed))


class Thrown:
    """Dice that fall as told: each fall is a side of so many."""

    def __init__(self, *falls: tuple[int, int]) -> None:
        self.falls = list(falls)

    def random(self) -> float:
        side, sides = self.falls.pop(0)
        return (side + 0.5) / sides
