# Written by tools/faces.py from consul_access/_async/keeper.py; edit that one.
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
from typing import TYPE_CHECKING, Self

from consul_access import exits
from consul_access._pairs.threads import Bell, Examiner, Flag, Slots, Worker, settled, shielded
from consul_access._sync import farewell
from consul_access._sync.fellows import Fellows
from consul_access._sync.place import HANGING, Place, StillThere, Teller
from consul_access._sync.pulse import Pulse, Stay
from consul_access.errors import ConsulAccessError, InvalidInput, NotFound, OutcomeUnknown, Unavailable
from consul_access.models.address import Address
from consul_access.models.status import CheckStatus
from consul_access.rules.keeping import KeeperEvent, KeeperState, Keeping, Step, beat_interval, time_to_end
from consul_access.rules.reporting import report_of

if TYPE_CHECKING:
    import httpx

    from consul_access.models.definition import ServiceDefinition
    from consul_access.settings import ClientSettings

__all__ = ["Keeper"]

log = logging.getLogger("consul_access")

LOUD = {"lost", "missed", "unseen", "left_behind", "relocated", "wrong_agent"}
LONGEST_CALL = 15.0
"""Seconds that the worker may still need after the end; every call of its is shorter."""
SHORTEST_WATCH = 1.0
"""Seconds below which waiting for a change would cost more than it tells."""
LONGEST_REST = 60.0
"""Seconds after which a worker looks up although it was not called."""
LONGEST_WATCH = 10.0
"""Seconds after which an agent is asked to wait for a change anew."""


