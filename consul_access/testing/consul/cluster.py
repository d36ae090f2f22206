"""Servers and agents as one state: agents share a catalog, time passes for all of them, and a leader can be lost."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Final

from consul_access.testing.consul.access import ANONYMOUS, MANAGEMENT, Access, Policy, Token
from consul_access.testing.consul.catalog import Catalog, Check, Node, Service
from consul_access.testing.consul.dialect import Dialect

if TYPE_CHECKING:
    from consul_access.testing.consul.agent import Agent

__all__ = ["Cluster", "ServersAway"]

FAILURE_SEEN_AFTER: Final = 5.5
SERF_OUTPUT: Final = "Agent alive and reachable"
SERF_LOST: Final = "Agent not live or unreachable"


class ServersAway(Exception):
    """The servers cannot answer; the text is the agent's, the status 500."""


class Cluster:
    """What several agents have in common.

    Args:
        dialect: the version that all of them speak.
        datacenter: its name.
        acl: whether access is denied to whoever has no token.
        seed: what chance begins with; the same seed gives the same ids and the same jitter.
        now: the time at the beginning, in seconds.
        master: the secret of the token that may do everything; one is made up otherwise.
    """

    def __init__(
        self, dialect: Dialect, *, datacenter: str, acl: bool, seed: int, now: float, master: str | None = None
    ) -> None:
        self.dialect = dialect
        self.random = random.Random(seed)  # noqa: S311 - nobody's secret depends on it
        self.catalog = self._empty(datacenter)
        self.access = Access(enabled=acl)
        self.agents: list[Agent] = []
        self.now = now
        self.changes = 0
        """Counts what may have changed an answer."""
        self.away: str | None = None
        """The text with which the servers do not answer; None while they do."""
        self.stale_known = True
        """Whether stale answers say that there is a leader."""
        self.master = master or self.new_id()
        if acl:
            self._begin_access()

    def _empty(self, datacenter: str) -> Catalog:
        return Catalog(datacenter, self.dialect)

    def new_id(self) -> str:
        """A new UUID, from the seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def timestamp(self) -> str:
        """Now, as tokens note it."""
        seconds = int(self.now)
        return f"2026-01-01T{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"

    def _begin_access(self) -> None:
        all_rules = 'acl = "write" operator = "write"'
        about = "Builtin Policy that grants unlimited access"
        self.access.policies[MANAGEMENT] = Policy("00000000-0000-0000-0000-000000000001", MANAGEMENT, all_rules, about)
        anonymous = Token("00000000-0000-0000-0000-000000000002", ANONYMOUS, description="Anonymous Token")
        self.access.tokens[ANONYMOUS] = anonymous
        self.access.tokens[self.master] = Token(self.new_id(), self.master, [MANAGEMENT], "Master Token")
        for token in self.access.tokens.values():
            token.made_at = self.timestamp()

    # --- the servers' own part ----------------------------------------------------------------------------

    def join(self, agent: Agent) -> None:
        """The servers see a new agent: its node appears in the catalog, alive."""
        if agent not in self.agents:
            self.agents.append(agent)
        self.see(agent, alive=True)
        self.changed()

    def see(self, agent: Agent, *, alive: bool) -> None:
        """The servers note whether an agent is there."""
        node = self.catalog.nodes.get(agent.node.name.lower())
        known = node or Node(agent.node.name, agent.node.address, agent.node.id)
        status, output = ("passing", SERF_OUTPUT) if alive else ("critical", SERF_LOST)
        check = Check("serfHealth", "Serf Health Status", agent.node.name, status, output=output)
        self.catalog.register(known, _consul_service(self) if agent.is_server else None, [check], skip_node=True)

    def forget(self, agent: Agent) -> None:
        """An agent has left: so has its node."""
        self.catalog.deregister(agent.node.name)
        self.changed()

    def write(self) -> Catalog:
        """The catalog, to be written.

        Raises:
            ServersAway: there is no leader to write it.
        """
        if self.away is not None:
            raise ServersAway(self.away)
        return self.catalog

    def changed(self) -> None:
        """Something has: whoever waits for a change looks again."""
        self.changes += 1

    def lose_leader(self, text: str) -> None:
        """From now on the servers answer only what may be stale."""
        self.away, self.stale_known = text, False
        self.changed()

    def find_leader(self) -> None:
        """The servers work again, and learn what the agents could not tell them."""
        self.away, self.stale_known = None, True
        self.hear()

    def hear(self) -> None:
        """The servers learn what the agents could not tell them."""
        for agent in self.agents:
            if agent.is_up:
                agent.sync()
        self.changed()

    def wipe(self) -> None:
        """The servers lose everything; the agents tell them what they hold at their next full comparison."""
        self.catalog = self._empty(self.catalog.datacenter)
        for agent in self.agents:
            if agent.is_up:
                self.see(agent, alive=True)
        self.changed()

    # --- time ---------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Lets time pass: everything that is due by then happens, one after the other."""
        while (due := self.next_due()) is not None and due <= now:
            self.now = max(self.now, due)
            for agent in self.agents:
                agent.happen(self.now)
            self.changed()
        self.now = max(self.now, now)

    def next_due(self) -> float | None:
        """When something happens of its own accord; None if nothing will."""
        return min((due for agent in self.agents for due in agent.dues()), default=None)


def _consul_service(cluster: Cluster) -> Service:
    meta = {
        "non_voter": "false",
        "raft_version": "3",
        "serf_protocol_current": "2",
        "serf_protocol_max": "5",
        "serf_protocol_min": "1",
        "version": cluster.dialect.text,
    }
    if cluster.dialect.has_read_replicas:
        meta["read_replica"] = "false"
    return Service("consul", "consul", port=8300, meta=meta)
