"""Finds the real servers that tests run against.

`CONSUL_BIN` / `ETCD_BIN`, else what is on PATH, else the distribution's own package, unpacked into a cache folder and
never installed. The mirror's address is the one that this machine's apt is configured with; only the name of the
release is exchanged.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["CONSUL", "ETCD", "Package", "ServerMissing", "find"]

APT_SOURCES: Final = Path("/etc/apt")


class ServerMissing(FileNotFoundError):
    """No such server can be had on this machine; the text says what to do."""


@dataclass(frozen=True)
class Package:
    """A Debian package that holds a server. One that stands for a certain version is not looked for on PATH."""

    name: str
    release: str
    binary: str
    variable: str
    any_version: bool = True

    @property
    def folder(self) -> str:
        """Where it is unpacked, within the cache."""
        return f"{self.name}-{self.release}"


CONSUL: Final = Package("consul", "bullseye", "usr/bin/consul", "CONSUL_BIN")
ETCD: Final = Package("etcd-server", "bookworm", "usr/bin/etcd", "ETCD_BIN")


def find(package: Package, *, fetch: bool = False) -> Path:
    """The server's binary.

    Args:
        package: which server.
        fetch: whether Debian's package may be downloaded when there is nothing else; what was downloaded once is found
            in any case.

    Raises:
        ServerMissing: there is none, or none can be fetched; the text says what to do.
    """
    command = Path(package.binary).name
    named = os.environ.get(package.variable)
    if named:
        if not os.access(named, os.X_OK):
            raise ServerMissing(f"{package.variable}={named} is not a program")
        return Path(named)
    on_path = shutil.which(command) if package.any_version else None
    if on_path:
        return Path(on_path)
    cached = _cache() / package.folder / package.binary
    if cached.exists() or fetch:
        return cached if cached.exists() else _fetched(package)
    raise ServerMissing(
        f"there is no {command} on PATH: install it, or set {package.variable} to its path; "
        "on Debian and its kin `pytest --require-servers` fetches one"
    )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "consul-access" / "servers"


def _fetched(package: Package) -> Path:
    home = _cache()
    home.mkdir(parents=True, exist_ok=True)
    folder = home / package.folder
    with _locked(home / f"{folder.name}.lock"):
        if not (folder / package.binary).exists():
            with tempfile.TemporaryDirectory(dir=home) as scratch:
                unpacked = _fetch(package, Path(scratch))
                shutil.rmtree(folder, ignore_errors=True)
                unpacked.rename(folder)  # in one step: nobody ever sees half of it
    return folder / package.binary


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl  # only where there is Debian, too

    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(package: Package, scratch: Path) -> Path:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServerMissing(
            f"there is no {Path(package.binary).name} on PATH: install it, or set {package.variable} to its path; this "
            "machine has no apt to fetch it with"
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
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - apt-get and dpkg-deb
    if done.returncode:
        raise ServerMissing(
            f"{package.name} of Debian {package.release} cannot be fetched; install it and set {package.variable} "
            f"to its path.\n{' '.join(command)}\n{done.stdout[-800:]}{done.stderr[-2000:]}"
        )
