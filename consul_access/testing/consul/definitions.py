"""What may be registered: the fields of services and checks, how they are checked, and what becomes of them.

Sources: agent/structs of Consul 1.8.7, observed on real agents line by line.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from consul_access.testing.consul.dialect import Dialect
from consul_access.testing.consul.golang import seconds
from consul_access.testing.consul.strict import (
    ANYTHING,
    BOOL,
    DURATION,
    INT,
    STRING,
    Items,
    Kind,
    Malformed,
    Mapped,
    Struct,
    decode,
)

__all__ = ["PORTED", "STATUSES", "STRINGS", "TEXTS", "WEIGHTS", "CheckDefinition", "Invalid", "ServiceDefinition",
           "is_any_address", "read_check", "read_service", "validate_meta", "wrong_family"]  # fmt: skip


class Invalid(Exception):
    """A registration is refused; the text is the agent's, the status 400."""


STATUSES: Final = frozenset({"passing", "warning", "critical"})
STRINGS: Final = Items(STRING, "[]string")
TEXTS: Final = Mapped(STRING, "map[string]string")
PORTED: Final = Struct("ServiceAddress", {"Address": STRING, "Port": INT}, "structs.ServiceAddress")
WEIGHTS: Final = Struct("Weights", {"Passing": INT, "Warning": INT}, "structs.Weights")
_HEADER: Final = Mapped(STRINGS, "map[string][]string")
_PROXY: Final = Struct(
    "ConnectProxyConfig",
    dict.fromkeys(
        (
            "DestinationServiceName",
            "DestinationServiceID",
            "LocalServiceAddress",
            "LocalServicePort",
            "Config",
            "Upstreams",
            "MeshGateway",
            "Expose",
            "Mode",
            "TransparentProxy",
            "EnvoyExtensions",
            "LocalServiceSocketPath",
        ),
        ANYTHING,
    ),
    "structs.ConnectProxyConfig",
)
_CONNECT: Final = Struct(
    "ServiceConnect", {"Native": BOOL, "SidecarService": ANYTHING}, "structs.ServiceConnect", lenient=True
)

_PROBES: Final[dict[str, Kind]] = {
    **dict.fromkeys(("Name", "Status", "Notes", "HTTP", "Method", "Body", "TCP", "DockerContainerID"), STRING),
    **dict.fromkeys(("AliasNode", "AliasService", "Shell", "GRPC", "UDP", "H2PING", "TLSServerName"), STRING),
    **dict.fromkeys(("ServiceID", "service_id", "docker_container_id", "OSService"), STRING),
    **dict.fromkeys(("GRPCUseTLS", "TLSSkipVerify", "tls_skip_verify", "grpc_use_tls"), BOOL),
    "tls_server_name": STRING,
    **dict.fromkeys(("H2PingUseTLS", "h2ping_use_tls", "TCPUseTLS", "DisableRedirects"), BOOL),
    **dict.fromkeys(("SuccessBeforePassing", "FailuresBeforeCritical", "FailuresBeforeWarning", "OutputMaxSize"), INT),
    **dict.fromkeys(("Interval", "Timeout", "TTL", "DeregisterCriticalServiceAfter"), DURATION),
    "deregister_critical_service_after": DURATION,
    **dict.fromkeys(("ScriptArgs", "args", "script_args"), STRINGS),
    "Header": _HEADER,
}
_SNAKE_FIELDS: Final = (
    ("Args []string", "args"),
    ("ScriptArgsSnake []string", "script_args"),
    ("DeregisterCriticalServiceAfterSnake interface {}", "deregister_critical_service_after"),
    ("DockerContainerIDSnake string", "docker_container_id"),
    ("TLSServerNameSnake string", "tls_server_name"),
    ("TLSSkipVerifySnake bool", "tls_skip_verify"),
    ("GRPCUseTLSSnake bool", "grpc_use_tls"),
)
_H2PING_SNAKE: Final = ("H2PingUseTLSSnake bool", "h2ping_use_tls")
_OWNER_SNAKE: Final = ("ServiceIDSnake string", "service_id")
_OF_A_SERVICE: Final = (*_SNAKE_FIELDS, _H2PING_SNAKE, ("ServiceID string", "ServiceID"), _OWNER_SNAKE)
_ALONE: Final = (*_SNAKE_FIELDS, _OWNER_SNAKE, _H2PING_SNAKE, ("DisableRedirectsSnake bool", "disable_redirects"))


