"""Which instances a look-up asks for, where the registry itself cannot be asked to choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self, cast

from consul_access.models.instance import ServiceInstance
from consul_access.models.query import Query, RegistryQuery, policy_of, render
from consul_access.models.status import HealthPolicy
from consul_access.rules.filtering import admits

__all__ = ["Selection"]

_KNOWN: Final = frozenset(RegistryQuery.__annotations__)


@dataclass(frozen=True, slots=True)
class Selection:
    """The options of a look-up, as far as they choose among instances. Equal ones choose the same.

    Args:
        policy: which health is good enough.
        tags: an instance has to have all of these.
        meta: its meta has to hold all of these.
        stale: whether any member may answer from what it has.
    """

    policy: HealthPolicy = HealthPolicy.PASSING
    tags: frozenset[str] = frozenset()
    meta: frozenset[tuple[str, str]] = frozenset()
    stale: bool = False

    @classmethod
    def of(cls, query: RegistryQuery) -> Self:
        """The selection that a query means.

        Raises:
            InvalidInput: an option is unknown, or cannot be right.
        """
        whole = cast("Query", query)
        render(whole, scope="health", known=_KNOWN)
        tags = query.get("tags", ())
        return cls(
            policy_of(whole) or HealthPolicy.PASSING,
            frozenset([tags] if isinstance(tags, str) else tags),
            frozenset(query.get("meta", {}).items()),
            query.get("consistency") == "stale",
        )

    @property
    def is_narrowed(self) -> bool:
        """Whether it leaves instances out whatever their health."""
        return bool(self.tags or self.meta)

    def fits(self, instance: ServiceInstance) -> bool:
        """Whether the instance is one of those asked for, whatever its health."""
        return self.tags <= set(instance.tags) and self.meta <= instance.meta.items()

    def of_these(self, instances: Iterable[ServiceInstance]) -> tuple[ServiceInstance, ...]:
        """Those that it chooses, in their order."""
        return tuple(one for one in instances if admits(self.policy, one.standing) and self.fits(one))
