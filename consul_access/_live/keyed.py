"""The engine of a registry over etcd: one watch of the whole prefix answers all questions of a client."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import TaskGroup

from consul_access._async.gateway import AsyncGateway
from consul_access._async.key_watching import AsyncKeyWatch
from consul_access._async.keys import AsyncKeyReader
from consul_access._live.making import for_tasks
from consul_access._live.question import Known, Listener
from consul_access._live.reading import Key, OfInstances, OfServices, Snapping
from consul_access._pairs.tasks import Bell
from consul_access.errors import BadAnswer, ClientClosed, ConsulAccessError, Unavailable
from consul_access.etcd import kv
from consul_access.etcd.codecs import codec_named
from consul_access.etcd.holdings import Holdings
from consul_access.etcd.watch import Range
from consul_access.hooks import Exchange
from consul_access.models.instance import ServiceInstance
from consul_access.models.snapshot import ServiceSnapshot, ServicesSnapshot
from consul_access.rules.comparing import difference
from consul_access.rules.guarding import Verdict
from consul_access.rules.key_watching import KeyWatchState, reopening_pause
from consul_access.rules.selecting import Selection

if TYPE_CHECKING:
    from consul_access.etcd.settings import EtcdSettings

__all__ = ["KeyedHub", "KeyedReading", "KeyedServices", "make_keyed_hub"]

log = logging.getLogger("consul_access")

DOUBTED_AFTER: Final = 1.0
"""Seconds that a watch may be without a member before lists count as stale; another is found in milliseconds."""
CATCHING_UP: Final = 0.05
"""Seconds between two looks at whether a watch that goes on has told everything."""
LOOK_EVERY: Final = 5.0
IDLE: Final = 30.0
"""Seconds that the watch goes on when nobody wants to know any more."""
DOUBTFUL: Final = "the list vanished when etcd's store went back in time: lost by the servers, more likely than true"


class KeyedReading(OfInstances):
    """The instances of a service that a selection chooses.

    Args:
        service: its name.
        selection: which of them.
    """

    __slots__ = ("_selection", "blank", "key", "subject")

    def __init__(self, service: str, selection: Selection) -> None:
        self.key: Key = (service, selection)
        self.blank = ServiceSnapshot(service=service)
        self.subject = service
        self._selection = selection

    def select(self, held: Holdings) -> tuple[ServiceInstance, ...]:
        """What it amounts to now."""
        return self._selection.of_these(held.instances(self.subject))

    def same(self, before: tuple[ServiceInstance, ...], after: tuple[ServiceInstance, ...]) -> bool:
        return before == after or (len(before) == len(after) and not difference(before, after))

    def concerns(self, changed: set[str]) -> bool:
        """Whether a change of these services may be one of its own."""
        return self.subject in changed


class KeyedServices(OfServices):
    """The names of all services, with their tags."""

    __slots__ = ("blank", "key", "subject")

    def __init__(self) -> None:
        self.key: Key = (KeyedServices,)
        self.blank = ServicesSnapshot()
        self.subject = "all services"

    def select(self, held: Holdings) -> dict[str, list[str]]:
        """What it amounts to now."""
        return held.tags()

    def concerns(self, changed: set[str]) -> bool:
        """Whether a change of these services may be one of its own."""
        return bool(changed)


class KeyedHub:
    """All questions of one client, answered from one copy of what is below the prefix.

    Args:
        gateway: what calls and streams travel through; its own, so that watching takes no connection from others.
        holdings: the copy.
        prefix: what is watched.

    Everything but the constructor runs in the one event loop that `run` runs in.
    """

    def __init__(self, gateway: AsyncGateway, holdings: Holdings, prefix: str) -> None:
        self._gateway = gateway
        self._reader = AsyncKeyReader(gateway)
        self._holdings = holdings
        self._range = Range(*kv.prefix_range(prefix))
        self._known: dict[Key, Known] = {}
        self._bell = Bell()
        self._closed = False
        self._following: anyio.CancelScope | None = None
        self._idle_since: float | None = None
        self._watch: AsyncKeyWatch | None = None
        self._revision = 0
        self._is_read = False
        self._trouble: ConsulAccessError | None = None
        self._failures = 0
        self._failing_since: float | None = None
        self._looked_at = time.monotonic()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._known)} questions, revision {self._revision}>"

    # --- who wants to know --------------------------------------------------------------------------------

    def listen(self, reading: Snapping[Any], listener: Listener) -> Known | None:
        """Has a listener told what is known, and whatever changes; None when it is all over."""
        if self._closed:
            listener.over()
            return None
        known = self._known.get(reading.key)
        if known is None:
            known = self._known[reading.key] = Known(reading)
            if self._is_read:
                self._consider(known, restarted=False)
            if self._trouble is not None:
                known.doubt(str(self._trouble), self._trouble)
        known.listen(listener)
        self._bell.ring()
        return known

    def forget(self, known: Known, listener: Listener) -> None:
        """The listener does not want to know any more; with the last one the question ends."""
        known.forget(listener)
        if not known.listeners and self._known.get(known.key) is known:
            del self._known[known.key]
        self._bell.ring()

    def close(self) -> None:
        """Ends it all."""
        self._closed = True
        self._bell.ring()

    # --- the one loop -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watches while somebody wants to know, until it is closed."""
        try:
            async with anyio.create_task_group() as group:
                while not self._closed:
                    rung = self._bell.rung
                    await self._bell.wait(rung, self._tend(group, time.monotonic()))
                group.cancel_scope.cancel()
        finally:
            self._closed = True
            for known in self._known.values():
                for listener in known.listeners:
                    listener.over()
            with anyio.CancelScope(shield=True):
                await self._gateway.aclose(lent=True)

    def _tend(self, group: TaskGroup, now: float) -> float:
        """Does what is due; seconds until something will be."""
        if not self._known:
            return self._rest(now)
        self._idle_since = None
        self._trusts_again()
        if self._following is None:
            self._following = anyio.CancelScope()
            group.start_soon(self._follow, self._following)
        watch = self._watch
        without = watch.suspended_for if watch is not None else 0.0
        if without >= DOUBTED_AFTER and self._trouble is None:
            self._doubted(Unavailable(f"etcd cannot be watched at the moment ({watch.reason if watch else ''})"))
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self._look_again()
        if watch is not None and watch.is_behind:
            return CATCHING_UP
        return DOUBTED_AFTER - without + 0.01 if 0 < without < DOUBTED_AFTER else LOOK_EVERY

    def _rest(self, now: float) -> float:
        if self._following is None:
            return 3600.0
        if self._idle_since is None:
            self._idle_since = now
        left = self._idle_since + IDLE - now
        if left > 0:
            return left
        self._following.cancel()
        return 3600.0

    def _look_again(self) -> None:
        """Says how fresh everything is, and whether what was doubtful has lasted for long enough."""
        watch = self._watch
        if watch is None or watch.state is not KeyWatchState.CONNECTED or watch.is_behind:
            return
        for known in self._known.values():
            if known.guard.is_holding:
                self._consider(known, restarted=True)
            elif not known.latest.is_stale:
                known.latest = replace(known.latest, answered_at=watch.heard_at)
            known.tell()

    # --- following ----------------------------------------------------------------------------------------

    async def _follow(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                while True:
                    await self._try_to_follow()
                    down_for = time.monotonic() - (self._failing_since or time.monotonic())
                    await anyio.sleep(reopening_pause(self._failures, down_for, random.uniform))
        finally:
            self._following = self._watch = None
            self._is_read = False
            self._bell.ring()

    async def _try_to_follow(self) -> None:
        try:
            await self._list()
            await self._watch_on()
        except ClientClosed:
            self._closed = True
            self._bell.ring()
        except ConsulAccessError as error:
            self._failed(error)
        except Exception as error:  # the engine outlives everything
            log.exception("watching the registry failed in a way that was not foreseen; it goes on")
            self._failed(BadAnswer(f"it cannot be read ({error!r})"))

    async def _list(self) -> None:
        items, revision = await self._reader.read_all(kv.Get(self._range.key, self._range.end))
        restarted = revision < self._revision
        self._revision = revision
        self._is_read = True
        self._holdings.fill(items)
        self._publish(self._known.values(), restarted=restarted)

    async def _watch_on(self) -> None:
        self._watch = AsyncKeyWatch(
            self._gateway, self._reader, [self._range], start=self._revision + 1, on_state=self._became
        )
        changed: set[str] = set()
        restarted = False
        async with self._watch as watch:
            async for event in watch:
                restarted = restarted or event.revision < self._revision
                self._revision = event.revision
                changed |= self._holdings.take(event)
                if not watch.pending:  # what came together is told together
                    self._publish(
                        [one for one in self._known.values() if one.reading.concerns(changed)], restarted=restarted
                    )
                    changed, restarted = set(), False
                    self._trusts_again()

    def _became(self, state: KeyWatchState) -> None:
        if state is KeyWatchState.CONNECTED:
            self._failures, self._failing_since = 0, None
            self._trusts_again()
        self._bell.ring()

    def _trusts_again(self) -> None:
        """Ends the doubts when a watch goes on, as soon as that has told what happened meanwhile."""
        watch = self._watch
        if self._trouble is None or watch is None or watch.state is not KeyWatchState.CONNECTED or watch.is_behind:
            return
        self._trouble = None
        log.info("the registry can be watched again")
        for known in self._known.values():
            if not known.guard.is_holding:
                known.error = None
                known.trust()
                known.tell()

    # --- what becomes of it -------------------------------------------------------------------------------

    def _publish(self, concerned: Iterable[Known], *, restarted: bool) -> None:
        for known in tuple(concerned):
            self._consider(known, restarted=restarted)
            known.tell()

    def _consider(self, known: Known, *, restarted: bool) -> None:
        """Takes over what the copy holds, unless that is hard to believe."""
        now = time.monotonic()
        value = known.reading.select(self._holdings)
        before = known.reading.value(known.latest)
        doubtful = restarted or known.guard.is_holding
        verdict = known.guard.judge(len(before), len(value), restarted=doubtful, confirmed=True, now=now)
        if verdict is Verdict.HOLD:
            known.doubt(DOUBTFUL)
            return
        same = known.latest.source in {"live", "memory"} and known.reading.same(before, value)
        known.error = None
        value = before if same else value
        known.latest = known.reading.confirmed(value, self._revision, now, shared=False, reason="")
        if self._trouble is not None:
            known.doubt(str(self._trouble), self._trouble)

    def _failed(self, error: ConsulAccessError) -> None:
        self._failures += 1
        self._failing_since = self._failing_since or time.monotonic()
        self._watch = None
        self._doubted(error)

    def _doubted(self, error: ConsulAccessError) -> None:
        if self._trouble is None:
            log.warning("the registry cannot be watched: %s", error)
        self._trouble = error
        for known in self._known.values():
            known.doubt(str(error), error)
            known.tell()


def make_keyed_hub(settings: EtcdSettings, given: Any, tell: Callable[[Exchange], None]) -> KeyedHub:
    """The engine, with connections of its own.

    Args:
        settings: the client's.
        given: the httpx transport that the client was given, of either face.
        tell: is told of every exchange.
    """
    gateway = AsyncGateway(settings, transport=for_tasks(given, settings.max_connections))
    gateway.add_hook(tell)
    return KeyedHub(gateway, Holdings(codec_named(settings.codec), settings.prefix), settings.prefix)
