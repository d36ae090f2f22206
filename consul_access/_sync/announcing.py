# Written by tools/faces.py from consul_access/_async/announcing.py; edit that one.
"""Announcing services: the half of the client that registers, reports and deregisters."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from consul_access import consul
from consul_access._sync.registration import Registration
from consul_access._sync.sending import Sending
from consul_access._sync.transport import Transport
from consul_access.errors import InvalidInput, PermissionDenied, UnknownService
from consul_access.models.address import Address, Target
from consul_access.models.default import DEFAULT, Default
from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access._sync.keeper import Keeper
    from consul_access._sync.place import Place, Teller
    from consul_access._sync.pulse import Pulse
    from consul_access.models.catalog import AgentInfo, AgentService, Weights
    from consul_access.models.checks import AnyCheck
    from consul_access.models.definition import ServiceDefinition
    from consul_access.models.durations import Duration
    from consul_access.models.listening import Listening
    from consul_access.rules.heartbeats import Reaped
    from consul_access.rules.keeping import KeeperEvent

__all__ = ["Announcing"]

log = logging.getLogger("consul_access")

WAITING_KEEPERS = 16
"""So many keepers of one client wait for changes at their agent; each holds one of the 200 connections that agents
allow an address. Further ones look every few seconds."""
CATALOG_TTL = 30.0
"""Every heartbeat in catalog mode is an entry in the servers' log, hence one in 10 s unless another TTL is given."""


