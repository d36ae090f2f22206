"""A real Consul agent for tests, on free ports: started, found ready, and gone without a trace."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from consul_access import ConsulAccess, ConsulSettings, consul
from consul_access.call import Call, Repeat, json_body, path
from consul_access.errors import InvalidInput
from consul_access.testing.real.binaries import CONSUL, find
from consul_access.testing.real.process import ServerProcess, free_ports

__all__ = ["ConsulAgent"]


class ConsulAgent(ServerProcess):
    """A real agent, ready to be used when the block begins: `with ConsulAgent() as agent: agent.url`.

    It is a single server in dev mode, which forgets everything when it ends; with `server=True` one that keeps its
    data, with `join=` a client agent of another one's cluster, which keeps its data, too.

    Args:
        binary: the Consul to run; by default what CONSUL_BIN names, or `consul` on PATH.
        server: a single server with its data on disk, instead of dev mode.
        join: a server to be a client agent of; it must be running when this one is started.
        config: further settings, as in an agent's configuration file.

    Entering the block raises `FileNotFoundError` when there is no binary, and `RuntimeError`, with the end of the
    agent's log, when it does not start.

    Raises:
        InvalidInput: it cannot be a server and join one.
    """

    token: str | None = None
    """What clients have to show."""

    def __init__(
        self,
        binary: str | os.PathLike[str] | None = None,
        *,
        server: bool = False,
        join: ConsulAgent | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if server and join is not None:
            raise InvalidInput("server=True makes a server of its own, join= a client of another one: choose one")
        super().__init__(binary)
        self.server = server
        self.join = join
        self.config = dict(config or {})
        self.node = ""
        """The name of its node, once it is started."""
        self.gossip_port = 0
        """Where other agents meet it."""

    @property
    def version(self) -> str:
        """What it says it is, such as `1.8.7`."""
        with self.access() as access:
            return access.send(consul.agent.about()).version

    def access(self) -> ConsulAccess:
        """A client of it, which the environment has nothing to say about."""
        return ConsulAccess(settings=ConsulSettings.load(url=self.url, token=self.token, environ={}))

    def clear(self) -> None:
        """Removes its services and checks, ends the node's maintenance, and removes nodes that no agent is behind."""
        with self.access() as access:
            for service_id in access.send(consul.agent.services()):
                access.deregister_service(service_id)
            access.node_maintenance(False)
            for check_id in access.send(consul.agent.checks()):
                access.send(_deregister_check(check_id))
            members = access.send(consul.agent.members())
            for node in access.send(consul.catalog.nodes()):
                if node.name not in members:
                    access.send(_deregister_node(node.name))

    def is_ready(self) -> bool:
        """Whether the servers know its node, which is when it can be used."""
        headers = {"X-Consul-Token": self.token} if self.token else {}
        status, body = self._answered("GET", f"/v1/health/node/{self.node}", headers=headers)
        return status == 200 and any(check["CheckID"] == "serfHealth" for check in json.loads(body))

    # --- how it is run ------------------------------------------------------------------------------------

    def _found(self) -> str | os.PathLike[str]:
        return self._binary or find(CONSUL)

    def _arguments(self) -> Sequence[str]:
        return ["agent", *self._mode(), f"-config-file={self.home / 'config.json'}"]

    def _mode(self) -> list[str]:
        """The arguments that make it a server, a client or a thing for development."""
        if self.join is not None:
            join = f"-retry-join={self.join.host}:{self.join.gossip_port}"
            return [f"-data-dir={self.home / 'data'}", join, "-retry-interval=1s"]
        return ["-server", "-bootstrap-expect=1", f"-data-dir={self.home / 'data'}"] if self.server else ["-dev"]

    def _configure(self) -> None:
        self.port, rpc, self.gossip_port, wan = free_ports(4)
        self.node = self.node or f"node-{self.port}"
        (self.home / "config.json").write_text(json.dumps(self._settings(rpc, wan) | self.config))

    def _settings(self, rpc: int, wan: int) -> dict[str, Any]:
        ports = {"http": self.port, "server": rpc, "serf_lan": self.gossip_port, "serf_wan": wan}
        return {
            "node_name": self.node,
            "bind_addr": self.host,
            "client_addr": self.host,
            "ports": ports | dict.fromkeys(_unused_ports(str(self._found())), -1),
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "log_level": "info",
        }


def _deregister_node(name: str) -> Call[None]:
    return Call(
        name="catalog.deregister",
        method="PUT",
        path="/v1/catalog/deregister",
        body=json_body({"Node": name}),
        repeat=Repeat.IDEMPOTENT,
        read=lambda _: None,
        subject=name,
    )


def _deregister_check(check_id: str) -> Call[None]:
    return Call(
        name="agent.check.deregister",
        method="PUT",
        path=path("v1", "agent", "check", "deregister", check_id),
        repeat=Repeat.IDEMPOTENT,
        read=lambda _: None,
        subject=check_id,
    )


@cache
def _unused_ports(binary: str) -> tuple[str, ...]:
    """What an agent opens besides, at ports that others may have; 1.14 has one more, which earlier ones refuse."""
    told = subprocess.run([binary, "version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"v(\d+)\.(\d+)", told)
    is_newer = found is not None and (int(found[1]), int(found[2])) >= (1, 14)
    return ("dns", "grpc", "grpc_tls") if is_newer else ("dns", "grpc")
