"""What is known about a service when it is to be explained, sorted for the judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from consul_access.errors import ConsulAccessError
from consul_access.models.catalog import AgentInfo, AgentService, Check, HealthEntry, Node
from consul_access.models.instance import ServiceInstance
from consul_access.models.meta import Entries
from consul_access.models.query import Query, policy_of
from consul_access.models.status import HealthPolicy
from consul_access.rules.seeing import Surroundings, hidden, with_outputs, words
from consul_access.rules.telling import lacking

__all__ = ["Case", "Facts", "known"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was gathered. Every fact may be missing: then it is the error that stands for it.

    Args:
        asked: the name or id.
        query: the options of the look-up.
        address: the agent that was asked.
        agent: who that is.
        local: the services it holds, by id.
        local_checks: the checks it holds, by id; their output is newer than the catalog's.
        leader: the servers' leader; empty for none.
        names: the names of all services that the token may see.
        acls: whether access is controlled; None when that cannot be told.
        service: the service's name, once it is known.
        instance_id: the id, if an id was asked about.
        entries: all instances of the service, in any state.
        fitting: those that fit the narrowing options, in any state; None when there are no such options.
        found: what the look-up as asked gives.
        node: what the catalog holds under the agent's node name.
        searched: how many services were looked through for the id.
        elsewhere: another datacenter than the agent's was asked about, so that its own services do not matter.
    """

    asked: str
    query: Query = field(default_factory=Query)
    address: str = ""
    agent: AgentInfo | ConsulAccessError
    local: Mapping[str, AgentService] | ConsulAccessError
    local_checks: Mapping[str, Check] | ConsulAccessError
    leader: str | ConsulAccessError
    names: frozenset[str] | ConsulAccessError
    acls: bool | ConsulAccessError | None
    service: str | None
    instance_id: str | None = None
    entries: Entries[HealthEntry] | ConsulAccessError
    fitting: Entries[ServiceInstance] | ConsulAccessError | None = None
    found: Entries[ServiceInstance] | ConsulAccessError
    node: Node | ConsulAccessError | None
    searched: int = 0
    elsewhere: bool = False

    def failures(self) -> list[ConsulAccessError]:
        """The errors that stand for missing facts."""
        facts = (
            self.found,
            self.agent,
            self.local,
            self.local_checks,
            self.leader,
            self.names,
            self.acls,
            self.entries,
            self.fitting,
            self.node,
        )
        return [fact for fact in facts if isinstance(fact, ConsulAccessError)]


def known(fact: T | ConsulAccessError, otherwise: T) -> T:
    """The fact, or something else when it is missing."""
    return otherwise if isinstance(fact, ConsulAccessError) else fact


class Case:
    """The facts, sorted.

    Args:
        facts: as gathered.

    `everything` holds all instances of the service, `entries` those that the question is about, `only_local` what the
    agent holds and the catalog does not; `local` is None when the two cannot be compared.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.policy = policy_of(facts.query) or HealthPolicy.PASSING
        checks = {} if isinstance(facts.local_checks, ConsulAccessError) else facts.local_checks
        self.everything = with_outputs(known(facts.entries, Entries[HealthEntry]()), checks.values())
        self.entries = [entry for entry in self.everything if facts.instance_id in {None, entry.service.id}]
        self.node_name = "" if isinstance(facts.agent, ConsulAccessError) else facts.agent.node_name
        self.names = known(facts.names, frozenset[str]())
        self.local = self._local()
        held = {entry.service.id for entry in self.entries if entry.node.name == self.node_name}
        self.only_local = [service for service in (self.local or {}).values() if service.id not in held]

    def _local(self) -> dict[str, AgentService] | None:
        facts = self.facts
        if isinstance(facts.local, ConsulAccessError) or not self.node_name or facts.elsewhere:
            return None
        return {
            service_id: service
            for service_id, service in facts.local.items()
            if service.name == facts.service and facts.instance_id in {None, service_id}
        }

    def at_agent(self, entry: HealthEntry) -> bool | None:
        """Whether the asked agent holds it; None when that agent is another node's, or could not be asked."""
        if self.local is None or entry.node.name != self.node_name:
            return None
        return entry.service.id in self.local

    def fits(self, entry: HealthEntry) -> bool:
        """Whether it fits the narrowing options, as far as that is known."""
        fitting = self.facts.fitting
        if fitting is None or isinstance(fitting, ConsulAccessError):
            return True
        return any((one.node, one.id) == (entry.node.name, entry.service.id) for one in fitting)

    def misfit(self, entry: HealthEntry) -> str:
        """Why it does not fit them."""
        query = self.facts.query
        tags = query.get("tags", ())
        missing = lacking([tags] if isinstance(tags, str) else tags, entry.service.tags)
        if missing:
            return missing
        for key, value in query.get("meta", {}).items():
            held = entry.service.meta.get(key)
            if held is None:
                return f"its meta has no {key!r}"
            if held != value:
                return f"its meta {key!r} is {held!r}"
        return f"it does not fit {words(query)}"

    def veil(self) -> tuple[str, bool]:
        """Why there may be more than can be seen, and whether that is certain; an empty text when it is not so."""
        facts = self.facts
        meta = facts.entries.meta if isinstance(facts.entries, Entries) else None
        around = Surroundings(
            names=self.names,
            acls=known(facts.acls, None),
            default_policy=meta.default_acl_policy if meta is not None else None,
            filtered=meta.filtered_by_acls if meta is not None else None,
        )
        return hidden(facts.service or facts.asked, around)

    def reserved_by(self) -> str:
        """The id of the other node that the catalog holds under the agent's node name; empty when there is none."""
        node, agent = self.facts.node, self.facts.agent
        if node is None or isinstance(node, ConsulAccessError) or isinstance(agent, ConsulAccessError):
            return ""
        return node.id if node.id and agent.node_id and node.id != agent.node_id else ""
