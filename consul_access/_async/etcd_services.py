"""Services at etcd: the half of the client that announces and finds them. Keys are the other half (`etcd.py`)."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from consul_access._async.gateway import AsyncGateway
from consul_access._async.keys import AsyncKeyReader
from consul_access._async.observed import AsyncObserved
from consul_access.call import Repeat
from consul_access.errors import InvalidInput
from consul_access.etcd import kv, leases
from consul_access.etcd.codecs import codec_named
from consul_access.etcd.holdings import read_instances, tags_in_use
from consul_access.models import inputs
from consul_access.models.address import Address, Target
from consul_access.models.instance import ServiceInstance
from consul_access.models.meta import Entries, ServiceTags
from consul_access.models.query import RegistryQuery
from consul_access.rules.choosing import addresses_of, one_of
from consul_access.rules.selecting import Selection
from consul_access.rules.write_guard import refuse_kubernetes

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from consul_access._async.gathering import AsyncGathering
    from consul_access._async.keeper import AsyncKeeper
    from consul_access._async.key_listing import AsyncKeyListing
    from consul_access._async.place import AsyncPlace, Teller
    from consul_access._async.resolver import AsyncResolver
    from consul_access._async.watching import AsyncCaller, AsyncEngine, AsyncWatch
    from consul_access.disk import Shelf
    from consul_access.etcd.settings import EtcdSettings
    from consul_access.models.catalog import Weights
    from consul_access.models.definition import ServiceDefinition
    from consul_access.models.durations import Duration
    from consul_access.models.explanation import Explanation
    from consul_access.models.keys import KeyValue
    from consul_access.models.listening import Listening
    from consul_access.models.progress import Progress
    from consul_access.models.snapshot import ServiceSnapshot, ServicesSnapshot
    from consul_access.models.sync import SyncRules
    from consul_access.rules.balancing import Balancer
    from consul_access.rules.keeping import KeeperEvent
    from consul_access.rules.staleness import StalePolicy

__all__ = ["AsyncEtcdServices"]

LINGER_EACH = 0.00003
"""Seconds that a heartbeat waits for others, for each registration of the client: with a thousand 30 ms."""
LONGEST_LINGER = 0.05


class AsyncEtcdServices(AsyncObserved):
    """The services of a client.

    Args:
        gateway: what calls are sent with.
        settings: where and how services are written.
    """

    def __init__(self, gateway: AsyncGateway, settings: EtcdSettings) -> None:
        super().__init__()
        self._gateway = gateway
        self._reader = AsyncKeyReader(gateway)
        self.settings = settings
        self._codec = codec_named(settings.codec)
        self._random = random.Random()  # noqa: S311 - it spreads calls, it guards nothing
        self._engine: AsyncEngine | None = None
        self._gathered_in = 0
        self._gathered: tuple[AsyncGathering[int, int | None], AsyncGathering[bytes, KeyValue | None]] | None = None

    # --- announcing ---------------------------------------------------------------------------------------

    async def register_service(
        self,
        name: str,
        address: str | None = None,
        port: int | Listening | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the registry's own word
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
        environment_meta: bool = False,
        ports: Mapping[str, int] | None = None,
        weights: Weights | None = None,
    ) -> AsyncKeeper:
        """Registers a service and keeps it registered in the background, until it is deregistered or the client closed.

        etcd has no agent that would look after a service, so this is `registered(...)`, begun.

        Args:
            name: the service.
            address: where it can be reached: an IP address or a host name. By default CONSUL_ACCESS_ADVERTISE or
                POD_IP; the address that the given socket listens at, unless that is every address; else the local
                address that the way to etcd starts from, unless that is this machine only.
            port: 1 to 65535; or the bound socket, or a server that has one, to read it from.
            id: unique among the service's instances; the same id replaces the registration. By default
                `<service>-<pod or host name>-<port>`, which a restart keeps.
            tags: any texts.
            meta: up to 64 pairs; keys of A-Z a-z 0-9 - _, values up to 512 bytes.
            environment_meta: adds `pod_name`, `pod_namespace` and `node_name` from POD_NAME, POD_NAMESPACE and
                NODE_NAME, as far as they are set.
            ports: further ports by name, instead of `port`; the first is the default one.
            weights: how large a share of the calls it should get, by state.

        Returns:
            A keeper, whose `deregister()` ends the registration; also a context manager.

        Raises:
            InvalidInput: an argument cannot be right, or the keys belong to Kubernetes; nothing was sent.
            Unavailable: etcd does not answer; nothing is kept.
        """
        keeper = self.registered(
            name,
            address,
            port,
            id=id,
            tags=tags,
            meta=meta,
            environment_meta=environment_meta,
            ports=ports,
            weights=weights,
        )
        await keeper.start()
        # Two that keep one key would take it from each other for ever; the end of the earlier lease leaves it alone.
        for earlier in [one for one in self._kept if one is not keeper and (one.name, one.id) == (name, keeper.id)]:
            await earlier.stop(hurry=True)
        return keeper

    def registered(
        self,
        name: str,
        address: str | None = None,
        port: int | Listening | None = None,
        *,
        drain: float = 0.0,
        stop_timeout: float = 5.0,
        health: Callable[[], object] | None = None,
        on_event: Callable[[KeeperEvent], object] | None = None,
        fail_fast: bool = True,
        id: str | None = None,  # noqa: A002 - the registry's own word
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
        environment_meta: bool = False,
        ports: Mapping[str, int] | None = None,
        weights: Weights | None = None,
    ) -> AsyncKeeper:
        """Registers a service and keeps it registered until the block ends, whatever happens to etcd.

        Its key is under a lease of its own, which is kept alive at a third of its time. When the lease has ended, or
        the key is gone or not ours any more, it is granted and written again, for ever. On every way out (the block's
        end, an exception, SIGTERM, the interpreter's end) the lease is revoked once; a process that is killed is gone
        after the client's `ttl`.

        Args:
            drain: seconds between the service's disappearance from every look-up and its deregistration, in which it
                should still answer; 0 by default.
            stop_timeout: seconds that the end may take besides, also when etcd is down.
            health: asked before each heartbeat, plain or async; answers None or True (passing), False (critical), a
                status, or a pair of that and a text. One that raises or hangs counts as critical.
            on_event: called with a `KeeperEvent` at each change.
            fail_fast: False begins also while etcd does not answer, and registers as soon as it does.

        The others are those of `register_service`.

        Returns:
            A context manager; also `start` and `stop`, with `state`, `last_ok`, `misses` and `re_registrations`.

        Raises:
            InvalidInput: an argument cannot be right. The rest is raised when the block begins.
        """
        from consul_access._async.defining import defined
        from consul_access._async.keeper import AsyncKeeper
        from consul_access.models.checks import TtlCheck

        for what, value in (("drain", drain), ("stop_timeout", stop_timeout)):
            if not 0 <= value < float("inf"):
                raise InvalidInput(f"{what}={value!r} is no number of seconds to wait")

        def define(target: Target) -> ServiceDefinition:
            return defined(
                target,
                name,
                address,
                port,
                at_agent=False,
                id=id,
                tags=tags,
                meta=meta,
                environment_meta=environment_meta,
                check=TtlCheck(self.settings.ttl),
                ports=ports,
                weights=weights,
            )

        return AsyncKeeper(
            self._in_etcd(define, starts_passing=health is None),
            settings=self.settings,
            kept=self._kept,
            drain=drain,
            stop_timeout=stop_timeout,
            health=health,
            on_event=self._observers.keeping(name, on_event),
            fail_fast=fail_fast,
            shared=False,  # each process has a lease of its own, and one lease cannot hold what another one does
            pulse=None,  # heartbeats that come at the same time are one request
            transport=self._gateway.given,
        )

    def _in_etcd(
        self, define: Callable[[Target], ServiceDefinition], *, starts_passing: bool
    ) -> Callable[[Teller], AsyncPlace]:
        from consul_access._async.in_etcd import AsyncInEtcd

        heartbeats, looks = self._gatherings()
        return lambda _: AsyncInEtcd(
            self._gateway,
            define,
            formats=self._formats(),
            guard=self._guard_key,
            ttl=self.settings.ttl,
            starts_passing=starts_passing,
            heartbeats=heartbeats,
            looks=looks,
        )

    def _formats(self) -> list[tuple[Any, str]]:
        others = [(codec_named(name), prefix) for name, prefix in self.settings.also_write.items()]
        return [(self._codec, self.settings.prefix), *others]

    def _guard_key(self, key: bytes) -> None:
        if not self.settings.allow_kubernetes_writes:
            refuse_kubernetes(key, None, self.settings.kubernetes_prefix)

    async def deregister_service(self, service_id: str, *, service: str | None = None) -> bool:
        """Removes an instance, whoever has registered it. If its owner lives, he registers it again within seconds.

        Args:
            service_id: its id.
            service: its service's name; only needed when several services have an instance of that id.

        Returns:
            True when it was removed, False when there was none.

        Raises:
            InvalidInput: several services have an instance of that id.
            OutcomeUnknown: the answer was lost. Deregistering again is harmless.
        """
        inputs.identifier(service_id, "service_id")
        kept = [one for one in self._kept if one.id == service_id and service in {None, one.name}]
        names = {one.name for one in kept} if service is None else {service}
        if not kept and service is None:
            names = await self._services_with(service_id)
        if len(names) > 1:
            raise InvalidInput(f"{service_id!r} is an instance of {', '.join(sorted(names))}: name one with service=")
        for keeper in kept:
            return await keeper.stop()
        return await self._delete(names.pop(), service_id) if names else False

    async def _services_with(self, service_id: str) -> set[str]:
        first, end = kv.prefix_range(self.settings.prefix)
        items, _ = await self._reader.read_all(kv.Get(first, end, keys_only=True))
        named = (self._codec.names(self.settings.prefix, item.key) for item in items)
        return {names[0] for names in named if names is not None and names[1] == service_id}

    async def _delete(self, name: str, service_id: str) -> bool:
        keys = [codec.key(prefix, inputs.identifier(name, "service"), service_id) for codec, prefix in self._formats()]
        for key in keys:
            self._guard_key(key)
        was_there = bool((await self._gateway.send(kv.get(kv.Get(keys[0], count_only=True)))).total)
        for key in keys:
            await self._gateway.send(kv.delete(kv.Delete(key), repeat=Repeat.IDEMPOTENT))
        return was_there

    # --- finding ------------------------------------------------------------------------------------------

    async def search_service(self, name: str, **query: Unpack[RegistryQuery]) -> list[Address]:
        """The addresses of a service's instances, healthy ones by default.

        Args:
            name: the service.
            query: narrows the search; see `RegistryQuery`.

        Returns:
            One `Address` an instance, none when there is no such instance. An instance that has registered no port,
            or no address that can be called, is left out, and the log says so.
        """
        return addresses_of(await self.instances(name, **query), name)

    async def resolve(
        self, name: str, *, balancer: str | Balancer = "random", key: str | None = None, **query: Unpack[RegistryQuery]
    ) -> Address:
        """The address of one instance.

        Args:
            name: the service.
            balancer: how to choose: a name (`random`, `weighted`, `sticky`, ...), or a `Balancer`, which then remembers
                from one call to the next.
            key: what a `sticky` balancer sticks to, such as a user's id.
            query: narrows the search; see `RegistryQuery`.

        Raises:
            NoInstances: no instance fits.
        """
        found = await self.instances(name, **query)
        return one_of(found, name, query, balancer=balancer, key=key, dice=self._random)

    async def instances(self, name: str, **query: Unpack[RegistryQuery]) -> Entries[ServiceInstance]:
        """The instances of a service that the health policy admits; `passing` by default.

        Args:
            name: the service.
            query: narrows the search; see `RegistryQuery`.

        Returns:
            A list, with the number of values `rejected` since they could not be read.
        """
        selection = Selection.of(query)
        prefix = self._codec.key(self.settings.prefix, inputs.identifier(name, "name"), "")
        first, end = kv.prefix_range(prefix)
        items, _ = await self._reader.read_all(kv.Get(first, end, serializable=selection.stale))
        found, rejected = read_instances(self._codec, self.settings.prefix, items)
        return Entries(selection.of_these(one for one in found.values() if one.service == name), rejected=rejected)

    async def services(self) -> ServiceTags:
        """The names of all services, each with the tags its instances carry."""
        first, end = kv.prefix_range(self.settings.prefix)
        items, _ = await self._reader.read_all(kv.Get(first, end))
        found, _ = read_instances(self._codec, self.settings.prefix, items)
        return ServiceTags(tags_in_use(found.values()))

    async def wait_for(
        self,
        name: str,
        *,
        at_least: int = 1,
        timeout: Duration = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
        **query: Unpack[RegistryQuery],
    ) -> Entries[ServiceInstance]:
        """Waits until enough instances of a service are there, for instance at start-up.

        While etcd is away, or has no leader, it goes on until the time is up. A change is seen within milliseconds.

        Args:
            name: the service.
            at_least: how many instances the health policy has to admit; 1 by default.
            timeout: seconds (or `1m30s`, or a timedelta) for all of it; 30 by default.
            on_progress: called with a `Progress` whenever there is something new to tell; with `AsyncEtcdRegistry` it
                may be async. What it raises ends the wait.
            query: narrows the search; see `RegistryQuery`.

        Returns:
            The list that `instances(name, **query)` gives.

        Raises:
            NotReady: the time is up; its text and its `progress` say what was seen last.
            InvalidInput: an argument cannot be right; nothing was sent.
        """
        found = await self.wait_for_all({name: at_least}, timeout=timeout, on_progress=on_progress, **query)
        return found[name]

    async def wait_for_all(
        self,
        services: Mapping[str, int] | Iterable[str],
        *,
        timeout: Duration = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
        **query: Unpack[RegistryQuery],
    ) -> dict[str, Entries[ServiceInstance]]:
        """Waits until enough instances of each of several services are there; see `wait_for`.

        Args:
            services: their names, or how many instances of which: `{"orders": 1, "payments": 2}`.
            timeout: seconds for all of them together.
            on_progress: called with each service's own `Progress`.
            query: narrows the search for all of them.

        Returns:
            The instances, by service, as they are at one moment.
        """
        from consul_access._async.keyed_waiting import AsyncKeyedWait

        return await AsyncKeyedWait(
            self._watching, self.services, services, query=query, timeout=timeout, on_progress=on_progress
        ).run()

    async def explain(self, name_or_id: str, **query: Unpack[RegistryQuery]) -> Explanation:
        """Why a service is found by look-ups, or is not.

        It reads all that is below the prefix. When that cannot be read (etcd is away, the user has no rights), that is
        a finding, not an error.

        Args:
            name_or_id: a service's name, or the id of one instance.
            query: the options of the look-up that is to be explained; see `RegistryQuery`.

        Returns:
            An `Explanation`; `print` it for a page that a person can read.

        Raises:
            InvalidInput: an argument cannot be right; nothing was sent.
        """
        from consul_access._async.explaining_keys import AsyncKeyInquiry

        return await AsyncKeyInquiry(
            self._gateway, self.settings, inputs.identifier(name_or_id, "name_or_id"), query
        ).run()

    # --- following ----------------------------------------------------------------------------------------

    def watch(
        self, name: str | Iterable[str], *, raise_errors: bool = False, **query: Unpack[RegistryQuery]
    ) -> AsyncWatch[ServiceSnapshot]:
        """Follows a service, or several: an iterator that gives a snapshot at first and after every change.

        Args:
            name: the service, or several of them; each snapshot says whose it is.
            raise_errors: ends with the error when etcd cannot be asked, or refuses. By default it goes on for ever: the
                list stays as it was, and a snapshot says that it is stale, and why.
            query: narrows the search; see `RegistryQuery`.

        Returns:
            An iterator that ends with its `close()` and with the client's, at once, whatever it is waiting for.

        Raises:
            InvalidInput: the query cannot be right.

        All watches, resolvers and waits of a client share one watch of the whole prefix.
        """
        from consul_access._async.watching import AsyncWatch
        from consul_access._live.keyed import KeyedReading

        selection = Selection.of(query)
        names = (name,) if isinstance(name, str) else tuple(name)
        if not names:
            raise InvalidInput("there is no service to watch: give at least one name")
        readings = [KeyedReading(inputs.identifier(each, "name"), selection) for each in names]
        return AsyncWatch(self._watching(), readings, raise_errors=raise_errors)

    def watch_services(self, *, raise_errors: bool = False) -> AsyncWatch[ServicesSnapshot]:
        """Follows the list of all services' names, as `watch` does with the instances of one.

        Args:
            raise_errors: ends with the error when etcd cannot be asked.
        """
        from consul_access._async.watching import AsyncWatch
        from consul_access._live.keyed import KeyedServices

        return AsyncWatch(self._watching(), [KeyedServices()], raise_errors=raise_errors)

    def on_change(
        self,
        name: str | Iterable[str],
        function: Callable[[ServiceSnapshot], Awaitable[object] | object],
        **query: Unpack[RegistryQuery],
    ) -> AsyncCaller:
        """Calls a function with a service's snapshot, now and after every change, in a thread or task of its own.

        Args:
            name: the service, or several of them.
            function: what is called; if it raises, the log says so, and it is called with the next one all the same.
            query: narrows the search; see `RegistryQuery`.

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
        **query: Unpack[RegistryQuery],
    ) -> AsyncResolver:
        """A local list of a service's instances that follows every change; picking from it asks nobody.

        Args:
            name: the service.
            balancer: how to choose: a name (`round_robin`, `weighted`, `sticky`, ...), or a `Balancer` of its own.
            stale: for how long a list is used that etcd cannot confirm; for ever by default.
            disk: a folder to keep the list in, for the next process that starts while etcd is away.
            query: narrows the search; see `RegistryQuery`.

        Returns:
            A context manager; `pick()` chooses an instance.

        Raises:
            InvalidInput: the query cannot be right.
        """
        from consul_access._async.resolver import AsyncResolver
        from consul_access._live.keyed import KeyedReading
        from consul_access.rules.balancing import balancer_named
        from consul_access.rules.staleness import StalePolicy

        choose = balancer_named(balancer, self._random) if isinstance(balancer, str) else balancer
        reading = KeyedReading(inputs.identifier(name, "name"), Selection.of(query))
        shelf = None if disk is None else self._shelf(disk, name, query)
        return AsyncResolver(
            self._watching(),
            reading,
            balancer=choose,
            stale=stale or StalePolicy(),
            shelf=shelf,
            observers=self._observers,
        )

    def _shelf(self, folder: str | os.PathLike[str], name: str, query: RegistryQuery) -> Shelf:
        from consul_access.disk import Clocks, Shelf

        options = tuple(sorted((option, str(value)) for option, value in query.items()))
        return Shelf(folder, name, (self.settings.prefix, options), Clocks(time.time, time.monotonic))

    def _watching(self) -> AsyncEngine:
        if self._engine is None:
            from consul_access._async.watching import AsyncEngine
            from consul_access._live.keyed import make_keyed_hub

            gateway = self._gateway
            self._engine = AsyncEngine(lambda: make_keyed_hub(self.settings, gateway.given, gateway.tell))
        return self._engine

    # --- keeping many alive -------------------------------------------------------------------------------

    def listing(self, rules: SyncRules, *, on_state: Callable[[], None] | None = None) -> AsyncKeyListing:
        """All services as they should stand in Consul's catalog, for `AsyncCatalogSync`.

        Args:
            rules: how they are named.
            on_state: called when the listing loses its member or finds another one.
        """
        from consul_access._async.key_listing import AsyncKeyListing
        from consul_access.etcd.sources import RegistrySource

        source = RegistrySource(self._codec, self.settings.prefix, rules)
        return AsyncKeyListing(self._gateway, self._reader, source, on_state=on_state)

    def _gatherings(self) -> tuple[AsyncGathering[int, int | None], AsyncGathering[bytes, KeyValue | None]]:
        if self._gathered is None or self._gathered_in != os.getpid():  # a forked child waits for nobody of the parent
            self._gathered_in = os.getpid()
            from consul_access._async.gathering import AsyncGathering

            def linger() -> float:
                return 0.0 if len(self._kept) < 2 else min(LONGEST_LINGER, LINGER_EACH * len(self._kept))

            self._gathered = (
                AsyncGathering(self._keep_alive, most=leases.MOST_AT_ONCE, linger=linger),
                AsyncGathering(self._look_at, most=kv.MAX_OPERATIONS, linger=linger),
            )
        return self._gathered

    async def _keep_alive(self, wanted: Sequence[int], within: float) -> dict[int, int | None]:
        return await self._gateway.send(leases.keepalive_all(wanted), within=within)

    async def _look_at(self, keys: Sequence[bytes], within: float) -> dict[bytes, KeyValue | None]:
        answer = await self._gateway.send(kv.txn((), [kv.Get(key) for key in keys]), within=within)
        found: dict[bytes, KeyValue | None] = dict.fromkeys(keys)
        for page in answer.answers:
            if isinstance(page, kv.Page):
                found.update((item.key, item) for item in page.items)
        return found

    async def _end_services(self) -> None:
        for keeper in tuple(self._kept):
            await keeper.stop()
        if self._engine is not None:
            await self._engine.aclose()
