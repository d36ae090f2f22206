"""A real Consul agent for tests, in dev mode, on free ports: started, found ready, and gone without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from consul_access import ConsulAccess, ConsulSettings, Unavailable, consul
from consul_access.call import Call, Repeat, path

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["ConsulAgent", "find_consul"]

READY_WITHIN: Final = 30.0
ATTEMPTS: Final = 5


def find_consul() -> str:
    """The path of a Consul binary: what CONSUL_BIN says, else what is on PATH.

    Raises:
        FileNotFoundError: there is none; the text says what to do.
    """
    named = os.environ.get("CONSUL_BIN")
    if named and not os.access(named, os.X_OK):
        raise FileNotFoundError(f"CONSUL_BIN={named} is not a program")
    found = named or shutil.which("consul")
    if found is None:
        raise FileNotFoundError("there is no consul on PATH: install it, or set CONSUL_BIN to its path")
    return found


class ConsulAgent:
    """A real agent in dev mode, ready to be used when the block begins: `with ConsulAgent() as agent: agent.url`.

    Args:
        binary: the Consul to run; what `find_consul` finds by default.

    Entering the block raises `FileNotFoundError` when there is no binary, and `RuntimeError`, with the end of the
    agent's log, when it does not start.
    """

    def __init__(self, binary: str | os.PathLike[str] | None = None) -> None:
        self._binary = binary
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Where it is, as CONSUL_HTTP_ADDR says it."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.address}"

    @property
    def version(self) -> str:
        """What it says it is, such as `1.8.7`."""
        with self.access() as access:
            return access.send(consul.agent.about()).version

    def access(self) -> ConsulAccess:
        """A client of it, which the environment has nothing to say about."""
        return ConsulAccess(settings=ConsulSettings.load(url=self.url, environ={}))

    def clear(self) -> None:
        """Removes all services and checks, and ends the node's maintenance."""
        with self.access() as access:
            for service_id in access.send(consul.agent.services()):
                access.deregister_service(service_id)
            access.node_maintenance(False)
            for check_id in access.send(consul.agent.checks()):
                access.send(_deregister_check(check_id))

    def start(self) -> Self:
        """Starts it, for whoever has no block; end it with `close()`. On free ports: others, when somebody was quicker.

        Raises:
            FileNotFoundError: there is no binary.
            RuntimeError: it does not start; the text has the end of its log.
        """
        binary = self._binary or find_consul()
        for attempt in range(1, ATTEMPTS + 1):
            self._folder = tempfile.TemporaryDirectory(prefix="consul-access-")
            try:
                self._run(Path(self._folder.name), str(binary))
            except BaseException as error:
                self.close()
                if attempt == ATTEMPTS or "address already in use" not in str(error):
                    raise
            else:
                break
        return self

    def close(self) -> None:
        """Ends it, and removes what it wrote."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._folder is not None:
            self._folder.cleanup()

    def _run(self, home: Path, binary: str) -> None:
        self._port, rpc, lan, wan = _free_ports(4)
        settings = {
            "node_name": f"node-{self._port}",
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "ports": {
                "http": self._port,
                "server": rpc,
                "serf_lan": lan,
                "serf_wan": wan,
                **dict.fromkeys(_unused_ports(binary), -1),
            },
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
        }
        (home / "config.json").write_text(json.dumps(settings))
        command = [binary, "agent", "-dev", f"-config-file={home / 'config.json'}"]
        with (home / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603 - as asked for
        deadline = time.monotonic() + READY_WITHIN
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (home / "log").read_text("utf-8", "replace")[-3000:]
                raise RuntimeError(f"{binary} did not start:\n{text}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """Whether it has joined its own catalog, which is when it can be used."""
        with self.access() as access:
            try:
                return "consul" in access.services()
            except Unavailable:
                return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ConsulAgent {self.url}>" if self._process else "<ConsulAgent, not started>"


def _deregister_check(check_id: str) -> Call[None]:
    return Call(
        name="agent.check.deregister",
        method="PUT",
        path=path("v1", "agent", "check", "deregister", check_id),
        repeat=Repeat.IDEMPOTENT,
        read=lambda _: None,
        subject=check_id,
    )


def _unused_ports(binary: str) -> tuple[str, ...]:
    """What an agent opens besides, at ports that others may have; 1.14 has one more, which earlier ones refuse."""
    told = subprocess.run([binary, "version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"v(\d+)\.(\d+)", told)
    is_newer = found is not None and (int(found[1]), int(found[2])) >= (1, 14)
    return ("dns", "grpc", "grpc_tls") if is_newer else ("dns", "grpc")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
