"""Announcing services: the half of the client that registers, reports and deregisters."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from consul_access import consul
from consul_access._async.registration import AsyncRegistration
from consul_access._async.sending import AsyncSending
from consul_access._async.transport import AsyncTransport
from consul_access._pairs.sockets import route_source
from consul_access.errors import InvalidInput, PermissionDenied, UnknownService
from consul_access.models.address import Address, Target
from consul_access.models.default import DEFAULT, Default
from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access._async.keeper import AsyncKeeper
    from consul_access.models.catalog import AgentInfo, AgentService, Weights
    from consul_access.models.checks import AnyCheck
    from consul_access.models.definition import ServiceDefinition
    from consul_access.models.listening import Listening
    from consul_access.rules.keeping import KeeperEvent

__all__ = ["AsyncAnnouncing"]

log = logging.getLogger("consul_access")


class AsyncAnnouncing(AsyncSending):
    """The registrations of a client."""

    def __init__(self, transport: AsyncTransport) -> None:
        super().__init__(transport)
        self._agents: dict[Target, AgentInfo] = {}
        self._kept: set[AsyncKeeper] = set()

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
        check: AnyCheck | Default | None = DEFAULT,
        checks: Iterable[AnyCheck] | None = None,
        ports: Mapping[str, int] | None = None,
        weights: Weights | None = None,
        tagged_addresses: Mapping[str, Address] | None = None,
        enable_tag_override: bool = False,
        namespace: str | None = None,
        partition: str | None = None,
        replace_existing_checks: bool = True,
    ) -> AsyncRegistration:
        """Registers a service at the agent, once; its checks are the agent's business from then on.

        `register_service("hello", "10.0.0.5", 8080)` is complete: the id is made from name, host and port, and the
        agent asks `http://10.0.0.5:8080/health` every 10 s.

        Args:
            name: the service.
            address: where it can be reached: an IP address or a host name. By default CONSUL_ACCESS_ADVERTISE or
                POD_IP; the address that the given socket listens at, unless that is every address; nothing when the
                agent is on this machine (look-ups then give the agent's address); else the local address that the way
                to the agent starts from.
            port: 1 to 65535; or the bound socket, or a server that has one, to read it from.
            id: unique at the agent; the same id replaces the registration. By default
                `<service>-<pod or host name>-<port>`, which a restart keeps.
            tags: any texts.
            meta: up to 64 pairs; keys of A-Z a-z 0-9 - _, values up to 512 bytes.
            environment_meta: adds `pod_name`, `pod_namespace` and `node_name` from POD_NAME, POD_NAMESPACE and
                NODE_NAME, as far as they are set.
            check: how the agent finds out whether the service works; by default HTTP GET `/health` every 10 s.
                None for no check: the service then counts as passing for as long as it is registered.
            checks: several checks, instead of `check`.
            ports: further ports by name (Consul 1.22).
            weights: how large a share of the calls it should get, by state.
            tagged_addresses: further addresses by name, such as `lan` and `wan`.
            enable_tag_override: lets others change the tags in the catalog.
            namespace: Consul Enterprise.
            partition: Consul Enterprise.
            replace_existing_checks: removes checks of an earlier registration that are not given again. This also
                ends the service's maintenance (observed, Consul 1.8 and 1.10).

        Returns:
            A handle that can deregister again, at the same agent; also a context manager.

        Raises:
            InvalidInput: an argument cannot be right; nothing was sent.
            UnsupportedByAgent: the agent's version does not know a field; nothing was registered.
            OutcomeUnknown: the answer was lost. Registering again is harmless.
        """
        target = await self._transport.pin()
        definition = self._defined(
            target,
            name,
            address,
            port,
            id=id,
            tags=tags,
            meta=meta,
            environment_meta=environment_meta,
            check=check,
            checks=checks,
            ports=ports,
            weights=weights,
            tagged_addresses=tagged_addresses,
            enable_tag_override=enable_tag_override,
            namespace=namespace,
            partition=partition,
        )
        return await self._register(definition, target, replace_existing_checks)

    def registered(
        self,
        name: str,
        address: str | None = None,
        port: int | Listening | None = None,
        *,
        mode: Literal["agent"] = "agent",
        drain: float = 0.0,
        stop_timeout: float = 5.0,
        health: Callable[[], object] | None = None,
        on_event: Callable[[KeeperEvent], object] | None = None,
        fail_fast: bool = True,
        shared: bool = False,
        id: str | None = None,  # noqa: A002 - the registry's own word
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
        environment_meta: bool = False,
        check: AnyCheck | Default | None = DEFAULT,
        checks: Iterable[AnyCheck] | None = None,
        ports: Mapping[str, int] | None = None,
        weights: Weights | None = None,
        tagged_addresses: Mapping[str, Address] | None = None,
        enable_tag_override: bool = False,
        namespace: str | None = None,
        partition: str | None = None,
    ) -> AsyncKeeper:
        """Registers a service and keeps it registered until the block ends, whatever happens to the agent.

        Every few seconds it looks whether the agent still holds the registration as it was made, and restores it when
        it is lost or changed. TTL checks are reported at a third of their time. On
        every way out (the block's end, an exception, SIGTERM, the interpreter's end) it is deregistered once.

        Args:
            mode: `agent`: registered at one agent, which is pinned to one IP address.
            drain: seconds between the service's disappearance from every look-up and its deregistration, in which it
                should still answer; 0 by default.
            stop_timeout: seconds that the end may take besides, also when the agent is down.
            health: asked before each heartbeat of a TTL check, plain or async; answers None or True (passing), False
                (critical), a status, or a pair of that and a text. One that raises or hangs counts as critical.
            on_event: called with a `KeeperEvent` at each change.
            fail_fast: False begins also while the agent does not answer, and registers as soon as it does.
            shared: several processes of this machine, such as a server's workers behind one port, keep the registration
                together: whoever ends before the last leaves it to the others.

        The others are those of `register_service`.

        Returns:
            A context manager; also `start` and `stop`, with `state`, `last_ok`, `misses` and `re_registrations`.

        Raises:
            InvalidInput: an argument cannot be right. The rest is raised when the block begins.
        """
        from consul_access._async.keeper import AsyncKeeper

        if mode != "agent":
            raise InvalidInput(f"mode={mode!r} is not known: write 'agent'")
        for what, value in (("drain", drain), ("stop_timeout", stop_timeout)):
            if not 0 <= value < float("inf"):
                raise InvalidInput(f"{what}={value!r} is no number of seconds to wait")

        def define(target: Target) -> ServiceDefinition:
            return self._defined(
                target,
                name,
                address,
                port,
                id=id,
                tags=tags,
                meta=meta,
                environment_meta=environment_meta,
                check=check,
                checks=checks,
                ports=ports,
                weights=weights,
                tagged_addresses=tagged_addresses,
                enable_tag_override=enable_tag_override,
                namespace=namespace,
                partition=partition,
            )

        return AsyncKeeper(
            self,
            define,
            pin=self._transport.pin,
            announce=self._register,
            kept=self._kept,
            drain=drain,
            stop_timeout=stop_timeout,
            health=health,
            on_event=on_event,
            fail_fast=fail_fast,
            shared=shared,
            transport=self._transport.given,
        )

    async def deregister_service(
        self, service_id: str, *, target: Target | None = None, within: float | None = None
    ) -> bool:
        """Removes a service from the agent.

        Args:
            service_id: the id it was registered with.
            target: the agent it lives on; `Registration.deregister` knows it.
            within: seconds for each of the two requests, when that is less than the settings allow.

        Returns:
            True when it was removed, False when the agent had no such service. Agents answer the latter in three
            ways, 200 among them, hence the look before.

        Raises:
            OutcomeUnknown: the answer was lost. Deregistering again is harmless.
        """
        target = target or await self._transport.pin()
        try:
            await self._transport.send(consul.agent.service(service_id), target=target, within=within)
        except UnknownService:
            return False
        except PermissionDenied as error:  # a token that may write, and not read
            log.debug("whether %s is there cannot be read: %s", service_id, error)
        try:
            await self._transport.send(consul.agent.deregister(service_id), target=target, within=within)
        except UnknownService:
            return False
        return True

    async def pass_check(self, check_id: str, output: str = "") -> None:
        """Reports a TTL check as passing.

        Args:
            check_id: `service:<service id>` for a service's only check, `service:<service id>:1` and so on for several.
            output: a text for people, at most 4 KB.

        Raises:
            UnknownCheck: the agent has no such TTL check; if it has lost its data, register again.
        """
        await self._transport.send(consul.agent.update_check(check_id, CheckStatus.PASSING, output))

    async def warn_check(self, check_id: str, output: str = "") -> None:
        """Reports a TTL check as warning; see `pass_check`."""
        await self._transport.send(consul.agent.update_check(check_id, CheckStatus.WARNING, output))

    async def fail_check(self, check_id: str, output: str = "") -> None:
        """Reports a TTL check as critical; see `pass_check`."""
        await self._transport.send(consul.agent.update_check(check_id, CheckStatus.CRITICAL, output))

    async def maintenance(self, service_id: str, enabled: bool, reason: str = "") -> None:
        """Takes a service out of every look-up, or brings it back, without touching its registration.

        Args:
            service_id: the id it was registered with.
            enabled: True takes it out.
            reason: shown to whoever looks at the service.

        Raises:
            UnknownService: the agent has no such service.
        """
        await self._transport.send(consul.agent.maintenance(service_id, enabled, reason))

    async def node_maintenance(self, enabled: bool, reason: str = "") -> None:
        """Takes everything on the agent's node out of every look-up, or brings it back."""
        await self._transport.send(consul.agent.node_maintenance(enabled, reason))

    async def agent_service(self, service_id: str) -> AgentService:
        """One service as the agent knows it.

        Raises:
            UnknownService: the agent has no such service.
        """
        return await self._transport.send(consul.agent.service(service_id))

    # --- how registering works ----------------------------------------------------------------------------

    def _own_address(self, given: str | None, target: Target, bound: str | None) -> str | None:
        from consul_access.rules import addressing

        local = target.is_local
        source = None if local else route_source(target.ip or target.address.host, target.address.port)
        return addressing.own_address(given, environ=os.environ, agent_is_local=local, route_source=source, bound=bound)

    def _defined(
        self,
        target: Target,
        name: str,
        address: str | None,
        port: int | Listening | None,
        *,
        meta: Mapping[str, str] | None,
        environment_meta: bool,
        **given: Any,
    ) -> ServiceDefinition:
        from consul_access.models.listening import listening_at
        from consul_access.rules import addressing, registering  # whoever only looks up need not load them

        bound = None
        if port is not None and not isinstance(port, int | float | str):
            bound, port = listening_at(port)
        if environment_meta:
            meta = addressing.environment_meta(os.environ) | dict(meta or {})
        own = self._own_address(address, target, bound)
        label = addressing.host_label(os.environ, socket.gethostname())
        return registering.definition(name, own, port, host=label, meta=meta, **given)

    async def _register(
        self, definition: ServiceDefinition, target: Target, replace_existing_checks: bool
    ) -> AsyncRegistration:
        from consul_access.rules import versions

        if versions.needs_version(definition.payload()):
            info = await self._about(target)
            versions.check(definition.payload(), info.version)
        for node in definition.alias_nodes():
            await self._must_exist(node, target)
        call = consul.agent.register(definition, replace_existing_checks=replace_existing_checks)
        await self._transport.send(call, target=target)
        return AsyncRegistration(self, definition, target)

    async def _about(self, target: Target) -> AgentInfo:
        known = self._agents.get(target)
        if known is None:
            known = self._agents[target] = await self._transport.send(consul.agent.about(), target=target)
        return known

    async def _must_exist(self, node: str, target: Target) -> None:
        if await self._transport.send(consul.catalog.node(node), target=target) is None:
            raise InvalidInput(
                f"the alias check names node {node!r}, which the catalog does not know; agents of Consul 1.8 and 1.10 "
                "crash on that, so nothing was sent. Register the node first, or correct its name"
            )
