"""What differs between etcd's versions and their gateways, in one place.

Observed on 3.4.23 (gateway of the first generation) and 3.5.16 as Debian builds it (of the second, as 3.6 has).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from consul_access.errors import InvalidInput
from consul_access.etcd.messages import http_status

__all__ = ["Dialect", "Refused"]

_SHORT: Final = {"3.4": "3.4.23", "3.5": "3.5.16", "3.6": "3.6.0"}
_WORDS: Final = {3: "InvalidArgument", 7: "PermissionDenied", 16: "Unauthenticated"}


class Refused(Exception):
    """A request is refused: gRPC's code, and etcd's text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def reason(self) -> str:
        """The same, as a canceled watch gives its reason."""
        return f"rpc error: code = {_WORDS.get(self.code, 'Unknown')} desc = {self.text}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One version, behind one gateway.

    Args:
        text: the version, such as `3.4.23`.
        minor: the second of its numbers.
        patch: the third.
        gateway: the generation of its gateway, 1 or 2.
    """

    text: str
    minor: int
    patch: int
    gateway: int

    @classmethod
    def of(cls, version: str, gateway: int | None) -> Dialect:
        """The dialect of `3.4`, `3.5` or `3.6`, or of a whole version.

        Raises:
            InvalidInput: there is no such version or gateway.
        """
        text = _SHORT.get(version, version)
        parts = text.split(".")
        if len(parts) != 3 or parts[0] != "3" or not all(map(str.isdecimal, parts)) or int(parts[1]) < 4:
            raise InvalidInput(f"version={version!r} cannot be imitated: write '3.4', '3.5', '3.6' or a whole version")
        minor = int(parts[1])
        usual = 1 if minor < 6 else 2
        if gateway not in {None, 1, 2}:
            raise InvalidInput(f"gateway={gateway!r} is no generation of the gateway: write 1 or 2")
        return cls(text, minor, int(parts[2]), gateway or usual)

    @property
    def has_auth_status(self) -> bool:
        """`/v3/auth/status` tells whether users are known."""
        return self.minor >= 5

    @property
    def guards_lease_keys(self) -> bool:
        """A lease's keys are told only to who may read them."""
        return self.minor >= 5

    @property
    def keeps_last_deletions(self) -> bool:
        """A watch from the revision of a compaction on is told what was deleted at that revision.

        From 3.4.34 and 3.5.16 on, and in all from 3.6 on (etcd's change "keep tombstone if revision == compactAtRev").
        """
        return self.patch >= {4: 34, 5: 16}.get(self.minor, 0)

    @property
    def has_probes(self) -> bool:
        """There are `/livez` and `/readyz`."""
        return self.minor >= 5

    def status(self, code: int) -> int:
        """The HTTP status for a gRPC code."""
        if code == 9 and self.minor == 4 and self.gateway == 1:
            return 412
        return 500 if code == 4 and self.gateway == 1 else http_status(code)

    def refusal(self, code: int, text: str) -> bytes:
        """The body of a refusal."""
        told: dict[str, Any] = {"code": code, "message": text}
        if self.gateway == 1:
            told = {"error": text, "message": text, "code": 2 if code == 4 else code}
        return json.dumps(told, separators=(",", ":")).encode()

    def stream_refusal(self, code: int, text: str) -> bytes:
        """The line of a stream that ends it."""
        told: dict[str, Any] = {"code": code, "message": text}
        if self.gateway == 1:
            status = self.status(code)
            reason = HTTPStatus(status).phrase
            told = {"grpc_code": code, "http_code": status, "message": text, "http_status": reason}
        return json.dumps({"error": told}, separators=(",", ":")).encode() + b"\n"
