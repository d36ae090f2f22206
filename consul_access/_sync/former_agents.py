# Written by tools/faces.py from consul_access/_async/former_agents.py; edit that one.
"""The copies that a registration has left at former agents: removed as soon as these answer, and told at the end."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from consul_access import consul
from consul_access._sync.place import HANGING, Teller
from consul_access._sync.whereabouts import GLANCE, Whereabouts
from consul_access.errors import ConsulAccessError, NotFound
from consul_access.models.address import Target
from consul_access.rules.moving import Orphan, Orphans

__all__ = ["FormerAgents"]

log = logging.getLogger("consul_access")


class FormerAgents:
    """What is owed to agents that the registration was moved away from.

    Args:
        where: asks about the registration.
        tell: hears of events.
    """

    def __init__(self, where: Whereabouts, tell: Teller) -> None:
        self._where = where
        self._access = where.access
        self._tell = tell
        self._orphans = Orphans()

    def __bool__(self) -> bool:
        return bool(self._orphans)

    @property
    def nodes(self) -> frozenset[str]:
        """Where they are, as far as that is known."""
        return self._orphans.nodes

    def leave(self, node: str, place: Target | None) -> None:
        """A copy is left there."""
        self._orphans.leave(node, place, time.monotonic())

    def come_home(self, node: str, place: Target | None) -> None:
        """It is registered there again."""
        self._orphans.come_home(node, place)

    def pause(self) -> float | None:
        """Seconds until they should be seen to again; None when nothing is owed."""
        return self._orphans.pause(time.monotonic())

    def clean(self, node: str, agent: Target) -> None:
        """Removes the copies, as far as their agents answer, and what the catalog shows of them.

        Args:
            node: where the living copy is; before that is known none is removed.
            agent: the living copy's agent.
        """
        for orphan in self._orphans if node else ():
            self._cleaned(orphan, node, agent)

    def _cleaned(self, orphan: Orphan, node: str, agent: Target) -> None:
        if orphan.node == node:  # it was another way to the same agent
            self._orphans.come_home(orphan.node, orphan.place)
            return
        held = None
        if orphan.place is not None:
            held = self._held_at(orphan.place, node)
        self._settled(orphan, held, agent)

    def _held_at(self, place: Target, node: str) -> bool | None:
        """Deregisters at a former agent, unless the living copy is there."""
        try:
            if self._where.node_at(place, within=GLANCE) == node:
                return False
        except ConsulAccessError as error:
            log.debug("%s still cannot be asked to forget %s: %s", place, self._where.definition.id, error)
            return None
        return self._removed_at(place)

    def _removed_at(self, place: Target) -> bool | None:
        """Deregisters: whether the copy is still held after that, None when that cannot be told."""
        try:
            self._access.send(consul.agent.deregister(self._where.definition.id), target=place, within=GLANCE)
            self._access.send(consul.agent.service(self._where.definition.id), target=place, within=GLANCE)
        except NotFound:
            return False
        except ConsulAccessError as error:
            log.debug("%s still cannot be asked to forget %s: %s", place, self._where.definition.id, error)
            return None
        return True

    def _settled(self, orphan: Orphan, held: bool | None, asked: Target) -> None:
        """Takes what the catalog shows of it out, and notes how it stands."""
        shown = bool(orphan.node) and orphan.node in self._where.shown_at(asked, within=HANGING)
        if shown:
            call = consul.catalog.deregister(orphan.node, self._where.definition.id)
            self._access.send(call, target=asked, within=HANGING)
        if self._orphans.seen(orphan, held=held, shown=shown, now=time.monotonic()):
            agent = "" if held is False else "; its agent does not answer yet and is asked again"
            self._tell("orphan_removed", f"the catalog no longer shows the copy at {orphan}{agent}")

    def gone_at_last(self, agent: Target, deadline: float, consequence: str) -> None:
        """Nothing lives any more, so whatever holds a copy is told to forget it.

        Args:
            agent: the agent that was the last.
            deadline: in monotonic time.
            consequence: what becomes of a copy that could not be removed.
        """
        for orphan in self._orphans:
            self._gone_at_last(orphan, agent, deadline, consequence)

    def _gone_at_last(self, orphan: Orphan, agent: Target, deadline: float, consequence: str) -> None:
        held = None
        with contextlib.suppress(ConsulAccessError):  # what cannot be done now is said
            for _ in range(2):  # the second time sees whether that has helped
                if time.monotonic() < deadline:
                    held = None if orphan.place is None else self._removed_at(orphan.place)
                    self._settled(orphan, held, agent)
        if held is not False:
            log.warning(
                "%s was registered at %s before, whose agent has not answered; with its data it would bring the "
                "service back: %s",
                self._where.definition.id,
                orphan,
                consequence,
            )

    def farewell(self, send: Callable[..., Any], deadline: float) -> None:
        """Tells their agents when the process ends, by the face for threads."""
        for orphan in self._orphans:
            with contextlib.suppress(ConsulAccessError):  # what could be done is done
                if orphan.place is not None:
                    call = consul.agent.deregister(self._where.definition.id)
                    send(call, target=orphan.place, within=max(0.1, min(GLANCE, deadline - time.monotonic())))
