"""`/v1/catalog`: what is registered, without health. https://developer.hashicorp.com/consul/api-docs/catalog"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Unpack, cast

from pydantic import BaseModel, Field, ValidationError

from consul_access.call import Call, Repeat, Reply, json_body, path
from consul_access.decoding import AT_THE_FIRST, decode, decode_list
from consul_access.models import inputs
from consul_access.models.catalog import CatalogEntry, Node, Service
from consul_access.models.meta import Entries, QueryMeta, ServiceTags
from consul_access.models.nullable import NullAs
from consul_access.models.query import Query, render

if TYPE_CHECKING:
    from consul_access.models.external import CatalogRegistration

__all__ = ["datacenters", "deregister", "node", "node_services", "nodes", "register", "service", "services"]

_ENTRY_OPTIONS: Final = frozenset(Query.__annotations__) - {"policy", "max_heartbeat_age"}
_NODE_OPTIONS: Final = _ENTRY_OPTIONS - {"tags", "meta"}


class _NodeAndServices(BaseModel, defer_build=True):
    node: Annotated[Node, Field(alias="Node")]


class _Services(BaseModel, defer_build=True):
    services: Annotated[dict[str, Any], NullAs(dict), Field(alias="Services")]


_TAGS: Final = cast(
    "type[dict[str, list[str]]]",
    Annotated[dict[str, Annotated[list[str], AT_THE_FIRST, NullAs(list)]], NullAs(dict)],
)
_NODE_SERVICES: Final = cast("type[_Services | None]", _Services | None)
_NODE: Final = cast("type[_NodeAndServices | None]", _NodeAndServices | None)
"""`null` stands for a node that the catalog does not know (200 on 1.8 and 1.10)."""


def services(**query: Unpack[Query]) -> Call[ServiceTags]:
    """The names of all services, each with the tags in use; no `filter`, which Consul 1.8 and 1.10 ignore here."""
    written = render(query, scope="catalog", known=_NODE_OPTIONS - {"filter"})
    return Call(
        name="catalog.services",
        method="GET",
        path="/v1/catalog/services",
        read=_read_tags,
        query=written.pairs,
        patience=written.patience,
    )


def service(name: str, **query: Unpack[Query]) -> Call[Entries[CatalogEntry]]:
    """The instances of a service, healthy or not; an unknown service has none."""
    written = render(query, scope="catalog", known=_ENTRY_OPTIONS)
    return Call(
        name="catalog.service",
        method="GET",
        path=path("v1", "catalog", "service", name),
        read=partial(decode_list, CatalogEntry),
        query=written.pairs,
        subject=name,
        patience=written.patience,
    )


def nodes(**query: Unpack[Query]) -> Call[Entries[Node]]:
    """All nodes."""
    written = render(query, scope="nodes", known=_NODE_OPTIONS)
    return Call(
        name="catalog.nodes",
        method="GET",
        path="/v1/catalog/nodes",
        read=partial(decode_list, Node),
        query=written.pairs,
        patience=written.patience,
    )


def node(name: str, **query: Unpack[Query]) -> Call[Node | None]:
    """One node, or None when the catalog does not know it."""
    written = render(query, scope="nodes", known=_NODE_OPTIONS - {"filter"})
    return Call(
        name="catalog.node",
        method="GET",
        path=path("v1", "catalog", "node", name),
        read=_read_node,
        query=written.pairs,
        subject=name,
        patience=written.patience,
    )


def node_services(name: str, **query: Unpack[Query]) -> Call[dict[str, Service | None] | None]:
    """The services on a node by id, one that cannot be read as None; None when the catalog does not know the node."""
    written = render(query, scope="nodes", known=_NODE_OPTIONS - {"filter"})
    return Call(
        name="catalog.node_services",
        method="GET",
        path=path("v1", "catalog", "node", name),
        read=_read_node_services,
        query=written.pairs,
        subject=name,
        patience=written.patience,
    )


def datacenters() -> Call[list[str]]:
    """The datacenters, the nearest first."""
    return Call(
        name="catalog.datacenters", method="GET", path="/v1/catalog/datacenters", read=partial(decode, list[str])
    )


def register(registration: CatalogRegistration) -> Call[None]:
    """Writes a node's service, its checks, or both. On a node that an agent owns, the agent removes it again.

    Args:
        registration: what to write.
    """
    return Call(
        name="catalog.register",
        method="PUT",
        path="/v1/catalog/register",
        body=json_body(registration.payload()),
        repeat=Repeat.IDEMPOTENT,
        read=_nothing,
        subject=registration.service.id if registration.service is not None else registration.node,
    )


def deregister(node: str, service_id: str | None = None, *, check_id: str | None = None) -> Call[None]:
    """Removes a service with its checks, or one check, from the catalog; what is not there is no error.

    An agent that holds the service brings it back (after 58 to 70 s, observed).

    Args:
        node: the node it is on.
        service_id: the service.
        check_id: instead of a service, a check.
    """
    body = {"Node": inputs.identifier(node, "node")}
    if check_id is not None:
        body["CheckID"] = inputs.identifier(check_id, "check_id")
    else:
        body["ServiceID"] = inputs.identifier(service_id or "", "service_id")  # without one the whole node would go
    return Call(
        name="catalog.deregister",
        method="PUT",
        path="/v1/catalog/deregister",
        body=json_body(body),
        repeat=Repeat.IDEMPOTENT,
        read=_nothing,
        subject=service_id or check_id or "",
    )


def _nothing(_: Reply) -> None:
    """Writes answer `true`, also when they change nothing."""


def _read_tags(reply: Reply) -> ServiceTags:
    return ServiceTags(decode(_TAGS, reply), meta=QueryMeta(reply.headers))


def _read_node(reply: Reply) -> Node | None:
    found = decode(_NODE, reply)
    return None if found is None else found.node


def _read_node_services(reply: Reply) -> dict[str, Service | None] | None:
    found = decode(_NODE_SERVICES, reply)
    if found is None:
        return None
    services: dict[str, Service | None] = {}
    for service_id, told in found.services.items():
        try:
            services[service_id] = Service.model_validate(told)
        except ValidationError:
            services[service_id] = None
    return services
