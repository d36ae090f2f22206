"""A service that is registered at one agent, pinned to one IP address, which runs its checks.

When that agent is gone for good and the client has further addresses, the registration moves, and the copy at the
former agent is removed: from the catalog at once, and from the agent as soon as it answers again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from consul_access import consul
from consul_access._async.former_agents import AsyncFormerAgents
from consul_access._async.place import HANGING, StillThere, Teller
from consul_access._async.whereabouts import GLANCE, AsyncWhereabouts
from consul_access._pairs.tasks import Later, sleep
from consul_access.call import Call, Reply
from consul_access.errors import (
    ConnectFailed,
    ConsulAccessError,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    RequestRefused,
    Unavailable,
    UnknownService,
)
from consul_access.models.address import Address, Target
from consul_access.models.filters import quoted
from consul_access.models.status import CheckStatus
from consul_access.rules.keeping import beat_interval, drift
from consul_access.rules.moving import is_for_good, trace_of

if TYPE_CHECKING:
    from consul_access._async.announcing import AsyncAnnouncing
    from consul_access.models.definition import ServiceDefinition

__all__ = ["AsyncAtAgent"]

log = logging.getLogger("consul_access")

DIFFERENT_ANSWERS = 4
"""So many are remembered: agents tell several checks in any order."""
ANOTHER_TRY = 60.0
"""Seconds after which an agent that did not wait for changes is asked to once more."""
REMEDY = "Register at an agent of this machine, such as a DaemonSet's, by the host's address, or use mode=\"catalog\""
SYNCED_WITHIN = 1.0
"""Seconds that an agent is given to pass a deregistration on to the servers; milliseconds do, mostly."""


class AsyncAtAgent:
    """A registration at one agent.

    Args:
        access: the client.
        define: makes the definition for an agent.
        pin: gives a server that takes connections.
        places: gives all servers that the client knows, each at one IP address.
        may_move: whether these can be more than one.
        require_agent: refuses one of several servers.
        announce: registers a definition at a server, replacing existing checks or not.
        token: a number for the token that was accepted last.
        seats: one for each keeper that may wait for changes at the agent; each such wait holds a connection.
        tell: hears of events.
    """

    definition: ServiceDefinition
    _within: float
    """Seconds for one question: as long as a heartbeat may be late, so that a frozen agent is noticed by then."""
    _look: Call[str | None]

    def __init__(
        self,
        access: AsyncAnnouncing,
        define: Callable[[Target], ServiceDefinition],
        *,
        pin: Callable[[], Later[Target]],
        places: Callable[[], Later[list[Target]]],
        may_move: bool,
        require_agent: bool,
        announce: Callable[[ServiceDefinition, Target, bool], Later[object]],
        token: Callable[[], int],
        seats: deque[None],
        tell: Teller,
    ) -> None:
        self._access = access
        self._define = define
        self._where = AsyncWhereabouts(access, places)
        self._pin = pin
        self._places = places
        self.may_move = may_move
        self._require_agent = require_agent
        self._announce = announce
        self._token = token
        self._registered_with: int | None = None
        self._seats = seats
        self._seated = False
        self._tell = tell
        self.node = ""
        self._former = AsyncFormerAgents(self._where, tell)
        self._warned_of: Target | None = None
        self._hash = ""
        self._waits_from = float("-inf")
        self._sees_checks = False
        self._known: deque[bytes] = deque(maxlen=DIFFERENT_ANSWERS)
        self._said: tuple[CheckStatus, str] | None = None
        self._calls: list[Call[None]] = []

    @property
    def address(self) -> Address:
        """The agent."""
        return Address(self._agent.ip or self._agent.address.host, self._agent.address.port)

    @property
    def owes(self) -> bool:
        """Whether copies may be left at former agents."""
        return bool(self._former)

    # --- registering --------------------------------------------------------------------------------------

    async def settle(self, *, fail_fast: bool) -> None:
        """Pins one agent."""
        try:
            agent = await self._pin()
        except Unavailable:
            if fail_fast:
                raise
            agent = self._access.settings.targets[0]
        self._go_to(agent)

    def _go_to(self, agent: Target) -> None:
        self.definition = self._where.definition = self._define(agent)
        self._agent = agent
        self.node = ""
        self._registered_with = None
        self._hash, self._waits_from, self._sees_checks = "", float("-inf"), False
        self._known.clear()
        self._within = max(2.0, beat_interval(self.definition) or 5.0)
        asked: Call[Any] = consul.agent.service_health(self.definition.id)
        self._look = asked._replace(read=self._differs)

    async def register(self, *, again: bool) -> None:
        """Registers at the pinned agent; the first time, at whichever takes connections."""
        self._hash = ""
        if again:
            await self._recognize()
        in_maintenance = again and await self._is_in_maintenance()
        try:
            await self._announces(self._agent, not in_maintenance)
        except ConnectFailed:  # so nothing was sent
            if again or not await self._registered_at_another():
                raise

    async def _registered_at_another(self) -> bool:
        """Tries the client's other addresses, which are as good as the first as long as nothing is registered."""
        if not self.may_move:
            return False
        first = self._agent
        for place in await self._places():
            if place != first:
                self._go_to(place)
                with contextlib.suppress(ConnectFailed):
                    await self._announces(place, True)
                    return True
        self._go_to(first)
        return False

    async def _announces(self, agent: Target, replace_checks: bool) -> None:
        if self._require_agent and (servers := await self._where.fellow_servers(agent, HANGING)):
            raise InvalidInput(
                f"{self.definition.id} was not registered at {agent}, one of {servers} Consul servers, since "
                f"require_agent=True: {REMEDY}"
            )
        await self._announce(self.definition, agent, replace_checks)
        self._registered_with = self._token()

    async def _is_in_maintenance(self) -> bool:
        """Whether somebody has put the service into maintenance, which replacing its checks would end silently."""
        try:
            checks = await self._access.send(
                consul.agent.checks(service_id=self.definition.id), target=self._agent, within=HANGING
            )
        except RequestRefused:  # a token that may write, and not read
            return False
        return f"_service_maintenance:{self.definition.id}" in checks

    async def _recognize(self) -> None:
        """The agent has forgotten the service: is it still the one it was registered at?"""
        known, found = self.node, await self._where.node_at(self._agent)
        self.node = found
        if not known or not found or known == found:
            return
        place = await self._where.place_of(known, besides=self._agent)
        self._former.leave(known, place)
        await self._tell(
            "wrong_agent",
            f"{self._agent} was node {known!r} when the service was registered, and is node {found!r} now; it is "
            "registered there. If both agents live, the address leads to several: give each agent's own address, or "
            'use mode="catalog"',
        )

    # --- keeping ------------------------------------------------------------------------------------------

    async def beat(self, status: CheckStatus, output: str) -> None:
        """Reports all TTL checks."""
        for call in self._reports(status, output):
            await self._access.send(call, target=self._agent, within=self._within)

    def _reports(self, status: CheckStatus, output: str) -> list[Call[None]]:
        """The calls; mostly the same ones as the last time."""
        if self._said != (status, output):
            self._said = status, output
            self._calls = [
                consul.agent.update_check(check_id, status, output) for check_id in self.definition.ttl_check_ids()
            ]
        return self._calls

    async def look(self) -> str | None:
        """Compares the agent's copy with what was registered, and its token with the one that is in use."""
        differs = await self._access.send(self._look, target=self._agent, within=self._within)
        return differs or self._outdated()

    def _outdated(self) -> str | None:
        """An agent tells the servers of a service with the token that it was registered with, until it ends.

        Once that is revoked, a change of health stays at the agent, and the catalog keeps what was deregistered.
        """
        if self._registered_with is None or self._registered_with == self._token():
            return None
        return "the agent holds it with a token that is not in use any more, and could not tell the servers of changes"

    def _differs(self, reply: Reply) -> str | None:
        """What an answer shows otherwise. One that is the same, byte for byte, as an earlier one says the same."""
        if reply.body in self._known:
            return None
        found = consul.agent.service_health(self.definition.id).read(reply)
        if found.service is None:
            raise UnknownService(f"the agent has no service {self.definition.id!r}")
        checks = {check.id: check for check in found.checks}
        self.node = next((check.node for check in found.checks if check.node), self.node)
        # A token that may not read checks is shown none; that alone is no reason to register again and again.
        self._sees_checks = self._sees_checks or bool(set(checks) & set(self.definition.check_ids()))
        differs = drift(self.definition, found.service, checks if self._sees_checks else None)
        if differs is None and self._sees_checks:
            self._known.append(reply.body)
        return differs

    def can_watch(self) -> bool:
        """Whether one of the client's seats is free, and the agent does wait."""
        if time.monotonic() < self._waits_from:
            return False
        if not self._seated:
            try:
                self._seats.pop()
            except IndexError:
                return False
            self._seated = True
        return True

    async def watch(self, seconds: float) -> str | None:
        """Has the agent answer when its copy changes."""
        deadline = time.monotonic() + seconds
        if not self._hash:
            found = await self._access.send(
                consul.agent.service(self.definition.id), target=self._agent, within=min(seconds, self._within)
            )
            self._hash = found.content_hash
            if not self._hash:
                self._waits_not("tells no hash to wait by")
                return None
            if (differs := drift(self.definition, found, None)) is not None:
                return differs
        return await self._waits(deadline - time.monotonic())

    async def _waits(self, seconds: float) -> str | None:
        begun = time.monotonic()
        wait = max(0.05, (seconds - 0.2) * 16 / 17)  # agents add up to a sixteenth
        call = consul.agent.service(self.definition.id, wait=wait, content_hash=self._hash)
        try:
            found = await self._access.send(call, target=self._agent, within=max(0.1, seconds))
        except DeadlineExceeded:  # the next step will find out why
            return None
        if found.content_hash == self._hash and time.monotonic() - begun < wait / 2:
            self._waits_not("does not wait for changes")
            return None
        self._hash = found.content_hash
        return drift(self.definition, found, None)

    def _waits_not(self, reason: str) -> None:
        log.debug("%s %s; %s is looked at every few seconds instead", self._agent, reason, self.definition.id)
        self._hash, self._waits_from = "", time.monotonic() + ANOTHER_TRY

    async def confirm(self, within: float | None = None) -> bool:
        """Agents answer 200 also when the servers will never hear of a registration."""
        limit = HANGING if within is None else min(HANGING, within)
        nodes = await self._where.shown_at(self._agent, within=within)
        if not self.node:
            self.node = await self._where.node_at(self._agent, within=limit)
        # Other nodes may have the same id: it is unique at one agent only.
        if (self.node not in nodes) if self.node else not (nodes - self._former.nodes):
            return False
        self._former.come_home(self.node, self._agent)
        await self._warn_of_servers(limit)
        return True

    async def _warn_of_servers(self, within: float) -> None:
        """One of several servers is no agent to register at: when it goes, the registration goes with it."""
        if self._warned_of is self._agent:
            return
        self._warned_of = self._agent
        try:
            servers = await self._where.fellow_servers(self._agent, within)
        except ConsulAccessError as error:
            log.debug("whether %s is a server cannot be told: %s", self._agent, error)
            return
        if servers:
            log.warning(
                "%s is registered at %s, one of %d Consul servers: when that server stops, the service is gone from "
                "every look-up%s. %s",
                self.definition.id,
                self._agent,
                servers,
                " until it is registered at another" if self.may_move else "",
                REMEDY,
            )

    # --- moving -------------------------------------------------------------------------------------------

    async def elsewhere(self, away: float) -> str | None:
        """Asks the others how they see the copy here, and goes to the first that answers when nobody is sent here."""
        call = consul.health.service(self.definition.name, filter=f"Service.ID == {quoted(self.definition.id)}")
        for place in await self._places():
            if place == self._agent:
                continue
            try:
                entries = await self._access.send(call, target=place, within=HANGING)
            except ConsulAccessError as error:
                log.debug("%s cannot say how %s stands: %s", place, self.definition.id, error)
                continue
            trace = trace_of(entries, self.definition.id, self.node)
            if not is_for_good(trace, away, 3 * (beat_interval(self.definition) or 0.0)):
                return None
            former, node = self._agent, self.node
            self._go_to(place)
            self._former.come_home("", place)
            self._former.leave(node, former)
            return (
                f"{former}{f' (node {node!r})' if node else ''} has not answered for {away:.1f} s, and its copy is "
                f"{trace} in the catalog; it goes on at {place}"
            )
        return None

    async def clean(self) -> float | None:
        """Removes the copies at former agents, as far as these answer, and what the catalog shows of them."""
        if self._former:
            self.node = self.node or await self._where.node_at(self._agent, within=GLANCE)
            await self._former.clean(self.node, self._agent)
        return self._former.pause()

    # --- the end ------------------------------------------------------------------------------------------

    async def drain(self, reason: str) -> None:
        """Puts the service into maintenance."""
        await self._access.send(
            consul.agent.maintenance(self.definition.id, True, reason), target=self._agent, within=HANGING
        )

    async def take_back(self) -> None:
        """Deregisters; the reason to do so is the one to hear about."""
        with contextlib.suppress(ConsulAccessError):
            await self._access.send(consul.agent.deregister(self.definition.id), target=self._agent, within=HANGING)

    async def end(self, deadline: float) -> bool:
        """Deregisters at the agent, sees that the catalog agrees, and removes what was left elsewhere."""
        try:
            removed = await self._gone(self._agent, deadline)
            return await self._gone_from_the_catalog(removed, deadline)
        except Unavailable:
            if self.may_move:
                await self._gone_without_its_agent(deadline)
            raise
        finally:
            await self._former.gone_at_last(self._agent, deadline, self.consequence())

    async def _gone(self, agent: Target, deadline: float) -> bool:
        """Deregisters and looks whether it is gone; a registration still on its way may arrive after the first try."""
        left = deadline - time.monotonic()
        removed = await self._access.deregister_service(self.definition.id, target=agent, within=min(HANGING, left))
        while time.monotonic() < deadline:
            try:
                await self._access.send(
                    consul.agent.service(self.definition.id), target=agent, within=min(HANGING, left)
                )
            except (NotFound, RequestRefused):
                return removed
            call = consul.agent.deregister(self.definition.id)
            await self._access.send(call, target=agent, within=min(HANGING, left))
        return removed

    async def _gone_from_the_catalog(self, removed: bool, deadline: float) -> bool:
        """Sees that nobody finds it any more. Other agents answer 200 to a deregistration and do nothing."""
        until, pause = min(deadline, time.monotonic() + SYNCED_WITHIN), 0.005
        while self.node and await self._is_shown(deadline):
            if not removed and await self._is_another_agent():
                return await self._gone_from_the_right_agent(deadline)
            if time.monotonic() + pause > until:
                if await self._is_held_again():
                    return removed
                raise StillThere(
                    f"{self._agent} has deregistered {self.definition.id}, and the catalog still shows it at node "
                    f"{self.node!r}: the servers cannot be reached, or refuse it to the agent's own token"
                )
            await sleep(pause)
            pause *= 2
        return removed

    async def _is_shown(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        try:
            return left > 0 and self.node in await self._where.shown_at(self._agent, within=min(HANGING, left))
        except ConsulAccessError as error:
            log.debug("whether %s is gone from the catalog cannot be told: %s", self.definition.id, error)
            return False

    async def _is_held_again(self) -> bool:
        """Whether somebody has registered the same id meanwhile, as workers that share one do: then it is theirs."""
        with contextlib.suppress(NotFound):
            await self._access.send(consul.agent.service(self.definition.id), target=self._agent, within=HANGING)
            return True
        return False

    async def _is_another_agent(self) -> bool:
        return await self._where.node_at(self._agent) not in {"", self.node}

    async def _gone_from_the_right_agent(self, deadline: float) -> bool:
        """The address leads to another agent than at the registration."""
        place = await self._where.place_of(self.node, besides=self._agent)
        where = f"{self._agent} is no longer the agent of node {self.node!r}, where {self.definition.id} is registered"
        if place is None:
            raise StillThere(
                f"{where}, and none of the client's addresses leads there: deregister it at that agent, and give "
                'each agent\'s own address, not one that stands for several, or use mode="catalog"'
            )
        await self._tell("wrong_agent", f"{where}; that one was found at {place}")
        return await self._gone(place, deadline)

    async def _gone_without_its_agent(self, deadline: float) -> None:
        """Takes a copy whose agent does not answer out of the catalog, by another address."""
        for place in await self._places():
            left = deadline - time.monotonic()
            if place == self._agent or left <= 0 or not self.node:
                continue
            with contextlib.suppress(ConsulAccessError):  # that the agent is away is the one to hear about
                call = consul.catalog.deregister(self.node, self.definition.id)
                await self._access.send(call, target=place, within=min(HANGING, left))
                return

    def farewell(self, send: Callable[..., Any], within: float, *, certain: bool) -> None:
        """Deregisters at the agent, and at former ones."""
        deadline = time.monotonic() + within
        call = consul.agent.deregister(self.definition.id)
        try:
            send(call, target=self._agent, within=within)
            if not certain:
                self._await_it(send, deadline)
        finally:
            self._former.farewell(send, deadline)

    def _await_it(self, send: Callable[..., Any], deadline: float) -> None:
        """The registration was on its way when the end came, and may arrive after its end."""
        for pause in (0.0, 0.05, 0.1, 0.2):
            time.sleep(pause)
            left = max(0.1, deadline - time.monotonic())
            with contextlib.suppress(NotFound):
                send(consul.agent.service(self.definition.id), target=self._agent, within=left)
                send(consul.agent.deregister(self.definition.id), target=self._agent, within=left)
                return

    def consequence(self) -> str:
        """Whether the agent will remove it by itself."""
        if any(check.deregister_critical_service_after is not None for check in self.definition.checks):
            return "the agent removes it by itself, as deregister_critical_service_after says, once its check fails"
        return "it stays registered: deregister it by hand, or give its check deregister_critical_service_after="

    def leave(self) -> None:
        """Frees the seat."""
        if self._seated:
            self._seated = False
            self._seats.append(None)
