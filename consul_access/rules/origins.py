"""Which settings are in effect and where each comes from, and what in the environment is not what it seems.

The precedence is that of `settings` and `etcd.settings`, told rather than applied: every secret is masked here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from consul_access.models.explanation import Severity
from consul_access.rules.remarks import Remark, RemarkCode
from consul_access.settings import FLAG_VALUES

__all__ = ["MASK", "Origin", "consul_origins", "environment_remarks", "etcd_origins", "has_consul", "has_etcd"]

MASK: Final = "**********"


class Origin(NamedTuple):
    """One setting.

    Args:
        setting: what it is called here.
        value: as it is in effect; secrets are masked.
        source: the option or variable that it comes from, or `default`.
    """

    setting: str
    value: str
    source: str


class _Known(NamedTuple):
    setting: str
    variables: tuple[str, ...]
    default: str
    option: str = ""


_CONSUL: Final = (
    _Known("address", ("CONSUL_HTTP_ADDR",), "127.0.0.1:8500", "--http-addr"),
    _Known("token", ("CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_TOKEN"), "none", "--token-file"),
    _Known("basic authentication", ("CONSUL_HTTP_AUTH",), "none"),
    _Known("https", ("CONSUL_HTTP_SSL",), "false"),
    _Known("certificate is checked", ("CONSUL_HTTP_SSL_VERIFY",), "true"),
    _Known("CA file", ("CONSUL_CACERT",), "the system's"),
    _Known("CA folder", ("CONSUL_CAPATH",), "none"),
    _Known("client certificate", ("CONSUL_CLIENT_CERT",), "none"),
    _Known("client key", ("CONSUL_CLIENT_KEY",), "none"),
    _Known("name in the certificate", ("CONSUL_TLS_SERVER_NAME",), "the host"),
    _Known("datacenter", (), "the agent's", "--datacenter"),
    _Known("namespace", ("CONSUL_NAMESPACE",), "none"),
    _Known("partition", ("CONSUL_PARTITION",), "none"),
    _Known("own address", ("CONSUL_ACCESS_ADVERTISE", "POD_IP"), "found out when something is registered"),
)
_ETCD: Final = (
    _Known("endpoints", ("ETCDCTL_ENDPOINTS",), "127.0.0.1:2379", "--endpoints"),
    _Known("CA file", ("ETCDCTL_CACERT",), "the system's", "--cacert"),
    _Known("client certificate", ("ETCDCTL_CERT",), "none", "--cert"),
    _Known("client key", ("ETCDCTL_KEY",), "none", "--key"),
    _Known("certificate is not checked", ("ETCDCTL_INSECURE_SKIP_TLS_VERIFY",), "false"),
    _Known("user", ("ETCDCTL_USER",), "none"),
    _Known("password", ("ETCDCTL_PASSWORD",), "none"),
)
_FLAGS: Final = ("CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY")
_SECRET: Final = ("CONSUL_HTTP_TOKEN", "ETCDCTL_PASSWORD")
_USER_AND_SECRET: Final = ("CONSUL_HTTP_AUTH", "ETCDCTL_USER")
_READ: Final = tuple(name for known in (*_CONSUL, *_ETCD) for name in known.variables)
_OTHERS: Final = {
    "CONSUL_TOKEN": "CONSUL_HTTP_TOKEN",
    "CONSUL_ADDR": "CONSUL_HTTP_ADDR",
    "CONSUL_ADDRESS": "CONSUL_HTTP_ADDR",
    "CONSUL_HOST": "CONSUL_HTTP_ADDR",
    "CONSUL_PORT": "CONSUL_HTTP_ADDR",
    "CONSUL_URL": "CONSUL_HTTP_ADDR",
    "CONSUL_SCHEMA": "CONSUL_HTTP_SSL",
    "ETCD_ENDPOINTS": "ETCDCTL_ENDPOINTS",
    "ETCD_HOST": "ETCDCTL_ENDPOINTS",
    "ETCD_ADDR": "ETCDCTL_ENDPOINTS",
    "ETCD_USER": "ETCDCTL_USER",
    "ETCD_PASSWORD": "ETCDCTL_PASSWORD",
}
"""What other clients read, and what means the same here."""
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def has_consul(environ: Mapping[str, str]) -> bool:
    """Whether the environment says anything about how to reach Consul."""
    return any(environ.get(name) for known in _CONSUL[:-1] for name in known.variables)


def has_etcd(environ: Mapping[str, str]) -> bool:
    """Whether the environment says anything about how to reach etcd."""
    return any(environ.get(name) for known in _ETCD for name in known.variables)


def consul_origins(environ: Mapping[str, str], options: Mapping[str, str | None]) -> list[Origin]:
    """Every setting of a client of Consul.

    Args:
        environ: the variables.
        options: of the command line, such as `--http-addr`; None for those that were not given.
    """
    return [_origin(known, environ, options) for known in _CONSUL]


def etcd_origins(environ: Mapping[str, str], options: Mapping[str, str | None]) -> list[Origin]:
    """Every setting of a client of etcd; see `consul_origins`."""
    return [_origin(known, environ, options) for known in _ETCD]


def _origin(known: _Known, environ: Mapping[str, str], options: Mapping[str, str | None]) -> Origin:
    given = options.get(known.option)
    if given is not None:
        return Origin(known.setting, _without_login(given), known.option)
    for name in known.variables:
        value = environ.get(name)
        if value:  # an empty variable counts as not set
            if name in _FLAGS and value not in FLAG_VALUES:
                break
            return Origin(known.setting, _masked(name, value), name)
    return Origin(known.setting, known.default, "default")


def _masked(name: str, value: str) -> str:
    if name in _SECRET:
        return MASK
    if name in _USER_AND_SECRET:
        user, colon, _ = value.partition(":")
        return f"{user}:{MASK}" if colon else user
    return _without_login(value)


def _without_login(value: str) -> str:
    """An address that somebody wrote a password into, without it; such an address is refused."""
    return f"{MASK}@{value.rpartition('@')[2]}" if "@" in value else value


def environment_remarks(environ: Mapping[str, str]) -> Iterator[Remark]:
    """What in the environment has another effect than it seems to have."""
    for name in _FLAGS:
        value = environ.get(name)
        if value and value not in FLAG_VALUES:
            text = f"{name} is neither true nor false, and so it is ignored"
            yield Remark(RemarkCode.FLAG_IGNORED, Severity.WARNING, text, f"Write {name}=true or {name}=false.")
    if environ.get("CONSUL_HTTP_TOKEN") and environ.get("CONSUL_HTTP_TOKEN_FILE"):
        yield Remark(
            RemarkCode.TOKEN_SHADOWED,
            Severity.WARNING,
            "both CONSUL_HTTP_TOKEN and CONSUL_HTTP_TOKEN_FILE are set; the file wins",
            "Unset one of them.",
        )
    for name in sorted(environ):
        yield from _unread(name, environ[name])
    proxies = [name for name in _PROXIES if environ.get(name) or environ.get(name.lower())]
    if proxies:
        text = f"{' and '.join(proxies)} set a proxy, which is not used: it would see the token"
        yield Remark(RemarkCode.PROXY_NOT_USED, Severity.INFO, text)


def _unread(name: str, value: str) -> Iterator[Remark]:
    if not value or name in _READ or value.startswith("tcp://"):  # as Kubernetes sets for a Service named `consul`
        return
    if name.startswith("CONSUL_GRPC_"):
        yield Remark(RemarkCode.VARIABLE_NOT_READ, Severity.INFO, f"{name} is not for clients of the HTTP interface")
        return
    meant = _OTHERS.get(name)
    if meant is None and name.startswith(("CONSUL_", "ETCDCTL_")):
        meant = next(iter(difflib.get_close_matches(name, _READ, n=1, cutoff=0.85)), None)
    if meant is not None:
        text = f"{name} is set, and nobody here reads it"
        yield Remark(RemarkCode.VARIABLE_NOT_READ, Severity.WARNING, text, f"Is {meant} meant?")