def _check_shown(dialect: Dialect, fields: tuple[tuple[str, str], ...]) -> str:
    """The type of a check as Go writes it out."""
    known = (f'{field} "json:\\"{name}\\""; ' for field, name in fields if dialect.knows_check_field(name))
    lengths = ("Interval", "Timeout", "TTL", "DeregisterCriticalServiceAfter")
    return f"struct {{ {''.join(f'{name} interface {{}}; ' for name in lengths)}{''.join(known)}*structs.Alias }}"


_SERVICE_SHOWN: Final = (
    'struct { EnableTagOverrideSnake bool "json:\\"enable_tag_override\\""; '
    'TaggedAddressesSnake map[string]structs.ServiceAddress "json:\\"tagged_addresses\\""; *structs.Alias }'
)


@cache
def _lone_check(dialect: Dialect) -> Struct:
    fields = {**_PROBES, "ID": STRING, "Token": STRING, "disable_redirects": BOOL}
    return Struct("", fields, _check_shown(dialect, _ALONE), closed=True)


_ADDRESSES: Final = Mapped(PORTED, "map[string]structs.ServiceAddress")


@cache
def _service(dialect: Dialect) -> Struct:
    own = {**_PROBES, "CheckID": STRING, "ProxyHTTP": STRING, "ProxyGRPC": STRING}
    check = Struct("", own, _check_shown(dialect, _OF_A_SERVICE), closed=True)
    fields: dict[str, Kind] = {
        **dict.fromkeys(("Kind", "ID", "Name", "Address", "SocketPath", "Token"), STRING),
        "Tags": STRINGS,
        "TaggedAddresses": _ADDRESSES,
        "tagged_addresses": _ADDRESSES,
        "Meta": TEXTS,
        "Port": INT,
        "Check": check,
        "Checks": Items(check, "structs.CheckTypes"),
        "Weights": WEIGHTS,
        "EnableTagOverride": BOOL,
        "enable_tag_override": BOOL,
        "Proxy": _PROXY,
        "Connect": _CONNECT,
        "Locality": ANYTHING,
        "Ports": ANYTHING,
    }
    return Struct("", fields, _SERVICE_SHOWN, closed=True)


_SNAKES: Final = {
    "args": "ScriptArgs",
    "script_args": "ScriptArgs",
    "deregister_critical_service_after": "DeregisterCriticalServiceAfter",
    "docker_container_id": "DockerContainerID",
    "tls_skip_verify": "TLSSkipVerify",
    "grpc_use_tls": "GRPCUseTLS",
    "tls_server_name": "TLSServerName",
    "disable_redirects": "DisableRedirects",
    "h2ping_use_tls": "H2PingUseTLS",
    "service_id": "ServiceID",
    "enable_tag_override": "EnableTagOverride",
    "tagged_addresses": "TaggedAddresses",
}


