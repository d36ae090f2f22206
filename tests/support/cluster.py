"""A real cluster: three servers on 127.0.0.x, all with the same HTTP port, and a client agent if one is wanted."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.agents import MASTER_TOKEN, ConsulAgent
from tests.support.waiting import eventually
from tools.ports import free_ports

_hosts = itertools.count(os.getpid() % 200)


def _own_hosts(number: int) -> list[str]:
    """Loopback addresses that hardly anybody else uses: tests of other processes run at the same time."""
    return [f"127.{os.getpid() >> 8 & 255}.{next(_hosts) % 250 + 1}.{last + 2}" for last in range(number)]


class Member(ConsulAgent):
    """One agent of a cluster, server or client.

    Args:
        host: the address that it has alone.
        ports: HTTP, server, LAN gossip and WAN gossip; the same for all members.
        peers: the hosts of the servers.
        is_server: whether it is one of them.
    """

    def __init__(
        self,
        host: str,
        ports: tuple[int, int, int, int],
        peers: list[str],
        *,
        is_server: bool,
        acl: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(server=True, acl=acl, config=config)
        self.host = host
        self.port, self._rpc, self._lan, self._wan = ports
        self._peers = peers
        self._is_server = is_server
        self.node = f"node-{host.replace('.', '-')}"

    def mode(self) -> list[str]:
        expected = ["-server", f"-bootstrap-expect={len(self._peers)}"] if self._is_server else []
        return [
            *expected,
            f"-data-dir={self.home / 'data'}",
            *(f"-retry-join={peer}:{self._lan}" for peer in self._peers),
        ]

    def forget(self) -> None:
        """Deletes its data; it must not be running."""
        assert self.process is None
        shutil.rmtree(self.home / "data", ignore_errors=True)

    def _configure(self) -> None:
        settings: dict[str, Any] = {
            "node_name": self.node,
            "bind_addr": self.host,
            "client_addr": self.host,
            "retry_interval": "1s",
            "ports": {
                "http": self.port,
                "dns": -1,
                "grpc": -1,
                "server": self._rpc,
                "serf_lan": self._lan,
                "serf_wan": self._wan if self._is_server else -1,
            },
            "performance": {"raft_multiplier": 1},
            "autopilot": {"server_stabilization_time": "500ms"},
            "disable_update_check": True,
            "log_level": "info",
        }
        if self.acl:
            settings["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {"master": MASTER_TOKEN, "agent": MASTER_TOKEN},
            }
        (self.home / "config.json").write_text(json.dumps(settings | self.config))

    def _is_ready(self) -> bool:
        """Its HTTP port answers; the cluster as a whole becomes ready later."""
        assert self.process is not None
        assert self.process.poll() is None, "the agent ended"
        try:
            return self.request("GET", "/v1/status/leader")[0] in {200, 403, 500}
        except OSError:
            return False


class Cluster:
    """Three servers, and a client agent on request, ready when the block begins.

    Args:
        client: with a client agent.
        acl: access is denied to whoever has no token.
    """

    def __init__(self, *, client: bool = False, acl: bool = False, config: Mapping[str, Any] | None = None) -> None:
        self._client = client
        self._acl = acl
        self._config = config
        self._stack = contextlib.ExitStack()
        self.servers: list[Member] = []
        self.agent: Member | None = None

    @property
    def members(self) -> list[Member]:
        return [*self.servers, *([self.agent] if self.agent is not None else [])]

    @property
    def hosts(self) -> list[str]:
        """The servers' addresses."""
        return [server.host for server in self.servers]

    @property
    def port(self) -> int:
        """The HTTP port of all members."""
        return self.servers[0].port

    def leader(self) -> Member:
        """The server that leads, as soon as there is one."""
        return eventually(self._leader, within=30, what="the servers have a leader")

    def followers(self) -> list[Member]:
        leader = self.leader()
        return [server for server in self.servers if server is not leader]

    def others(self, member: Member) -> list[Member]:
        """The servers that are not this one."""
        return [server for server in self.servers if server is not member]

    def passing(self, name: str, *, asked: Member | None = None) -> list[tuple[str, str]] | None:
        """Node and id of the instances that a caller would be sent to, by the first member that answers; else None."""
        for member in [asked] if asked is not None else self.members:
            with contextlib.suppress(OSError, AssertionError):
                entries = member.read(f"/v1/health/service/{name}?passing")
                return [(entry["Node"]["Node"], entry["Service"]["ID"]) for entry in entries]
        return None

    def takes_for_dead(self, member: Member, *, asked: Member) -> bool:
        """Whether the member that is asked takes another one's agent for dead."""
        with contextlib.suppress(OSError, AssertionError):
            checks = asked.read(f"/v1/health/node/{member.node}")
            return any(check["CheckID"] == "serfHealth" and check["Status"] == "critical" for check in checks)
        return False

    def start(self) -> None:
        for attempt in range(5):
            hosts = _own_hosts(4)
            ports = free_ports(4)
            make = self._members(hosts, (ports[0], ports[1], ports[2], ports[3]))
            try:
                for member in make:
                    member.launch()
                for member in make:
                    member.await_ready()
            except AssertionError:
                for member in make:
                    member.__exit__(None, None, None)
                if attempt == 4 or not any("address already in use" in member.log() for member in make):
                    raise
            else:
                self.servers, self.agent = make[:3], make[3] if self._client else None
                break
        for member in self.members:
            self._stack.push(member.__exit__)
        self.await_whole()

    def await_whole(self) -> None:
        """Waits until all members are alive in each other's eyes, and all servers have a vote."""
        eventually(self._is_whole, within=60, what="all members know each other")
        eventually(self._all_vote, within=60, what="all servers have a vote")

    def _members(self, hosts: list[str], ports: tuple[int, int, int, int]) -> list[Member]:
        peers = hosts[:3]
        made = [Member(host, ports, peers, is_server=True, acl=self._acl, config=self._config) for host in peers]
        if self._client:
            made.append(Member(hosts[3], ports, peers, is_server=False, acl=self._acl, config=self._config))
        return made

    def _leader(self) -> Member | None:
        for server in self.servers:
            if server.process is None:
                continue
            with contextlib.suppress(OSError, AssertionError):
                host = server.read("/v1/status/leader").rpartition(":")[0]
                found = next((other for other in self.servers if other.host == host), None)
                if found is not None and found.process is not None:
                    return found
        return None

    def _all_vote(self) -> bool:
        """A server that came when the others had elected has no vote at first: losing one more is the end then."""
        with contextlib.suppress(OSError, AssertionError):
            found = self.leader().read("/v1/operator/raft/configuration")["Servers"]
            return {server["Address"].rpartition(":")[0] for server in found if server["Voter"]} >= set(self.hosts)
        return False

    def _is_whole(self) -> bool:
        names = {member.node for member in self.members}
        try:
            return all(
                {node["Node"] for node in member.read("/v1/health/state/passing") if node["CheckID"] == "serfHealth"}
                >= names
                for member in self.members
            )
        except (OSError, AssertionError):
            return False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in self.members:
            member.interrupt()
        self._stack.close()


def one_name(monkeypatch: pytest.MonkeyPatch, name: str, hosts: Callable[[], list[str]]) -> None:
    """Has a host name lead to these addresses, the first one in front, as a Kubernetes Service without an IP does."""
    real = socket.getaddrinfo

    def answer(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != name:
            return real(host, port, *args, **kwargs)
        return [entry for address in hosts() for entry in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@contextlib.contextmanager
def paused(member: ConsulAgent) -> Iterator[None]:
    """Stopped in its tracks within the block."""
    member.pause()
    try:
        yield
    finally:
        member.resume()
