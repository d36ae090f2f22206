"""A real etcd for tests, on free ports: started, found ready, and gone without a trace."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from consul_access import EtcdRegistry
from consul_access.errors import UnknownLease
from consul_access.etcd import leases
from consul_access.etcd.coding import gateway_call
from consul_access.etcd.settings import EtcdSettings
from consul_access.testing.real.binaries import ETCD, find
from consul_access.testing.real.process import ServerProcess, free_ports

__all__ = ["EtcdServer"]


class EtcdServer(ServerProcess):
    """A real etcd with one member, ready to be used when the block begins: `with EtcdServer() as server: server.url`.

    Args:
        binary: the etcd to run; by default what ETCD_BIN names, or `etcd` on PATH.
        arguments: further ones for its command line.

    Entering the block raises `FileNotFoundError` when there is no binary, and `RuntimeError`, with the end of the
    server's log, when it does not start.
    """

    name = "one"
    """The member's name."""
    peer_port = 0
    """Where other members would meet it."""

    def __init__(self, binary: str | os.PathLike[str] | None = None, *, arguments: Sequence[str] = ()) -> None:
        super().__init__(binary)
        self.arguments = list(arguments)

    @property
    def version(self) -> str:
        """What it says it is, such as `3.5.16`."""
        with self.registry() as etcd:
            return etcd.status().version

    def registry(self, **options: Any) -> EtcdRegistry:
        """A client of it, which the environment has nothing to say about.

        Args:
            options: those of `EtcdSettings.load`, such as `ttl=60`.
        """
        return EtcdRegistry(settings=EtcdSettings.load(endpoints=self.url, environ={}, **options))

    def clear(self) -> None:
        """Deletes every key, and ends every lease."""
        with self.registry(allow_kubernetes_writes=True) as etcd:
            etcd.delete_prefix("", everything=True)
            for lease in self.leases():
                with contextlib.suppress(UnknownLease):  # it has just ended by itself
                    etcd.send(leases.revoke(lease))

    def leases(self) -> list[int]:
        """The ids of the leases that there are."""
        with self.registry() as etcd:
            return etcd.send(gateway_call("lease.leases", "lease/leases", {}, _ids))

    def is_ready(self) -> bool:
        """Whether it has a leader and says so."""
        status, body = self._answered("POST", "/v3/maintenance/status", b"{}")
        return status == 200 and bool(json.loads(body).get("leader"))

    # --- how it is run ------------------------------------------------------------------------------------

    def _found(self) -> str | os.PathLike[str]:
        return self._binary or find(ETCD)

    def _configure(self) -> None:
        self.port, self.peer_port = free_ports(2)

    def _arguments(self) -> Sequence[str]:
        return [*(f"--{name}={value}" for name, value in self._options().items()), *self.arguments]

    def _options(self) -> dict[str, str]:
        peer = f"http://{self.host}:{self.peer_port}"
        return {
            "name": self.name,
            "data-dir": str(self.home / "data"),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"{self.name}={peer}",
            "heartbeat-interval": "100",
            "election-timeout": "1000",
            "log-level": "warn",
        }

    def _environment(self) -> Mapping[str, str]:
        """That of the test, without what would be read as settings."""
        return {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}


def _ids(answer: Mapping[str, Any]) -> list[int]:
    return [int(lease["ID"]) for lease in answer.get("leases", ())]
