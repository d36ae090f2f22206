"""Finds the real servers that tests, demo and benchmarks run against, and fetches them where a machine has none.

`CONSUL_BIN` / `ETCD_BIN`, else what is on PATH, else the distribution's own package, unpacked into a cache folder and
never installed. The mirror's address is the one that this machine's apt is configured with; only the name of the
release is exchanged.

    python tools/servers.py consul        prints the path of a Consul 1.8 binary
    python tools/servers.py etcd          prints the path of an etcd 3.4 binary
    python tools/servers.py etcd-newer    prints the path of an etcd 3.5 binary, whose gateway is that of 3.6
    python tools/servers.py prometheus    prints the path of a Prometheus binary, for `make screenshots`
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

APT_SOURCES = Path("/etc/apt")


class ServerMissing(Exception):
    """No such server can be had on this machine; the text says what to do."""


@dataclass(frozen=True)
class Package:
    """A Debian package that holds a server. One that stands for a certain version is not looked for on PATH."""

    name: str
    release: str
    binary: str
    variable: str
    any_version: bool = True


CONSUL = Package("consul", "bullseye", "usr/bin/consul", "CONSUL_BIN")
ETCD = Package("etcd-server", "bookworm", "usr/bin/etcd", "ETCD_BIN")
ETCD_NEWER = Package("etcd-server", "trixie", "usr/bin/etcd", "ETCD_NEWER_BIN", any_version=False)
PROMETHEUS = Package("prometheus", "bookworm", "usr/bin/prometheus", "PROMETHEUS_BIN")


def find(package: Package) -> Path:
    """The server's binary.

    Raises:
        ServerMissing: there is none and none can be fetched.
    """
    command = Path(package.binary).name
    named = os.environ.get(package.variable)
    if named:
        if not os.access(named, os.X_OK):
            raise ServerMissing(f"{package.variable}={named} is not a program")
        return Path(named)
    on_path = shutil.which(command) if package.any_version else None
    return Path(on_path) if on_path else _from_cache(package)


def consul() -> Path:
    """A Consul agent."""
    return find(CONSUL)


def etcd() -> Path:
    """An etcd server."""
    return find(ETCD)


def etcd_newer() -> Path:
    """An etcd server with the gateway of 3.6."""
    return find(ETCD_NEWER)


def prometheus() -> Path:
    """A Prometheus server."""
    return find(PROMETHEUS)


def _from_cache(package: Package) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "consul-access" / "servers"
    home.mkdir(parents=True, exist_ok=True)
    folder = home / f"{package.name}-{package.release}"
    with locked(home / f"{folder.name}.lock"):
        if not (folder / package.binary).exists():
            with tempfile.TemporaryDirectory(dir=home) as scratch:
                unpacked = _fetch(package, Path(scratch))
                shutil.rmtree(folder, ignore_errors=True)
                unpacked.rename(folder)  # in one step: nobody ever sees half of it
    return folder / package.binary


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time: others wait until the block has ended.

    Args:
        path: a file that stands for what is locked; it is made.
    """
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(package: Package, scratch: Path) -> Path:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServerMissing(
            f"there is no {Path(package.binary).name} on PATH, and this machine has no apt to fetch it with: "
            f"install it and set {package.variable} to its path"
        )
    options = _private_apt(package, scratch)
    _run([*options, "update"], scratch, package)
    _run([*options, "download", package.name], scratch, package)
    (archive,) = scratch.glob("*.deb")
    unpacked = scratch / "unpacked"
    _run(["dpkg-deb", "-x", str(archive), str(unpacked)], scratch, package)
    return unpacked


def _private_apt(package: Package, scratch: Path) -> list[str]:
    """apt-get with folders of its own: the machine's lists, cache and packages stay as they are."""
    for folder in ("lists/partial", "archives/partial", "empty"):
        (scratch / folder).mkdir(parents=True)
    sources = scratch / "release.list"
    sources.write_text("".join(f"{line}\n" for line in _sources(package.release)))
    (scratch / "status").touch()
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": scratch / "empty",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": scratch / "empty",
        "Dir::State::lists": scratch / "lists",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch,
        "Dir::Cache::archives": scratch / "archives",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Sandbox::User": "",
    }
    return ["apt-get", "-q", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]


def _sources(release: str) -> list[str]:
    """The machine's own Debian sources, with another release's name."""
    found = {entry: None for path in _source_files() for entry in _entries(path.read_text(), release)}
    if not found:
        raise ServerMissing(f"{APT_SOURCES} names no Debian mirror to fetch {release}'s packages from")
    return list(found)


def _source_files() -> list[Path]:
    parts = APT_SOURCES / "sources.list.d"
    candidates = [APT_SOURCES / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]
    return [path for path in candidates if path.is_file()]


def _entries(text: str, release: str) -> Iterator[str]:
    yield from _one_line_entries(text, release)
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.+)$", stanza, re.MULTILINE))
        if "URIs" not in fields or not _is_debian(fields.get("Suites", "")):
            continue
        signed = f"[signed-by={fields['Signed-By']}] " if fields.get("Signed-By", "").startswith("/") else ""
        for address in fields["URIs"].split():
            yield f"deb {signed}{address} {release} main"


def _one_line_entries(text: str, release: str) -> Iterator[str]:
    for options, address, suite in re.findall(r"^deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+.*\bmain\b", text, re.MULTILINE):
        if _is_debian(suite):
            yield f"deb {options}{address} {release} main"


def _is_debian(suites: str) -> bool:
    """Whether a source holds a whole release; security and backports do not."""
    return any(re.fullmatch(r"[a-z]+", suite) for suite in suites.split())


def _run(command: list[str], folder: Path, package: Package) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerMissing(
            f"{package.name} of Debian {package.release} cannot be fetched; install it and set {package.variable} "
            f"to its path.\n{' '.join(command)}\n{done.stdout[-800:]}{done.stderr[-2000:]}"
        )


if __name__ == "__main__":
    known = {"consul": CONSUL, "etcd": ETCD, "etcd-newer": ETCD_NEWER, "prometheus": PROMETHEUS}
    if len(sys.argv) != 2 or sys.argv[1] not in known:
        sys.exit(__doc__)
    try:
        print(find(known[sys.argv[1]]))
    except ServerMissing as error:
        sys.exit(f"{error}")
