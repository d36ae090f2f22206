"""`/v1/health`: instances with their checks. https://developer.hashicorp.com/consul/api-docs/health"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar, Unpack, cast

from consul_access.call import Call, Reply, path
from consul_access.consul.asking import service_call
from consul_access.decoding import decode_list
from consul_access.errors import InvalidInput
from consul_access.models.instance import AllPassing, ServiceInstance, Standing
from consul_access.models.meta import Entries
from consul_access.models.query import Query, policy_of, render
from consul_access.models.status import HealthPolicy
from consul_access.rules.filtering import admits, asked_of_agent

if TYPE_CHECKING:
    from consul_access.models.catalog import Check, HealthEntry

__all__ = ["Watched", "checks", "instances", "node", "service", "state", "watched"]


class _Standing(Protocol):
    @property
    def standing(self) -> Standing: ...


class Watched(NamedTuple):
    """A question that is asked again and again.

    Args:
        call: the question.
        kind: how an entry of its answer is read; None when the answer has to be read as a whole.
        policy: what the agent cannot sort out is sorted out with this.
    """

    call: Call[Entries[ServiceInstance]]
    kind: type[ServiceInstance] | None
    policy: HealthPolicy


T = TypeVar("T", bound=_Standing)
_STATES = ("any", "passing", "warning", "critical")


def instances(
    name: str, *, now: Callable[[], float] | None = None, **query: Unpack[Query]
) -> Call[Entries[ServiceInstance]]:
    """The instances of a service that the policy admits (`passing` by default), flat.

    An unknown service and one without such instances look the same: an empty list.

    Args:
        name: the service.
        now: tells the seconds since 1970; needed for `max_heartbeat_age`.
        query: narrows the search.
    """
    policy = policy_of(query) or HealthPolicy.PASSING
    if "max_heartbeat_age" in query:
        return _flat(_heard_of(name, query, policy, now))
    return _service(name, query, policy, ServiceInstance)


def watched(name: str, *, now: Callable[[], float], **query: Unpack[Query]) -> Watched:
    """The same question as `instances`, for whoever asks it again and again and reads the answers by entry."""
    policy = policy_of(query) or HealthPolicy.PASSING
    if "max_heartbeat_age" in query:
        return Watched(_flat(_heard_of(name, query, policy, now)), None, policy)
    kind = _PASSING if policy is HealthPolicy.PASSING else ServiceInstance
    return Watched(_service(name, query, policy, ServiceInstance), kind, policy)


def service(name: str, *, now: Callable[[], float] | None = None, **query: Unpack[Query]) -> Call[Entries[HealthEntry]]:
    """The instances of a service with node and checks, whole; in any state unless a policy is given.

    Args:
        name: the service.
        now: tells the seconds since 1970; needed for `max_heartbeat_age`.
        query: narrows the search.
    """
    from consul_access.models.catalog import HealthEntry

    policy = policy_of(query) or HealthPolicy.ANY
    if "max_heartbeat_age" in query:
        return _heard_of(name, query, policy, now)
    return _service(name, query, policy, HealthEntry)


def checks(name: str, **query: Unpack[Query]) -> Call[Entries[Check]]:
    """The checks of a service's instances."""
    return _checks("health.checks", name, query)


def node(name: str, **query: Unpack[Query]) -> Call[Entries[Check]]:
    """All checks of a node and the services on it."""
    return _checks("health.node", name, query)


def state(state: str, **query: Unpack[Query]) -> Call[Entries[Check]]:
    """All checks in a state: `any`, `passing`, `warning` or `critical`; other words agents answer with nothing."""
    if state not in _STATES:
        raise InvalidInput(f"state={state!r} is unknown: write one of {', '.join(map(repr, _STATES))}")
    return _checks("health.state", state, query)


_PASSING: Final = cast("type[ServiceInstance]", AllPassing)
_CHECK_OPTIONS: Final = frozenset(Query.__annotations__) - {"policy", "tags", "meta", "max_heartbeat_age"}
_PATHS = {"health.checks": "checks", "health.node": "node", "health.state": "state"}


def _service(name: str, query: Query, policy: HealthPolicy, kind: type[T]) -> Call[Entries[T]]:
    return service_call(name, query, policy, _reader(kind, policy))


def _reader(kind: type[T], policy: HealthPolicy) -> Callable[[Reply], Entries[T]]:
    if policy is not asked_of_agent(policy):
        return partial(_admitted, kind, policy)
    if policy is HealthPolicy.PASSING and kind is ServiceInstance:
        return cast("Callable[[Reply], Entries[T]]", _read_passing)
    return partial(decode_list, kind)


def _read_passing(reply: Reply) -> Entries[ServiceInstance]:
    return decode_list(_PASSING, reply)


def _admitted(kind: type[T], policy: HealthPolicy, reply: Reply) -> Entries[T]:
    found = decode_list(kind, reply)
    kept = (entry for entry in found if admits(policy, entry.standing))
    return Entries(kept, meta=found.meta, rejected=found.rejected)


def _heard_of(
    name: str, query: Query, policy: HealthPolicy, now: Callable[[], float] | None
) -> Call[Entries[HealthEntry]]:
    """Without the instances whose last heartbeat is too old, by the clock at the moment the answer is read."""
    from consul_access.models.catalog import HealthEntry
    from consul_access.models.durations import seconds
    from consul_access.rules.heartbeats import is_too_old

    if now is None:
        raise InvalidInput("max_heartbeat_age= needs a clock to compare with: give now=time.time")
    max_age = seconds(query.get("max_heartbeat_age", 0.0), what="max_heartbeat_age")
    call = _service(name, query, policy, HealthEntry)

    def read(reply: Reply) -> Entries[HealthEntry]:
        found, moment = call.read(reply), now()
        kept = (entry for entry in found if not is_too_old(entry.checks, moment, max_age))
        return Entries(kept, meta=found.meta, rejected=found.rejected)

    return call._replace(read=read)


def _flat(call: Call[Entries[HealthEntry]]) -> Call[Entries[ServiceInstance]]:
    def read(reply: Reply) -> Entries[ServiceInstance]:
        found = call.read(reply)
        return Entries((entry.instance for entry in found), meta=found.meta, rejected=found.rejected)

    return Call(call.name, call.method, call.path, read, call.query, subject=call.subject, patience=call.patience)


def _checks(operation: str, name: str, query: Query) -> Call[Entries[Check]]:
    from consul_access.models.catalog import Check

    written = render(query, scope="checks", known=_CHECK_OPTIONS)
    return Call(
        name=operation,
        method="GET",
        path=path("v1", "health", _PATHS[operation], name),
        read=partial(decode_list, Check),
        query=written.pairs,
        subject=name,
        patience=written.patience,
    )
