"""One instance after the other."""

from __future__ import annotations

from itertools import cycle
from typing import Protocol

from consul_access.models.instance import ServiceInstance

__all__ = ["Pick", "Preparing", "RoundRobin"]


class Pick(Protocol):
    """Chooses one instance."""

    def __call__(self, key: str | None = None) -> ServiceInstance: ...


class Preparing(Protocol):
    """A balancer that is told its instances once, so that a choice does no work."""

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick: ...


class RoundRobin:
    """One after the other."""

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        following = cycle(instances).__next__

        def pick(key: str | None = None) -> ServiceInstance:  # noqa: ARG001
            return following()

        return pick
