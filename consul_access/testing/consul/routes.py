"""Which path is answered by what. Each endpoint is one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.dialect import Dialect
from consul_access.testing.consul.endpoints import absent, acl, catalog, checks, health, member, services, status, txn
from consul_access.testing.consul.exchange import Ask, Found, Told

__all__ = ["Endpoint", "Route", "find_route"]

Endpoint: TypeAlias = Callable[[Agent, Ask], "Told | Found"]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint.

    Args:
        answer: what answers.
        methods: the verbs that it takes.
        reads_servers: it reads what the servers hold, with an index, consistency and so on.
        scoped: a namespace could be given, if this were Consul Enterprise.
    """

    answer: Endpoint
    methods: tuple[str, ...] = ("GET",)
    reads_servers: bool = False
    scoped: bool = True


_PUT: Final = ("PUT",)
_POST: Final = ("POST",)


def _read(answer: Endpoint) -> Route:
    return Route(answer, reads_servers=True)


_EXACT: Final[dict[str, Route]] = {
    "/v1/agent/self": Route(member.about, scoped=False),
    "/v1/agent/members": Route(member.members, scoped=False),
    "/v1/agent/maintenance": Route(member.maintenance, _PUT, scoped=False),
    "/v1/agent/services": Route(services.everything),
    "/v1/agent/service/register": Route(services.register, _PUT),
    "/v1/agent/checks": Route(checks.everything),
    "/v1/agent/check/register": Route(checks.register, _PUT),
    "/v1/acl/login": Route(acl.login, _POST),
    "/v1/acl/logout": Route(acl.logout, _POST),
    "/v1/acl/policy": Route(acl.make_policy, _PUT),
    "/v1/acl/policies": Route(acl.policies),
    "/v1/acl/token": Route(acl.make_token, _PUT),
    "/v1/acl/tokens": Route(acl.tokens),
    "/v1/acl/token/self": Route(acl.own_token),
    "/v1/catalog/register": Route(catalog.register, _PUT),
    "/v1/catalog/deregister": Route(catalog.deregister, _PUT),
    "/v1/catalog/datacenters": Route(catalog.datacenters, scoped=False),
    "/v1/catalog/nodes": Route(catalog.nodes, reads_servers=True, scoped=False),
    "/v1/catalog/services": _read(catalog.services),
    "/v1/status/leader": Route(status.leader, scoped=False),
    "/v1/status/peers": Route(status.peers, scoped=False),
    "/v1/txn": Route(txn.transaction, _PUT),
}
_BELOW: Final[dict[str, Route]] = {
    "/v1/agent/service/": Route(services.one, scoped=False),
    "/v1/agent/service/deregister/": Route(services.deregister, _PUT),
    "/v1/agent/service/maintenance/": Route(services.maintenance, _PUT),
    "/v1/agent/health/service/id/": Route(services.health_of_id),
    "/v1/agent/health/service/name/": Route(services.health_of_name),
    "/v1/agent/check/deregister/": Route(checks.deregister, _PUT),
    "/v1/agent/check/pass/": Route(checks.passing, _PUT),
    "/v1/agent/check/warn/": Route(checks.warning, _PUT),
    "/v1/agent/check/fail/": Route(checks.failing, _PUT),
    "/v1/agent/check/update/": Route(checks.update, _PUT),
    "/v1/acl/policy/name/": Route(acl.policy),
    "/v1/acl/token/": Route(acl.token, ("GET", "PUT", "DELETE")),
    "/v1/catalog/service/": _read(catalog.service),
    "/v1/catalog/connect/": _read(catalog.connect),
    "/v1/catalog/node/": _read(catalog.node),
    "/v1/catalog/node-services/": _read(catalog.node_services),
    "/v1/coordinate/node/": Route(absent.coordinate),
    "/v1/health/service/": _read(health.service),
    "/v1/health/connect/": _read(health.connect),
    "/v1/health/checks/": _read(health.checks),
    "/v1/health/node/": _read(health.node),
    "/v1/health/state/": _read(health.state),
    "/v1/kv/": Route(absent.key),
}
_LONGEST_FIRST: Final = sorted(_BELOW.items(), key=lambda pair: -len(pair[0]))
_VERSION_PAGE: Final = Route(member.version, scoped=False)


def find_route(path: str, dialect: Dialect) -> tuple[Route | None, str]:
    """The endpoint of a path, and what follows the endpoint's own."""
    exact = _EXACT.get(path)
    if exact is not None:
        return exact, ""
    for prefix, route in _LONGEST_FIRST:
        if path.startswith(prefix):
            return route, path[len(prefix) :]
    if path == "/v1/agent/version" and dialect.has_version_page:
        return _VERSION_PAGE, ""
    return None, ""