class Keeper:
    """One service, registered and kept registered; made by `registered` of a client.

    It compares before it writes: it looks at the agent's copy, at once when that changes or else every few seconds, and
    registers again only when that is gone or differs. TTL checks are reported at a third of their time. Nothing of this
    ever gives up.

    A context manager; or `start` and `stop`, each any number of times, also from different tasks.
    """

    def __init__(
        self,
        place: Callable[[Teller], Place],
        *,
        settings: ClientSettings,
        kept: set[Keeper],
        drain: float,
        stop_timeout: float,
        health: Callable[[], object] | None,
        on_event: Callable[[KeeperEvent], object] | None,
        fail_fast: bool,
        shared: bool,
        pulse: Pulse | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self._make_place = place
        self._settings = settings
        self._kept = kept
        self._drain = drain
        self._stop_timeout = stop_timeout
        self._health = None if health is None else Examiner(health)
        self._on_event = on_event
        self._fail_fast = fail_fast
        self._fellows: Fellows | None = Fellows(drain, stop_timeout) if shared else None
        self._pulse = pulse if health is None else None  # a health function takes its time
        self._transport = transport
        self._process = 0
        self._rule = Keeping.ended()
        self._turn = Slots(1)
        self._place: Place | None = None
        self._worker: Worker | None = None
        self._watching = False
        self._over = False
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
        return self._at().definition

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
        """The agent it is registered at, or in catalog mode a server; for a Unix socket the host is empty."""
        return self._at().address

    @property
    def node(self) -> str:
        """The name of the node that the service is shown at; empty until that is known."""
        return self._at().node

    def _at(self) -> Place:
        if self._place is None:
            raise InvalidInput("the keeper was not started: use it as a context manager, or call start()")
        return self._place

    # --- its life -----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Registers the service and begins to look after it.

        Raises:
            InvalidInput: the registration cannot be right; nothing was sent.
            ConsulAccessError: the agent refuses it, or does not answer (unless `fail_fast=False`: then it is
                registered as soon as the agent answers).
        """
        if self.state is not KeeperState.STOPPED:
            return self
        if self._worker is not None:  # of an earlier life, which may still wait for an answer
            self._worker.join(LONGEST_CALL)
            with contextlib.suppress(TimeoutError):  # and the pulse, which may as well
                self._turn.acquire(time.monotonic() + LONGEST_CALL)
        farewell.prepare(self._settings)
        place = self._make_place(self._hear)
        place.settle(fail_fast=self._fail_fast)
        beat = beat_interval(place.definition)
        if self._health is not None and beat is None:
            raise InvalidInput("health= needs a TTL check to report to: give check=TtlCheck(15)")
        self._place = place
        self._rule = Keeping(
            place.definition.id, beat, spread=random.uniform, now=time.monotonic(), moves=place.may_move
        )
        self._ending = exits.Once()
        self._hurry, self._ended = Flag(), Flag()
        self._bell, self._turn = Bell(), Slots(1)
        self._over = False
        if self._fellows is not None:
            self._fellows.begin(f"{place.definition.id} at {self._settings.targets}")
        self._process = os.getpid()  # from here on it can be stopped, also by another thread
        exits.add(self, self._farewell)
        try:
            self._first()
        except BaseException:
            exits.remove(self)
            self._give_back()
            self._rule = Keeping.ended()  # it may be started once more
            self._place = None
            raise
        self._kept.add(self)
        self._worker = Worker(self._run, f"consul-access keeper {place.definition.id}")
        return self

    def stop(self, *, hurry: bool = False) -> bool:
        """Ends the registration: out of every look-up, `drain` seconds of grace, deregistered, seen to be gone.

        While it is ending already, a second call waits for that.

        Args:
            hurry: leaves the grace out, or cuts it short.

        Returns:
            True when it was removed; False when the agent had no such service any more, when it could not be reached
            (the log says what happens then), when other processes keep it (`shared`), and in a forked child, which
            owns nothing.
        """
        if self._place is None or self._process != os.getpid():
            return False
        if hurry:
            self._hurry.set()
        if not self._ending.claim():
            self._ended.wait(self._drain + self._stop_timeout)
            return False
        with exits.leaving(), shielded():
            try:
                return self._end()
            except BaseException:  # interrupted half-way: the net at the end of the process has another try
                self._ending = exits.Once()
                raise

    def deregister(self) -> bool:
        """The same as `stop`."""
        return self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        name = repr(self._place.definition.id) if self._place is not None else "not started"
        return f"<{type(self).__name__} {name} {self.state}>"

    # --- the steps ----------------------------------------------------------------------------------------

    def _first(self) -> None:
        place, begun = self._at(), time.monotonic()
        deadline = begun + self._settings.timeouts.total
        try:
            if self._fellows is not None:
                self._fellows.join()
            self._registers()
        except (Unavailable, OutcomeUnknown) as error:
            if self._fail_fast:
                self._takes_back(place)
                raise
            self._tell(self._rule.failed(Step.REGISTER, time.monotonic(), str(error)))
            return
        except BaseException as error:
            if not isinstance(error, ConsulAccessError):  # cancelled or interrupted: it may have been sent
                with shielded():
                    self._takes_back(place)
            raise
        # Critical before its first report: nobody would be sent there. What hangs is left to the worker.
        if place.definition.ttl_check_ids() and time.monotonic() - begun < HANGING:
            self._perform(Step.BEAT)
        if time.monotonic() < deadline:
            self._perform(Step.CONFIRM, deadline)

    def _takes_back(self, place: Place) -> None:
        if not self._is_others():
            place.take_back()

    def _is_others(self) -> bool:
        """Whether other processes go on keeping it. If not, none begins to before `_give_back`."""
        return self._fellows is not None and self._fellows.go_on()

    def _give_back(self) -> None:
        if self._fellows is not None:
            self._fellows.close()

    def _run(self) -> None:
        try:
            while not self._over and self._process == os.getpid():
                now = time.monotonic()
                due = self._rule.next(now)
                if due is None:
                    return
                step, when = due
                if when > now:
                    self._rests(when)
                elif self._takes_its_turn():
                    try:
                        self._perform(step)
                    finally:
                        self._turn.release()
        finally:
            # Ended by the event loop, which is being closed: nobody else will deregister.
            if not self._over:
                self.stop()

    def _takes_its_turn(self) -> bool:
        """Waits until the pulse is not in the middle of a step; False when the end comes first."""
        while not self._over:
            with contextlib.suppress(TimeoutError):
                self._turn.acquire(time.monotonic() + 1.0)
                return True
        return False

    def _rests(self, until: float) -> None:
        """Until the next step is due, or something has changed, or the end has come."""
        rung, seconds = self._bell.rung, until - time.monotonic()
        if self._over:
            return
        if self._pulse is not None and self._rule.is_steady:
            self._is_served(self._pulse, until, rung)
        elif seconds < SHORTEST_WATCH or self._rule.misses or not self._at().can_watch():
            self._bell.wait(rung, seconds)
        else:
            known = self._rule.re_registrations
            self._takes_up(self._watches(seconds), known)

    def _is_served(self, pulse: Pulse, until: float, rung: int) -> None:
        """Leaves the steps to the client's pulse until one brings something up, or is late by a whole heartbeat."""
        found: Exception | str | None = None
        bell, interval, known = self._bell, self._rule.interval, self._rule.re_registrations
        stay = Stay(self._serve, bell.ring, interval)
        try:
            pulse.join(stay, until)
        except RuntimeError as error:  # there can be no more threads
            log.warning("%s makes its heartbeats by itself from now on: %s", self.id, error)
            self._pulse = None
            return
        try:
            while found is None and bell.rung == rung and self._rule.is_steady:
                if self._at().can_watch():
                    if (limit := self._until_late(interval)) <= 0:
                        break
                    found = self._watches(min(limit, LONGEST_WATCH))
                else:
                    bell.wait(rung, LONGEST_REST)
        finally:
            stay.leave()
        self._takes_up(found, known)

    def _until_late(self, interval: float) -> float:
        due = self._rule.next(time.monotonic())
        return 0.0 if due is None else due[1] + interval - time.monotonic()

    def _serve(self, until: float) -> float | None:
        """For the pulse: does what is due by then; when to come again, or None when the worker goes on by itself."""
        turn = self._turn
        if not turn.acquire_now():  # the worker has helped itself
            return None
        try:
            due = self._rule.next(until)
            if due is not None and due[1] <= until and not self._over:
                self._perform(due[0])
            due = self._rule.next(time.monotonic())
        finally:
            turn.release()
        if due is None or self._over:
            return None
        if not self._rule.is_steady and not self._watching:  # one that waits at the agent cannot be woken
            self._bell.ring()
            return None
        return due[1]

    def _perform(self, step: Step, deadline: float = float("inf")) -> None:
        try:
            events = self._steps(step, deadline)
        except Exception as error:  # noqa: BLE001 - a keeper outlives everything, and says what it was
            events = self._failure(step, error)
        if events and not self._over:
            self._tell(events)

    def _failure(self, step: Step, error: Exception) -> list[KeeperEvent]:
        if isinstance(error, NotFound):
            return self._rule.gone(time.monotonic(), str(error))
        if isinstance(error, ConsulAccessError):
            return self._rule.failed(step, time.monotonic(), str(error))
        log.error("keeping %s failed in a way that was not foreseen; it goes on", self.id, exc_info=error)
        return self._rule.failed(step, time.monotonic(), repr(error))

    def _watches(self, seconds: float) -> Exception | str | None:
        """Has the place wait for a change: what differs, or what went wrong."""
        self._watching = True
        try:
            return self._at().watch(seconds)
        except Exception as error:  # noqa: BLE001 - it is taken up
            return error
        finally:
            self._watching = False

    def _takes_up(self, found: Exception | str | None, known: int) -> None:
        """What waiting for a change has brought up, unless a step has come upon it already, and repaired it even."""
        if found is None or not self._takes_its_turn():
            return
        try:
            if self._rule.is_steady and self._rule.re_registrations == known:
                now = time.monotonic()
                self._tell(self._rule.gone(now, found) if isinstance(found, str) else self._failure(Step.LOOK, found))
        finally:
            self._turn.release()

    def _steps(self, step: Step, deadline: float) -> list[KeeperEvent]:
        match step:
            case Step.REGISTER:
                self._registers()
                return []
            case Step.BEAT:
                return self._beats()
            case Step.LOOK:
                return self._looks()
            case Step.CONFIRM:
                return self._confirms(deadline)
            case Step.MOVE:
                return self._moves()
            case Step.CLEAN:
                return self._rule.cleaned(time.monotonic(), self._at().clean())

    def _registers(self) -> None:
        """Registers, and takes it back when the end came meanwhile."""
        place = self._at()
        if self._fellows is not None and self._fellows.hold(place, again=self._rule.registered_before):
            self._ok()
            self._tell(self._rule.registered(time.monotonic()))
            return
        # A first registration ends what an earlier life may have left; a later one keeps an operator's maintenance.
        place.register(again=self._rule.registered_before)
        if self._over:
            self._takes_back(place)
            return
        self._ok()
        events = self._rule.registered(time.monotonic())
        if place.owes:
            self._rule.owes(time.monotonic())
        self._tell(events)

    def _beats(self) -> list[KeeperEvent]:
        health = self._health
        status, output = (CheckStatus.PASSING, "") if health is None else self._reported(health)
        self._at().beat(status, output)
        self._ok()
        return self._rule.succeeded(Step.BEAT, time.monotonic())

    def _reported(self, health: Examiner) -> tuple[CheckStatus, str]:
        """What the user's health function says; one that crashes or hangs is a failing check, not a dead keeper."""
        limit = min(5.0, (beat_interval(self.definition) or 5.0) / 2)
        try:
            return report_of(health.ask(limit))
        except TimeoutError:
            return CheckStatus.CRITICAL, f"the health function has not answered within {limit:g} s"
        except Exception as error:
            log.debug("the health function of %s failed", self.id, exc_info=True)
            return CheckStatus.CRITICAL, f"the health function failed: {error!r}"

    def _looks(self) -> list[KeeperEvent]:
        differs = self._at().look()
        if differs is not None:
            return self._rule.gone(time.monotonic(), differs)
        self._ok()
        return self._rule.succeeded(Step.LOOK, time.monotonic())

    def _confirms(self, deadline: float) -> list[KeeperEvent]:
        """Whether others can find it: the catalog is asked, through the agent."""
        left = deadline - time.monotonic()
        try:
            found = self._at().confirm(None if left == float("inf") else max(0.1, left))
        except ConsulAccessError as error:
            return self._rule.unseen(time.monotonic(), f"the catalog cannot be read: {error}")
        return self._rule.seen() if found else self._rule.unseen(time.monotonic(), UNSEEN)

    def _moves(self) -> list[KeeperEvent]:
        now = time.monotonic()
        cause = self._at().elsewhere(self._rule.away(now))
        return self._rule.stayed(time.monotonic()) if cause is None else self._rule.moved(time.monotonic(), cause)

    # --- the end ------------------------------------------------------------------------------------------

    def _end(self) -> bool:
        self._over = True
        self._bell.ring()
        if self._worker is not None:  # one that waits for the agent ends with the registration
            self._worker.join(0.0 if self._watching else 0.1)
        if self._fellows is not None and self._fellows.take_over(self._hurry):
            self._is_over(self._rule.handed_over())
            return False
        spent = self._drained()
        removed, failure = False, ""
        try:
            removed = self._at().end(time.monotonic() + time_to_end(self._stop_timeout, spent))
        except (ConsulAccessError, StillThere) as error:
            failure = f"{error}; {self._at().consequence()}"
        self._is_over(self._rule.stopped(failure))
        return removed

    def _is_over(self, events: list[KeeperEvent]) -> None:
        self._at().leave()
        self._tell(events)
        self._give_back()
        self._kept.discard(self)
        exits.remove(self)
        self._ended.set()

    def _drained(self) -> float:
        """Takes the service out of every look-up while it still answers, and waits for the callers to notice.

        Returns:
            Seconds that taking it out took: the grace begins when nobody finds it any more.
        """
        self._tell(self._rule.draining())
        if self._drain <= 0 or self._hurry.is_set():
            return 0.0
        begun = time.monotonic()
        try:
            self._at().drain("draining before it is deregistered")
        except NotFound:
            pass  # nobody is sent here any more, and who has looked before still calls
        except ConsulAccessError as error:
            log.warning("%s could not be taken out of the look-ups before it ends: %s", self.id, error)
            return time.monotonic() - begun
        spent = time.monotonic() - begun
        self._hurry.wait(self._drain)
        return spent

    def _farewell(self, within: float) -> None:
        """Deregisters when the process ends otherwise: by a connection of its own, since nothing else may still run."""
        if self._process != os.getpid() or not self._ending.claim():
            return
        self._over = True
        if not self._is_others():
            farewell.say(self._at(), self._settings, self._transport, within, certain=self._rule.registered_before)
        self._give_back()

    # --- who is told --------------------------------------------------------------------------------------

    def _ok(self) -> None:
        self._last_ok = datetime.now(UTC)

    def _hear(self, kind: str, cause: str) -> None:
        """What the place has to tell, besides how the registration stands."""
        self._tell([self._rule.told(kind, cause)])

    def _tell(self, events: list[KeeperEvent]) -> None:
        for event in events:
            level = logging.WARNING if event.kind in LOUD else logging.INFO
            log.log(level, "%s: %s%s", event.service_id, event.kind, f" ({event.cause})" if event.cause else "")
            if self._on_event is None:
                continue
            try:
                settled(self._on_event(event))
            except Exception:
                log.exception("on_event failed; the keeper goes on")


UNSEEN = (
    "the agent has accepted it, and the catalog does not show it: the servers cannot be reached, the agent's node name "
    "is still taken by another node, or the token may not write or read the service"
)
