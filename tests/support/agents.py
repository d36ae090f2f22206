"""Real Consul agents, on free ports of the loopback interface, gone without a trace afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from tests.support.asking import Asking
from tests.support.waiting import eventually
from tools import servers
from tools.ports import free_ports

MASTER_TOKEN = "aaaaaaaa-0000-4000-8000-00000000c0de"


class ConsulAgent(Asking):
    """A real agent, ready to be used when the block begins.

    Args:
        server: a single server with its data on disk, instead of dev mode.
        acl: access is denied to whoever has no token; `MASTER_TOKEN` may do everything.
        authority: speaks https as well, on `https_port`, with a certificate of this authority.
        unix: a path to listen at, besides the port.
        config: further settings, as in an agent's configuration file.
    """

    def __init__(
        self,
        *,
        server: bool = False,
        acl: bool = False,
        authority: trustme.CA | None = None,
        unix: Path | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="consul-access-")
        self.home = Path(self.folder.name)
        self.server = server
        self.acl = acl
        self.authority = authority
        self.unix = unix
        self.config = dict(config or {})
        self.node = f"node-{self.home.name[-8:].lower().replace('_', '-')}"
        self.host = "127.0.0.1"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = self.https_port = 0

    @property
    def token(self) -> str | None:
        return MASTER_TOKEN if self.acl else None

    def start(self) -> None:
        """Starts it on free ports; others are taken when somebody was quicker."""
        for attempt in range(5):
            self._configure()
            try:
                self.run()
            except AssertionError:
                if attempt == 4 or "address already in use" not in self.log():
                    raise
            else:
                return

    def run(self) -> None:
        """Starts it on the ports it had."""
        self._spawn()
        self.await_ready()

    def mode(self) -> list[str]:
        """The arguments that make it a server, a client or a thing for development."""
        return ["-server", "-bootstrap-expect=1", f"-data-dir={self.home / 'data'}"] if self.server else ["-dev"]

    def launch(self) -> None:
        """Starts it and does not wait."""
        self._configure()
        self._spawn()

    def _spawn(self) -> None:
        with (self.home / "log").open("wb") as log:
            command = [str(servers.consul()), "agent", *self.mode(), f"-config-file={self.home / 'config.json'}"]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def await_ready(self) -> None:
        """Waits until it can be used."""
        try:
            eventually(self._is_ready, within=30, what="the agent is ready")
        except AssertionError:
            self.kill()
            raise AssertionError(f"the agent did not start:\n{self.log()[-3000:]}") from None

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def interrupt(self) -> None:
        """Kills it and does not wait."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kills it and starts it again on the same ports; in dev mode it has forgotten everything."""
        self.kill()
        self.run()

    def pause(self) -> None:
        """Stops it in its tracks. Until its last thread has stopped it may still answer; that is waited for."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        path = self.home / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # nobody calls __exit__ then
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self.folder.cleanup()

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def _configure(self) -> None:
        self.port, self.https_port, rpc, lan, wan = free_ports(5)
        client = "127.0.0.1" if self.unix is None else f"127.0.0.1 unix://{self.unix}"
        settings: dict[str, Any] = {
            "node_name": self.node,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "addresses": {"http": client},
            "ports": {"http": self.port, "dns": -1, "grpc": -1, "server": rpc, "serf_lan": lan, "serf_wan": wan},
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "log_level": "info",
        }
        if self.acl:
            settings["acl"] = {"enabled": True, "default_policy": "deny", "tokens": {"master": MASTER_TOKEN}}
        if self.authority is not None:
            certificate = self.authority.issue_cert("127.0.0.1", "localhost")
            certificate.private_key_and_cert_chain_pem.write_to_path(self.home / "certificate.pem")
            self.authority.cert_pem.write_to_path(self.home / "authority.pem")
            settings["ports"]["https"] = self.https_port
            settings["cert_file"] = settings["key_file"] = str(self.home / "certificate.pem")
            settings["ca_file"] = str(self.home / "authority.pem")
        (self.home / "config.json").write_text(json.dumps(settings | self.config))

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the agent ended"
        try:
            status, text = self.request("GET", f"/v1/health/node/{self.node}")
            return status == 200 and "serfHealth" in text
        except OSError:
            return False


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