@dataclass(frozen=True, slots=True)
class CheckDefinition:
    """A check, as it was asked for.

    Args:
        fields: by the agent's own names; lengths of time are nanoseconds.
    """

    fields: dict[str, Any]

    def text(self, name: str) -> str:
        """A field that is a text."""
        return str(self.fields.get(name, ""))

    def number(self, name: str) -> int:
        """A field that is a number or a length of time."""
        return int(self.fields.get(name, 0))

    def lasts(self, name: str) -> float:
        """A length of time, in seconds."""
        return seconds(self.number(name))

    @property
    def is_empty(self) -> bool:
        """Nothing but zeros: as if it had not been given."""
        return not any(value for name, value in self.fields.items() if name != "ServiceID")

    @property
    def is_script(self) -> bool:
        return bool(self.fields.get("ScriptArgs"))

    @property
    def is_alias(self) -> bool:
        return bool(self.text("AliasNode") or self.text("AliasService"))

    @property
    def is_probe(self) -> bool:
        """The agent asks somebody, again and again."""
        return self.is_script or any(self.text(name) for name in ("HTTP", "TCP", "GRPC", "UDP", "H2PING", "OSService"))

    @property
    def kind(self) -> str:
        """What the agent calls it; the first that fits counts."""
        often = self.number("Interval") > 0
        if self.text("DockerContainerID") and self.is_script and often:
            docker = "docker"
        else:
            docker = "script" if self.is_script and often else ""
        for name, kind in (("GRPC", "grpc"), ("HTTP", "http")):
            if self.text(name) and often:
                return kind
        if self.number("TTL") > 0:
            return "ttl"
        if self.text("TCP") and often:
            return "tcp"
        if self.is_alias:
            return "alias"
        for name, kind in (("UDP", "udp"), ("H2PING", "h2ping"), ("OSService", "os_service")):
            if self.text(name) and often:
                return kind
        return docker

    def validate(self, dialect: Dialect) -> None:
        """Refuses what fits together badly.

        Raises:
            Invalid: it does.
        """
        often, ttl = self.number("Interval") > 0, self.number("TTL") > 0
        wrong = (
            (often and ttl, "Interval and TTL cannot both be specified"),
            (self.is_probe and not often, dialect.needs_interval),
            (self.is_probe and self.is_alias, "Interval cannot be set for Alias checks"),
            (self.is_alias and ttl, "TTL must be not be set for Alias checks"),
            (not (self.is_probe or self.is_alias or ttl), "TTL must be > 0 for TTL checks"),
            (self.number("OutputMaxSize") < 0, "MaxOutputMaxSize must be positive"),
        )
        for is_so, text in wrong:
            if is_so:
                raise Invalid(f"Invalid check: {text}")


@dataclass(frozen=True, slots=True)
class ServiceDefinition:
    """A service, as it was asked for."""

    id: str
    name: str
    address: str
    port: int
    tags: list[str] | None
    meta: dict[str, str] | None
    weights: dict[str, int]
    tagged: dict[str, dict[str, Any]] | None
    override: bool
    kind: str
    native: bool
    socket: str
    token: str
    checks: list[CheckDefinition] = field(default_factory=list)


def read_service(body: bytes, dialect: Dialect) -> ServiceDefinition:
    """The service that a registration describes, in the order in which an agent finds fault with it.

    Raises:
        Invalid: it is refused.
    """
    fields = _decoded(
        body, _service(dialect), lambda name: dialect.knows_service_field(name) and dialect.knows_check_field(name)
    )
    name = fields.get("Name", "")
    if not name:
        raise Invalid("Missing service name")
    address = fields.get("Address", "")
    if is_any_address(address):
        raise Invalid("Invalid service address")
    weights = _weights(fields.get("Weights"))
    validate_meta(fields.get("Meta", {}))
    return ServiceDefinition(
        id=fields.get("ID", "") or name,
        name=name,
        address=address,
        port=fields.get("Port", 0),
        tags=[tag or "" for tag in fields["Tags"]] if "Tags" in fields else None,
        meta=fields.get("Meta"),
        weights=weights,
        tagged=_tagged(fields, address),
        override=fields.get("EnableTagOverride", False),
        kind=_proxied(fields, knows_sockets=dialect.knows_service_field("SocketPath")),
        native=fields.get("Connect", {}).get("Native", False),
        socket=fields.get("SocketPath", ""),
        token=fields.get("Token", ""),
        checks=_checks(fields, dialect),
    )


def read_check(body: bytes, dialect: Dialect) -> tuple[CheckDefinition, str, str]:
    """The check that stands alone, its id, and its token.

    Raises:
        Invalid: it is refused.
    """
    fields = _decoded(body, _lone_check(dialect), dialect.knows_check_field)
    if not fields.get("Name"):
        raise Invalid("Missing check name")
    check = CheckDefinition(fields)
    if check.text("Status") and check.text("Status") not in STATUSES:
        raise Invalid("Bad check status")
    check.validate(dialect)
    return check, check.text("ID") or check.text("Name"), check.text("Token")


def _decoded(body: bytes, kind: Struct, knows: Any) -> dict[str, Any]:
    try:
        return _unified(decode(body, kind, knows=knows) or {})
    except Malformed as mistake:
        raise Invalid(f"Request decode failed: {mistake}") from None


