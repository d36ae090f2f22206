"""The address and port at which an instance is really called: one rule for every shape a registry answers in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from consul_access.errors import NoInstances
from consul_access.models.address import Address

__all__ = [
    "KubernetesMarks",
    "NamedPort",
    "effective_host",
    "effective_port",
    "kubernetes_marks",
    "named_ports",
]

_ZEROS = "0:."
"""What `0.0.0.0` and `::` consist of, in every spelling."""
_LOOPBACK = re.compile(r"127\.|::1$|localhost$")
_PORT_MARK = "port-"


class NamedPort(NamedTuple):
    """A port by name.

    Args:
        name: such as `http`.
        port: 1 to 65535.
        verified: the instance listens there. Catalog sync from Kubernetes also tells the ports of the *Service*
            object, which pods need not listen on (hashicorp/consul-k8s#132): those are not verified.
        default: it is the one meant when no name is given.
    """

    name: str
    port: int
    verified: bool = True
    default: bool = False


class KubernetesMarks(NamedTuple):
    """What catalog sync from Kubernetes tells about an instance.

    Args:
        namespace: the Kubernetes namespace.
        source: `kubernetes`.
        ports: the Service object's ports by name; not verified.
    """

    namespace: str
    source: str
    ports: dict[str, int]


def effective_host(service_address: str, node_address: str, *, synced: bool) -> str:
    """The service's own address, else its node's; empty when neither can be called.

    Args:
        service_address: as registered; often empty.
        node_address: the node's.
        synced: the node stands for an outside source, such as catalog sync's `k8s-sync`, and its loopback address
            leads nowhere.
    """
    if service_address.strip(_ZEROS):
        return service_address
    if not node_address.strip(_ZEROS) or (synced and _LOOPBACK.match(node_address)):
        return ""
    return node_address


def effective_port(port: int, ports: Iterable[NamedPort]) -> int:
    """The port itself, else the default one of the named, else the first of them; 0 when there is none."""
    if port:
        return port
    named = sorted(ports, key=lambda entry: not entry.default)  # stable: the first stays in front
    return named[0].port if named else 0


def callable_address(host: str, port: int, what: str) -> Address:
    """Host and port as an address.

    Raises:
        NoInstances: one of them is missing.
    """
    if not host or not port:
        missing = "port" if host else "address that can be called"
        raise NoInstances(f"{what} has registered no {missing}")
    return Address(host, port)


def named_ports(ports: Iterable[NamedPort], meta: Mapping[str, str]) -> dict[str, NamedPort]:
    """All named ports: registered ones, and those that only catalog sync's marks tell of."""
    found = {name: NamedPort(name, port, verified=False) for name, port in _marked_ports(meta).items()}
    return found | {entry.name: entry for entry in ports}


def port_named(name: str, ports: Iterable[NamedPort], meta: Mapping[str, str], what: str) -> NamedPort:
    """The port of that name.

    Raises:
        NoInstances: there is none; the text names those there are.
    """
    known = named_ports(ports, meta)
    if name not in known:
        raise NoInstances(f"{what} has no port named {name!r}; it has {', '.join(known) or 'none with a name'}")
    return known[name]


def kubernetes_marks(meta: Mapping[str, str]) -> KubernetesMarks | None:
    """The marks of catalog sync in a service's meta; None when it was not synced."""
    if meta.get("external-source") != "kubernetes":
        return None
    return KubernetesMarks(meta.get("external-k8s-ns", ""), "kubernetes", _marked_ports(meta))


def _marked_ports(meta: Mapping[str, str]) -> dict[str, int]:
    marks = {key.removeprefix(_PORT_MARK): value for key, value in meta.items() if key.startswith(_PORT_MARK)}
    return {
        name: int(value)
        for name, value in marks.items()
        if value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) < 65536
    }
