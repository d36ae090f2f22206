"""Which fields of a registration an agent's version knows. One it does not know makes it refuse the whole.

The versions are those of Consul's changelog, checked against real agents. Some fields came with patch releases of
several lines at once, so that comparing minor versions is not enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from consul_access.errors import BadAnswer, UnsupportedByAgent

__all__ = ["Version", "check", "knows", "needs_version"]

Numbers: TypeAlias = tuple[int, int, int]

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:-([0-9A-Za-z.]+))?(?:\+([0-9A-Za-z.]+))?")


@dataclass(frozen=True, slots=True)
class Version:
    """An agent's version.

    Args:
        numbers: major, minor, patch.
        prerelease: `beta1` of `1.9.0-beta1`; it has what the release has.
        enterprise: it is Consul Enterprise.
    """

    numbers: Numbers
    prerelease: str = ""
    enterprise: bool = False

    @classmethod
    def parse(cls, text: str) -> Version:
        """The version that a text tells.

        Raises:
            BadAnswer: it tells none.
        """
        found = _VERSION.match(text)
        if found is None:
            raise BadAnswer(f"the agent calls its version {text!r}, which is none")
        major, minor, patch, prerelease, build = found.groups()
        return cls((int(major), int(minor), int(patch or 0)), prerelease or "", "ent" in (build or "").split("."))

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers)) + (f"-{self.prerelease}" if self.prerelease else "")

    def has(self, since: tuple[Numbers, ...]) -> bool:
        """Whether it is as new as one of these, where all but the last count for their own line only."""
        *lines, newest = since
        return self.numbers >= newest or any(self.numbers[:2] == line[:2] and self.numbers >= line for line in lines)


_FIELDS: dict[str, tuple[Numbers, ...]] = {
    "SocketPath": ((1, 10, 0),),
    "Locality": ((1, 17, 0),),
    "Ports": ((1, 22, 0),),
}
_CHECK_FIELDS: dict[str, tuple[Numbers, ...]] = {
    "DisableRedirects": ((1, 9, 17), (1, 10, 10), (1, 11, 5)),
    "FailuresBeforeWarning": ((1, 11, 0),),
    "H2PING": ((1, 10, 0),),
    "H2PingUseTLS": ((1, 11, 0),),
    "OSService": ((1, 14, 0),),
    "TCPUseTLS": ((1, 16, 2),),
    "TLSServerName": ((1, 10, 0),),
    "UDP": ((1, 13, 0),),
}
_ENTERPRISE = ("Namespace", "Partition")


def knows(version: str, field: str) -> bool:
    """Whether an agent of this version knows a registration's field, such as `Ports`."""
    return Version.parse(version).has(_FIELDS[field])


def needs_version(payload: Mapping[str, Any]) -> bool:
    """Whether the registration has a field that not every version knows."""
    return any(True for _ in _young(payload)) or any(name in payload for name in _ENTERPRISE)


def check(payload: Mapping[str, Any], version: str) -> None:
    """Refuses a registration that the agent would not understand.

    Args:
        payload: the registration, as it would be sent.
        version: the agent's, such as `1.8.7`.

    Raises:
        UnsupportedByAgent: the text names the field, the version that knows it, and the agent's.
    """
    agent = Version.parse(version)
    for name in _ENTERPRISE:
        if name in payload and not agent.enterprise:
            raise UnsupportedByAgent(
                f"{name} is a matter of Consul Enterprise, and this agent is Community Edition {agent}"
            )
    for name, since in _young(payload):
        if not agent.has(since):
            needed = ", ".join(".".join(map(str, numbers)) for numbers in since)
            raise UnsupportedByAgent(f"{name} needs an agent of Consul {needed} or newer, and this one is {agent}")


def _young(payload: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Numbers, ...]]]:
    yield from ((name, since) for name, since in _FIELDS.items() if name in payload)
    checks = [payload["Check"]] if "Check" in payload else payload.get("Checks", [])
    for written in checks:
        yield from ((name, since) for name, since in _CHECK_FIELDS.items() if name in written)
