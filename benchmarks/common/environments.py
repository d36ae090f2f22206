"""Where clients live: each has an environment of its own, made when it is first needed, below .venv/peers.

Others' dependencies then neither slow down ours nor keep it from having newer ones, and python-consul2 can have the
module name of py-consul.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from consul_access.testing.real.binaries import locked

__all__ = ["ENVIRONMENTS", "ETCD", "OURS", "PY_CONSUL", "ROOT", "Environment", "Go", "Missing", "Node", "Python"]

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv" / "peers"
CLIENTS = ROOT / "benchmarks" / "clients"


class Missing(Exception):
    """A client cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class Python:
    """A virtual environment.

    Args:
        name: its folder's.
        requirements: what is installed there, as pip takes it.
    """

    name: str
    requirements: tuple[str, ...]

    def command(self, *arguments: str) -> list[str]:
        """The interpreter with these arguments.

        Raises:
            Missing: it cannot be made, such as for lack of a network.
        """
        return [str(self._interpreter()), "-W", "ignore", *arguments]

    def client(self, name: str, host: str, port: int) -> list[str]:
        """The command of a client of Consul that takes orders."""
        return self.command("-m", "benchmarks.clients", name, host, str(port))

    def _interpreter(self) -> Path:
        folder = HOME / self.name
        python, made = folder / "bin" / "python", folder / "made"
        wanted = "\n".join([sys.version, *self.requirements])
        HOME.mkdir(parents=True, exist_ok=True)
        with locked(HOME / f"{self.name}.lock"):
            if not made.exists() or made.read_text() != wanted:
                shutil.rmtree(folder, ignore_errors=True)
                self._make(folder, python)
                made.write_text(wanted)
        return python

    def _make(self, folder: Path, python: Path) -> None:
        print(f"making the environment of {self.name}", file=sys.stderr)
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], self.name)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--compile"]
        _run([*pip, *self.requirements], self.name)


@dataclass(frozen=True)
class Go:
    """A program in Go, built from benchmarks/clients/go."""

    def client(self, name: str, host: str, port: int) -> list[str]:
        """The command of a client that takes orders.

        Raises:
            Missing: there is no Go here, or its modules cannot be had.
        """
        if shutil.which("go") is None:
            raise Missing("there is no Go on this machine")
        program, source = HOME / "go" / "client", CLIENTS / "go"
        newest = max(path.stat().st_mtime for path in source.iterdir())
        if not program.exists() or program.stat().st_mtime < newest:
            program.parent.mkdir(parents=True, exist_ok=True)
            _run(["go", "build", "-o", str(program), "."], "Go's client", source)
        return [str(program), host, str(port)]


@dataclass(frozen=True)
class Node:
    """A program for Node, of benchmarks/clients/node."""

    def client(self, name: str, host: str, port: int) -> list[str]:
        """The command of a client that takes orders.

        Raises:
            Missing: there is no Node here, or its packages cannot be had.
        """
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise Missing("there is no Node on this machine")
        folder = HOME / "node"
        folder.mkdir(parents=True, exist_ok=True)
        for path in (CLIENTS / "node").iterdir():
            if not (folder / path.name).exists() or (folder / path.name).read_text() != path.read_text():
                shutil.copy(path, folder)
                (folder / "made").unlink(missing_ok=True)
        if not (folder / "made").exists():
            _run(
                ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"], "Node's client", folder
            )
            (folder / "made").touch()
        return ["node", str(folder / "client.mjs"), host, str(port)]


Environment = Python | Go | Node


def environment() -> Mapping[str, str]:
    """What every client's process has in its environment: a way to find its own part of this suite."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT), "NODE_ENV": "production"}


def _run(command: list[str], what: str, folder: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{what} cannot be had: {' '.join(command)}\n{done.stdout[-500:]}{done.stderr[-1500:]}")


OURS = Python("ours", ("-e", ".[http2]"))
PY_CONSUL = Python("py-consul", ("py-consul==1.8.0", "aiohttp>=3.10"))

ENVIRONMENTS: Mapping[str, Environment] = {
    "raw": OURS,
    "raw, working 35 µs": OURS,
    "raw-async": OURS,
    "ours": OURS,
    "ours-async": OURS,
    "py-consul": PY_CONSUL,
    "py-consul-async": PY_CONSUL,
    "python-consul2": Python("python-consul2", ("python-consul2==0.1.5", "setuptools<81")),
    "discovery-client": Python("discovery-client", ("discovery-client==1.1.0", "httpx>=0.28")),
    "httpx": Python("httpx", ("httpx==0.28.1",)),
    "httpx-async": Python("httpx", ("httpx==0.28.1",)),
    "go": Go(),
    "node": Node(),
}
"""Clients of Consul, by the name that tables have."""

WITH_ETCD3 = Python("ours-etcd3", ("-e", ".[etcd3]", "protobuf>=7"))
ETCD: Mapping[str, Python] = {
    "raw": OURS,
    "raw-async": OURS,
    "ours": OURS,
    "ours-async": OURS,
    "ours, gRPC": OURS,
    "ours-async, gRPC": OURS,
    "ours, by etcd3's channel": WITH_ETCD3,
    "etcd3": Python("etcd3", ("etcd3==0.12.0", "protobuf==3.20.3")),  # the newest that it takes by itself
    "etcd3, protobuf 7": WITH_ETCD3,
    "aetcd": Python("aetcd", ("aetcd==1.0.0",)),
    "etcd-client-py": Python("etcd-client-py", ("etcd-client-py==0.5.1",)),
    "etcd3gw": Python("etcd3gw", ("etcd3gw==2.7.0",)),
}
"""Clients of etcd."""
