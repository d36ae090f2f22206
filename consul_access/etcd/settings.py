"""How to reach etcd: explicit arguments, then etcdctl's ETCDCTL_* variables, then defaults.

ETCD_* variables set up a server (https://etcd.io/docs/v3.5/op-guide/configuration/) and say nothing to clients.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from consul_access.errors import InvalidSettings
from consul_access.etcd.codecs import DEFAULT_PREFIX, codec_named
from consul_access.etcd.leases import LONGEST
from consul_access.models.address import Address, Target
from consul_access.settings import (
    ClientSettings,
    Environment,
    RetryPolicy,
    Timeouts,
    checked_address,
    file_name,
    parsed_target,
)
from consul_access.tokens import is_secret, secret

if TYPE_CHECKING:
    import ssl

    from pydantic import SecretStr

__all__ = ["GATEWAY", "GRPC", "EtcdSettings"]

DEFAULT_PORT: Final = 2379
DEFAULT_TTL: Final = 15
SHORTEST_TTL: Final = 2
"""etcd raises what is less."""
GATEWAY: Final = "gateway"
GRPC: Final = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings(ClientSettings):
    """Everything a client of etcd needs to know; make it with `EtcdSettings.load(...)`. Printing it shows no secret.

    Args:
        targets: the members, the preferred first.
        token: where the token comes from; a client with a user gets its own.
        verify: whether the servers' certificates are checked.
        ca_cert: a file of certificates to trust, instead of the system's.
        ca_path: a folder of such.
        client_cert: this client's certificate, a file.
        client_key: its key, a file.
        tls_server_name: the name to expect in the servers' certificates, instead of the host.
        ssl_context: instead of all TLS settings.
        timeouts: how long things may take.
        retry: how often a call is tried.
        max_answer_bytes: how long an answer, or a line of a watch, may be.
        max_connections: at most so many to one member; watches have further ones.
        compress: whether to ask for gzip, which etcd does not offer.
        user: whom to log in as.
        password: with which password; masked when printed.
        discover: whether to use members, too, that are not among the targets; see `EtcdRegistry.discover`.
        kubernetes_prefix: what the keys of Kubernetes begin with (`--etcd-prefix` of its API server).
        allow_kubernetes_writes: whether keys of Kubernetes may be written or deleted.
        prefix: what the keys of the registry's instances begin with; it ends in a slash.
        ttl: whole seconds after which an instance that is not heard of is gone.
        codec: the format of keys and values: `native`, `go_naming` or `kratos`.
        also_write: further formats that registrations are written in, each with its prefix.
        protocol: `gateway`, etcd's JSON over HTTP/1.1, or `grpc`.
    """

    targets: tuple[Target, ...] = (Target(Address("127.0.0.1", DEFAULT_PORT)),)
    compress: bool | None = False
    user: str | None = None
    password: SecretStr | None = None
    discover: bool = False
    kubernetes_prefix: str = "/registry"
    allow_kubernetes_writes: bool = False
    prefix: str = DEFAULT_PREFIX
    ttl: int = DEFAULT_TTL
    codec: str = "native"
    also_write: Mapping[str, str] = field(default_factory=dict)
    protocol: str = GATEWAY

    @classmethod
    def load(
        cls,
        host: str | None = None,
        port: int | None = None,
        *,
        endpoints: str | Iterable[str | Address | tuple[str, int]] | None = None,
        ca_cert: str | os.PathLike[str] | None = None,
        cert_key: str | os.PathLike[str] | None = None,
        cert_cert: str | os.PathLike[str] | None = None,
        user: str | None = None,
        password: str | SecretStr | None = None,
        verify: bool | None = None,
        tls_server_name: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float | Timeouts | None = None,
        retry: RetryPolicy | None = None,
        max_answer_bytes: int = 32 * 1024 * 1024,
        max_connections: int = 64,
        discover: bool = False,
        kubernetes_prefix: str = "/registry",
        allow_kubernetes_writes: bool = False,
        prefix: str | None = None,
        ttl: int = DEFAULT_TTL,
        codec: str = "native",
        also_write: Mapping[str, str] | None = None,
        protocol: str = GATEWAY,
        environ: Mapping[str, str] | None = None,
    ) -> EtcdSettings:
        """Settings from arguments, what is not given from the environment, and what is not there either by default.

        Args:
            host: host name or IP address.
            port: 1 to 65535; 2379 by default.
            endpoints: instead of host and port, several members: `host:port` or `http(s)://host:port`, also as one
                text with commas. What names no scheme is spoken to in https when there are TLS settings.
            ca_cert: a file of certificates to trust.
            cert_key: the file with this client's key.
            cert_cert: the file with this client's certificate.
            environ: the variables; those of the process by default.

        The other arguments are the fields of the class.

        Raises:
            InvalidSettings: something cannot be used; the text says which argument or variable, and what to write.
        """
        env = Environment(os.environ if environ is None else environ)
        authority = file_name(ca_cert, env.get("ETCDCTL_CACERT"))
        certificate = file_name(cert_cert, env.get("ETCDCTL_CERT"))
        key = file_name(cert_key, env.get("ETCDCTL_KEY"))
        if (certificate is None) != (key is None):
            raise InvalidSettings("a client certificate and its key belong together: give cert_cert and cert_key")
        tls = any(given is not None for given in (authority, certificate, ssl_context))
        name, secret = _login(user, password, env)
        return cls(
            targets=_targets(host, port, endpoints, env, tls=tls),
            verify=not env.flag("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", default=False) if verify is None else verify,
            ca_cert=authority,
            client_cert=certificate,
            client_key=key,
            tls_server_name=tls_server_name,
            ssl_context=ssl_context,
            timeouts=Timeouts.of(timeout),
            retry=retry or RetryPolicy(),
            max_answer_bytes=max_answer_bytes,
            max_connections=max_connections,
            user=name,
            password=secret,
            discover=discover,
            kubernetes_prefix=_prefix(kubernetes_prefix),
            allow_kubernetes_writes=allow_kubernetes_writes,
            prefix=_registry_prefix(prefix, codec),
            ttl=_ttl(ttl),
            codec=codec,
            also_write=_others(also_write or {}, _registry_prefix(prefix, codec)),
            protocol=_protocol(protocol),
        )


def _targets(
    host: str | None,
    port: int | None,
    endpoints: str | Iterable[str | Address | tuple[str, int]] | None,
    env: Environment,
    *,
    tls: bool,
) -> tuple[Target, ...]:
    if endpoints is not None:
        if host is not None or port is not None:
            raise InvalidSettings("host= and port= and endpoints= contradict each other: give one of them")
        return tuple(_one_of(entry, "endpoints=", tls) for entry in _split(endpoints))
    if host is not None or port is not None:
        address = checked_address(
            "127.0.0.1" if host is None else host, DEFAULT_PORT if port is None else port, "host="
        )
        return (Target(address, tls=tls),)
    variable = env.get("ETCDCTL_ENDPOINTS")
    if variable is not None:
        return tuple(_one_of(entry, "ETCDCTL_ENDPOINTS", tls) for entry in _split(variable))
    return (Target(Address("127.0.0.1", DEFAULT_PORT), tls=tls),)


def _split(
    endpoints: str | Iterable[str | Address | tuple[str, int]],
) -> Iterable[str | Address | tuple[str, int]]:
    if not isinstance(endpoints, str):
        return endpoints
    return [entry for entry in (part.strip() for part in endpoints.split(",")) if entry]


def _one_of(entry: str | Address | tuple[str, int], what: str, tls: bool) -> Target:
    if not isinstance(entry, str):
        return Target(checked_address(entry[0], entry[1], what), tls=tls)
    if "@" in entry:  # checked before anything is quoted from it
        raise InvalidSettings(f"{what} holds a user or password: these belong into user= and password=")
    # etcd's clients take the scheme for its word, so that an http:// is not raised to https
    secure = tls and "://" not in entry
    return parsed_target(entry, what, tls=secure, default_port=DEFAULT_PORT, url_port=DEFAULT_PORT)


def _login(user: str | None, password: str | SecretStr | None, env: Environment) -> tuple[str | None, SecretStr | None]:
    """User and password. As with etcdctl, `name:password` is one text unless the password is given by itself."""
    variable = env.get("ETCDCTL_PASSWORD")
    if password is None and user is None and variable is not None:
        password = variable
    name = user if user is not None else env.get("ETCDCTL_USER")
    if name is None:
        if password is not None:
            raise InvalidSettings("a password was given and no user: give user=, too")
        return None, None
    if password is None:
        name, separator, rest = name.partition(":")
        if not separator:
            raise InvalidSettings("a user was given and no password: give password=, too (or ETCDCTL_PASSWORD)")
        password = rest
    hidden = password if is_secret(password) else secret(password)
    if not name:
        raise InvalidSettings("the user's name is empty: write user=NAME")
    return name, hidden


def _prefix(prefix: str) -> str:
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise InvalidSettings(
            f"kubernetes_prefix={prefix!r} is none: write it like '/registry', without a slash behind"
        )
    return prefix


def _registry_prefix(prefix: str | None, codec: str) -> str:
    """A prefix of the registry. Without the slash behind, `/services` would also begin `/services-old/...`."""
    usual = codec_named(codec).prefix
    chosen = usual if prefix is None else prefix
    if not chosen:
        raise InvalidSettings(f"codec={codec!r} has no prefix of its own: give prefix=, such as '/services/'")
    if not isinstance(chosen, str) or not chosen.endswith("/") or not chosen.isprintable():
        raise InvalidSettings(f"prefix={chosen!r} must be a text that ends in '/': write it like '/services/'")
    return chosen


def _others(also_write: Mapping[str, str], prefix: str) -> dict[str, str]:
    found = {name: _registry_prefix(one, name) for name, one in also_write.items()}
    if len({prefix, *found.values()}) <= len(found):
        raise InvalidSettings(
            f"also_write={also_write!r}: each format needs a prefix of its own, other than {prefix!r}"
        )
    return found


def _ttl(ttl: int) -> int:
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not SHORTEST_TTL <= ttl <= LONGEST:
        raise InvalidSettings(f"ttl={ttl!r} is no time to live: write whole seconds, {SHORTEST_TTL} or more")
    return ttl


def _protocol(protocol: str) -> str:
    if protocol not in {GATEWAY, GRPC}:
        raise InvalidSettings(f"protocol={protocol!r} is not spoken here: write {GATEWAY!r} or {GRPC!r}")
    if protocol == GRPC and find_spec("hpack") is None:
        raise InvalidSettings("protocol='grpc' needs what is not installed: pip install 'consul-access[http2]'")
    return protocol
