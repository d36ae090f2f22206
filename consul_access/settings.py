"""How to reach Consul and how patiently: explicit arguments, then the CONSUL_* environment, then defaults.

The variables have the meaning and the precedence that Consul's own tools give them (hashicorp/consul api/api.go).
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from consul_access.call import quoted
from consul_access.errors import InvalidSettings
from consul_access.models.address import Address, Target
from consul_access.tokens import FileToken, NoToken, TokenArgument, TokenSource, is_secret, secret, token_source

if TYPE_CHECKING:
    import ssl
    from urllib.parse import SplitResult

    from pydantic import SecretStr

__all__ = [
    "FLAG_VALUES",
    "ClientSettings",
    "ConsulSettings",
    "Environment",
    "RetryPolicy",
    "Timeouts",
    "checked_address",
    "file_name",
    "parsed_target",
    "ssl_context",
]

log = logging.getLogger("consul_access")

DEFAULT_PORT: Final = 8500
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?\Z")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*\Z")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
FLAG_VALUES: Final = _TRUE | _FALSE
"""What Go's strconv.ParseBool takes; Consul's own tools ignore all else."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long things may take, in seconds.

    Args:
        connect: to make a connection, name look-up and TLS included.
        read: of silence, before and within an answer.
        write: to hand over the request.
        pool: to wait for one of the client's own connections.
        total: for the whole call, with all attempts. Agents without a quorum take 7 s to say so, hence 10 s.
    """

    connect: float = 2.0
    read: float = 10.0
    write: float = 5.0
    pool: float = 5.0
    total: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise InvalidSettings(f"the {name} timeout {value!r} is no time limit: write seconds, more than 0")

    @classmethod
    def of(cls, value: float | Timeouts | None) -> Timeouts:
        """The time limits that the `timeout=` argument stands for: a number is the whole call's."""
        if isinstance(value, Timeouts):
            return value
        return cls() if value is None else cls(read=value, total=value)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a call is tried, and how long is waited in between: exponentially longer, with full jitter.

    Args:
        attempts: at most so many, the first included; the total timeout may end it before.
        base: the longest first pause, in seconds; it doubles each time.
        cap: the longest pause of all.
        retry_after_cap: how long a server may ask to wait.
    """

    attempts: int = 3
    base: float = 0.1
    cap: float = 5.0
    retry_after_cap: float = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise InvalidSettings(f"attempts={self.attempts!r} is no number of attempts: write 1 or more")
        for name in ("base", "cap", "retry_after_cap"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise InvalidSettings(f"{name}={value!r} is no pause: write seconds, 0 or more")

    @classmethod
    def none(cls) -> RetryPolicy:
        """A single attempt."""
        return cls(attempts=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What every client needs to know, whatever the registry.

    Args:
        targets: the servers, the preferred first.
        token: where the token comes from.
        verify: whether the server's certificate is checked.
        ca_cert: a file of certificates to trust, instead of the system's.
        ca_path: a folder of such.
        client_cert: this client's certificate, a file.
        client_key: its key, a file.
        tls_server_name: the name to expect in the server's certificate, instead of the host.
        ssl_context: instead of all TLS settings.
        timeouts: how long things may take.
        retry: how often a call is tried.
        max_answer_bytes: how long an answer may be, as sent and unpacked.
        max_connections: at most so many to one server; agents refuse more than 200 from one address.
        watch_connections: at most so many more for watches and resolvers, which wait at the agent. Further ones take
            turns; over HTTP/2 each connection carries 200 of them.
        compress: whether to ask for gzip; by default only from other machines, since on the same one it costs time.
    """

    targets: tuple[Target, ...]
    token: TokenSource = field(default_factory=NoToken)
    verify: bool = True
    ca_cert: str | None = None
    ca_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    tls_server_name: str | None = None
    ssl_context: ssl.SSLContext | None = None
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    max_answer_bytes: int = 32 * 1024 * 1024
    max_connections: int = 64
    watch_connections: int = 64
    compress: bool | None = None

    def __post_init__(self) -> None:
        if not self.targets:
            raise InvalidSettings("there is no address to ask: give at least one")
        if (self.client_cert is None) != (self.client_key is None):
            raise InvalidSettings("a client certificate and its key belong together: give client_cert and client_key")
        for name, least in (("max_answer_bytes", 1), ("max_connections", 1), ("watch_connections", 4)):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidSettings(f"{name}={value!r} is no bound: write a whole number, {least} or more")

    def fixed_headers(self) -> tuple[tuple[str, str], ...]:
        """Headers of every request, beside those that HTTP itself needs."""
        return ()

    def token_headers(self, token: str) -> tuple[tuple[str, str], ...]:
        """How a token is shown."""
        return (("Authorization", token),)

    def scope(self) -> tuple[tuple[str, str], ...]:
        """What is added to the query of calls that do not name it: the parameter's name, and the pair as text."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulSettings(ClientSettings):
    """Everything a client needs to know; make it with `ConsulSettings.load(...)`. Printing it shows no secret.

    Args:
        targets: the agents or servers, the preferred first.
        token: where the token comes from.
        verify: whether the server's certificate is checked.
        ca_cert: a file of certificates to trust, instead of the system's.
        ca_path: a folder of such.
        client_cert: this client's certificate, a file.
        client_key: its key, a file.
        tls_server_name: the name to expect in the server's certificate, instead of the host.
        ssl_context: instead of all TLS settings.
        timeouts: how long things may take.
        retry: how often a call is tried.
        max_answer_bytes: how long an answer may be, as sent and unpacked.
        max_connections: at most so many to one server; agents refuse more than 200 from one address.
        compress: whether to ask for gzip; by default only from other machines, since on the same one it costs time.
        http_auth: user and password for HTTP's basic authentication.
        datacenter: asked instead of the agent's own.
        namespace: Consul Enterprise.
        partition: Consul Enterprise.
    """

    targets: tuple[Target, ...] = (Target(Address("127.0.0.1", DEFAULT_PORT)),)
    http_auth: tuple[str, SecretStr] | None = None
    datacenter: str | None = None
    namespace: str | None = None
    partition: str | None = None

    def fixed_headers(self) -> tuple[tuple[str, str], ...]:
        """The user and password of a proxy, if there is one."""
        if self.http_auth is None:
            return ()
        import base64

        user, password = self.http_auth
        pair = base64.b64encode(f"{user}:{password.get_secret_value()}".encode()).decode()
        return (("Authorization", f"Basic {pair}"),)

    def token_headers(self, token: str) -> tuple[tuple[str, str], ...]:
        """In the header that Consul reads first."""
        return (("X-Consul-Token", token),)

    def scope(self) -> tuple[tuple[str, str], ...]:
        """Datacenter, namespace and partition."""
        named = (("dc", self.datacenter), ("ns", self.namespace), ("partition", self.partition))
        return tuple((name, f"{name}={quoted(value)}") for name, value in named if value)

    @classmethod
    def load(
        cls,
        host: str | None = None,
        port: int | None = None,
        *,
        url: str | None = None,
        addresses: Iterable[str | Address | tuple[str, int]] | None = None,
        token: TokenArgument | None = None,
        token_file: str | os.PathLike[str] | None = None,
        http_auth: tuple[str, str | SecretStr] | None = None,
        datacenter: str | None = None,
        namespace: str | None = None,
        partition: str | None = None,
        verify: bool | None = None,
        ca_cert: str | os.PathLike[str] | None = None,
        ca_path: str | os.PathLike[str] | None = None,
        client_cert: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        tls_server_name: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float | Timeouts | None = None,
        retry: RetryPolicy | None = None,
        max_answer_bytes: int = 32 * 1024 * 1024,
        max_connections: int = 64,
        watch_connections: int = 64,
        compress: bool | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> ConsulSettings:
        """Settings from arguments, what is not given from the environment, and what is not there either by default.

        Args:
            host: host name or IP address.
            port: 1 to 65535.
            url: instead of host and port, `http(s)://host[:port][/prefix]` or `unix:///path`.
            addresses: instead of host and port, several of them.
            token: a text, a path or a function; see `consul_access.tokens`.
            token_file: a path, which goes before `token`.
            http_auth: user and password.
            environ: the variables; those of the process by default.

        The other arguments are the fields of the class.

        Raises:
            InvalidSettings: something cannot be used; the text says which argument or variable, and what to write.
        """
        env = Environment(os.environ if environ is None else environ)
        return cls(
            targets=_targets(host, port, url, addresses, env),
            token=_token(token, token_file, env),
            http_auth=_auth(http_auth, env),
            datacenter=_word("datacenter", datacenter),
            namespace=_word("namespace", namespace or env.get("CONSUL_NAMESPACE")),
            partition=_word("partition", partition or env.get("CONSUL_PARTITION")),
            verify=verify if verify is not None else env.flag("CONSUL_HTTP_SSL_VERIFY", default=True),
            ca_cert=file_name(ca_cert, env.get("CONSUL_CACERT")),
            ca_path=file_name(ca_path, env.get("CONSUL_CAPATH")),
            client_cert=file_name(client_cert, env.get("CONSUL_CLIENT_CERT")),
            client_key=file_name(client_key, env.get("CONSUL_CLIENT_KEY")),
            tls_server_name=tls_server_name or _without_port(env.get("CONSUL_TLS_SERVER_NAME")),
            ssl_context=ssl_context,
            timeouts=Timeouts.of(timeout),
            retry=retry or RetryPolicy(),
            max_answer_bytes=max_answer_bytes,
            max_connections=max_connections,
            watch_connections=watch_connections,
            compress=compress,
        )


def ssl_context(settings: ClientSettings, protocols: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
    """The TLS context that the settings describe.

    Args:
        settings: what describes it.
        protocols: what is offered to the server by ALPN, the preferred first.

    Raises:
        InvalidSettings: a file cannot be used; the text names it.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca_cert or settings.ca_path:
        _load(
            "CA certificates",
            settings.ca_cert or settings.ca_path,
            lambda: context.load_verify_locations(settings.ca_cert, settings.ca_path),
        )
    else:
        context.load_default_certs()
    if settings.client_cert is not None:
        cert, key = settings.client_cert, settings.client_key
        _load("client certificate", f"{cert}, {key}", lambda: context.load_cert_chain(cert, key))
    return context


