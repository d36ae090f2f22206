"""The options of a look-up, and how they are written on the request line.

Source: https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service and the pages on
blocking queries, consistency and agent caching there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict, cast

from consul_access.errors import InvalidInput
from consul_access.models.status import HealthPolicy, health_policy

if TYPE_CHECKING:
    from consul_access.models.durations import Duration
    from consul_access.models.filters import Filter, Meta, Scope

__all__ = ["Query", "RegistryQuery", "Rendered", "render"]

DEFAULT_WAIT: Final = 55.0
LONGEST_WAIT: Final = 600.0
_SHORTEST_WAIT: Final = 0.001
_CONSISTENCIES: Final = ("default", "stale", "consistent")


class RegistryQuery(TypedDict, total=False):
    """The options of a look-up that every registry has; all of them can be left out."""

    policy: HealthPolicy | str
    """Which instances are good enough: `passing` (the default), `passing_or_warning`, `service_checks_only`, `any`."""
    tags: str | Iterable[str]
    """Only instances with all of these tags."""
    meta: Mapping[str, str]
    """Only instances whose meta holds all of these."""
    consistency: Literal["default", "stale", "consistent"]
    """`stale` lets any server answer; `consistent` has the leader confirm that it leads (etcd always does)."""


class Query(RegistryQuery, total=False):
    """The options of a look-up; all of them can be left out."""

    filter: str | Filter
    """Only instances that fit this expression; build it with `F`."""
    near: str
    """The node to sort by distance from; `_agent` for the asked one's."""
    datacenter: str
    """Another datacenter than the client's."""
    node_meta: Mapping[str, str]
    """Only instances on nodes whose meta holds all of these."""
    cached: bool
    """Lets the agent answer from its cache."""
    index: int
    """Waits until the registry's index has passed this one (`entries.meta.index`)."""
    wait: Duration
    """How long to wait for that: seconds, `1m30s` or a timedelta; at most 10 minutes; 55 s by default."""
    max_heartbeat_age: Duration
    """Leaves out instances that report a heartbeat (`registered(mode="catalog")`) and whose last one is older: seconds,
    `1m30s` or a timedelta, by this machine's clock. Instances without a heartbeat are not touched."""
    namespace: str
    """Consul Enterprise."""
    partition: str
    """Consul Enterprise."""


class Rendered(NamedTuple):
    """A query, written.

    Args:
        pairs: for the request line.
        patience: seconds that the server may take on purpose.
    """

    pairs: tuple[tuple[str, str | None], ...] = ()
    patience: float = 0.0


_NOTHING: Final = Rendered()
_PLAIN: Final = {HealthPolicy.ANY: _NOTHING, HealthPolicy.PASSING: Rendered((("passing", "1"),))}


def render(
    query: Query, *, scope: Scope, policy: HealthPolicy = HealthPolicy.ANY, known: frozenset[str] | None = None
) -> Rendered:
    """Writes a query.

    Args:
        query: the options.
        scope: which answer is filtered.
        policy: the health policy in force; the option itself is read by the caller.
        known: the options that this look-up has; all of them by default.

    Raises:
        InvalidInput: an option is unknown, cannot be right, or contradicts another. Agents ignore most such mistakes.
    """
    if not query and policy in _PLAIN:
        return _PLAIN[policy]
    _refuse_unknown(query, known)
    pairs: list[tuple[str, str | None]] = []
    if policy is HealthPolicy.PASSING:
        pairs.append(("passing", "1"))
    pairs += [("tag", tag) for tag in _texts("tags", query.get("tags", ()))]
    if scope != "health":
        pairs += [("node-meta", f"{_node_key(key)}:{value}") for key, value in _pairs("node_meta", query)]
    pairs += [
        (name, _text(option, value)) for option, name in _PASSED_ON.items() if (value := query.get(option)) is not None
    ]
    pairs += _consistency(query)
    expression = _filter(query, scope, policy)
    if expression:
        pairs.append(("filter", expression))
    waiting = _waiting(query)
    return Rendered((*pairs, *waiting.pairs), waiting.patience)


_PASSED_ON: Final[dict[Literal["near", "datacenter", "namespace", "partition"], str]] = {
    "near": "near",
    "datacenter": "dc",
    "namespace": "ns",
    "partition": "partition",
}


