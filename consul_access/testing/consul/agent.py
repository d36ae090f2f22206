"""One agent: what it holds, what it tells the servers, and what happens to it in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from consul_access.errors import InvalidInput
from consul_access.testing.consul.access import Authorizer
from consul_access.testing.consul.catalog import Catalog, CatalogFault, Check, Node
from consul_access.testing.consul.cluster import FAILURE_SEEN_AFTER, Cluster, ServersAway
from consul_access.testing.consul.definitions import CheckDefinition
from consul_access.testing.consul.local import LocalCheck, LocalState, Probe, pace

__all__ = ["Agent"]

REAPED_EVERY: Final = 30.0
COMPARED_EVERY: Final = 60.0
OUTPUT_TOLD_AFTER: Final = 300.0
STUCK_FOR: Final = 60.0
UNREACHABLE: Final = (
    "rpc error getting client: failed to get conn: dial tcp {0}:0->{0}:8300: connect: connection refused"
)
STATUSES: Final = ("passing", "warning", "critical", "maintenance")
PROBED: Final = frozenset({"http", "tcp"})


class Agent:
    """An agent in a cluster.

    Args:
        cluster: what it shares with others.
        name: its node's name.
        address: its node's address.
        is_server: it is one of the servers.
        scripts: whether script and docker checks may be registered.
    """

    def __init__(self, cluster: Cluster, name: str, *, address: str, is_server: bool, scripts: bool) -> None:
        self.cluster = cluster
        self.is_server = is_server
        self.scripts = scripts
        self.is_up = True
        self.has_left = False
        self.probes: Callable[[], None] | None = None
        """Called when there is an HTTP or TCP address to be asked; None while none is."""
        self.checks_pass = False
        """Checks that an agent makes itself pass at once, unless they were registered with a status."""
        self.node = Node(name, address, cluster.new_id())
        self._fails_at: float | None = None
        self._is_known = True
        """Whether the servers know the node as it is; until then nothing on it can be registered."""
        self._begin()
        cluster.join(self)
        if not cluster.access.enabled:
            # With ACLs an agent that has no token of its own may not say more about its node.
            self._describe_node()

    def _begin(self) -> None:
        self.local = LocalState(self.cluster.dialect)
        self.stuck_until = 0.0
        self.index = 1
        now = self.cluster.now
        self._reaps = now + REAPED_EVERY
        self._compares = self._next_comparison(now)

    def _next_comparison(self, now: float) -> float:
        return now + COMPARED_EVERY + self.cluster.random.uniform(0, COMPARED_EVERY)

    def _describe_node(self) -> None:
        address = self.node.address
        self.node.tagged = {"lan": address, "lan_ipv4": address, "wan": address, "wan_ipv4": address}
        self.node.meta = {"consul-network-segment": ""}
        self._tell(lambda: self.write().register(self.node))

    # --- coming and going ---------------------------------------------------------------------------------

    def kill(self) -> None:
        """It ends without a word; the others notice after a few seconds."""
        self.is_up = False
        self._fails_at = self.cluster.now + FAILURE_SEEN_AFTER
        self.cluster.changed()

    def leave(self) -> None:
        """It ends in good order: its node and services leave the catalog at once."""
        self.is_up, self.has_left = False, True
        self._fails_at = None
        self.cluster.forget(self)

    def start(self, *, keep: bool) -> None:
        """It begins again.

        Args:
            keep: with what it held, or else with nothing and under a new id, as without its data directory.
        """
        seen_to_fail = not self.is_up and self._fails_at is None
        self.is_up, self.has_left, self._fails_at = True, False, None
        if not keep:
            self._begin()
            if not self.is_server or seen_to_fail:
                self.node.id = self.cluster.new_id()
                self._is_known = False
        self.local.reload(now=self.cluster.now)
        for held in self.local.checks.values():
            held.in_sync = False
            self._pass_at_once(held)
        for service in self.local.services.values():
            service.in_sync = False
        self._tell(self._compare)  # before it is seen: the name of a node that lives is not given to another id
        self._tell(lambda: self.cluster.see(self, alive=True))
        self.sync()
        if self.is_server:
            self.cluster.hear()

    # --- telling the servers ------------------------------------------------------------------------------

    @property
    def cut_off(self) -> str | None:
        """With which text an agent that is no server answers while no server runs; None otherwise."""
        if self.is_server or any(agent.is_server and agent.is_up for agent in self.cluster.agents):
            return None
        last = next((agent for agent in self.cluster.agents if agent.is_server and agent.is_missed), None)
        return "No known Consul servers" if last is None else UNREACHABLE.format(last.node.address)

    @property
    def is_missed(self) -> bool:
        """It has ended, and nobody has noticed yet."""
        return not self.is_up and self._fails_at is not None

    def write(self) -> Catalog:
        """The catalog, to be written by way of this agent.

        Raises:
            ServersAway: there is no server to write it.
        """
        if (text := self.cut_off) is not None:
            raise ServersAway(text)
        return self.cluster.write()

    def sync(self) -> None:
        """Tells the servers what they do not know yet. What they cannot take now is told later."""
        self._follow_aliases()
        for service_id, token in list(self.local.gone_services.items()):
            if self._tell(partial(self._deregister, service_id=service_id), token):
                del self.local.gone_services[service_id]
        for held in list(self.local.services.values()):
            if not held.in_sync:
                held.in_sync = self._tell(partial(self._register_service, held.service.id), held.token)
        for check_id, token in list(self.local.gone_checks.items()):
            if self._tell(partial(self._deregister, check_id=check_id), token):
                del self.local.gone_checks[check_id]
        for check in list(self.local.checks.values()):
            if not check.in_sync:
                check.in_sync = self._tell(partial(self._register_check, check), check.token)
        self.cluster.changed()

    def _tell(self, write: Callable[[], object], token: str = "") -> bool:
        """Whether it need not be said again: the servers took it, or never will."""
        if not self._may_tell(token):
            return True
        try:
            write()
        except (ServersAway, CatalogFault):
            return False
        return True

    def _may_tell(self, token: str) -> bool:
        return self.cluster.access.authorizer(token) is not None

    def _deregister(self, *, service_id: str = "", check_id: str = "") -> None:
        self.write().deregister(self.node.name, service_id=service_id, check_id=check_id)

    def _register_service(self, service_id: str) -> None:
        held = self.local.services[service_id]
        checks = [
            check
            for check in self.local.checks.values()
            if not check.in_sync and check.check.service_id == service_id and check.token == held.token
        ]
        self.write().register(self.node, held.service, [check.check for check in checks], skip_node=self._is_known)
        for check in checks:
            check.in_sync, check.told_later = True, None

    def _register_check(self, held: LocalCheck) -> None:
        self.write().register(self.node, None, [held.check], skip_node=self._is_known)
        held.told_later = None

    def _compare(self) -> None:
        """Compares everything with the catalog: what the servers lack is told, what they have too much is removed."""
        catalog = self.write()
        node = catalog.nodes.get(self.node.name.lower())
        if node is None or node.described() != self.node.described():
            catalog.register(self.node)
            self._is_known = True
            node = catalog.nodes[self.node.name.lower()]
        if not self.cluster.access.enabled:
            self._remove_strays(catalog, node)  # with ACLs an agent that has no token of its own may not do that
        self._mark(node)
        self.sync()

    def _remove_strays(self, catalog: Catalog, node: Node) -> None:
        for service in [one for one in node.services.values() if one.id not in self.local.services]:
            if service.id != "consul":
                catalog.deregister(node.name, service_id=service.id)
        for check in [one for one in node.checks.values() if one.id not in self.local.checks]:
            if check.id != "serfHealth":
                catalog.deregister(node.name, check_id=check.id)

    def _mark(self, node: Node) -> None:
        for service_id, mine in self.local.services.items():
            theirs = node.services.get(service_id.lower())
            if theirs is not None and mine.service.override:
                mine.service.tags = list(theirs.tags or ())  # so that none at all become empty, and are told so
            mine.in_sync = theirs is not None and theirs.same_as(mine.service)
        for check_id, held in self.local.checks.items():
            known = node.checks.get(check_id.lower())
            if known is not None and held.told_later is not None:  # its output has a time of its own
                known = replace(known, output=held.check.output)
            held.in_sync = known is not None and known.same_as(held.check)

    def prepare(self, added: list[LocalCheck]) -> None:
        """Gets new checks ready to run: each for the first time at some moment of its interval, or taken to pass."""
        for held in added:
            if held.definition.text("AliasNode"):
                self._follow_node(held)
            if held.check.type in PROBED:
                first = self.cluster.now + self.cluster.random.uniform(0, pace(held.definition))
                held.probes[held.check.type] = Probe(held.definition, first)
                if self.probes is not None:
                    self.probes()
            if held.is_new and not held.definition.text("Status"):
                self._pass_at_once(held)
            held.is_new = False

    def _pass_at_once(self, held: LocalCheck) -> None:
        if self.checks_pass and held.definition.is_probe:
            self.local.report(held, "passing", "", now=self.cluster.now, defer=self.deferral())

    def _follow_node(self, held: LocalCheck) -> None:
        """Agents before 1.11 crash over a node that nobody knows; all get stuck over one they knew before.

        They wait for the former check to end, and that waits for an answer (agent/checks/alias.go, 1.8 to 1.16).
        """
        is_known = held.definition.text("AliasNode").lower() in self.cluster.catalog.nodes
        if not is_known and not self.cluster.dialect.since(1, 11):
            self.kill()
        elif held.check.id in self.local.left_aliases:
            self.stuck_until = self.cluster.now + STUCK_FOR

    def set_status(self, service_id: str, status: str, output: str) -> None:
        """Makes an instance stand so, whatever its checks are."""
        if status not in STATUSES:
            raise InvalidInput(f"status={status!r} is none: write one of {', '.join(STATUSES)}")
        in_maintenance = status == "maintenance"
        self.local.maintain_service(service_id, in_maintenance, output, "")
        if not in_maintenance:
            for held in self._checks_of(service_id):
                self.local.report(held, status, output, now=self.cluster.now, defer=self.deferral())
                held.in_sync, held.told_later = False, None  # also a new output alone is told at once
        self.sync()

    def _checks_of(self, service_id: str) -> list[LocalCheck]:
        """The checks of a service; one that is made for it if it has none."""
        found = [held for held in self.local.checks.values() if held.check.service_id == service_id]
        if not found:
            definition = CheckDefinition({"Name": "Status", "ServiceID": service_id, "Status": "passing"})
            made = self.local.lone_check(definition, f"status:{service_id}", "")
            self.local.add_check(made, now=self.cluster.now)
            found.append(made)
        return found

    # --- what happens of its own accord -------------------------------------------------------------------

    def dues(self) -> Iterator[float]:
        """When something does."""
        if self._fails_at is not None:
            yield self._fails_at
        if self.is_up:
            yield from self.local.dues()
            yield self._compares
            yield self._reaps

    def happen(self, now: float) -> None:
        """Does what is due."""
        if self._fails_at is not None and self._fails_at <= now:
            self._fails_at = None
            self._tell(lambda: self.cluster.see(self, alive=False))
        if not self.is_up:
            return
        for held in list(self.local.checks.values()):
            if held.expires is not None and held.expires <= now:
                self.local.expire(held, now=now, defer=self.deferral())
            if held.told_later is not None and held.told_later <= now:
                held.told_later, held.in_sync = None, False
        if self._reaps <= now:
            self._reaps += REAPED_EVERY
            self._reap(now)
        if self._compares <= now:
            self._compares = self._next_comparison(now)
            self._tell(self._compare)
        self.sync()

    def deferral(self) -> float:
        """Seconds until an output is told that came without another status."""
        return OUTPUT_TOLD_AFTER / 2 + self.cluster.random.uniform(0, OUTPUT_TOLD_AFTER)

    def _reap(self, now: float) -> None:
        for held in list(self.local.checks.values()):
            if held.critical_since is None or not held.reap_after or not held.check.service_id:
                continue
            if now - held.critical_since > held.reap_after:
                self.local.remove_service(held.check.service_id)

    # --- aliases ------------------------------------------------------------------------------------------

    def _follow_aliases(self) -> None:
        """Alias checks become what they stand for; an alias of an alias takes another round."""
        aliases = [held for held in self.local.checks.values() if held.check.type == "alias"]
        for _ in range(len(aliases)):
            before = [(held.check.status, held.check.output) for held in aliases]
            for held in aliases:
                status, output = self._aliased(held)
                self.local.report(held, status, output, now=self.cluster.now, defer=self.deferral())
            if before == [(held.check.status, held.check.output) for held in aliases]:
                return

    def _aliased(self, held: LocalCheck) -> tuple[str, str]:
        node_name, service_id = held.definition.text("AliasNode"), held.definition.text("AliasService")
        checks, exists = self._aliased_checks(held, node_name, service_id)
        if service_id and not exists:
            return "critical", f"Service {service_id} could not be found on node {node_name}"
        status, output = "passing", "All checks passing." if checks else "No checks found."
        for check in checks:
            if check.status in {"critical", "warning"}:
                status, output = check.status, f'Aliased check "{check.name}" failing: {check.output}'
            if check.status == "critical":
                break
        return status, output

    def _aliased_checks(self, held: LocalCheck, node_name: str, service_id: str) -> tuple[list[Check], bool]:
        wanted = {"", service_id}
        if not node_name:
            checks = [one.check for one in self.local.checks.values() if one is not held]
            found = [check for check in checks if check.service_id in wanted]
            return found, service_id in self.local.services
        node = self.cluster.catalog.nodes.get(node_name.lower())
        if node is None:
            return [], False
        found = [check for check in node.checks.values() if check.service_id in wanted and check.id != held.check.id]
        return found, service_id.lower() in node.services

    def authorizer(self, secret: str) -> Authorizer | None:
        """What a secret allows here."""
        return self.cluster.access.authorizer(secret)