def _load(what: str, where: str | None, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise InvalidSettings(f"the {what} in {where} cannot be used ({reason}): PEM files are needed") from error


class Environment:
    """The variables; an empty one counts as not set."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, name: str) -> str | None:
        return self._values.get(name) or None

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.get(name)
        if text is None:
            return default
        if text not in FLAG_VALUES:  # Consul's own tools go on too
            log.warning("%s=%r is neither true nor false and is ignored", name, text)
            return default
        return text in _TRUE


# --- where to ----------------------------------------------------------------------------------------------


def _targets(
    host: str | None,
    port: int | None,
    url: str | None,
    addresses: Iterable[str | Address | tuple[str, int]] | None,
    env: Environment,
) -> tuple[Target, ...]:
    ways = {
        "host= and port=": host is not None or port is not None,
        "url=": url is not None,
        "addresses=": addresses is not None,
    }
    given = [way for way, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise InvalidSettings(f"{' and '.join(given)} contradict each other: give one of them")
    tls = env.flag("CONSUL_HTTP_SSL", default=False)
    if addresses is not None:
        return tuple(_one_of(entry, tls) for entry in ([addresses] if isinstance(addresses, str) else addresses))
    if url is not None:
        return (parsed_target(url, "url=", tls=False, needs_scheme=True),)
    if host is not None or port is not None:
        return (Target(checked_address(host if host is not None else "127.0.0.1", port, "host="), tls=tls),)
    variable = env.get("CONSUL_HTTP_ADDR")
    if variable is not None:
        return (parsed_target(variable, "CONSUL_HTTP_ADDR", tls=tls),)
    return (Target(Address("127.0.0.1", DEFAULT_PORT), tls=tls),)


def _one_of(entry: str | Address | tuple[str, int], tls: bool) -> Target:
    if isinstance(entry, str):
        return parsed_target(entry, "addresses=", tls=tls, default_port=DEFAULT_PORT)
    return Target(checked_address(entry[0], entry[1], "addresses="), tls=tls)


def parsed_target(
    text: str,
    what: str,
    *,
    tls: bool,
    needs_scheme: bool = False,
    default_port: int | None = None,
    url_port: int | None = None,
) -> Target:
    """A target from `host[:port]`, `http(s)://host[:port][/prefix]` or `unix://path`."""
    if any(ord(char) <= 32 or ord(char) == 127 for char in text):
        raise InvalidSettings(f"{what} holds a blank or a control character: remove it")
    scheme, separator, rest = text.partition("://")
    if not separator:
        if needs_scheme:
            raise InvalidSettings(f"{what} has no scheme: write http://HOST:PORT, or use host= and port=")
        scheme, rest = ("https" if tls else "http"), text
    scheme = scheme.lower()
    if scheme == "unix":
        return _unix(rest, what)
    if scheme not in {"http", "https"}:
        raise InvalidSettings(f"{what} begins with {scheme}://: write http://, https:// or unix://")
    return _from_url(
        f"{scheme}://{_bracketed(rest)}", what, tls=tls, default_port=url_port if separator else default_port
    )


def _unix(socket_path: str, what: str) -> Target:
    if not socket_path or len(socket_path.encode()) > 107:
        raise InvalidSettings(f"{what} names no socket: write unix:///path/to/socket, of at most 107 bytes")
    return Target(Address("", 0), unix_path=socket_path)


def _bracketed(rest: str) -> str:
    """A bare IPv6 address gets the brackets that tell it from a port."""
    try:
        return f"[{ipaddress.IPv6Address(rest)}]"
    except ValueError:
        return rest


def _from_url(url: str, what: str, *, tls: bool, default_port: int | None) -> Target:
    if "@" in url:  # checked before anything is quoted from it
        raise InvalidSettings(f"{what} holds a user or password: these belong into http_auth= or CONSUL_HTTP_AUTH")
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidSettings(f"{what}={url!r} is no address ({error}): write http://HOST:PORT") from None
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise InvalidSettings(f"{what}={url!r} holds a query or a fragment: leave it out")
    secure = tls or parts.scheme == "https"
    usual = default_port or (443 if secure else 80)
    return Target(
        checked_address(_host_of(parts), usual if port is None else port, what), tls=secure, prefix=_prefix(parts, what)
    )


def _host_of(parts: SplitResult) -> str:
    if parts.netloc.startswith("["):
        return parts.netloc.partition("]")[0][1:]
    return parts.netloc.partition(":")[0]


def _prefix(parts: SplitResult, what: str) -> str:
    prefix = parts.path.rstrip("/")
    if not _PREFIX.match(prefix) or any(segment in {".", ".."} for segment in prefix.split("/")):
        raise InvalidSettings(f"{what} has the path {prefix!r}, which servers would rewrite: write /one/or/more/words")
    return prefix


def checked_address(host: str, port: int | None, what: str) -> Address:
    """Host and port, if they can be ones.

    Raises:
        InvalidSettings: they cannot.
    """
    if port is None:
        port = DEFAULT_PORT
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise InvalidSettings(f"the port {port!r} ({what}) is none: write 1 to 65535")
    return Address(_host(host, what), port)


def _host(host: str, what: str) -> str:
    if not isinstance(host, str) or not host:
        raise InvalidSettings(f"the host {host!r} ({what}) is no text: write an IP address or a name")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass  # a name, then
    if "://" in host:
        raise InvalidSettings(f"the host ({what}) is a URL: give it as url=")
    if not _NAME.match(host):
        raise InvalidSettings(f"the host {host!r} ({what}) is no IP address and no name; a port goes into port=")
    return host


# --- everything else ----------------------------------------------------------------------------------------


def _token(token: TokenArgument | None, token_file: str | os.PathLike[str] | None, env: Environment) -> TokenSource:
    if token_file is not None:
        return FileToken(token_file)
    if token is not None:
        return token_source(token)
    named = env.get("CONSUL_HTTP_TOKEN_FILE")
    if named is not None:
        return FileToken(named)
    value = env.get("CONSUL_HTTP_TOKEN")
    return NoToken() if value is None else token_source(value)


def _auth(given: tuple[str, str | SecretStr] | None, env: Environment) -> tuple[str, SecretStr] | None:
    if given is None:
        text = env.get("CONSUL_HTTP_AUTH")
        if text is None:
            return None
        user, _, word = text.partition(":")
    else:
        user, password = given
        word = password.get_secret_value() if is_secret(password) else password
    if ":" in user or not (user + word).isprintable():
        raise InvalidSettings("the user of http_auth= holds a colon, or one of the two a control character")
    return user, secret(word)


def _word(name: str, value: str | None) -> str | None:
    if value is not None and (not isinstance(value, str) or not value or not value.isprintable()):
        raise InvalidSettings(f"{name}={value!r} is no name")
    return value


def file_name(given: str | os.PathLike[str] | None, variable: str | None) -> str | None:
    """The path that was given, else the one in the variable."""
    path = given if given is not None else variable
    if path is None:
        return None
    from pathlib import Path  # a first look-up over plain HTTP names no files

    return str(Path(path))


def _without_port(name: str | None) -> str | None:
    return None if name is None else name.rpartition(":")[0] or name
