"""What is known of a service at one moment, where it comes from, and how old it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Self, TypeAlias

from consul_access.models.instance import ServiceInstance

__all__ = ["Changed", "Diff", "ServiceSnapshot", "ServicesSnapshot", "Source"]

Source: TypeAlias = Literal["live", "memory", "disk", "nothing"]
"""`live`: as the registry last answered; `memory`: the last good answer, kept because the registry gives none now;
`disk`: an earlier process's; `nothing`: nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An instance that is still there, and not the same.

    Args:
        before: as it was.
        after: as it is.
    """

    before: ServiceInstance
    after: ServiceInstance


@dataclass(frozen=True, slots=True)
class Diff:
    """What is different from the snapshot before.

    Args:
        added: instances that have come.
        removed: instances that are gone.
        changed: instances that are still there, with another address, health, tags or meta.
    """

    added: tuple[ServiceInstance, ...] = ()
    removed: tuple[ServiceInstance, ...] = ()
    changed: tuple[Changed, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What both kinds of snapshot say about themselves."""

    index: int | None = None
    age: float = 0.0
    source: Source = "nothing"
    stale_since: datetime | None = None
    reason: str = ""
    shared: bool = False
    answered_at: float | None = field(default=None, repr=False)
    stale_at: float | None = field(default=None, repr=False)

    @property
    def is_stale(self) -> bool:
        """Whether the registry cannot confirm it at the moment."""
        return self.stale_since is not None

    def at(self, now: float) -> Self:
        """The same, with its age at this moment of the monotonic clock."""
        if self.answered_at is None:
            return self
        return replace(self, age=max(0.0, now - self.answered_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot(_Known):
    """The instances of a service at one moment.

    Args:
        service: the service's name.
        instances: those that the query asks for.
        diff: what is different from the snapshot before.
        index: the registry's index of it.
        age: seconds since the registry gave it, by this process's own clock, at the moment it was handed out.
        source: where it comes from.
        stale_since: since when the registry cannot confirm it, by this machine's clock; None when it can.
        reason: why not, as text.
        shared: there are more queries than may wait at the agent at once, so that they take turns, and a change is
            seen when it is this one's turn: within 15 s for up to 15 times as many.
        answered_at: when the registry gave it, on the clock of `time.monotonic()`.
        stale_at: `stale_since` on that clock.

    It can be iterated over, has a length, and is true when it has instances.
    """

    service: str
    instances: tuple[ServiceInstance, ...] = ()
    diff: Diff = Diff()

    def __iter__(self) -> Iterator[ServiceInstance]:
        return iter(self.instances)

    def __len__(self) -> int:
        return len(self.instances)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesSnapshot(_Known):
    """The names of all services at one moment, each with the tags in use.

    Args:
        services: the tags, by service name.
        added: names that have come since the snapshot before.
        removed: names that are gone since.

    The other fields are those of `ServiceSnapshot`.
    """

    services: Mapping[str, list[str]] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter(self.services)

    def __len__(self) -> int:
        return len(self.services)
