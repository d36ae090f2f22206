"""`registered(...)`: announces a service and keeps the announcement true until the block ends."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from consul_access import consul, exits
from consul_access._pairs.tasks import Examiner, Flag, Later, Worker, settled, shielded
from consul_access.errors import ConsulAccessError, InvalidInput, NotFound, OutcomeUnknown, RequestRefused, Unavailable
from consul_access.models.address import Address, Target
from consul_access.models.status import CheckStatus
from consul_access.rules.keeping import KeeperEvent, KeeperState, Keeping, Step, beat_interval, drift
from consul_access.rules.reporting import report_of

if TYPE_CHECKING:
    import httpx

    from consul_access._async.announcing import AsyncAnnouncing
    from consul_access.models.definition import ServiceDefinition

__all__ = ["AsyncKeeper"]

log = logging.getLogger("consul_access")

HANGING = 2.0
"""Seconds after which an agent that answers nothing is not waited for any longer when a service ends."""
LOUD = {"lost", "missed", "unseen", "left_behind"}


class AsyncKeeper:
    """One service, registered and kept registered; made by `AsyncConsulAccess.registered`.

    It compares before it writes: every few seconds it looks at the agent's copy, and registers again only when that is
    gone or differs. TTL checks are reported at a third of their time. Nothing of this ever gives up.

    A context manager; or `start` and `stop`, each any number of times, also from different tasks.
    """

    def __init__(
        self,
        access: AsyncAnnouncing,
        define: Callable[[Target], ServiceDefinition],
        *,
        pin: Callable[[], Later[Target]],
        announce: Callable[[ServiceDefinition, Target, bool], Later[object]],
        kept: set[AsyncKeeper],
        drain: float,
        stop_timeout: float,
        health: Callable[[], object] | None,
        on_event: Callable[[KeeperEvent], object] | None,
        fail_fast: bool,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._access = access
        self._define = define
        self._pin = pin
        self._announce = announce
        self._kept = kept
        self._drain = drain
        self._stop_timeout = stop_timeout
        self._health = None if health is None else Examiner(health)
        self._on_event = on_event
        self._fail_fast = fail_fast
        self._transport = transport
        self._process = 0
        self._rule = Keeping.ended()
        self._started = False
        self._worker: Worker | None = None
        self._over = False
        self._warned_of: Target | None = None
        self._last_ok: datetime | None = None

    # --- what it says -------------------------------------------------------------------------------------

    @property
    def state(self) -> KeeperState:
        """How the registration stands."""
        return self._rule.state

    @property
    def misses(self) -> int:
        """How many times in a row the agent has not answered."""
        return self._rule.misses

    @property
    def re_registrations(self) -> int:
        """How often it had to be registered again."""
        return self._rule.re_registrations

    @property
    def last_ok(self) -> datetime | None:
        """When the agent last confirmed the registration, by this machine's clock; None before it ever did."""
        return self._last_ok

    @property
    def definition(self) -> ServiceDefinition:
        """What is registered; known once it was started."""
        if not self._started:
            raise InvalidInput("the keeper was not started: use it as a context manager, or call start()")
        return self._definition

    @property
    def id(self) -> str:
        """The service's id at its agent."""
        return self.definition.id

    @property
    def name(self) -> str:
        """The service's name."""
        return self.definition.name

    @property
    def agent(self) -> Address:
        """The agent that the service is registered at; for a Unix socket the host is empty."""
        self.definition  # noqa: B018 - says so when it was not started
        return Address(self._agent.ip or self._agent.address.host, self._agent.address.port)

    # --- its life -----------------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Registers the service and begins to look after it.

        Raises:
            InvalidInput: the registration cannot be right; nothing was sent.
            ConsulAccessError: the agent refuses it, or does not answer (unless `fail_fast=False`: then it is
                registered as soon as the agent answers).
        """
        if self.state is not KeeperState.STOPPED:
            return self
        self._agent = await self._pinned()
        self._definition = self._define(self._agent)
        beat = beat_interval(self._definition)
        if self._health is not None and beat is None:
            raise InvalidInput("health= needs a TTL check to report to: give check=TtlCheck(15)")
        self._rule = Keeping(self._definition.id, beat, spread=random.uniform, now=time.monotonic())
        self._started = True
        self._ending = exits.Once()
        self._stopping, self._hurry, self._ended = Flag(), Flag(), Flag()
        self._sees_checks = False
        self._over = False
        self._process = os.getpid()  # from here on it can be stopped, also by another thread
        exits.add(self, self._farewell)
        try:
            await self._first()
        except BaseException:
            exits.remove(self)
            self._rule = Keeping.ended()  # it may be started once more
            self._started = False
            raise
        self._kept.add(self)
        self._worker = Worker(self._run, f"consul-access keeper {self._definition.id}")
        return self

    async def stop(self, *, hurry: bool = False) -> bool:
        """Ends the registration: out of every look-up, `drain` seconds of grace, deregistered, seen to be gone.

        While it is ending already, a second call waits for that.

        Args:
            hurry: leaves the grace out, or cuts it short.

        Returns:
            True when it was removed; False when the agent had no such service any more, when it could not be reached
            (the log says what happens then), and in a forked child, which owns nothing.
        """
        if not self._started or self._process != os.getpid():
            return False
        if hurry:
            self._hurry.set()
        if not self._ending.claim():
            await self._ended.wait(self._drain + self._stop_timeout)
            return False
        with exits.leaving(), shielded():
            try:
                return await self._end()
            except BaseException:  # interrupted half-way: the net at the end of the process has another try
                self._ending = exits.Once()
                raise

    async def deregister(self) -> bool:
        """The same as `stop`."""
        return await self.stop()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        name = repr(self._definition.id) if self._started else "not started"
        return f"<{type(self).__name__} {name} {self.state}>"

    # --- the steps ----------------------------------------------------------------------------------------

    async def _pinned(self) -> Target:
        try:
            return await self._pin()
        except Unavailable:
            if self._fail_fast:
                raise
            return self._access.settings.targets[0]

    async def _first(self) -> None:
        try:
            await self._registers()
        except (Unavailable, OutcomeUnknown) as error:
            if self._fail_fast:
                await self._taken_back()
                raise
            await self._tell(self._rule.failed(Step.REGISTER, time.monotonic(), str(error)))
            return
        except BaseException as error:
            if not isinstance(error, ConsulAccessError):  # cancelled or interrupted: it may have been sent
                with shielded():
                    await self._taken_back()
            raise
        if self._definition.ttl_check_ids():  # critical before its first report: nobody would be sent there
            await self._perform(Step.BEAT)
        await self._perform(Step.CONFIRM)

    async def _taken_back(self) -> None:
        with contextlib.suppress(ConsulAccessError):  # the reason to take it back is the one to hear about
            await self._access.send(consul.agent.deregister(self._definition.id), target=self._agent, within=HANGING)

    async def _run(self) -> None:
        try:
            while not self._over and self._process == os.getpid():
                now = time.monotonic()
                due = self._rule.next(now)
                if due is None or await self._stopping.wait(due[1] - now):
                    return
                await self._perform(due[0])
        finally:
            # Ended by the event loop, which is being closed: nobody else will deregister.
            if not self._over:
                await self.stop()

    async def _perform(self, step: Step) -> None:
        try:
            events = await self._steps(step)
        except NotFound as error:
            events = self._rule.gone(time.monotonic(), str(error))
        except ConsulAccessError as error:
            events = self._rule.failed(step, time.monotonic(), str(error))
        except Exception as error:  # a keeper outlives everything
            log.exception("keeping %s failed in a way that was not foreseen; it goes on", self._definition.id)
            events = self._rule.failed(step, time.monotonic(), repr(error))
        if not self._over:
            await self._tell(events)

    async def _steps(self, step: Step) -> list[KeeperEvent]:
        if step is Step.REGISTER:
            await self._registers()
            return []
        if step is Step.BEAT:
            return await self._beats()
        if step is Step.LOOK:
            return await self._looks()
        return await self._confirms()

    async def _registers(self) -> None:
        """Registers, and takes it back when the end came meanwhile."""
        # A first registration ends what an earlier life may have left; a later one keeps an operator's maintenance.
        in_maintenance = self._rule.registered_before and await self._is_in_maintenance()
        await self._announce(self._definition, self._agent, not in_maintenance)
        if self._over:
            await self._taken_back()
            return
        self._ok()
        await self._tell(self._rule.registered(time.monotonic()))

    async def _is_in_maintenance(self) -> bool:
        """Whether somebody has put the service into maintenance, which replacing its checks would end silently."""
        try:
            checks = await self._access.send(
                consul.agent.checks(service_id=self._definition.id), target=self._agent, within=HANGING
            )
        except RequestRefused:  # a token that may write, and not read
            return False
        return f"_service_maintenance:{self._definition.id}" in checks

    async def _beats(self) -> list[KeeperEvent]:
        status, output = await self._reported()
        for check_id in self._definition.ttl_check_ids():
            await self._access.send(consul.agent.update_check(check_id, status, output), target=self._agent)
        self._ok()
        return self._rule.succeeded(Step.BEAT, time.monotonic())

    async def _reported(self) -> tuple[CheckStatus, str]:
        """What the user's health function says; one that crashes or hangs is a failing check, not a dead keeper."""
        if self._health is None:
            return CheckStatus.PASSING, ""
        limit = min(5.0, (beat_interval(self._definition) or 5.0) / 2)
        try:
            return report_of(await self._health.ask(limit))
        except TimeoutError:
            return CheckStatus.CRITICAL, f"the health function has not answered within {limit:g} s"
        except Exception as error:
            log.debug("the health function of %s failed", self._definition.id, exc_info=True)
            return CheckStatus.CRITICAL, f"the health function failed: {error!r}"

    async def _looks(self) -> list[KeeperEvent]:
        found = await self._access.send(consul.agent.service(self._definition.id), target=self._agent)
        checks = await self._access.send(consul.agent.checks(service_id=self._definition.id), target=self._agent)
        # A token that may not read checks is shown none; that alone is no reason to register again and again.
        self._sees_checks = self._sees_checks or bool(set(checks) & set(self._definition.check_ids()))
        differs = drift(self._definition, found, checks if self._sees_checks else None)
        if differs is not None:
            return self._rule.gone(time.monotonic(), differs)
        self._ok()
        return self._rule.succeeded(Step.LOOK, time.monotonic())

    async def _confirms(self) -> list[KeeperEvent]:
        """Whether others can find it: agents answer 200 also when the servers will never hear of a registration."""
        try:
            entries = await self._access.send(consul.catalog.service(self._definition.name), target=self._agent)
        except ConsulAccessError as error:
            return self._rule.unseen(time.monotonic(), f"the catalog cannot be read: {error}")
        if any(entry.service_id == self._definition.id for entry in entries):
            await self._warn_of_servers()
            return self._rule.seen()
        return self._rule.unseen(time.monotonic(), UNSEEN)

    async def _warn_of_servers(self) -> None:
        """One of several servers is no agent to register at: when it goes, the registration goes with it."""
        if self._warned_of is self._agent or self._agent.unix_path is not None:
            return
        self._warned_of = self._agent
        try:
            peers = await self._access.send(consul.status.peers(), target=self._agent)
        except ConsulAccessError as error:
            log.debug("whether %s is a server cannot be told: %s", self._agent, error)
            return
        if len(peers) > 1 and self.agent.host in {peer.rpartition(":")[0].strip("[]") for peer in peers}:
            log.warning(
                "%s is registered at %s, one of %d Consul servers: when that server stops, the service is gone from "
                "every look-up. Register at an agent of this machine, such as a DaemonSet's, by the host's address",
                self._definition.id,
                self._agent,
                len(peers),
            )

    # --- the end ------------------------------------------------------------------------------------------

    async def _end(self) -> bool:
        self._over = True
        self._stopping.set()
        if self._worker is not None:
            await self._worker.join(0.1)
        await self._drained()
        removed, failure = False, ""
        try:
            removed = await self._gone(time.monotonic() + self._stop_timeout)
        except ConsulAccessError as error:
            failure = f"{error}; {self._consequence()}"
        await self._tell(self._rule.stopped(failure))
        self._kept.discard(self)
        exits.remove(self)
        self._ended.set()
        return removed

    async def _drained(self) -> None:
        """Takes the service out of every look-up while it still answers, and waits for the callers to notice."""
        await self._tell(self._rule.draining())
        if self._drain <= 0 or self._hurry.is_set():
            return
        until = time.monotonic() + self._drain
        try:
            call = consul.agent.maintenance(self._definition.id, True, "draining before it is deregistered")
            await self._access.send(call, target=self._agent, within=HANGING)
        except ConsulAccessError as error:
            log.warning("%s could not be taken out of the look-ups before it ends: %s", self._definition.id, error)
            return
        await self._hurry.wait(until - time.monotonic())

    async def _gone(self, deadline: float) -> bool:
        """Deregisters and looks whether it is gone; a registration still on its way may arrive after the first try."""
        left = deadline - time.monotonic()
        removed = await self._access.deregister_service(
            self._definition.id, target=self._agent, within=min(HANGING, left)
        )
        while time.monotonic() < deadline:
            try:
                await self._access.send(
                    consul.agent.service(self._definition.id), target=self._agent, within=min(HANGING, left)
                )
            except (NotFound, RequestRefused):
                return removed
            call = consul.agent.deregister(self._definition.id)
            await self._access.send(call, target=self._agent, within=min(HANGING, left))
        return removed

    def _consequence(self) -> str:
        if any(check.deregister_critical_service_after is not None for check in self._definition.checks):
            return "the agent removes it by itself, as deregister_critical_service_after says, once its check fails"
        return "it stays registered: deregister it by hand, or give its check deregister_critical_service_after="

    def _farewell(self, within: float) -> None:
        """Deregisters when the process ends otherwise: by a connection of its own, since nothing else may still run."""
        from consul_access._sync.consul import ConsulAccess

        if self._process != os.getpid() or not self._ending.claim():
            return
        self._over = True
        carried = cast("Any", self._transport)  # some httpx transports serve both faces
        if carried is not None and not hasattr(carried, "handle_request"):
            log.warning("%s is left registered: its transport works in an event loop only", self._definition.id)
            return
        try:
            with ConsulAccess(settings=self._access.settings, transport=carried) as access:
                deadline = time.monotonic() + within
                call = consul.agent.deregister(self._definition.id)
                access.send(call, target=self._agent, within=within)
                if not self._rule.registered_before:
                    # The registration was on its way when the end came, and may arrive after its end.
                    access.send(consul.agent.service(self._definition.id), target=self._agent, within=within)
                    access.send(call, target=self._agent, within=max(0.1, deadline - time.monotonic()))
        except (NotFound, RequestRefused):
            return
        except ConsulAccessError as error:
            log.warning("%s could not be deregistered: %s; %s", self._definition.id, error, self._consequence())

    # --- who is told --------------------------------------------------------------------------------------

    def _ok(self) -> None:
        self._last_ok = datetime.now(UTC)

    async def _tell(self, events: list[KeeperEvent]) -> None:
        for event in events:
            level = logging.WARNING if event.kind in LOUD else logging.INFO
            log.log(level, "%s: %s%s", event.service_id, event.kind, f" ({event.cause})" if event.cause else "")
            if self._on_event is None:
                continue
            try:
                await settled(self._on_event(event))
            except Exception:
                log.exception("on_event failed; the keeper goes on")


UNSEEN = (
    "the agent has accepted it, and the catalog does not show it: the servers cannot be reached, the agent's node name "
    "is still taken by another node, or the token may not write or read the service"
)
