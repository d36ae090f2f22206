"""What is asked again and again, and how its answers become snapshots."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar, Unpack

from consul_access import consul
from consul_access.call import Call, Reply
from consul_access.decoding import Rereader
from consul_access.errors import InvalidInput
from consul_access.models.durations import seconds
from consul_access.models.instance import ServiceInstance, share_parts
from consul_access.models.query import LONGEST_WAIT, Query
from consul_access.models.snapshot import ServiceSnapshot, ServicesSnapshot
from consul_access.models.status import HealthPolicy
from consul_access.rules.comparing import difference
from consul_access.rules.filtering import admits, asked_of_agent
from consul_access.wire import WireAnswer

__all__ = ["InstancesReading", "Key", "OfInstances", "OfServices", "Reading", "ServicesReading", "Snapping"]

S = TypeVar("S", ServiceSnapshot, ServicesSnapshot)

AT_ONCE: Final = 64 * 1024
"""Bytes of an answer that may be read without a pause."""
T = TypeVar("T")
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

    def confirmed(self, value: Any, index: int | None, answered_at: float, *, shared: bool, reason: str) -> S:
        """The snapshot of a value that the registry has just given."""
        ...


class Reading(Snapping[S], Protocol):
    """One question to Consul: how it is put, and how its answers are read."""

    call: Call[Any]
    longest: float
    """Seconds that the server may wait at most."""

    def read(self, reply: Reply) -> Generator[None, None, object]:
        """The answer's value, in small steps."""
        ...

    def read_at_once(self, _answer: WireAnswer, /) -> object:
        """The value of an answer that has just come, or None for one that should be read in steps."""
        ...


class OfInstances:
    """What snapshots of instances have in common, whatever the registry."""

    __slots__ = ()

    blank: ServiceSnapshot

    def value(self, snapshot: ServiceSnapshot) -> tuple[ServiceInstance, ...]:
        return snapshot.instances

    def confirmed(
        self, value: tuple[ServiceInstance, ...], index: int | None, answered_at: float, *, shared: bool, reason: str
    ) -> ServiceSnapshot:
        return ServiceSnapshot(
            service=self.blank.service,
            instances=value,
            index=index,
            source="live",
            answered_at=answered_at,
            shared=shared,
            reason=reason,
        )


class InstancesReading(OfInstances):
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
        return found if self._policy is None else self._admitted(self._policy, found)

    def _admitted(self, policy: HealthPolicy, found: tuple[ServiceInstance, ...]) -> tuple[ServiceInstance, ...]:
        return tuple(instance for instance in found if admits(policy, instance.standing))

    def read_at_once(self, answer: WireAnswer) -> tuple[ServiceInstance, ...] | None:
        if self._reader is None or len(answer.body) > AT_ONCE:
            return None
        found = self._reader.read_short(answer.body)
        if found is None:
            found = _exhausted(self._reader.read(Reply(200, answer.headers, answer.body)))
        return found if self._policy is None else self._admitted(self._policy, found)

    def same(self, before: tuple[ServiceInstance, ...], after: tuple[ServiceInstance, ...]) -> bool:
        if before is after or before == after:
            return True
        if self._sorted or len(before) != len(after) or len(before) < 2:
            return False
        return not difference(before, after)  # servers promise no order, unless one was asked for


class OfServices:
    """What snapshots of all services' names have in common, whatever the registry."""

    __slots__ = ()

    def value(self, snapshot: ServicesSnapshot) -> Mapping[str, list[str]]:
        return snapshot.services

    def same(self, before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> bool:
        return before == after

    def confirmed(
        self, value: Mapping[str, list[str]], index: int | None, answered_at: float, *, shared: bool, reason: str
    ) -> ServicesSnapshot:
        return ServicesSnapshot(
            services=value, index=index, source="live", answered_at=answered_at, shared=shared, reason=reason
        )


class ServicesReading(OfServices):
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

    def read_at_once(self, _answer: WireAnswer) -> None:
        return None


def _exhausted(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def _refuse_index(query: Query) -> None:
    for option in ("index", "wait"):
        if option in query:
            raise InvalidInput(f"{option}= is the watch's own affair: leave it out")