def _unified(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields by their proper names. A snake-case one counts where the proper one is missing or zero."""
    made = {name: value for name, value in fields.items() if name not in _SNAKES}
    for snake, name in _SNAKES.items():
        if snake in fields and not made.get(name):
            made[name] = fields[snake]
    return made


def _checks(fields: dict[str, Any], dialect: Dialect) -> list[CheckDefinition]:
    single = CheckDefinition(_unified(fields.get("Check", {})))
    found = [] if single.is_empty else [single]
    found += [CheckDefinition(_unified(check or {})) for check in fields.get("Checks", [])]
    for check in found:
        check.validate(dialect)
    if any(check.text("Status") and check.text("Status") not in STATUSES for check in found):
        raise Invalid("Status for checks must 'passing', 'warning', 'critical'")
    return found


def _weights(given: dict[str, int] | None) -> dict[str, int]:
    if given is None:
        return {"Passing": 1, "Warning": 1}
    weights = {"Passing": given.get("Passing", 0), "Warning": given.get("Warning", 0)}
    if weights["Passing"] < 1:
        raise Invalid("Invalid Weights: Passing must be greater than 0")
    if weights["Warning"] < 0:
        raise Invalid("Invalid Weights: Warning must be greater or equal than 0")
    if max(weights.values()) > 65535:
        raise Invalid("Invalid Weights: DNS Weight must be between 0 and 65535")
    return weights


def _proxied(fields: dict[str, Any], *, knows_sockets: bool) -> str:
    kind = str(fields.get("Kind", ""))
    if kind != "connect-proxy":
        return kind
    wrong = []
    if not fields.get("Proxy", {}).get("DestinationServiceName"):
        wrong.append("Proxy.DestinationServiceName must be non-empty for Connect proxy services")
    if not fields.get("Port") and not fields.get("SocketPath"):
        wrong.append(f"Port {'or SocketPath ' if knows_sockets else ''}must be set for a Connect proxy")
    if wrong:
        head = f"{len(wrong)} error{'s' if len(wrong) > 1 else ''} occurred:\n"
        raise Invalid(head + "".join(f"\t* {text}\n" for text in wrong) + "\n")
    return kind


_META_KEY: Final = re.compile(r"[a-zA-Z0-9_-]+")


def validate_meta(meta: dict[str, str], *, prefix: str = "Invalid Service Meta: ") -> None:
    """Refuses metadata that an agent refuses.

    Raises:
        Invalid: it would.
    """
    if len(meta) > 64:
        raise Invalid(f"{prefix}Node metadata cannot contain more than 64 key/value pairs")
    for key, value in meta.items():
        wrong = _wrong_pair(key, value)
        if wrong:
            raise Invalid(f"{prefix}Couldn't load metadata pair ('{key}', '{value}'): {wrong}")


def _wrong_pair(key: str, value: str) -> str:
    if not key:
        return "Key cannot be blank"
    if _META_KEY.fullmatch(key) is None:
        return "Key contains invalid characters"
    if len(key) > 128:
        return "Key is too long (limit: 128 characters)"
    if key.startswith("consul-"):
        return "Key prefix 'consul-' is reserved for internal use"
    return "Value is too long (limit: 512 characters)" if len(value.encode()) > 512 else ""


def is_any_address(text: str) -> bool:
    """Whether it means every address of the machine, which nobody can be reached at."""
    return text in {"0.0.0.0", "::", "[::]"}  # noqa: S104 - to be refused


def _tagged(fields: dict[str, Any], address: str) -> dict[str, dict[str, Any]] | None:
    given = fields.get("TaggedAddresses", {})
    tagged = {name: {"Address": "", "Port": 0} | one for name, one in given.items()}
    family = _family(address)
    if family:
        own = {"Address": address, "Port": fields.get("Port", 0)}
        return {f"lan_{family}": dict(own), f"wan_{family}": dict(own)} | tagged
    return tagged or None


def wrong_family(tagged: dict[str, dict[str, Any]] | None) -> str:
    """What an agent says to tagged addresses that are not of the family in their names; nothing if they are."""
    for name in ("lan_ipv4", "wan_ipv4", "lan_ipv6", "wan_ipv6"):
        family = name[4:]
        if tagged and name in tagged and _family(tagged[name]["Address"]) != family:
            return f'Service tagged address "{name}" must be a valid {family} address'
    return ""


def _family(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    is_mapped = isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None
    return "ipv4" if ip.version == 4 or is_mapped else "ipv6"