def policy_of(query: Query) -> HealthPolicy | None:
    """The policy that a query names, if any."""
    return health_policy(query["policy"]) if "policy" in query else None


def _refuse_unknown(query: Query, known: frozenset[str] | None) -> None:
    for option in query:
        if option not in Query.__annotations__:
            raise InvalidInput(f"{option}= is no option of a look-up; there are {', '.join(Query.__annotations__)}")
        if known is not None and option not in known:
            raise InvalidInput(f"{option}= means nothing for this look-up; it has {', '.join(sorted(known))}")


def _text(option: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{option}={value!r} must be a text that is not empty")
    return value


def _texts(option: str, value: str | Iterable[str]) -> list[str]:
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise InvalidInput(f"{option}={value!r} must be a text or a list of texts")
    return [_text(option, item) for item in ([value] if isinstance(value, str) else value)]


def _pairs(option: Literal["meta", "node_meta"], query: Query) -> Iterable[tuple[str, str]]:
    given: object = query.get(option, {})
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{option}={given!r} must be texts by name, such as {{'version': '2'}}")
    for key, value in given.items():
        if not isinstance(value, str):
            raise InvalidInput(
                f"{option}={{{key!r}: {value!r}}}: the registry's meta holds texts only, so compare with one"
            )
        yield _text(option, key), value


def _node_key(key: str) -> str:
    if ":" in key:
        raise InvalidInput(f"node_meta={{{key!r}: ...}}: a key with ':' cannot be asked for, agents would cut it there")
    return key


def _consistency(query: Query) -> list[tuple[str, str | None]]:
    consistency = query.get("consistency", "default")
    if consistency not in _CONSISTENCIES:
        raise InvalidInput(
            f"consistency={consistency!r} is unknown: write one of {', '.join(map(repr, _CONSISTENCIES))}"
        )
    cached = query.get("cached", False)
    if cached and consistency == "consistent":
        raise InvalidInput(
            "cached=True and consistency='consistent' contradict each other; agents refuse them together"
        )
    flags = [consistency] if consistency != "default" else []
    return [(flag, None) for flag in (*flags, *(["cached"] if cached else []))]


_FILTERING: Final = frozenset({"filter", "meta", "node_meta"})


def _filter(query: Query, scope: Scope, policy: HealthPolicy) -> str:
    if policy is not HealthPolicy.PASSING_OR_WARNING and not _FILTERING.intersection(query):
        return ""
    from consul_access.models.filters import F, Filter  # a first look-up must stay light

    parts = _fields("meta", F.service.meta, query, scope)
    if scope == "health":
        # From 1.10 on an agent answers whoever asks again from a view that takes `node-meta` for "contains", and fails
        # at a key with a hyphen (agent/rpcclient/health/view.go); a filter means the same everywhere.
        parts += _fields("node_meta", F.node.meta, query, scope)
    if policy is HealthPolicy.PASSING_OR_WARNING:
        parts.append(F.no_check(status="critical").render(scope))
    given = query.get("filter")
    if given is not None:
        parts.append(given.render(scope) if isinstance(given, Filter) else _text("filter", given))
    return parts[0] if len(parts) == 1 else " and ".join(f"({part})" for part in parts)


def _fields(option: Literal["meta", "node_meta"], field: Meta, query: Query, scope: Scope) -> list[str]:
    """What these texts by name come to as an expression; none without any."""
    wanted = [field[key] == value for key, value in _pairs(option, query)]
    return [reduce(and_, wanted).render(scope)] if wanted else []


def _waiting(query: Query) -> Rendered:
    if "index" not in query and "wait" not in query:
        return _NOTHING
    from consul_access.models.durations import go_duration, seconds  # as above

    index = cast("object", query.get("index", 0))
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 2**64:
        raise InvalidInput(f"index={index!r} is none that a registry gives: pass entries.meta.index, or 0 for at once")
    wait = seconds(query.get("wait", DEFAULT_WAIT), what="wait")
    if wait > LONGEST_WAIT:
        raise InvalidInput(f"wait={query.get('wait')!r} is longer than agents wait: at most 10 minutes")
    wait = max(wait, _SHORTEST_WAIT)  # "0s" would mean the agent's default of 5 minutes
    # Agents add up to a sixteenth, so that not all clients come back at once.
    return Rendered((("index", str(index)), ("wait", go_duration(wait, what="wait"))), wait * 17 / 16 + 5.0)
