"""Where something listens: `Address` for everybody, `Target` for the carrier."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

__all__ = ["Address", "Target"]


class Address(NamedTuple):
    """A host and a port. The host is an IP address without brackets, or a name.

    `str()` writes `host:port`, with brackets around IPv6: `10.0.0.5:8080`, `[2001:db8::1]:8080`.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Target:
    """A server that requests are sent to: an address, how to speak to it, and below which path.

    Args:
        address: host and port; for a Unix socket the host is empty.
        tls: whether to speak https.
        prefix: what every path begins with, such as `/consul` behind a proxy; empty or with a leading slash.
        unix_path: the socket's path, instead of an address.
        ip: one IP address of a host name, when calls must keep reaching the same machine.
    """

    address: Address
    tls: bool = False
    prefix: str = ""
    unix_path: str | None = None
    ip: str | None = None

    def __str__(self) -> str:
        return self.text

    # Worked out once: every call asks for these.

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.address, self.tls, self.prefix, self.unix_path, self.ip))

    @cached_property
    def text(self) -> str:
        """What `str()` gives."""
        if self.unix_path is not None:
            return f"unix://{self.unix_path}"
        if self.ip is not None and self.ip != self.address.host:
            return f"{self.address} ({self.ip})"
        return str(self.address)

    @property
    def url(self) -> str:
        """The target as a URL, prefix included; no secret is ever part of it."""
        if self.unix_path is not None:
            return f"unix://{self.unix_path}"
        return f"{'https' if self.tls else 'http'}://{self.address}{self.prefix}"

    @property
    def host_header(self) -> str:
        return "localhost" if self.unix_path is not None else str(self.address)

    @cached_property
    def is_local(self) -> bool:
        """Whether it is on this machine for certain: a Unix socket, localhost or a loopback address."""
        host = self.ip or self.address.host
        if self.unix_path is not None or host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def pinned(self, ip: str) -> Target:
        """The same target, from now on always at this IP address."""
        return replace(self, ip=ip)
