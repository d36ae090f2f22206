"""Finding services: the half of the client that asks who is there. Nothing here changes anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Unpack
from warnings import warn

from consul_access import consul
from consul_access._async.sending import AsyncSending
from consul_access._async.transport import AsyncTransport
from consul_access.errors import InvalidInput
from consul_access.models.address import Address
from consul_access.models.meta import Entries, ServiceTags
from consul_access.models.query import Query
from consul_access.rules.choosing import addresses_of, one_of

if TYPE_CHECKING:
    import os
    import random
    from collections.abc import Awaitable

    from consul_access._async.resolver import AsyncResolver
    from consul_access._async.watching import AsyncCaller, AsyncEngine, AsyncWatch
    from consul_access.disk import Shelf
    from consul_access.models.catalog import CatalogEntry, HealthEntry
    from consul_access.models.durations import Duration
    from consul_access.models.explanation import Explanation
    from consul_access.models.instance import ServiceInstance
    from consul_access.models.progress import Progress
    from consul_access.models.snapshot import ServiceSnapshot, ServicesSnapshot
    from consul_access.rules.balancing import Balancer
    from consul_access.rules.staleness import StalePolicy

__all__ = ["AsyncFinding"]


class AsyncFinding(AsyncSending):
    """The look-ups of a client."""

    def __init__(self, transport: AsyncTransport) -> None:
        super().__init__(transport)
        self._engine: AsyncEngine | None = None
        self._has_searched = False

    @cached_property
    def _random(self) -> random.Random:
        import random  # most look-ups throw no dice

        return random.Random()  # noqa: S311 - it spreads calls, it guards nothing

    async def search_service(self, name: str, **query: Unpack[Query]) -> list[Address]:
        """The addresses of a service's instances, healthy ones by default.

        Args:
            name: the service.
            query: narrows the search; see `Query`.

        Returns:
            One `Address` an instance, none when there is no such instance. An instance that has registered no port,
            or no address that can be called, is left out, and the log says so.
        """
        if not self._has_searched:  # many a program searches once
            self._has_searched = True
            return await self._transport.send(consul.plain.addresses(name, now=time.time, **query))
        return addresses_of(await self.instances(name, **query), name)

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
            InvalidInput: the query cannot be right, or there is no such balancer.
        """
        found = await self.instances(name, **query)
        return one_of(found, name, query, balancer=balancer, key=key, dice=self._random)

    async def instances(self, name: str, **query: Unpack[Query]) -> Entries[ServiceInstance]:
        """The instances of a service that the health policy admits; `passing` by default.

        Args:
            name: the service.
            query: narrows the search; see `Query`.

        Returns:
            A list, with the registry's `meta` (index, age, ...) and the number of entries `rejected` as unusable.
        """
        return await self._transport.send(consul.health.instances(name, now=time.time, **query))

    async def health(self, name: str, **query: Unpack[Query]) -> Entries[HealthEntry]:
        """The instances of a service with their node and all their checks, in whatever state unless a policy is given.

        Args:
            name: the service.
            query: narrows the search; see `Query`.
        """
        return await self._transport.send(consul.health.service(name, now=time.time, **query))

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

    # --- waiting for them, and asking why they are not there ----------------------------------------------

    async def wait_for(
        self,
        name: str,
        *,
        at_least: int = 1,
        timeout: Duration = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
        **query: Unpack[Query],
    ) -> Entries[ServiceInstance]:
        """Waits until enough instances of a service are there, for instance at start-up.

        While the agent is away, the servers have no leader, or the token is not known yet, it goes on until the time
        is up. A change is seen within milliseconds, by a blocking query.

        Args:
            name: the service.
            at_least: how many instances the health policy has to admit; 1 by default.
            timeout: seconds (or `1m30s`, or a timedelta) for all of it; 30 by default. It is kept to about 0.1 s.
            on_progress: called with a `Progress` whenever there is something new to tell. With `AsyncConsulAccess` it
                may be async. What it raises ends the wait.
            query: narrows the search; see `Query`. `index` and `wait` are the wait's own.

        Returns:
            The list that `instances(name, **query)` gives.

        Raises:
            NotReady: the time is up; its text and its `progress` say what was seen last.
            InvalidInput: an argument cannot be right; nothing was sent.
            FilterError: the filter is refused. This and other errors that waiting cannot mend are raised at once.
        """
        found = await self.wait_for_all({name: at_least}, timeout=timeout, on_progress=on_progress, **query)
        return found[name]

    async def wait_for_all(
        self,
        services: Mapping[str, int] | Iterable[str],
        *,
        timeout: Duration = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
        **query: Unpack[Query],
    ) -> dict[str, Entries[ServiceInstance]]:
        """Waits until enough instances of each of several services are there; see `wait_for`.

        Args:
            services: their names, or how many instances of which: `{"orders": 1, "payments": 2}`.
            timeout: seconds for all of them together.
            on_progress: called with each service's own `Progress`.
            query: narrows the search for all of them.

        Returns:
            The instances, by service.
        """
        from consul_access._async.waiting import AsyncWait

        return await AsyncWait(self._transport, services, query, timeout, on_progress).run()

    async def explain(self, name_or_id: str, **query: Unpack[Query]) -> Explanation:
        """Why a service is found by look-ups, or is not.

        It reads what the agent holds and what the catalog holds, and compares both with what a look-up with these
        options gives. What cannot be read (an agent that is away, a token without permission) is a finding, not an
        error.

        Args:
            name_or_id: a service's name, or the id of one instance.
            query: the options of the look-up that is to be explained; see `Query`.

        Returns:
            An `Explanation`; `print` it for a page that a person can read.

        Raises:
            InvalidInput: an argument cannot be right; nothing was sent.
        """
        from consul_access._async.explaining import AsyncInquiry

        return await AsyncInquiry(self._transport, name_or_id, query).run()

    # --- following ----------------------------------------------------------------------------------------

    def watch(
        self, name: str | Iterable[str], *, raise_errors: bool = False, **query: Unpack[Query]
    ) -> AsyncWatch[ServiceSnapshot]:
        """Follows a service, or several: an iterator that gives a snapshot at first and after every change.

        Args:
            name: the service, or several of them; each snapshot says whose it is.
            raise_errors: ends with the error when the registry cannot be asked, or refuses. By default it goes on for
                ever: the list stays as it was, and a snapshot says that it is stale, and why.
            query: narrows the search; see `Query`. How long the agent waits is the watch's own affair.

        Returns:
            An iterator that ends with its `close()` and with the client's, at once, whatever it is waiting for.

        Raises:
            InvalidInput: the query cannot be right.

        An empty list after a longer one is confirmed before it is given, and not believed for two minutes when the
        registry has lost its index as well. https://developer.hashicorp.com/consul/api-docs/features/blocking
        """
        from consul_access._async.watching import AsyncWatch
        from consul_access._live.reading import InstancesReading

        names = (name,) if isinstance(name, str) else tuple(name)
        readings = [InstancesReading(each, **query) for each in names]
        if not readings:
            raise InvalidInput("there is no service to watch: give at least one name")
        return AsyncWatch(self._watching(), readings, raise_errors=raise_errors)

    def watch_services(self, *, raise_errors: bool = False, **query: Unpack[Query]) -> AsyncWatch[ServicesSnapshot]:
        """Follows the list of all services' names, as `watch` does with the instances of one.

        Args:
            raise_errors: ends with the error when the registry cannot be asked.
            query: `datacenter`, `node_meta` and the like; see `Query`.
        """
        from consul_access._async.watching import AsyncWatch
        from consul_access._live.reading import ServicesReading

        return AsyncWatch(self._watching(), [ServicesReading(**query)], raise_errors=raise_errors)

    def on_change(
        self,
        name: str | Iterable[str],
        function: Callable[[ServiceSnapshot], Awaitable[object] | object],
        **query: Unpack[Query],
    ) -> AsyncCaller:
        """Calls a function with a service's snapshot, now and after every change, in a thread or task of its own.

        Args:
            name: the service, or several of them.
            function: what is called; if it raises, the log says so, and it is called with the next one all the same.
            query: narrows the search; see `Query`.

        Returns:
            Its `stop()` ends that; so does the end of the client.
        """
        from consul_access._async.watching import AsyncCaller

        return AsyncCaller(self.watch(name, **query), function)

    def resolver(
        self,
        name: str,
        *,
        balancer: str | Balancer = "round_robin",
        stale: StalePolicy | None = None,
        disk: str | os.PathLike[str] | None = None,
        **query: Unpack[Query],
    ) -> AsyncResolver:
        """A local list of a service's instances that follows every change; picking from it asks nobody.

        Args:
            name: the service.
            balancer: how to choose: a name (`round_robin`, `weighted`, `sticky`, ...), or a `Balancer` of its own.
            stale: for how long a list is used that the registry cannot confirm; for ever by default.
            disk: a folder to keep the list in, for the next process that starts while the registry is away. It is
                used only until the registry answers, is as old as it is, and can be read by this user alone.
            query: narrows the search; see `Query`.

        Returns:
            A context manager; `pick()` chooses an instance. All resolvers and watches of a client share one
            background thread or task, and one blocking query for each (service, query).

        Raises:
            InvalidInput: the query cannot be right, or there is no such balancer.
        """
        from consul_access._async.resolver import AsyncResolver
        from consul_access._live.reading import InstancesReading
        from consul_access.rules.balancing import balancer_named
        from consul_access.rules.staleness import StalePolicy

        choose = balancer_named(balancer, self._random) if isinstance(balancer, str) else balancer
        reading = InstancesReading(name, **query)
        shelf = None if disk is None else self._shelf(disk, name, reading.key)
        return AsyncResolver(
            self._watching(),
            reading,
            balancer=choose,
            stale=stale or StalePolicy(),
            shelf=shelf,
            observers=self._observers,
        )

    def _shelf(self, folder: str | os.PathLike[str], name: str, key: object) -> Shelf:
        from consul_access.disk import Clocks, Shelf

        settings = self.settings
        scope = (settings.datacenter, settings.namespace, settings.partition)
        return Shelf(folder, name, (key, scope), Clocks(time.time, time.monotonic))

    def _watching(self) -> AsyncEngine:
        if self._engine is None:
            from consul_access._async.watching import AsyncEngine
            from consul_access._live.making import make_hub

            transport = self._transport
            self._engine = AsyncEngine(lambda: make_hub(transport.consul_settings, transport.given, transport.tell))
        return self._engine
