# Written by tools/faces.py from consul_access/_async/waiting.py; edit that one.
"""`wait_for(...)`: asks until enough instances are there, and tells what it sees on the way."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from consul_access import consul
from consul_access._pairs.threads import settled, sleep
from consul_access._sync.transport import Transport
from consul_access.call import Call
from consul_access.errors import ConsulAccessError, InvalidInput
from consul_access.models.catalog import HealthEntry
from consul_access.models.durations import Duration, seconds
from consul_access.models.instance import ServiceInstance
from consul_access.models.meta import Entries, QueryMeta
from consul_access.models.progress import Progress
from consul_access.models.query import Query
from consul_access.models.status import HealthPolicy
from consul_access.rules.blocking import Ask
from consul_access.rules.filtering import admits
from consul_access.rules.seeing import Surroundings, Wanted, scope_of, wanted_of, wants_outputs, with_outputs
from consul_access.rules.waiting import Waiting, is_hopeless

__all__ = ["Wait"]

T = TypeVar("T")
log = logging.getLogger("consul_access")

LONGEST_LOOK = 2.0
"""Seconds that finding out more about an empty answer may take."""


class Wait:
    """One wait for one service or several.

    Args:
        transport: what the questions travel through.
        services: how many instances of which service.
        query: the options of the look-ups.
        timeout: for all of it.
        on_progress: called with each new progress.
    """

    def __init__(
        self,
        transport: Transport,
        services: Mapping[str, int] | Iterable[str],
        query: Query,
        timeout: Duration,
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        self._transport = transport
        self._query = query
        self._on_progress = on_progress
        self._found: dict[str, Entries[ServiceInstance]] = {}
        self._known = Surroundings()
        allowed = seconds(timeout, what="timeout")
        if not 0 < allowed < float("inf"):
            raise InvalidInput(f"timeout={timeout!r} is no time to wait: write more than 0 seconds")
        self._wanted = wanted_of(services, query)
        now = time.monotonic()
        self._rule = Waiting(self._wanted, spread=random.uniform, now=now, deadline=now + allowed)

    def run(self) -> dict[str, Entries[ServiceInstance]]:
        """The instances, by service, as soon as there are enough of each.

        Raises:
            NotReady: the time is up.
        """
        rule = self._rule
        while (turn := rule.next(time.monotonic())) is not None:
            now = time.monotonic()
            if turn.due >= rule.deadline:
                sleep(max(0.0, rule.deadline - now))
            elif turn.due > now:
                sleep(turn.due - now)
            if time.monotonic() >= rule.deadline:
                raise rule.over(time.monotonic())
            self._look(turn.wanted)
        return {wanted.service: self._found[wanted.service] for wanted in self._wanted}

    def _look(self, wanted: Wanted) -> None:
        ask, within = self._rule.ask(wanted, time.monotonic())
        call = self._call(wanted, ask)
        try:
            entries = self._transport.send(call, within=within, once=True)
        except ConsulAccessError as error:
            if is_hopeless(error):
                raise
            self._tell(self._rule.failed(wanted, error, time.monotonic()))
            return
        self._found[wanted.service] = _admitted(wanted, entries)
        if entries:
            self._known = Surroundings()
        around = None if entries else self._around(wanted, entries.meta)
        judged = self._with_outputs(wanted, entries)
        self._tell(self._rule.answered(wanted, judged, around, entries.meta.index, time.monotonic()))

    def _call(self, wanted: Wanted, ask: Ask) -> Call[Entries[HealthEntry]]:
        query: Query = {**self._query, "policy": HealthPolicy.ANY}
        if ask.index is not None:
            query["index"], query["wait"] = ask.index, ask.wait
        return consul.health.service(wanted.service, **query)

    def _tell(self, progress: Progress | None) -> None:
        if progress is not None and self._on_progress is not None:
            settled(self._on_progress(progress))

    # --- what else there is to tell -----------------------------------------------------------------------

    def _with_outputs(self, wanted: Wanted, entries: Sequence[HealthEntry]) -> Sequence[HealthEntry]:
        """The same, with the outputs that the asked agent knows and the catalog does not yet."""
        if not wants_outputs(wanted, entries):
            return entries
        checks = self._fact(consul.agent.checks(service_name=wanted.service))
        return with_outputs(entries, (checks or {}).values())

    def _around(self, wanted: Wanted, meta: QueryMeta) -> Surroundings:
        """What else can be found out; what cannot be is left open."""
        registered = 0
        if wanted.narrowed:
            everything = self._fact(consul.health.service(wanted.service, **scope_of(self._query)))
            registered = len(everything or ())
        if self._known.names is None:
            self._look_around()
        return replace(
            self._known,
            registered=registered,
            default_policy=meta.default_acl_policy,
            filtered=meta.filtered_by_acls,
        )

    def _look_around(self) -> None:
        """Asked once for as long as nothing is seen: these things hardly change."""
        acls = self._fact(consul.acl.in_force())
        names = self._fact(consul.catalog.services(**scope_of(self._query)))
        self._known = Surroundings(names=None if names is None else frozenset(names), acls=acls)

    def _fact(self, call: Call[T]) -> T | None:
        left = self._rule.deadline - time.monotonic()
        try:
            return self._transport.send(call, within=max(0.0, min(LONGEST_LOOK, left)), once=True)
        except ConsulAccessError as error:
            log.debug("why the answer was empty cannot be told: %s", error)
            return None


def _admitted(wanted: Wanted, entries: Entries[HealthEntry]) -> Entries[ServiceInstance]:
    good = (entry.instance for entry in entries if admits(wanted.policy, entry.standing))
    return Entries(good, meta=entries.meta, rejected=entries.rejected)
