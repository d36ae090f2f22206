"""A resolver's last list on disk, so that a process can start while the registry is away.

A file is written beside its place and moved there, so that it is whole or not there; it belongs to its user alone, and
one that others could have written is not read. No token is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from consul_access.models.instance import PortEntry, ServiceInstance, Standing
from consul_access.models.snapshot import ServiceSnapshot
from consul_access.models.status import CheckStatus

__all__ = ["Clocks", "Shelf"]

log = logging.getLogger("consul_access")

FORMAT: Final = 1
LONGEST: Final = 64 * 1024 * 1024
OTHERS_MAY_WRITE: Final = 0o022


@dataclass(frozen=True, slots=True)
class Clocks:
    """Both clocks.

    Args:
        wall: seconds since 1970, which means something to other processes.
        monotonic: seconds that never jump, which mean something to this one only.
    """

    wall: Callable[[], float]
    monotonic: Callable[[], float]


class Shelf:
    """Where one question's list is kept.

    Args:
        folder: where the file is; made when it is first needed, for this user alone.
        service: the service's name.
        key: what else the question consists of; other questions have other files.
        clocks: the clocks.
    """

    def __init__(self, folder: str | os.PathLike[str], service: str, key: object, clocks: Clocks) -> None:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        self.path = Path(folder) / f"{quote(service, safe='')[:80]}-{digest}.json"
        self._service = service
        self._clocks = clocks

    def save(self, snapshot: ServiceSnapshot) -> bool:
        """Keeps a snapshot; whether that could be done. If not, the log says why."""
        age = self._clocks.monotonic() - (snapshot.answered_at or 0.0)
        content = {
            "format": FORMAT,
            "service": snapshot.service,
            "answered": self._clocks.wall() - age,
            "index": snapshot.index,
            "instances": [_packed(instance) for instance in snapshot.instances],
        }
        try:
            self._write(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
        except OSError as error:
            log.warning("the list of %r cannot be kept in %s: %s", self._service, self.path, error)
            return False
        return True

    def load(self) -> ServiceSnapshot | None:
        """What was kept, as old as it is; None when there is nothing, or nothing that can be trusted."""
        try:
            text = self._read()
            content = json.loads(text)
            if content["format"] != FORMAT or content["service"] != self._service:
                raise ValueError("it is of another service or format")
            answered = float(content["answered"])
            since = datetime.fromtimestamp(answered, UTC)
            instances = tuple(_unpacked(packed) for packed in content["instances"])
            index = content["index"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
            log.warning("the list of %r in %s cannot be used: %s", self._service, self.path, error)
            return None
        age = max(0.0, self._clocks.wall() - answered)
        moment = self._clocks.monotonic() - age
        return ServiceSnapshot(
            service=self._service,
            instances=instances,
            index=index if isinstance(index, int) else None,
            age=age,
            source="disk",
            stale_since=since,
            answered_at=moment,
            stale_at=moment,
        )

    def _write(self, data: bytes) -> None:
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = folder / f".{self.path.name}.{os.getpid()}.{secrets.token_hex(4)}"
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise

    def _read(self) -> bytes:
        handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & OTHERS_MAY_WRITE):
                raise PermissionError("others could have written it")
            if found.st_size > LONGEST:
                raise ValueError(f"it is longer than {LONGEST} bytes")
            return file.read()


_FIELDS: Final = tuple(
    field.name for field in fields(ServiceInstance) if field.name not in {"port_entries", "standing"}
)


def _packed(instance: ServiceInstance) -> dict[str, Any]:
    packed: dict[str, Any] = {name: getattr(instance, name) for name in _FIELDS}
    packed["port_entries"] = [(entry.port, entry.name, entry.default) for entry in instance.port_entries]
    packed["standing"] = [str(status) for status in instance.standing]
    return packed


def _unpacked(packed: dict[str, Any]) -> ServiceInstance:
    named = {name: packed[name] for name in _FIELDS}
    overall, own = packed["standing"]
    aliased = ({"Port": port, "Name": name, "Default": default} for port, name, default in packed["port_entries"])
    made: Callable[..., PortEntry] = PortEntry  # its fields are named as Consul names them
    entries = tuple(made(**fields) for fields in aliased)
    return ServiceInstance(**named, port_entries=entries, standing=Standing(CheckStatus(overall), CheckStatus(own)))
