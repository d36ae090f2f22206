"""`FakeConsul`: an agent, or several, made of memory, for httpx in the same process or on a port for everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from consul_access.errors import InvalidInput
from consul_access.testing.common.clock import Clock, RealClock
from consul_access.testing.common.exchange import LOST, Answer, Request
from consul_access.testing.common.fake import Fake, Shared
from consul_access.testing.consul.access import Policy, Token, parse_rules
from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.cluster import Cluster
from consul_access.testing.consul.dialect import Dialect
from consul_access.testing.consul.exchange import Waiting
from consul_access.testing.consul.faults import TOO_MANY_CONNECTIONS, After, Faults
from consul_access.testing.consul.front import Front

if TYPE_CHECKING:
    from consul_access.testing.consul.probing import Prober

__all__ = ["FakeConsul"]


class FakeConsul(Fake[Cluster]):
    """The Consul HTTP API of services, checks and look-ups, with the texts, codes and headers of a chosen version.

    It answers as real agents do; its contract tests are run against them too. Use it through
    `ConsulAccess(transport=fake.transport())`, or let it serve on a port: `with FakeConsul().serve() as server`.

    Args:
        version: `1.8` (answers as 1.8.7), `1.10` (1.10.12), `1.21` (1.21.4), or a whole version.
        acl: whether access is denied to whoever has no token; a text is the secret of the token that may do everything.
        clock: a `SimulatedClock`, when time shall pass only as you say; the real time otherwise.
        node: the name of the agent's node.
        address: the address of the agent's node.
        datacenter: its name.
        run_checks: HTTP and TCP checks are really made, at the addresses that they name; otherwise they stay as they
            were registered until `set_check`.
        checks_pass: instead, checks of every kind that agents make themselves pass as soon as they are registered,
            unless they are registered with a status. Those with a TTL have to be reported all the same.
        scripts: script and docker checks may be registered; they are never run.
        seed: what ids and jitter are made from: the same seed gives the same.

    Raises:
        InvalidInput: there is no such version, or both `run_checks` and `checks_pass` are asked for.
    """

    def __init__(
        self,
        version: str = "1.8",
        *,
        acl: bool | str = False,
        clock: Clock | None = None,
        node: str = "node-1",
        address: str = "127.0.0.1",
        datacenter: str = "dc1",
        run_checks: bool = False,
        checks_pass: bool = False,
        scripts: bool = False,
        seed: int = 0,
    ) -> None:
        if run_checks and checks_pass:
            raise InvalidInput("run_checks=True makes the checks, checks_pass=True does not: choose one")
        clock = clock or RealClock()
        cluster = Cluster(
            Dialect.of(version),
            datacenter=datacenter,
            acl=bool(acl),
            seed=seed,
            now=clock.now(),
            master=acl if isinstance(acl, str) else None,
        )
        self._set_up(Shared(cluster, clock), Agent(cluster, node, address=address, is_server=True, scripts=scripts))
        self._agent.checks_pass = checks_pass
        if run_checks:
            self._run_checks()

    def _set_up(self, shared: Shared[Cluster], agent: Agent, prober: Prober | None = None) -> None:
        self._agent = agent
        self._front = Front(agent)
        self._prober = prober
        self._faults = Faults(self)
        self._share(shared)

    def _run_checks(self) -> None:
        from consul_access.testing.consul.probing import Prober

        self._prober = Prober(self)
        self._agent.probes = self._prober.start

    # --- how to reach it ----------------------------------------------------------------------------------

    def join(self, node: str, *, address: str = "127.0.0.1", scripts: bool = False, server: bool = False) -> FakeConsul:
        """A further agent of the same cluster: with services of its own, and the same catalog.

        Args:
            node: the name of its node.
            address: the address of its node.
            scripts: script and docker checks may be registered there.
            server: it is one of the servers.
        """
        with self.locked():
            if any(agent.node.name == node for agent in self.cluster.agents):
                raise InvalidInput(f"node={node!r} is there already; the name of a node is its own")
            agent = Agent(self.cluster, node, address=address, is_server=server, scripts=scripts)
            agent.probes, agent.checks_pass = self._agent.probes, self._agent.checks_pass
            other = FakeConsul.__new__(FakeConsul)
            FakeConsul._set_up(other, self._shared, agent, self._prober)
            self.notify()
        return other

    # --- what tests want to do to it ----------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        """What goes wrong, on switches: `fake.faults.lose_leader(for_=2)`."""
        return self._faults

    @property
    def node(self) -> str:
        """The name of the agent's node."""
        return self._agent.node.name

    @property
    def version(self) -> str:
        """The version that it answers as."""
        return self.cluster.dialect.text

    @property
    def is_up(self) -> bool:
        """Whether the agent runs."""
        return self._agent.is_up

    @property
    def master_token(self) -> str | None:
        """The secret of the token that may do everything; None without ACLs."""
        return self.cluster.master if self.cluster.access.enabled else None

    def after(self, number: float) -> After[Faults]:
        """Has something go wrong later: `fake.after(3).requests.lose_leader(for_=2)`."""
        return self.faults.after(number)

    def set_check(self, check_id: str, status: str, output: str = "") -> None:
        """Makes a check of any kind turn out so, as if the agent had found it.

        Raises:
            InvalidInput: the agent has no such check, or there is no such status.
        """
        with self.locked():
            held = self._agent.local.checks.get(check_id)
            if held is None or status not in {"passing", "warning", "critical"}:
                known = ", ".join(sorted(self._agent.local.checks))
                raise InvalidInput(f"{check_id!r} cannot be {status!r}: the agent has {known or 'no checks'}")
            self._agent.local.report(held, status, output, now=self.cluster.now, defer=self._agent.deferral())
            self._agent.sync()
            self.notify()

    def set_status(self, service_id: str, status: str, output: str = "") -> None:
        """Makes an instance stand so: all of its checks, or one of its own if it has none.

        Args:
            service_id: the id that it is registered with.
            status: `passing`, `warning`, `critical` or `maintenance`; the others end the maintenance.
            output: what the checks say, or the reason for the maintenance.

        Raises:
            InvalidInput: the agent has no such service, or there is no such status.
        """
        with self.locked():
            self._expect_service(service_id)
            self._agent.set_status(service_id, status, output)
            self.notify()

    def forget(self, service_id: str) -> None:
        """The agent loses a service, as when somebody else deregisters it: whoever keeps it registered restores it.

        Raises:
            InvalidInput: the agent has no such service.
        """
        with self.locked():
            self._expect_service(service_id)
            self._agent.local.remove_service(service_id)
            self._agent.sync()
            self.notify()

    def _expect_service(self, service_id: str) -> None:
        known = self._agent.local.services
        if service_id not in known:
            raise InvalidInput(f"the agent has no service {service_id!r}, only {', '.join(sorted(known)) or 'none'}")

    def token(self, rules: str) -> str:
        """Makes a token that may do what these rules say, and returns its secret.

        Args:
            rules: as in a policy: `service "web" { policy = "write" } node_prefix "" { policy = "read" }`.
        """
        with self.locked():
            secret = self.cluster.new_id()
            made = Token(self.cluster.new_id(), secret, [self._policy(rules)], made_at=self.cluster.timestamp())
            self.cluster.access.tokens[secret] = made
        return secret

    def accept_login(self, method: str, bearer: str, rules: str) -> None:
        """From now on `/v1/acl/login` gives whoever shows this bearer token a Consul token with these rules."""
        with self.locked():
            self.cluster.access.logins[method, bearer] = self._policy(rules)

    def revoke(self, secret: str) -> None:
        """Forgets a token: `ACL not found` from now on."""
        with self.locked():
            self.cluster.access.tokens.pop(secret, None)
            self.cluster.changed()
            self.notify()

    def _policy(self, rules: str) -> str:
        access = self.cluster.access
        if not access.enabled:
            raise InvalidInput("tokens mean nothing to FakeConsul() without acl=True")
        name = f"rules-{len(access.policies)}"
        access.policies[name] = Policy(self.cluster.new_id(), name, rules, rules=parse_rules(rules))
        return name

    def kill(self) -> None:
        """The agent ends without a word, as by SIGKILL: its node is seen to fail after 5.5 s of the fake's clock."""
        self._end(self._agent.kill)

    def leave(self) -> None:
        """The agent ends in good order, as by SIGTERM: it leaves the catalog, blocking queries get nothing."""
        self._end(self._agent.leave)

    def start(self, *, keep: bool = True) -> None:
        """Starts an agent again that has ended.

        Args:
            keep: with what was registered, or with nothing, as without its data directory.
        """
        with self.locked():
            self._agent.start(keep=keep)
            for server in self._servers:
                server.listen()
            self.notify()

    def _end(self, how: Callable[[], None]) -> None:
        with self.locked():
            how()
            for server in self._servers:
                server.deafen()
            self.notify()

    def clear(self) -> None:
        """Forgets all services and checks of this agent, and switches all faults off."""
        self.faults.heal()
        with self.locked():
            for service_id in list(self._agent.local.services):
                self._agent.local.remove_service(service_id)
            for check_id in list(self._agent.local.checks):
                self._agent.local.remove_check(check_id)
            self._agent.sync()
            self.notify()

    # --- requests -----------------------------------------------------------------------------------------

    def request(
        self, method: str, target: str, body: bytes = b"", *, token: str | None = None, timeout: float | None = None
    ) -> Answer:
        """Asks it something, past every client.

        Args:
            method: the verb.
            target: path and query.
            body: what is sent.
            token: the secret to send it with.
            timeout: real seconds to wait at most.

        Raises:
            TimeoutError: there was no answer by then.
            ConnectionError: the agent is down, or a fault broke the connection.
        """
        return self.ask(Request(method, target, body=body, headers={"x-consul-token": token} if token else {}), timeout)

    def begin(self, request: Request) -> Answer | Waiting:
        """Takes a request that has arrived."""
        return self._front.begin(request)

    def resume(self, pending: Waiting) -> Answer | None:
        """Looks again at a request that waits; None if it goes on waiting."""
        return self._front.resume(pending)

    def interrupted(self, pending: Waiting) -> Answer:
        """What a blocking query gets when its agent ends: nothing, with a 200, if it left in good order."""
        return self._front.interrupted(pending) if self._agent.has_left else LOST

    def turned_away(self) -> Answer:
        """What a client gets that has too many connections: a reset in 1.8, a 429 from 1.9 on."""
        return TOO_MANY_CONNECTIONS if self.cluster.dialect.limit_is_told else LOST

    @property
    def stuck_until(self) -> float:
        """Until when the agent is too busy to answer."""
        return self._agent.stuck_until

    # --- inside -------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The servers and all agents, as one state."""
        return self._shared.state

    @property
    def agent(self) -> Agent:
        """The agent's own state."""
        return self._agent

    def close(self) -> None:
        """Ends what runs for it: servers, and checks that are being made."""
        super().close()
        if self._prober is not None:
            self._prober.close()

    def __repr__(self) -> str:
        state = "" if self.is_up else ", down"
        wrong = f", {', '.join(self.faults.active)}" if self.faults.active else ""
        return f"<FakeConsul {self.version} at {self.node}, {len(self._agent.local.services)} services{state}{wrong}>"