class Announcing(Sending):
    """The registrations of a client."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._agents: dict[Target, AgentInfo] = {}
        self._seats: deque[None] = deque([None] * WAITING_KEEPERS)
        self._pulse: Pulse | None = None

    def register_service(
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
    ) -> Registration:
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
        target = self._transport.pin()
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
        return self._register(definition, target, replace_existing_checks)

    def registered(
        self,
        name: str,
        address: str | None = None,
        port: int | Listening | None = None,
        *,
        mode: Literal["agent", "catalog"] = "agent",
        node: str | None = None,
        require_agent: bool = False,
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
    ) -> Keeper:
        """Registers a service and keeps it registered until the block ends, whatever happens to the agent.

        It looks whether the agent still holds the registration as it was made, at once when that changes or else every
        few seconds, and restores it when it is lost or changed. TTL checks are reported at a third of their time. On
        every way out (the block's end, an exception, SIGTERM, the interpreter's end) it is deregistered once.

        Args:
            mode: `agent`: registered at one agent, which is pinned to one IP address and runs the checks; when it is
                gone for good and the client has other addresses, the registration moves. `catalog`: written into the
                catalog, for clusters without local agents; the check is `TtlCheck(30)` or another TTL, and nobody
                but this keeper states its status.
            node: in catalog mode, the node to register on, which no agent may own; `consul-access` by default. It is
                made when it does not exist, for which a token needs node:write.
            require_agent: in agent mode, refuses to register at one of several servers, which is otherwise warned of:
                when that server stops, the service is gone.
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
        from consul_access._sync.keeper import Keeper

        if mode not in {"agent", "catalog"}:
            raise InvalidInput(f"mode={mode!r} is not known: write 'agent' or 'catalog'")
        if mode == "agent" and node is not None:
            raise InvalidInput(f"node={node!r} is for mode='catalog': an agent registers on its own node")
        if mode == "catalog" and require_agent:
            raise InvalidInput("require_agent=True is for mode='agent': in mode='catalog' any server will do")
        for what, value in (("drain", drain), ("stop_timeout", stop_timeout)):
            if not 0 <= value < float("inf"):
                raise InvalidInput(f"{what}={value!r} is no number of seconds to wait")
        if mode == "catalog":
            check, checks = _heartbeat(check, checks), None

        def define(target: Target) -> ServiceDefinition:
            return self._defined(
                target,
                name,
                address,
                port,
                at_agent=mode == "agent",
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

        return Keeper(
            self._in_catalog(define, node) if mode == "catalog" else self._at_agent(define, require_agent),
            settings=self.settings,
            kept=self._kept,
            drain=drain,
            stop_timeout=stop_timeout,
            health=health,
            on_event=self._observers.keeping(name, on_event),
            fail_fast=fail_fast,
            shared=shared,
            pulse=self._beating() if mode == "agent" else None,  # heartbeats in the catalog wait for elections
            transport=self._transport.given,
        )

    def _beating(self) -> Pulse:
        from consul_access._sync.pulse import Pulse

        if self._pulse is None:
            self._pulse = Pulse()
        return self._pulse

    def _at_agent(
        self, define: Callable[[Target], ServiceDefinition], require_agent: bool
    ) -> Callable[[Teller], Place]:
        from consul_access._sync.at_agent import AtAgent

        return lambda tell: AtAgent(
            self,
            define,
            pin=self._transport.pin,
            places=self._transport.places,
            may_move=self._transport.may_be_elsewhere,
            require_agent=require_agent,
            announce=self._register,
            token=lambda: self._transport.trusted,
            seats=self._seats,
            tell=tell,
        )

    def _in_catalog(self, define: Callable[[Target], ServiceDefinition], node: str | None) -> Callable[[Teller], Place]:
        from consul_access._sync.in_catalog import InCatalog
        from consul_access.models import inputs
        from consul_access.models.external import SYNTHETIC_NODE

        name = SYNTHETIC_NODE if node is None else inputs.identifier(node, "node")
        return lambda _: InCatalog(self, define, pin=self._transport.pin, node=name)

    def reap(self, older_than: Duration = 600.0, *, node: str | None = None, dry_run: bool = False) -> list[Reaped]:
        """Removes entries of catalog mode whose owner is gone: killed, or cut off, without having deregistered.

        Their age is the time from the last heartbeat's stamp, by the clock of the service's machine, to now, by this
        machine's: let it be much more than clocks differ. They are read consistently. One that is removed although its
        owner lives is back with its owner's next heartbeat. Entries without such a stamp are left alone.

        Args:
            older_than: seconds, `1m30s` or a timedelta; 10 minutes by default. Nothing is removed before it has missed
                three heartbeats of its own, whatever is given.
            node: the node that services were registered on; `consul-access` by default.
            dry_run: removes nothing.

        Returns:
            What was removed, or would be.

        Raises:
            PermissionDenied: the token may not write one of these services; those before it are removed.
        """
        from consul_access.models import inputs
        from consul_access.models.durations import seconds
        from consul_access.models.external import SYNTHETIC_NODE
        from consul_access.rules.heartbeats import reapable

        least = seconds(older_than, what="older_than")
        name = SYNTHETIC_NODE if node is None else inputs.identifier(node, "node")
        # A server that still reads its log would tell of heartbeats that are long past.
        checks = self._transport.send(consul.health.node(name, consistency="consistent"))
        found = reapable(checks, time.time(), least)
        for entry in () if dry_run else found:
            self._transport.send(consul.catalog.deregister(name, entry.id))
            log.info("%s on node %s is removed: not heard of for %.0f s", entry.id, name, entry.age)
        return found

    def deregister_service(self, service_id: str, *, target: Target | None = None, within: float | None = None) -> bool:
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
        target = target or self._transport.pin()
        try:
            self._transport.send(consul.agent.service(service_id), target=target, within=within)
        except UnknownService:
            return False
        except PermissionDenied as error:  # a token that may write, and not read
            log.debug("whether %s is there cannot be read: %s", service_id, error)
        try:
            self._transport.send(consul.agent.deregister(service_id), target=target, within=within)
        except UnknownService:
            return False
        return True

    def pass_check(self, check_id: str, output: str = "") -> None:
        """Reports a TTL check as passing.

        Args:
            check_id: `service:<service id>` for a service's only check, `service:<service id>:1` and so on for several.
            output: a text for people, at most 4 KB.

        Raises:
            UnknownCheck: the agent has no such TTL check; if it has lost its data, register again.
        """
        self._transport.send(consul.agent.update_check(check_id, CheckStatus.PASSING, output))

    def warn_check(self, check_id: str, output: str = "") -> None:
        """Reports a TTL check as warning; see `pass_check`."""
        self._transport.send(consul.agent.update_check(check_id, CheckStatus.WARNING, output))

    def fail_check(self, check_id: str, output: str = "") -> None:
        """Reports a TTL check as critical; see `pass_check`."""
        self._transport.send(consul.agent.update_check(check_id, CheckStatus.CRITICAL, output))

    def maintenance(self, service_id: str, enabled: bool, reason: str = "") -> None:
        """Takes a service out of every look-up, or brings it back, without touching its registration.

        Args:
            service_id: the id it was registered with.
            enabled: True takes it out.
            reason: shown to whoever looks at the service.

        Raises:
            UnknownService: the agent has no such service.
        """
        self._transport.send(consul.agent.maintenance(service_id, enabled, reason))

    def node_maintenance(self, enabled: bool, reason: str = "") -> None:
        """Takes everything on the agent's node out of every look-up, or brings it back."""
        self._transport.send(consul.agent.node_maintenance(enabled, reason))

    def agent_service(self, service_id: str) -> AgentService:
        """One service as the agent knows it.

        Raises:
            UnknownService: the agent has no such service.
        """
        return self._transport.send(consul.agent.service(service_id))

    # --- how registering works ----------------------------------------------------------------------------

    def _defined(self, target: Target, name: str, address: str | None, port: Any, **given: Any) -> ServiceDefinition:
        from consul_access._sync.defining import defined  # whoever only looks up need not load it

        return defined(target, name, address, port, **given)

    def _register(self, definition: ServiceDefinition, target: Target, replace_existing_checks: bool) -> Registration:
        from consul_access.rules import versions

        if versions.needs_version(definition.payload()):
            info = self._about(target)
            versions.check(definition.payload(), info.version)
        for node in definition.alias_nodes():
            self._must_exist(node, target)
        call = consul.agent.register(definition, replace_existing_checks=replace_existing_checks)
        self._transport.send(call, target=target)
        return Registration(self, definition, target)

    def _about(self, target: Target) -> AgentInfo:
        known = self._agents.get(target)
        if known is None:
            known = self._agents[target] = self._transport.send(consul.agent.about(), target=target)
        return known

    def _must_exist(self, node: str, target: Target) -> None:
        if self._transport.send(consul.catalog.node(node), target=target) is None:
            raise InvalidInput(
                f"the alias check names node {node!r}, which the catalog does not know; agents of Consul 1.8 and 1.10 "
                "crash on that, so nothing was sent. Register the node first, or correct its name"
            )


def _heartbeat(check: AnyCheck | Default | None, checks: Iterable[AnyCheck] | None) -> AnyCheck:
    """The check of catalog mode: one TTL, which tells how often the keeper states the status.

    Raises:
        InvalidInput: it is something that an agent would have to do.
    """
    from consul_access.models.checks import TtlCheck

    if isinstance(check, Default) and checks is None:
        return TtlCheck(CATALOG_TTL)
    if checks is not None or not isinstance(check, TtlCheck):
        raise InvalidInput(
            'in mode="catalog" no agent runs checks: leave check= out, or give check=TtlCheck(...), and what you would '
            "check as health="
        )
    if check.deregister_critical_service_after is not None:
        raise InvalidInput(
            'mode="catalog" has no agent that would heed deregister_critical_service_after: call reap() now and then'
        )
    return check
