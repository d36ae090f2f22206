# Written by tools/faces.py from consul_access/_async/keyed_waiting.py; edit that one.
"""`wait_for` at etcd: listens to what the client's engine tells until enough instances are there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from consul_access._pairs.threads import Bell, Later, settled
from consul_access.errors import ClientClosed, ConsulAccessError, InvalidInput
from consul_access.models.durations import Duration, seconds
from consul_access.models.instance import ServiceInstance
from consul_access.models.meta import Entries
from consul_access.models.progress import Progress, ProgressKind
from consul_access.models.query import Query, RegistryQuery
from consul_access.models.snapshot import ServiceSnapshot
from consul_access.models.status import HealthPolicy
from consul_access.rules.seeing import failed, seen_instances, wanted_of
from consul_access.rules.selecting import Selection
from consul_access.rules.waiting import is_hopeless, not_ready

if TYPE_CHECKING:
    from consul_access._sync.watching import Engine

__all__ = ["KeyedWait"]


class KeyedWait:
    """One wait for one service.

    Args:
        engine: the client's.
        names: gives the names of all services.
        name: the service.
        at_least: how many instances.
        query: the options of the look-up.
        timeout: for all of it.
        on_progress: called with each new progress.
    """

    def __init__(
        self,
        engine: Engine,
        names: Callable[[], Later[Iterable[str]]],
        name: str,
        at_least: int,
        *,
        query: RegistryQuery,
        timeout: Duration,
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        self._engine = engine
        self._names = names
        self._known_names: frozenset[str] | None = None
        self._on_progress = on_progress
        self._allowed = seconds(timeout, what="timeout")
        if not 0 < self._allowed < float("inf"):
            raise InvalidInput(f"timeout={timeout!r} is no time to wait: write more than 0 seconds")
        self._selection = Selection.of(query)
        (self._wanted,) = wanted_of({name: at_least}, cast("Query", query))
        self._progress = Progress(name, wanted=at_least, policy=self._wanted.policy)
        self._bell = Bell()
        self._snapshot: ServiceSnapshot | None = None
        self._error: ConsulAccessError | None = None
        self._over = False

    def run(self) -> Entries[ServiceInstance]:
        """The instances, as soon as there are enough.

        Raises:
            NotReady: the time is up.
        """
        from consul_access._live.keyed import KeyedReading

        began = time.monotonic()
        everything = KeyedReading(self._wanted.service, Selection(HealthPolicy.ANY))
        end = self._engine.listen(everything, self._hear, self._end)
        try:
            while True:
                rung = self._bell.rung
                if self._over:
                    raise ClientClosed("the client was closed while it waited")
                found = self._judged(self._snapshot, self._error)
                if found is not None:
                    return found
                left = began + self._allowed - time.monotonic()
                if left <= 0 or not self._bell.wait(rung, left):
                    raise not_ready([self._progress], time.monotonic() - began, self._error)
        finally:
            end()

    def _hear(self, snapshot: Any, error: ConsulAccessError | None) -> None:
        self._snapshot, self._error = snapshot, error
        self._bell.ring()

    def _end(self) -> None:
        self._over = True
        self._bell.ring()

    def _judged(
        self, snapshot: ServiceSnapshot | None, error: ConsulAccessError | None
    ) -> Entries[ServiceInstance] | None:
        if snapshot is None:
            return None
        if error is not None:
            if is_hopeless(error):
                raise error
            self._tell(failed(self._wanted, error, self._progress))
            return None
        if snapshot.is_stale:
            return None
        names = () if snapshot.instances else self._all_names()
        progress = seen_instances(self._wanted, snapshot.instances, self._selection, names)
        self._tell(progress)
        if progress.kind is not ProgressKind.READY:
            return None
        return Entries(self._selection.of_these(snapshot.instances))

    def _all_names(self) -> Iterable[str]:
        """Asked for once: it is for a hint at a name that was misspelt."""
        if self._known_names is None:
            try:
                self._known_names = frozenset(self._names())
            except ConsulAccessError:  # the hint is not worth an error
                return ()
        return self._known_names

    def _tell(self, progress: Progress) -> None:
        before, self._progress = self._progress, progress
        if progress != before and self._on_progress is not None:
            settled(self._on_progress(progress))
