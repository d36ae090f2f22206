"""What is asked again and again, and how its answers become snapshots."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any, Generic, Protocol, TypeVar, Unpack

from consul_access import consul
from consul_access.call import Call, Reply
from consul_access.decoding import Rereader
from consul_access.errors import InvalidInput
from consul_access.models.durations import seconds
from consul_access.models.instance import ServiceInstance, share_parts
from consul_access.models.query import LONGEST_WAIT, Query
from consul_access.models.snapshot import ServiceSnapshot, ServicesSnapshot
from consul_access.rules.comparing import difference
from consul_access.rules.filtering import admits, asked_of_agent

__all__ = ["InstancesReading", "Key", "Reading", "ServicesReading", "Snapping"]

S = TypeVar("S", ServiceSnapshot, ServicesSnapshot)

Key = tuple[object, ...]


class Snapping(Protocol, Generic[S]):
    """One question, and how what is known about it becomes snapshots."""

    key: Key
    """Equal for equal questions."""
    blank: S

    @property
    def subject(self) -> str:
        """Whom it concerns, for a person to read."""
        ...

    def value(self, snapshot: S) -> Any:
        """A snapshot's value."""
        ...

    def same(self, before: Any, after: Any) -> bool:
        """Whether two values say the same."""
        ...

    def fields(self, value: Any) -> dict[str, Any]:
        """The value as a snapshot's fields."""
        ...


class Reading(Snapping[S], Protocol):
    """One question to Consul: how it is put, and how its answers are read."""

    call: Call[Any]
    longest: float
    """Seconds that the server may wait at most."""

    def read(self, reply: Reply) -> Generator[None, None, object]:
        """The answer's value, in small steps."""
        ...


class InstancesReading:
    """The instances of a service.

    Args:
        name: the service.
        query: narrows the search.

    Raises:
        InvalidInput: the query cannot be right.
    """

    __slots__ = ("_policy", "_reader", "_sorted", "blank", "call", "key", "longest")

    def __init__(self, name: str, **query: Unpack[Query]) -> None:
        _refuse_index(query)
        watched = consul.health.watched(name, now=time.time, **query)
        age = query.get("max_heartbeat_age")
        self.call: Call[Any] = watched.call
        self.key: Key = (self.call.path, self.call.query, watched.policy, str(age))
        self.blank = ServiceSnapshot(service=name)
        self.longest = LONGEST_WAIT if age is None else seconds(age, what="max_heartbeat_age") / 2
        self._policy = None if asked_of_agent(watched.policy) is watched.policy else watched.policy
        self._sorted = "near" in query
        self._reader = None if watched.kind is None else Rereader(watched.kind, share_parts)

    @property
    def subject(self) -> str:
        return self.call.subject or self.call.name

    def read(self, reply: Reply) -> Generator[None, None, tuple[ServiceInstance, ...]]:
        if self._reader is None:
            return tuple(self.call.read(reply))
        found = yield from self._reader.read(reply)
        if self._policy is None:
            return found
        policy = self._policy
        return tuple(instance for instance in found if admits(policy, instance.standing))

    def value(self, snapshot: ServiceSnapshot) -> tuple[ServiceInstance, ...]:
        return snapshot.instances

    def same(self, before: tuple[ServiceInstance, ...], after: tuple[ServiceInstance, ...]) -> bool:
        if before is after or before == after:
            return True
        # Servers promise no order, unless one was asked for.
        return not self._sorted and len(before) == len(after) and not difference(before, after)

    def fields(self, value: tuple[ServiceInstance, ...]) -> dict[str, Any]:
        return {"instances": value}


class ServicesReading:
    """The names of all services.

    Args:
        query: narrows the search.
    """

    __slots__ = ("blank", "call", "key", "longest")

    def __init__(self, **query: Unpack[Query]) -> None:
        _refuse_index(query)
        self.call: Call[Any] = consul.catalog.services(**query)
        self.key: Key = (self.call.path, self.call.query)
        self.blank = ServicesSnapshot()
        self.longest = LONGEST_WAIT

    @property
    def subject(self) -> str:
        return self.call.subject or self.call.name

    def read(self, reply: Reply) -> Generator[None, None, dict[str, list[str]]]:
        yield
        return {name: sorted(tags) for name, tags in self.call.read(reply).items()}

    def value(self, snapshot: ServicesSnapshot) -> Mapping[str, list[str]]:
        return snapshot.services

    def same(self, before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> bool:
        return before == after

    def fields(self, value: Mapping[str, list[str]]) -> dict[str, Any]:
        return {"services": value}


def _refuse_index(query: Query) -> None:
    for option in ("index", "wait"):
        if option in query:
            raise InvalidInput(f"{option}= is the watch's own affair: leave it out")
