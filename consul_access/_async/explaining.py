"""`explain(...)`: gathers what can be known about a service, and has it judged. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from consul_access import consul
from consul_access._async.transport import AsyncTransport
from consul_access.call import Call
from consul_access.errors import ClientClosed, ConnectionLost, ConsulAccessError, InvalidInput
from consul_access.models.address import Target
from consul_access.models.catalog import AgentInfo, AgentService
from consul_access.models.explanation import Explanation
from consul_access.models.filters import quoted
from consul_access.models.instance import ServiceInstance
from consul_access.models.meta import Entries
from consul_access.models.query import Query
from consul_access.models.status import HealthPolicy
from consul_access.rules.explaining import Facts, explain, identify, is_away, likely_names, servers_are_silent
from consul_access.rules.seeing import scope_of, words

__all__ = ["AsyncInquiry"]

T = TypeVar("T")

SEARCHED = 50
"""So many services are looked through for an id that neither the agent nor a check knows."""


class AsyncInquiry:
    """One question about one service or instance.

    Args:
        transport: what it travels through.
        asked: a name or an id.
        query: the options of the look-up that is to be explained.
    """

    def __init__(self, transport: AsyncTransport, asked: str, query: Query) -> None:
        for option in ("index", "wait"):
            if option in query:
                raise InvalidInput(
                    f"{option}= is for blocking reads, there is nothing to explain about it; leave it out"
                )
        consul.health.instances(asked, **query)  # whatever is wrong with the arguments is said before anything is sent
        self._transport = transport
        self._asked = asked
        self._query = query
        self._scope = scope_of(query)
        self._target: Target | None = None
        self._away: ConsulAccessError | None = None
        self._silent: ConsulAccessError | None = None

    async def run(self) -> Explanation:
        """Gathers and judges."""
        try:
            self._target = await self._transport.pin()
        except ClientClosed:
            raise
        except ConsulAccessError as error:
            self._away = error
        agent = await self._fact(consul.agent.about())
        local = await self._fact(consul.agent.services())
        local_checks = await self._fact(consul.agent.checks())
        leader = await self._fact(consul.status.leader(), of_servers=True)
        acls = await self._fact(consul.acl.in_force(), of_servers=True)
        tags = await self._fact(consul.catalog.services(**self._scope), of_servers=True)
        names = tags if isinstance(tags, ConsulAccessError) else frozenset(tags)
        service, instance_id, searched = await self._identified(names, local)
        name = service or self._asked
        node = None
        if not isinstance(agent, ConsulAccessError) and agent.node_name:
            node = await self._fact(consul.catalog.node(agent.node_name), of_servers=True)
        entries = await self._fact(consul.health.service(name, **self._scope), of_servers=True)
        found = await self._fact(consul.health.instances(name, **self._query), of_servers=True)
        facts = Facts(
            asked=self._asked,
            query=self._query,
            address=str(self._target or self._transport.settings.targets[0]),
            agent=agent,
            local=local,
            local_checks=local_checks,
            leader=leader,
            names=names,
            acls=acls,
            service=service or (name if entries and not isinstance(entries, ConsulAccessError) else None),
            instance_id=instance_id,
            entries=entries,
            fitting=await self._fitting(name),
            found=found,
            node=node,
            searched=searched,
            elsewhere=self._is_elsewhere(agent),
        )
        return explain(facts)

    async def _fact(self, call: Call[T], *, of_servers: bool = False) -> T | ConsulAccessError:
        """The answer, or why there is none. Whoever has not answered is not asked again."""
        missing = self._away or (self._silent if of_servers else None)
        if missing is not None:
            return missing
        try:
            try:
                return await self._transport.send(call, target=self._target, once=True)
            except ConnectionLost:  # one that was kept from earlier calls may have ended since
                return await self._transport.send(call, target=self._target, once=True)
        except ClientClosed:
            raise
        except ConsulAccessError as error:
            self._note(error, of_servers=of_servers)
            return error

    def _note(self, error: ConsulAccessError, *, of_servers: bool) -> None:
        if of_servers and servers_are_silent(error):
            self._silent = error
        elif is_away(error):
            self._away = error

    async def _identified(
        self, names: frozenset[str] | ConsulAccessError, local: Mapping[str, AgentService] | ConsulAccessError
    ) -> tuple[str | None, str | None, int]:
        """The service's name, the id if one was asked about, and how many services were looked through for that."""
        service, instance_id = identify(self._asked, names, local)
        if service is not None:
            return service, instance_id, 0
        service, searched = await self._owner(names)
        return service, None if service is None else self._asked, searched

    async def _owner(self, names: frozenset[str] | ConsulAccessError) -> tuple[str | None, int]:
        """The service that has an instance of this id at some other agent."""
        wanted: Query = {**self._scope, "filter": f"ServiceID == {quoted(self._asked)}"}
        checks = await self._fact(consul.health.state("any", **wanted), of_servers=True)
        if checks and not isinstance(checks, ConsulAccessError):
            return checks[0].service_name, 0
        candidates = [] if isinstance(names, ConsulAccessError) else likely_names(self._asked, names)[:SEARCHED]
        for name in candidates:
            entries = await self._fact(consul.catalog.service(name, **wanted), of_servers=True)
            if entries and not isinstance(entries, ConsulAccessError):
                return name, 0
        return None, len(candidates)

    async def _fitting(self, name: str) -> Entries[ServiceInstance] | ConsulAccessError | None:
        if not words(self._query):
            return None
        query: Query = {**self._query, "policy": HealthPolicy.ANY}
        return await self._fact(consul.health.instances(name, **query), of_servers=True)

    def _is_elsewhere(self, agent: AgentInfo | ConsulAccessError) -> bool:
        asked = self._query.get("datacenter") or self._transport.consul_settings.datacenter
        return bool(asked) and not isinstance(agent, ConsulAccessError) and agent.datacenter != asked
