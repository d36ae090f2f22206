"""Real Consul agents, on free ports of the loopback interface, gone without a trace afterwards."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trustme

from consul_access import testing
from tests.support.asking import Asking
from tools import servers
from tools.ports import free_ports

MASTER_TOKEN = "aaaaaaaa-0000-4000-8000-00000000c0de"


class ConsulAgent(Asking, testing.ConsulAgent):
    """A real agent that can be asked with nothing of ours in between.

    Args:
        server: a single server with its data on disk, instead of dev mode.
        join: a server to be a client agent of.
        acl: access is denied to whoever has no token; `MASTER_TOKEN` may do everything.
        authority: speaks https as well, on `https_port`, with a certificate of this authority.
        unix: a path to listen at, besides the port.
        config: further settings, as in an agent's configuration file.
    """

    def __init__(
        self,
        *,
        server: bool = False,
        join: testing.ConsulAgent | None = None,
        acl: bool = False,
        authority: trustme.CA | None = None,
        unix: Path | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(server=server, join=join, config=config)
        self.acl = acl
        self.authority = authority
        self.unix = unix
        self.https_port = 0

    @property
    def token(self) -> str | None:  # type: ignore[override]
        return MASTER_TOKEN if self.acl else None

    def run_without_data(self) -> None:
        """Starts it, and it has forgotten what it held."""
        shutil.rmtree(self.home / "data")
        self.run()

    def _found(self) -> Path:
        return servers.consul()

    def _settings(self, rpc: int, wan: int) -> dict[str, Any]:
        settings = super()._settings(rpc, wan)
        if self.unix is not None:
            settings["addresses"] = {"http": f"127.0.0.1 unix://{self.unix}"}
        if self.acl:
            settings["acl"] = {"enabled": True, "default_policy": "deny", "tokens": {"master": MASTER_TOKEN}}
        return settings | (self._tls(settings["ports"]) if self.authority is not None else {})

    def _tls(self, ports: dict[str, int]) -> dict[str, Any]:
        assert self.authority is not None
        (self.https_port,) = free_ports(1)
        certificate = self.authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(self.home / "certificate.pem")
        self.authority.cert_pem.write_to_path(self.home / "authority.pem")
        own = str(self.home / "certificate.pem")
        files = {"cert_file": own, "key_file": own, "ca_file": str(self.home / "authority.pem")}
        return files | {"ports": ports | {"https": self.https_port}}


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
