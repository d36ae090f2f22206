"""How an agent finds out whether a service works: one class a kind of check.

A check without a target aims at the service's own address and port. What is written here is validated when it is
made; agents take an integer interval for nanoseconds, `{}` for no check at all, and addresses that nothing can call.
Source: https://developer.hashicorp.com/consul/docs/register/health-check/vm
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from consul_access.errors import InvalidInput
from consul_access.models import inputs
from consul_access.models.address import Address
from consul_access.models.durations import Duration, go_duration, seconds
from consul_access.models.status import CheckStatus

__all__ = [
    "AliasCheck",
    "AnyCheck",
    "DockerCheck",
    "GrpcCheck",
    "H2PingCheck",
    "HttpCheck",
    "OsServiceCheck",
    "ScriptCheck",
    "TcpCheck",
    "TtlCheck",
    "UdpCheck",
]

Status: TypeAlias = CheckStatus | Literal["passing", "warning", "critical"]
Payload: TypeAlias = dict[str, Any]

_ANYWHERE = Address("127.0.0.1", 1)
_PORT = re.compile(r"[0-9]{1,5}\Z")
_HTTP_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
"""What HTTP allows as a method and as a header's name (RFC 9110, 5.6.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check(ABC):
    id: str | None = None
    name: str | None = None
    notes: str | None = None
    status: Status | None = None
    success_before_passing: int | None = None
    failures_before_warning: int | None = None
    failures_before_critical: int | None = None
    deregister_critical_service_after: Duration | None = None

    def __post_init__(self) -> None:
        self._keep()
        self.payload(_ANYWHERE)  # whatever cannot be written is refused now

    def _keep(self) -> None:  # noqa: B027 - most kinds have nothing to keep
        """Takes out of iterables what can be read only once; the payload is made several times."""

    def payload(self, address: Address | None) -> Payload:
        """The check as agents read it; only what was given is in it.

        Args:
            address: the service's own, for a check without a target.

        Raises:
            InvalidInput: something cannot be right, or there is nothing to aim at.
        """
        return self._kind(address) | _without_none(
            CheckID=None if self.id is None else _check_id(self.id),
            Name=None if self.name is None else inputs.text(self.name, "the check's name"),
            Notes=_text_or_none(self.notes, "notes"),
            Status=None if self.status is None else _status(self.status),
            SuccessBeforePassing=_threshold("success_before_passing", self.success_before_passing),
            FailuresBeforeWarning=_threshold("failures_before_warning", self.failures_before_warning),
            FailuresBeforeCritical=_threshold("failures_before_critical", self.failures_before_critical),
            DeregisterCriticalServiceAfter=_at_least(
                "deregister_critical_service_after", self.deregister_critical_service_after, 60, "agents wait a minute"
            ),
        )

    @abstractmethod
    def _kind(self, address: Address | None, /) -> Payload:
        """What makes this kind of check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe(_Check):
    interval: Duration = 10.0
    timeout: Duration | None = None

    def _pace(self) -> Payload:
        return _without_none(
            Interval=_at_least("interval", _given(self.interval, "interval"), 1, "agents take at least a second"),
            Timeout=_at_least("timeout", self.timeout, 0.001, "a check needs some time"),
        )


@dataclass(frozen=True, slots=True)
class HttpCheck(_Probe):
    """The agent sends an HTTP request: 2xx passes, 429 is a warning, all else is critical.

    Args:
        url: where to; by default the service's own address, port and `path`.
        path: instead of `url`.
        scheme: with `path`, `http` or `https`.
        method: GET by default.
        headers: to send along; a value or several by name.
        body: to send along.
        tls_skip_verify: accepts every certificate.
        tls_server_name: the name expected in the certificate (Consul 1.10).
        disable_redirects: takes 3xx as critical instead of following (1.9.17, 1.10.10, 1.11.5).
        output_max_size: how many bytes of the answer are kept; 4096 by default.
        interval: seconds or a Go duration, at least 1 s; 10 s by default.
        timeout: 10 s by default.
        id: `service:<service id>` by default, with `:1`, `:2` when there are several.
        name: for people.
        notes: for people.
        status: what it counts as before it has run; critical by default.
        success_before_passing: so many in a row before it passes.
        failures_before_warning: so many in a row before it is a warning (1.11).
        failures_before_critical: so many in a row before it is critical.
        deregister_critical_service_after: removes the service when it was critical for so long; at least 1 minute,
            and the agent looks every 30 s.

    Raises:
        InvalidInput: an argument cannot be right.
    """

    url: str | None = None
    path: str = "/health"
    scheme: Literal["http", "https"] = "http"
    method: str | None = None
    headers: Mapping[str, str | Iterable[str]] | None = None
    body: str | None = None
    tls_skip_verify: bool | None = None
    tls_server_name: str | None = None
    disable_redirects: bool | None = None
    output_max_size: int | None = None

    def _kind(self, address: Address | None, /) -> Payload:
        return self._pace() | _without_none(
            HTTP=self._url(address),
            Method=None if self.method is None else _http_token(self.method, "method").upper(),
            Header=None if self.headers is None else _headers(self.headers),
            Body=_text_or_none(self.body, "body"),
            TLSSkipVerify=_flag(self.tls_skip_verify, "tls_skip_verify"),
            TLSServerName=_text_or_none(self.tls_server_name, "tls_server_name"),
            DisableRedirects=_flag(self.disable_redirects, "disable_redirects"),
            OutputMaxSize=_size(self.output_max_size),
        )

    def _keep(self) -> None:
        if isinstance(self.headers, Mapping):
            object.__setattr__(self, "headers", {name: _kept(value) for name, value in self.headers.items()})

    def _url(self, address: Address | None) -> str:
        if self.url is not None:
            return _http_url(self.url)
        if not inputs.text(self.path, "path").startswith("/"):
            raise InvalidInput(f"path={self.path!r} must begin with '/'")
        if self.scheme not in ("http", "https"):
            raise InvalidInput(f"scheme={self.scheme!r} is unknown: write 'http' or 'https'")
        return _http_url(f"{self.scheme}://{_own(address)}{self.path}")


@dataclass(frozen=True, slots=True)
class TcpCheck(_Probe):
    """The agent makes a TCP connection.

    Args:
        address: `host:port`, with brackets around IPv6; by default the service's own.
        use_tls: with a TLS handshake (Consul 1.16.2).
        tls_skip_verify: accepts every certificate.
        tls_server_name: the name expected in the certificate.

    The other arguments are those of `HttpCheck`.
    """

    address: str | Address | None = None
    use_tls: bool | None = None
    tls_skip_verify: bool | None = None
    tls_server_name: str | None = None

    def _kind(self, address: Address | None, /) -> Payload:
        return self._pace() | _without_none(
            TCP=_aim(self.address, address),
            TCPUseTLS=_flag(self.use_tls, "use_tls"),
            TLSSkipVerify=_flag(self.tls_skip_verify, "tls_skip_verify"),
            TLSServerName=_text_or_none(self.tls_server_name, "tls_server_name"),
        )


@dataclass(frozen=True, slots=True)
class UdpCheck(_Probe):
    """The agent sends a datagram, and takes silence for a good sign (Consul 1.13).

    Args:
        address: `host:port`, with brackets around IPv6; by default the service's own.

    The other arguments are those of `HttpCheck`.
    """

    address: str | Address | None = None

    def _kind(self, address: Address | None, /) -> Payload:
        return self._pace() | {"UDP": _aim(self.address, address)}


@dataclass(frozen=True, slots=True)
class GrpcCheck(_Probe):
    """The agent asks the gRPC health service.

    Args:
        address: `host:port`, with brackets around IPv6; by default the service's own.
        service: the gRPC service's name; the whole server by default.
        use_tls: with TLS.
        tls_skip_verify: accepts every certificate.
        tls_server_name: the name expected in the certificate (Consul 1.10).

    The other arguments are those of `HttpCheck`.
    """

    address: str | Address | None = None
    service: str | None = None
    use_tls: bool | None = None
    tls_skip_verify: bool | None = None
    tls_server_name: str | None = None

    def _kind(self, address: Address | None, /) -> Payload:
        target = _aim(self.address, address)
        return self._pace() | _without_none(
            GRPC=f"{target}/{_token(self.service, 'service')}" if self.service else target,
            GRPCUseTLS=_flag(self.use_tls, "use_tls"),
            TLSSkipVerify=_flag(self.tls_skip_verify, "tls_skip_verify"),
            TLSServerName=_text_or_none(self.tls_server_name, "tls_server_name"),
        )


@dataclass(frozen=True, slots=True)
class H2PingCheck(_Probe):
    """The agent sends an HTTP/2 ping (Consul 1.10).

    Args:
        address: `host:port`, with brackets around IPv6; by default the service's own.
        use_tls: whether with TLS, which is the agent's default (1.11 can be told).
        tls_skip_verify: accepts every certificate.
        tls_server_name: the name expected in the certificate.

    The other arguments are those of `HttpCheck`.
    """

    address: str | Address | None = None
    use_tls: bool | None = None
    tls_skip_verify: bool | None = None
    tls_server_name: str | None = None

    def _kind(self, address: Address | None, /) -> Payload:
        return self._pace() | _without_none(
            H2PING=_aim(self.address, address),
            H2PingUseTLS=_flag(self.use_tls, "use_tls"),
            TLSSkipVerify=_flag(self.tls_skip_verify, "tls_skip_verify"),
            TLSServerName=_text_or_none(self.tls_server_name, "tls_server_name"),
        )


@dataclass(frozen=True, slots=True)
class ScriptCheck(_Probe):
    """The agent runs a program: exit code 0 passes, 1 is a warning, all else is critical.

    Args:
        args: the program and its arguments. The agent must be allowed to (`enable_local_script_checks`).
        output_max_size: how many bytes of the output are kept; 4096 by default.

    The other arguments are those of `HttpCheck`.
    """

    args: Iterable[str] = ()
    output_max_size: int | None = None

    def _keep(self) -> None:
        object.__setattr__(self, "args", _kept(self.args))

    def _kind(self, _: Address | None, /) -> Payload:
        return self._pace() | _without_none(Args=_args(self.args), OutputMaxSize=_size(self.output_max_size))


@dataclass(frozen=True, slots=True)
class DockerCheck(_Probe):
    """The agent runs a program inside a container; exit codes as with `ScriptCheck`.

    Args:
        container: the container's id.
        args: the program and its arguments.
        shell: `/bin/sh` by default.

    The other arguments are those of `HttpCheck`.
    """

    container: str = ""
    args: Iterable[str] = ()
    shell: str | None = None

    def _keep(self) -> None:
        object.__setattr__(self, "args", _kept(self.args))

    def _kind(self, _: Address | None, /) -> Payload:
        container = _required(self.container, "container")
        return self._pace() | _without_none(
            DockerContainerID=container, Args=_args(self.args), Shell=_text_or_none(self.shell, "shell")
        )


@dataclass(frozen=True, slots=True)
class OsServiceCheck(_Probe):
    """The agent asks the operating system's service manager (Consul 1.14).

    Args:
        service: the system service's name.

    The other arguments are those of `HttpCheck`.
    """

    service: str = ""

    def _kind(self, _: Address | None, /) -> Payload:
        return self._pace() | {"OSService": _required(self.service, "service")}


@dataclass(frozen=True, slots=True)
class TtlCheck(_Check):
    """The service reports itself, within the given time: see `pass_check`.

    Args:
        ttl: seconds or a Go duration, at least 1 s; without a report for so long the check is critical.

    The other arguments are those of `HttpCheck`.
    """

    ttl: Duration = field(default=15.0)

    def _kind(self, _: Address | None, /) -> Payload:
        return {"TTL": _at_least("ttl", _given(self.ttl, "ttl"), 1, "shorter ones flap")}


@dataclass(frozen=True, slots=True)
class AliasCheck(_Check):
    """Follows the health of another service or node.

    Args:
        service: the other service's id.
        node: the node it is on, or a node alone. It must exist: agents of Consul 1.8 and 1.10 crash if it does not,
            so it is looked up before the registration is sent. Agents of 1.8.7 also freeze for up to a minute when
            an alias of a node is removed or registered again (observed).

    The other arguments are those of `HttpCheck`.
    """

    service: str | None = None
    node: str | None = None

    def _kind(self, _: Address | None, /) -> Payload:
        if self.service is None and self.node is None:
            raise InvalidInput("an alias check follows something: give service=, node= or both")
        return _without_none(
            AliasService=None if self.service is None else inputs.identifier(self.service, "service"),
            AliasNode=None if self.node is None else inputs.identifier(self.node, "node"),
        )


AnyCheck: TypeAlias = (
    HttpCheck
    | TcpCheck
    | GrpcCheck
    | TtlCheck
    | ScriptCheck
    | AliasCheck
    | UdpCheck
    | H2PingCheck
    | DockerCheck
    | OsServiceCheck
)

KINDS: tuple[type[_Check], ...] = (
    HttpCheck,
    TcpCheck,
    GrpcCheck,
    TtlCheck,
    ScriptCheck,
    AliasCheck,
    UdpCheck,
    H2PingCheck,
    DockerCheck,
    OsServiceCheck,
)


def _without_none(**values: Any) -> Payload:
    return {key: value for key, value in values.items() if value is not None}


def _check_id(value: str) -> str:
    found = inputs.identifier(value, "the check's id")
    if found in {"serfHealth", "_node_maintenance"} or found.startswith("_service_maintenance:"):
        raise InvalidInput(
            f"the check's id={found!r} is the agent's own, and would replace its check: take another one"
        )
    return found


def _status(value: Status) -> str:
    if value not in ("passing", "warning", "critical"):
        raise InvalidInput(f"status={str(value)!r} is none to begin with: write 'passing', 'warning' or 'critical'")
    return str(value)


def _given(value: Duration | None, name: str) -> Duration:
    if value is None:
        raise InvalidInput(f"{name}=None leaves no check: write seconds or a duration such as '10s'")
    return value


def _flag(value: bool | None, name: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"{name}={value!r} is neither: write True or False")
    return value


def _text_or_none(value: str | None, name: str) -> str | None:
    """A text that may have several lines."""
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{name}={value!r} must be a text")
    return value


def _kept(value: Any) -> Any:
    return value if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)


def _threshold(name: str, value: int | None) -> int | None:
    return None if value is None else inputs.whole(value, name, 0, 2**31 - 1)


def _size(value: int | None) -> int | None:
    return None if value is None else inputs.whole(value, "output_max_size", 1, 2**31 - 1)


def _at_least(name: str, value: Duration | None, least: float, why: str) -> str | None:
    if value is None:
        return None
    if seconds(value, what=name) < least:
        raise InvalidInput(f"{name}={value!r} is too short: {why}, so write {go_duration(least, what=name)} or more")
    return go_duration(value, what=name)


def _required(value: str, name: str) -> str:
    if not value:
        raise InvalidInput(f"{name}= is empty: without it there is nothing to check")
    return inputs.text(value, name)


def _token(value: str, name: str) -> str:
    if not inputs.text(value, name) or " " in value:
        raise InvalidInput(f"{name}={value!r} must be one word")
    return value


def _http_token(value: str, name: str) -> str:
    if not _HTTP_TOKEN.match(inputs.text(value, name)):
        raise InvalidInput(f"{name}={value!r} is none that HTTP allows: write one word of letters, digits and '-'")
    return value


def _args(args: Iterable[str]) -> list[str]:
    given = list(args) if isinstance(args, tuple) else []
    if not given or not given[0] or not all(isinstance(arg, str) and "\0" not in arg for arg in given):
        raise InvalidInput(f"args={args!r} must be the program and its arguments, such as ['/usr/bin/check', '-q']")
    return given


def _headers(headers: Mapping[str, str | Iterable[str]]) -> dict[str, list[str]]:
    if not isinstance(headers, Mapping):
        raise InvalidInput(f"headers={headers!r} is no mapping: write {{'X-Name': 'value'}}")
    written = {}
    for name, value in headers.items():
        values = value if isinstance(value, tuple) else (value,)
        written[_http_token(name, "the header's name")] = [inputs.text(item, f"the header {name!r}") for item in values]
    return written


def _own(address: Address | None) -> Address:
    if address is None:
        raise InvalidInput(
            "the service has no port for a check to aim at: give port=, the check's own target, or check=None"
        )
    return address


def _aim(target: str | Address | None, address: Address | None) -> str:
    """`host:port`, as the agent dials it."""
    if target is None:
        return str(_own(address))
    if isinstance(target, tuple) and len(target) == 2:
        return str(Address(inputs.host(target[0], "the check's host"), inputs.port(target[1], "the check's port")))
    host, separator, port = inputs.text(target, "address").rpartition(":")
    bare_ipv6 = ":" in host and not host.startswith("[")
    if not separator or not _PORT.match(port) or bare_ipv6:
        raise InvalidInput(f"address={target!r} is no target: write 'host:port', or '[address]:port' for IPv6")
    return str(Address(inputs.host(host, "the check's host"), inputs.port(int(port), "the check's port")))


def _http_url(url: str) -> str:
    inputs.text(url, "url")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"url={url!r} is no URL ({error}): write http://HOST:PORT/PATH") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or " " in url:
        raise InvalidInput(f"url={url!r} cannot be asked: write http://HOST:PORT/PATH or https://...")
    if port == 0:
        raise InvalidInput(f"url={url!r} has port 0: write 1 to 65535")
    inputs.host(parts.hostname, "the URL's host")
    return url
