# Written by tools/faces.py from consul_access/_async/keyed_waiting.py; edit that one.
"""`wait_for` at etcd: listens to what the client's engine tells until enough instances of each service are there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from consul_access._pairs.threads import Bell, Later, settled
from consul_access.errors import ClientClosed, ConsulAccessError, InvalidInput, NotReady
from consul_access.models import inputs
from consul_access.models.durations import Duration, seconds
from consul_access.models.instance import ServiceInstance
from consul_access.models.meta import Entries
from consul_access.models.progress import Progress, ProgressKind
from consul_access.models.query import Query, RegistryQuery
from consul_access.models.snapshot import ServiceSnapshot
from consul_access.models.status import HealthPolicy
from consul_access.rules.seeing import Wanted, failed, seen_instances, wanted_of
from consul_access.rules.selecting import Selection
from consul_access.rules.waiting import is_hopeless, not_ready

if TYPE_CHECKING:
    from consul_access._sync.watching import Engine

__all__ = ["KeyedWait"]


class _Course:
    """How far one service is."""

    __slots__ = ("error", "progress", "snapshot", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.progress = Progress(wanted.service, wanted=wanted.at_least, policy=wanted.policy)
        self.snapshot: ServiceSnapshot | None = None
        self.error: ConsulAccessError | None = None


class KeyedWait:
    """One wait for one service or several.

    Args:
        engine: gives the client's.
        names: gives the names of all services.
        services: how many instances of which service.
        query: the options of the look-up.
        timeout: for all of it.
        on_progress: called with each new progress.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        names: Callable[[], Later[Iterable[str]]],
        services: Mapping[str, int] | Iterable[str],
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
        self._courses = [_Course(wanted) for wanted in wanted_of(services, cast("Query", query))]
        for course in self._courses:
            inputs.identifier(course.wanted.service, "name")
        self._bell = Bell()
        self._over = False

    def run(self) -> dict[str, Entries[ServiceInstance]]:
        """The instances, by service, as soon as there are enough of each at the same time.

        Raises:
            NotReady: the time is up.
        """
        began = time.monotonic()
        with contextlib.ExitStack() as ends:
            for course in self._courses:
                ends.callback(self._listen(course))
            while True:
                rung = self._bell.rung
                if self._over:
                    raise ClientClosed("the client was closed while it waited")
                found = {course.wanted.service: self._judged(course) for course in self._courses}
                ready = {service: entries for service, entries in found.items() if entries is not None}
                if len(ready) == len(self._courses):
                    return ready
                left = began + self._allowed - time.monotonic()
                if left <= 0 or not self._bell.wait(rung, left):
                    raise self._not_ready(time.monotonic() - began)

    def _listen(self, course: _Course) -> Callable[[], None]:
        from consul_access._live.keyed import KeyedReading

        def hear(snapshot: Any, error: ConsulAccessError | None) -> None:
            course.snapshot, course.error = snapshot, error
            self._bell.ring()

        return self._engine().listen(KeyedReading(course.wanted.service, Selection(HealthPolicy.ANY)), hear, self._end)

    def _end(self) -> None:
        self._over = True
        self._bell.ring()

    def _not_ready(self, elapsed: float) -> NotReady:
        cause = next((course.error for course in self._courses if course.error is not None), None)
        return not_ready([course.progress for course in self._courses], elapsed, cause)

    def _judged(self, course: _Course) -> Entries[ServiceInstance] | None:
        snapshot, error = course.snapshot, course.error  # the engine's thread may set others meanwhile
        if snapshot is None:
            return None
        if error is not None:
            if is_hopeless(error):
                raise error
            self._tell(course, failed(course.wanted, error, course.progress))
            return None
        if snapshot.is_stale:
            return None
        names = () if snapshot.instances else self._all_names()
        progress = seen_instances(course.wanted, snapshot.instances, self._selection, names)
        self._tell(course, progress)
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

    def _tell(self, course: _Course, progress: Progress) -> None:
        before, course.progress = course.progress, progress
        if progress != before and self._on_progress is not None:
            settled(self._on_progress(progress))
