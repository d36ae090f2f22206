"""The first of the list."""

from __future__ import annotations

from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.protocol import Pick, eligible

__all__ = ["NearestBalancer"]


class NearestBalancer:
    """The first of the answer: the nearest, when the question says `near="_agent"` (or names another node).

    The registry sorts by the round-trip times that its agents have measured between each other. All calls go to one
    instance; to spread them over those nearby, use a `PreferringBalancer`.
    """

    __slots__ = ()

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        first = eligible(instances)[0]

        def pick(key: str | None = None) -> ServiceInstance:
            return first

        return pick
