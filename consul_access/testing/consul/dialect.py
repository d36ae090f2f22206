"""What differs between the versions of Consul, in one place: everything else is the same for all of them.

Sources: observed on 1.8.7 and 1.10.12; the sources of 1.9.0, 1.9.17 and later ones; the changelog of 1.21.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from consul_access.errors import InvalidInput

__all__ = ["Dialect"]

Numbers: TypeAlias = tuple[int, int, int]

_SHORT: Final = {"1.8": "1.8.7", "1.10": "1.10.12", "1.21": "1.21.4"}
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_FIRST: Final[Numbers] = (1, 8, 0)
_PACKED_FROM: Final = 1400

_SERVICE_FIELDS: Final[dict[str, Numbers]] = {
    "SocketPath": (1, 10, 0),
    "Locality": (1, 17, 0),
    "Ports": (1, 22, 0),
}
_CHECK_FIELDS: Final[dict[str, tuple[Numbers, ...]]] = {
    "DisableRedirects": ((1, 9, 17), (1, 10, 10), (1, 11, 5)),
    "FailuresBeforeWarning": ((1, 11, 0),),
    "disable_redirects": ((1, 9, 17), (1, 10, 10), (1, 11, 5)),
    "grpc_use_tls": ((1, 9, 0),),
    "H2PING": ((1, 10, 0),),
    "H2PingUseTLS": ((1, 11, 0),),
    "h2ping_use_tls": ((1, 11, 0),),
    "OSService": ((1, 14, 0),),
    "TCPUseTLS": ((1, 16, 2),),
    "TLSServerName": ((1, 10, 0),),
    "tls_server_name": ((1, 10, 0),),
    "UDP": ((1, 13, 0),),
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One version.

    Args:
        text: the version, such as `1.8.7`.
        numbers: the same, to be compared.
    """

    text: str
    numbers: Numbers

    @classmethod
    def of(cls, version: str) -> Dialect:
        """The dialect of a version: `1.8`, `1.10` or `1.21`, or a whole one such as `1.9.17`.

        Raises:
            InvalidInput: it is none, or older than 1.8.
        """
        text = _SHORT.get(version, version)
        found = _VERSION.fullmatch(text)
        if found is None or (numbers := (int(found[1]), int(found[2]), int(found[3]))) < _FIRST:
            raise InvalidInput(
                f"version={version!r} cannot be imitated: write '1.8', '1.10', '1.21' or a whole version"
            )
        return cls(text, numbers)

    def since(self, *numbers: int) -> bool:
        """Whether it is as new as that."""
        return self.numbers >= numbers

    def knows_service_field(self, name: str) -> bool:
        """Whether a registration may have this field."""
        return name not in _SERVICE_FIELDS or self.numbers >= _SERVICE_FIELDS[name]

    def knows_check_field(self, name: str) -> bool:
        """Whether a check may have this field. Some came with patch releases of several lines at once."""
        if name not in _CHECK_FIELDS:
            return True
        *lines, newest = _CHECK_FIELDS[name]
        return self.numbers >= newest or any(self.numbers[:2] == line[:2] and self.numbers >= line for line in lines)

    # --- headers and shapes -------------------------------------------------------------------------------

    @property
    def streams(self) -> bool:
        """Health look-ups with an index come from a streamed view, which waits exactly as long as it was told."""
        return self.since(1, 10)

    @property
    def tells_default_policy(self) -> bool:
        """`X-Consul-Default-Acl-Policy` is among the headers."""
        return self.since(1, 9)

    @property
    def tells_filtered(self) -> bool:
        """`X-Consul-Results-Filtered-By-ACLs` tells that a token was not allowed to see everything."""
        return self.since(1, 11)

    @property
    def tells_backend(self) -> bool:
        """`X-Consul-Query-Backend` tells where an answer came from."""
        return self.since(1, 10)

    @property
    def read_meta(self) -> dict[str, Any]:
        """What a transaction that only reads tells of how it was answered."""
        made = {"Index": int(self.since(1, 10, 9)), "LastContact": 0, "KnownLeader": True, "ConsistencyLevel": ""}
        if self.since(1, 9):
            made["NotModified"] = False
        if self.since(1, 10):
            made["Backend"] = 0
        if self.since(1, 11):
            made["ResultsFilteredByACLs"] = False
        return made

    @property
    def refuses_bare(self) -> bool:
        """What `health/service` and `health/connect` refuse carries no index; everything else that fails does."""
        return self.since(1, 9)

    def packs(self, length: int) -> bool:
        """Whether a body of that many bytes is packed for those who ask: at first all were, then the longer ones."""
        return length >= _PACKED_FROM or not self.since(1, 9)

    @property
    def checks_have_pace(self) -> bool:
        """Checks in answers have Interval and Timeout."""
        return self.since(1, 10)

    def pace_of_services(self, interval: str, timeout: str) -> tuple[str, str]:
        """What those are where a check was registered with its service: first nothing, then the one for both."""
        if not self.since(1, 11):
            return "", ""
        return interval, interval if timeout and not self.since(1, 14) else timeout

    @property
    def services_have_datacenter(self) -> bool:
        """An agent's services have Datacenter."""
        return self.since(1, 9)

    @property
    def has_read_replicas(self) -> bool:
        """The servers' own service tells whether it is one; under the former name `non_voter` all do."""
        return self.since(1, 9, 1)

    @property
    def leaves_out_port_zero(self) -> bool:
        """A service without port has none in answers, instead of 0."""
        return self.since(1, 10)

    # --- what is told and noted ---------------------------------------------------------------------------

    @property
    def notes_the_same(self) -> bool:
        """Servers that are told of a check what they know already note that, which moves the index of all checks."""
        return not self.since(1, 9)

    @property
    def tells_the_same(self) -> bool:
        """An agent with which the same is registered again tells the servers again."""
        return not self.since(1, 9, 1)

    # --- refusals -----------------------------------------------------------------------------------------

    @property
    def limit_is_told(self) -> bool:
        """A client with too many connections gets a 429 instead of a reset."""
        return self.since(1, 9)

    @property
    def unknown_is_404(self) -> bool:
        """What the agent does not know is 404, also to those who deregister it."""
        return self.since(1, 11, 2)

    @property
    def has_version_page(self) -> bool:
        """There is `/v1/agent/version`."""
        return self.since(1, 16)

    @property
    def wants_json(self) -> bool:
        """A body must be declared as JSON."""
        return self.since(1, 20, 2)

    @property
    def needs_interval(self) -> str:
        """How it refuses a check without interval."""
        if self.since(1, 14):
            kinds = "Script, HTTP, H2PING, TCP, UDP or OSService"
        elif self.since(1, 13):
            kinds = "Script, HTTP, H2PING, TCP, or UDP"
        else:
            kinds = "Script, HTTP, H2PING, or TCP" if self.since(1, 10) else "Script, HTTP, or TCP"
        return f"Interval must be > 0 for {kinds} checks"
