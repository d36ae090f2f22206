# Written by tools/faces.py from consul_access/_async/catalog_sync.py; edit that one.
"""One way from a source into Consul's catalog: `CatalogSync` keeps on a node of its own what the source has.

It decides nothing itself (`rules.syncing` does). It follows the source, reads the node, writes what differs, and waits.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from consul_access import consul
from consul_access._pairs.threads import Bell, Flag, Worker, settled, shielded
from consul_access._sync.in_catalog import refuse_agents_node
from consul_access.errors import (
    BadAnswer,
    ConsulAccessError,
    InvalidInput,
    NotReady,
    PermissionDenied,
    RequestRefused,
    Unavailable,
)
from consul_access.models.catalog import Weights
from consul_access.models.definition import ServiceDefinition
from consul_access.models.external import CatalogCheck, CatalogRegistration
from consul_access.models.status import CheckStatus
from consul_access.models.sync import (
    LeftOut,
    NodePortAddresses,
    SyncEvent,
    SyncInstance,
    SyncList,
    SyncPlan,
    SyncRules,
    SyncState,
)
from consul_access.rules import syncing, versions
from consul_access.rules.syncing import Present

if TYPE_CHECKING:
    from consul_access._sync.consul import ConsulAccess
    from consul_access.registry import SyncListing, SyncSource

__all__ = ["CatalogSync"]

log = logging.getLogger("consul_access")

SETTLE = 0.1
"""Seconds that changes are waited for together."""
LONGEST_CALL = 15.0
"""Seconds that a worker may still need after the end."""
LOUD = {"held", "left_out", "source_lost", "target_lost"}


class _Refused(NamedTuple):
    id: str
    error: ConsulAccessError


class CatalogSync:
    """Keeps in Consul's catalog what a source has: one way, on a node of its own.

    It goes by what there is on both sides, not by what happens: whatever was lost, restarted or changed by hand, the
    next pass puts it right. Nothing is removed before the source was read completely, while it cannot be followed,
    where it could not be read in full, or when too much would vanish at once. What others have on the node is left
    alone.

    A context manager; or `start` and `stop`. When it ends, what was synced stays.

    Args:
        source: where services come from: `etcd.kubernetes`, or anything that fulfils `SyncSource`.
        target: the Consul client to write with.
        node: the node that the services are registered on; it is made if it is not there. No other sync may use it.
        tag: in front of every instance's tags. Not `k8s`: the reaper of consul-k8s removes what carries that.
        prefix: in front of every service's name.
        add_namespace: puts `-NAMESPACE` behind every service's name.
        namespaces: the namespaces that are meant; `*` for all.
        except_namespaces: those of them that are not.
        by_default: whether services are meant that do not say so themselves, by the annotation
            `consul.hashicorp.com/service-sync`.
        node_port_addresses: of nodes with several addresses, which one stands for NodePort services.
        ports: whether the servers know several ports of one instance (Consul 1.22); None to ask them.
        may_vanish: the share of all instances, 0 to 1, that may vanish at once without others in their places. Up to
            three always may, unless the source has none left.
        interval: seconds between two passes when nothing changes.
        on_event: called with a `SyncEvent` at every change of its state; on the tasks' face it may be async.

    Raises:
        InvalidInput: something cannot be right.
    """

    def __init__(
        self,
        source: SyncSource,
        target: ConsulAccess,
        *,
        node: str = "etcd-sync",
        tag: str = "etcd",
        prefix: str = "",
        add_namespace: bool = True,
        namespaces: Iterable[str] = ("*",),
        except_namespaces: Iterable[str] = ("kube-system", "kube-public"),
        by_default: bool = True,
        node_port_addresses: NodePortAddresses = "external_first",
        ports: bool | None = None,
        may_vanish: float = 0.5,
        interval: float = 30.0,
        on_event: Callable[[SyncEvent], object] | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._rules = SyncRules(
            node=node,
            tag=tag,
            prefix=prefix,
            add_namespace=add_namespace,
            namespaces=_names(namespaces, "namespaces"),
            except_namespaces=_names(except_namespaces, "except_namespaces"),
            by_default=by_default,
            node_port_addresses=node_port_addresses,
        )
        if not 0 <= may_vanish <= 1:
            raise InvalidInput(f"may_vanish={may_vanish!r} is a share: write 0 to 1")
        if not interval > 0:
            raise InvalidInput(f"interval={interval!r} is out of bounds: write a number of seconds above 0")
        self._ports = ports
        self._may_vanish = may_vanish
        self._interval = interval
        self._on_event = on_event
        self._state = SyncState.STOPPED
        self._workers: list[Worker] = []
        self._listing: SyncListing | None = None
        self._list: SyncList | None = None
        self._source_error = self._target_error = ""
        self._was_listed = self._was_stale = self._approved = False
        self._left_out: tuple[LeftOut, ...] = ()
        self._last: SyncPlan | None = None
        self._synced_at: datetime | None = None

    # --- what it says -------------------------------------------------------------------------------------

    @property
    def state(self) -> SyncState:
        """How it stands."""
        return self._state

    @property
    def last(self) -> SyncPlan | None:
        """What the last pass did; None before the first one."""
        return self._last

    @property
    def synced_at(self) -> datetime | None:
        """When the catalog was last seen or made to be right, by this machine's clock; None before that."""
        return self._synced_at

    @property
    def error(self) -> str:
        """Why it cannot go on at the moment; empty when it can."""
        return self._target_error or self._source_error

    # --- a single pass ------------------------------------------------------------------------------------

    def plan(self) -> SyncPlan:
        """What would be written now; reads both sides, and writes nothing.

        Raises:
            InvalidInput: the node belongs to an agent.
            ConsulAccessError: the source or the catalog cannot be read.
        """
        found, _ = self._planned(self._read(), "")
        return found

    def once(self) -> SyncPlan:
        """One pass: reads both sides and writes what differs.

        Returns:
            What was done; what was refused is among `left_out`.

        Raises:
            InvalidInput: the node belongs to an agent.
            ConsulAccessError: the source cannot be read, or the catalog neither read nor written.
        """
        wanted = self._read()
        found, node_is_there = self._planned(wanted, "")
        refused = self._carry_out(found, wanted.source, node_is_there=node_is_there)
        return _with(found, refused)

    def _read(self) -> SyncList:
        refuse_agents_node(self._target, self._rules.node)
        listing = self._source.listing(self._rules)
        try:
            return listing.read()
        finally:
            listing.close()

    # --- its life -----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begins, and returns at once: the first pass follows when the source has been read.

        Raises:
            InvalidInput: the node belongs to an agent.
        """
        if self._workers:
            return self
        with contextlib.suppress(Unavailable, PermissionDenied):
            refuse_agents_node(self._target, self._rules.node)
        self._stop, self._bell, self._news = Flag(), Bell(), Bell()
        self._list, self._listing = None, None
        self._was_listed = self._was_stale = self._approved = False
        self._source_error = self._target_error = ""
        self._left_out, self._last = (), None
        self._state = SyncState.PENDING
        self._workers = [
            Worker(self._follow, "consul-access sync source"),
            Worker(self._keep, "consul-access sync"),
        ]
        return self

    def stop(self) -> None:
        """Ends it; what was synced stays in the catalog."""
        workers, self._workers = self._workers, []
        if not workers:
            return
        with shielded():
            self._stop.set()
            self._bell.ring()
            listing = self._listing
            if listing is not None:
                listing.close()
            for worker in workers:
                worker.join(LONGEST_CALL)
            self._become(SyncState.STOPPED, "stopped")

    def wait_ready(self, timeout: float = 30.0) -> SyncPlan:
        """Waits until the catalog has what the source has, but for removals that are held back.

        Args:
            timeout: seconds.

        Returns:
            What the last pass did.

        Raises:
            NotReady: it is not so in time; the text says why.
            InvalidInput: it was not started.
        """
        if not self._workers:
            raise InvalidInput("the sync was not started: use it as a context manager, or call start()")
        deadline = time.monotonic() + timeout
        while True:
            rung = self._news.rung
            if self._last is not None and self._state in (SyncState.SYNCED, SyncState.HELD):
                return self._last
            left = deadline - time.monotonic()
            if left <= 0:
                why = f": {self.error}" if self.error else ""
                raise NotReady(f"not synced after {timeout:g} s ({self._state}){why}")
            self._news.wait(rung, left)

    def approve(self) -> None:
        """Lets the next pass remove what is held back because too much would vanish at once."""
        self._approved = True
        if self._workers:
            self._bell.ring()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} into {self._rules.node!r} {self._state}>"

    # --- following the source -----------------------------------------------------------------------------

    def _follow(self) -> None:
        failures = 0
        while not self._stop.is_set():
            listing = self._listing = self._source.listing(self._rules, on_state=self._bell.ring)
            try:
                for found in listing:
                    failures = 0
                    self._listed(found)
                    if self._stop.is_set():
                        break
                self._source_error = "the source has ended"
            except ConsulAccessError as error:
                self._source_error = str(error)
            except Exception as error:  # a sync outlives everything
                log.exception("following the source failed in a way that was not foreseen; it goes on")
                self._source_error = repr(error)
            finally:
                with shielded():
                    listing.close()
            failures += 1
            self._bell.ring()
            if self._stop.wait(syncing.pause(failures, random.uniform)):
                return

    def _listed(self, found: SyncList) -> None:
        self._list, self._source_error = found, ""
        self._bell.ring()

    def _stale(self) -> str:
        """Why the list may be old; empty when it is not."""
        if self._source_error:
            return f"the source cannot be read: {self._source_error}"
        listing = self._listing
        if listing is not None and listing.stale_for:
            return "the source does not answer, and what changes there is not known"
        return ""

    # --- writing ------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        failures = 0
        while not self._stop.is_set():
            rung = self._bell.rung
            try:
                self._pass()
                failures = 0
            except ConsulAccessError as error:
                failures += 1
                self._target_failed(str(error))
            except Exception as error:  # a sync outlives everything
                log.exception("syncing failed in a way that was not foreseen; it goes on")
                failures += 1
                self._target_failed(repr(error))
            if failures:
                self._stop.wait(syncing.pause(failures, random.uniform))
            else:
                self._bell.wait(rung, self._interval)
                self._stop.wait(SETTLE)

    def _pass(self) -> None:
        stale = self._stale()
        if bool(stale) != self._was_stale:
            self._was_stale = bool(stale)
            state = SyncState.STALE if stale else SyncState.PENDING if self._list is None else self._state
            self._become(state, "source_lost" if stale else "source_back", stale)
        wanted = self._list
        if wanted is None:
            return
        if not self._was_listed:
            self._was_listed = True
            self._become(self._state, "listed", f"{len(wanted.instances)} instances")
        approved = self._approved
        found, node_is_there = self._planned(wanted, stale, approved=approved)
        refused = self._carry_out(found, wanted.source, node_is_there=node_is_there)
        if approved:
            self._approved = False
        if not self._stop.is_set():
            self._done(_with(found, refused), stale)

    def _done(self, found: SyncPlan, stale: str) -> None:
        """Says what has become of a pass."""
        was_held = self._state is SyncState.HELD
        state = SyncState.STALE if stale else SyncState.HELD if found.held else SyncState.SYNCED
        self._last, self._synced_at = found, datetime.now(UTC)
        told: list[tuple[str, str]] = []
        if self._target_error:
            self._target_error = ""
            told.append(("target_back", ""))
        if state is SyncState.HELD and not was_held:
            told.append(("held", f"{len(found.held)} instances stay: {found.reason}"))
        elif was_held and state is SyncState.SYNCED:
            told.append(("released", ""))
        news = [one for one in found.left_out if one not in self._left_out]
        told += [("left_out", f"{one.what}: {one.reason}") for one in news]
        self._left_out = found.left_out
        self._state = state
        for kind, cause in told:
            self._become(state, kind, cause)
        if not found.is_empty:
            self._tell(SyncEvent("written", state, "", len(found.register), len(found.deregister)))
        self._news.ring()

    def _target_failed(self, cause: str) -> None:
        first = not self._target_error
        self._target_error = cause
        if first and not self._stop.is_set():
            self._become(SyncState.FAILING, "target_lost", cause)

    def _planned(self, wanted: SyncList, stale: str, *, approved: bool = False) -> tuple[SyncPlan, bool]:
        """What to write, and whether the node is there."""
        present, node_is_there = self._present()
        found = syncing.plan(
            wanted,
            present,
            owner=self._rules.node,
            ports=self._knows_ports(),
            stale=stale,
            may_vanish=1.0 if approved else self._may_vanish,
        )
        return found, node_is_there

    def _present(self) -> tuple[Present, bool]:
        services = self._target.send(consul.catalog.node_services(self._rules.node))
        if services is None:
            return Present(), False
        checks = self._target.send(consul.health.node(self._rules.node))
        if any(check.id == "serfHealth" for check in checks):
            raise InvalidInput(
                f"node={self._rules.node!r} has become the node of an agent, which removes what is synced"
            )
        return syncing.present_of(services, checks, self._rules.node), True

    def _knows_ports(self) -> bool:
        if self._ports is None:
            try:
                agent = self._target.send(consul.agent.about())
            except PermissionDenied:
                self._ports = False  # the single port is what every version knows
            else:
                self._ports = versions.knows(agent.version, "Ports")
        return self._ports

    def _carry_out(self, found: SyncPlan, source: str, *, node_is_there: bool) -> list[LeftOut]:
        """Writes; first what is new, so that no service has a gap. What is refused keeps nothing else back."""
        if found.register and not node_is_there:
            self._target.send(consul.catalog.register(self._node(source)))
        refused: list[_Refused] = []
        for one in _grouped(found.register, consul.txn.MAX_OPERATIONS // 2):
            refused += self._register(one, source)
        for one in _grouped(found.deregister, consul.txn.MAX_OPERATIONS):
            refused += self._deregister(one)
        if refused and not found.unchanged and len(refused) == len(found.register) + len(found.deregister):
            raise refused[0].error  # it is not about one of them
        return [LeftOut(one.id, str(one.error)) for one in refused]

    def _register(self, group: list[SyncInstance], source: str) -> list[_Refused]:
        refused: list[_Refused] = []
        written: dict[str, CatalogRegistration] = {}
        for one in group:
            try:
                written[one.id] = self._registration(one, source)
            except InvalidInput as error:
                refused.append(_Refused(one.id, error))
        operations = [operation for one in written.values() for operation in consul.txn.register(one)]
        if len(written) > 1 and self._at_once(operations):
            return refused
        for service_id, registration in written.items():
            try:
                self._target.send(consul.catalog.register(registration))
            except (RequestRefused, BadAnswer) as error:
                refused.append(_Refused(service_id, error))
        return refused

    def _deregister(self, group: list[SyncInstance]) -> list[_Refused]:
        node = self._rules.node
        operations = [operation for one in group for operation in consul.txn.remove(node, one.id)]
        if len(group) > 1 and self._at_once(operations):
            return []
        refused: list[_Refused] = []
        for one in group:
            try:
                self._target.send(consul.catalog.deregister(node, one.id))
            except (RequestRefused, BadAnswer) as error:
                refused.append(_Refused(one.id, error))
        return refused

    def _at_once(self, operations: list[consul.txn.Operation]) -> bool:
        """Whether all of it was written in one step; if not, none of it was, and it is tried one by one."""
        try:
            problems = self._target.send(consul.txn.apply(operations))
        except (RequestRefused, BadAnswer) as error:
            problems = (str(error),)
        if problems:
            log.info(
                "%d operations are done one by one, since together they are refused: %s", len(operations), problems
            )
        return not problems

    def _node(self, source: str) -> CatalogRegistration:
        return CatalogRegistration(node=self._rules.node, node_meta={"external-source": source})

    def _registration(self, one: SyncInstance, source: str) -> CatalogRegistration:
        service = ServiceDefinition(
            id=one.id,
            name=one.name,
            address=one.address,
            port=one.port or None,
            ports={port.name: port.port for port in one.ports},
            tags=one.tags,
            meta=one.meta,
            weights=None if one.weight == 1 else Weights.checked(one.weight),
        )
        check = CatalogCheck(
            id=one.check_id,
            name=one.check_name,
            status=one.status or CheckStatus.CRITICAL,
            service_id=one.id,
            output=one.output,
            type=one.check_type,
        )
        return CatalogRegistration(
            node=self._rules.node, node_meta={"external-source": source}, service=service, checks=(check,)
        )

    # --- telling ------------------------------------------------------------------------------------------

    def _become(self, state: SyncState, kind: str, cause: str = "") -> None:
        self._state = state
        self._news.ring()
        self._tell(SyncEvent(kind, state, cause))

    def _tell(self, event: SyncEvent) -> None:
        numbers = f" {event.registered} registered, {event.deregistered} removed" if event.kind == "written" else ""
        cause = f" ({event.cause})" if event.cause else ""
        log.log(logging.WARNING if event.kind in LOUD else logging.INFO, "sync: %s%s%s", event.kind, numbers, cause)
        if self._on_event is None:
            return
        try:
            settled(self._on_event(event))
        except Exception:
            log.exception("on_event failed; the sync goes on")


def _names(names: Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise InvalidInput(f"{what}={names!r} is one text: write a list, such as [{names!r}]")
    return tuple(names)


def _grouped(instances: tuple[SyncInstance, ...], size: int) -> Iterable[list[SyncInstance]]:
    return (list(instances[first : first + size]) for first in range(0, len(instances), size))


def _with(found: SyncPlan, refused: list[LeftOut]) -> SyncPlan:
    """The plan as it was carried out: without what was refused, which is left out instead."""
    ids = {one.what for one in refused}
    return replace(
        found,
        register=tuple(one for one in found.register if one.id not in ids),
        deregister=tuple(one for one in found.deregister if one.id not in ids),
        left_out=(*found.left_out, *refused),
    )
