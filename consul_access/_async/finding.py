"""Finding services: the half of the client that asks who is there. Nothing here changes anything."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Unpack
from warnings import warn

from consul_access import consul
from consul_access._async.sending import AsyncSending
from consul_access._async.transport import AsyncTransport
from consul_access.errors import NoInstances
from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance
from consul_access.models.meta import Entries, ServiceTags
from consul_access.models.query import Query
from consul_access.rules.balancing import Balancer, balancer_named

if TYPE_CHECKING:
    from consul_access.models.catalog import CatalogEntry, HealthEntry

__all__ = ["AsyncFinding"]

log = logging.getLogger("consul_access")


class AsyncFinding(AsyncSending):
    """The look-ups of a client."""

    def __init__(self, transport: AsyncTransport) -> None:
        super().__init__(transport)
        self._random = random.Random()  # noqa: S311 - it spreads calls, it guards nothing

    async def search_service(self, name: str, **query: Unpack[Query]) -> list[Address]:
        """The addresses of a service's instances, healthy ones by default.

        Args:
            name: the service.
            query: narrows the search; see `Query`.

        Returns:
            One `Address` an instance, none when there is no such instance. An instance that has registered no port
            has no address to call; it is left out, and the log says so.
        """
        found = []
        for instance in await self.instances(name, **query):
            if instance.port:
                found.append(instance.address)
            else:
                log.warning("%s of service %r has no port and is left out", instance.id, name)
        return found

    async def serach_service(self, name: str, **query: Unpack[Query]) -> list[Address]:
        """The misspelt name that `search_service` once had."""
        warn("serach_service is now spelt search_service", DeprecationWarning, stacklevel=2)
        return await self.search_service(name, **query)

    async def resolve(
        self, name: str, *, balancer: str | Balancer = "random", key: str | None = None, **query: Unpack[Query]
    ) -> Address:
        """The address of one instance.

        Args:
            name: the service.
            balancer: how to choose: a name (`random`, `weighted`, `sticky`, ...), or a `Balancer`, which then remembers
                from one call to the next.
            key: what a `sticky` balancer sticks to, such as a user's id.
            query: narrows the search; see `Query`.

        Raises:
            NoInstances: no instance fits.
        """
        choose = balancer_named(balancer, self._random) if isinstance(balancer, str) else balancer
        found = await self.instances(name, **query)
        callable_ones = tuple(instance for instance in found if instance.is_callable)
        if not callable_ones:
            raise NoInstances(_nobody(name, len(found), query), operation="health.service")
        return choose.prepare(callable_ones)(key).address

    async def instances(self, name: str, **query: Unpack[Query]) -> Entries[ServiceInstance]:
        """The instances of a service that the health policy admits; `passing` by default.

        Args:
            name: the service.
            query: narrows the search; see `Query`.

        Returns:
            A list, with the registry's `meta` (index, age, ...) and the number of entries `rejected` as unusable.
        """
        return await self._transport.send(consul.health.instances(name, **query))

    async def health(self, name: str, **query: Unpack[Query]) -> Entries[HealthEntry]:
        """The instances of a service with their node and all their checks, in whatever state unless a policy is given.

        Args:
            name: the service.
            query: narrows the search; see `Query`.
        """
        return await self._transport.send(consul.health.service(name, **query))

    async def catalog(self, name: str, **query: Unpack[Query]) -> Entries[CatalogEntry]:
        """The instances of a service as the catalog holds them, healthy or not.

        Args:
            name: the service.
            query: narrows the search; see `Query`. The catalog knows no health, so a policy is refused.
        """
        return await self._transport.send(consul.catalog.service(name, **query))

    async def services(self, **query: Unpack[Query]) -> ServiceTags:
        """The names of all services, each with the tags its instances carry."""
        return await self._transport.send(consul.catalog.services(**query))


def _nobody(name: str, unusable: int, query: Query) -> str:
    if unusable:
        return f"all {unusable} instances of {name!r} have registered no port or no address that can be called"
    policy = query.get("policy", "passing")
    narrowed = ", ".join(f"{key}={value!r}" for key, value in query.items() if key != "policy")
    return (
        f"no instance of {name!r} (policy {str(policy)!r}{', ' + narrowed if narrowed else ''}); "
        f"either it is not registered, or none is in that state: instances({name!r}, policy='any') shows all"
    )
