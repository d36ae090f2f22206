"""A service's own address and id, when it does not say them itself."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container, Mapping, Sequence

from consul_access.errors import InvalidInput
from consul_access.models import inputs

__all__ = ["environment_meta", "host_label", "instance_id", "own_address", "servers_with"]

_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")


def servers_with(addresses: Container[str], peers: Sequence[str]) -> int:
    """How many servers there are, if one of the addresses is that of a server and not of an agent of its own; else 0.

    Args:
        addresses: of whoever was asked, without a port.
        peers: the servers' addresses, as `/v1/status/peers` gives them (`10.0.0.1:8300`, `[::1]:8300`).
    """
    is_one = any(peer.rpartition(":")[0].strip("[]") in addresses for peer in peers)
    return len(peers) if is_one else 0


def own_address(
    given: str | None,
    *,
    environ: Mapping[str, str],
    agent_is_local: bool,
    route_source: str | None,
    bound: str | None = None,
) -> str | None:
    """The address to register.

    Args:
        given: what the caller says, which wins.
        environ: `CONSUL_ACCESS_ADVERTISE`, then `POD_IP`.
        agent_is_local: the agent is on this machine, so that its own address will do: nothing is registered.
        route_source: the local address that the way to the agent starts from.
        bound: the address that the service's own socket listens at, when that is known.

    Returns:
        An address, or None for the agent's own.

    Raises:
        InvalidInput: there is none that others could call. The host's name is not looked up: in containers and on
            Debian that gives 127.0.1.1.
    """
    named = (("address", given), *((name, environ.get(name)) for name in ("CONSUL_ACCESS_ADVERTISE", "POD_IP")))
    for what, value in named:
        if value or (value == "" and what == "address"):
            return inputs.host(value, what)
    if bound is not None and not ipaddress.ip_address(bound.partition("%")[0]).is_unspecified:
        if ipaddress.ip_address(bound.partition("%")[0]).is_loopback and not agent_is_local:
            raise InvalidInput(
                f"the service listens at {bound} only, where nobody else can call it: let it listen at 0.0.0.0, or "
                "give address="
            )
        return bound
    if agent_is_local:
        return None
    if route_source is None or ipaddress.ip_address(route_source.partition("%")[0]).is_loopback:
        raise InvalidInput(
            "the address at which others can call this machine cannot be told: "
            "give address=, or set CONSUL_ACCESS_ADVERTISE"
        )
    return route_source


def environment_meta(environ: Mapping[str, str]) -> dict[str, str]:
    """Where a pod runs, as far as its environment tells: POD_NAME, POD_NAMESPACE and NODE_NAME, in lower case."""
    names = ("POD_NAME", "POD_NAMESPACE", "NODE_NAME")
    return {name.lower(): environ[name] for name in names if environ.get(name)}


def host_label(environ: Mapping[str, str], hostname: str) -> str:
    """What tells this copy of the service from others: the pod's name, else the machine's."""
    return environ.get("POD_NAME") or environ.get("HOSTNAME") or hostname


def instance_id(name: str, host: str, port: int | None) -> str:
    """An id that stays the same over restarts: `<service>-<pod or host name>-<port>`."""
    parts = [name, _ILLEGAL.sub("-", host).strip("-."), "" if port is None else str(port)]
    return "-".join(part for part in parts if part)
