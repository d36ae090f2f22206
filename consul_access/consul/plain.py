"""Addresses out of a first answer, without Pydantic's core, as long as there is nothing to decide about any of them.

How an answer is read, the schema of `ServiceInstance` says: what an entry may hold, and what cannot be used and is left
out, counted and logged. To load Pydantic's core for it is a third of what a first look-up takes. That is put off here
as long as every entry holds exactly what agents write, so that nothing is converted, defaulted or refused. About any
other answer nothing is said here; then it is read as instances.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final, TypeGuard, Unpack

from consul_access.call import Call, Reply
from consul_access.consul.asking import service_call
from consul_access.models.address import Address
from consul_access.models.effective import effective_host
from consul_access.models.query import Query, policy_of
from consul_access.models.status import HealthPolicy
from consul_access.rules.choosing import addresses_of

__all__ = ["addresses", "plain_addresses"]

SHORT: Final = 64 * 1024
"""Bytes of an answer: some fifty instances. The longer it is, the sooner the core has paid for itself."""
_LEVELS: Final = 16
"""How deep an answer may be nested; agents' come to eight, and Pydantic's core goes to 200."""


def addresses(name: str, *, now: Callable[[], float] | None = None, **query: Unpack[Query]) -> Call[list[Address]]:
    """The addresses of those instances that `health.instances` gives and that can be called; the log names the others.

    Args:
        name: the service.
        now: tells the seconds since 1970; needed for `max_heartbeat_age`.
        query: narrows the search.
    """
    policy = policy_of(query) or HealthPolicy.PASSING
    if policy is not HealthPolicy.PASSING or "max_heartbeat_age" in query:
        return _of_instances(name, query, now)

    def read(reply: Reply) -> list[Address]:
        found = plain_addresses(reply.body)
        return found if found is not None else _of_instances(name, query).read(reply)

    return service_call(name, query, policy, read)


def _of_instances(name: str, query: Query, now: Callable[[], float] | None = None) -> Call[list[Address]]:
    from consul_access.consul import health

    call = health.instances(name, now=now, **query)

    def read(reply: Reply) -> list[Address]:
        return addresses_of(call.read(reply), name)

    return Call(call.name, call.method, call.path, read, call.query, subject=call.subject, patience=call.patience)


def plain_addresses(body: bytes) -> list[Address] | None:
    """The addresses in an answer, of which the agent was asked for passing instances only.

    Returns:
        Them, or None when it has to be read as instances, since it is long or has an entry that is not plain, such as
        one that cannot be called, or one with a host name.
    """
    entries = _plain_json(body) if len(body) <= SHORT else None
    if not isinstance(entries, list):
        return None
    found: list[Address] = []
    for entry in entries:
        if (address := _plain_address(entry)) is None:
            return None
        found.append(address)
    return found


def _plain_json(body: bytes) -> object:
    """The answer as dicts and lists; None when Python and Pydantic's core might not agree about it."""
    if b"\\ud" in body or b"\\uD" in body:  # half a character, perhaps, with which Python is content
        return None
    try:
        read: object = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    return read if _is_shallow(read, _LEVELS) else None


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return not isinstance(value, list) or (levels > 0 and all(_is_shallow(one, levels - 1) for one in value))


def _plain_address(entry: object) -> Address | None:
    """Where the instance is called; None when it is not plain."""
    if not isinstance(entry, dict) or not entry.keys() <= {"Node", "Service", "Checks"}:
        return None
    node, service = entry.get("Node"), entry.get("Service")
    if not _holds(node, _NODE) or not _holds(service, _SERVICE):
        return None
    synced = bool((node.get("Meta") or {}).get("external-source"))
    host = effective_host(service["Address"], node["Address"], synced=synced)
    return Address(host, service["Port"]) if host and service["Port"] else None


# --- what agents write ----------------------------------------------------------------------------------------


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return type(value) is int  # and not bool


def _is_port(value: object) -> bool:
    return type(value) is int and 0 <= value < 65536


def _is_place(value: object) -> bool:
    """An IP address without a zone, or nothing; a name is for the core to judge."""
    if not isinstance(value, str) or "%" in value:
        return False
    try:
        return not value or bool(ip_address(value))
    except ValueError:
        return False


def _are_texts(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_text, value)))


def _are_texts_by_name(value: object) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_text, value.values())))


def _are_weights(value: object) -> bool:
    return _holds(value, {"Passing": _is_number, "Warning": _is_number})


def _is_missing(value: object) -> bool:
    return value is None


def _holds(value: object, wanted: Mapping[str, Callable[[object], bool]]) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and all(is_plain(value.get(key)) for key, is_plain in wanted.items())


_NODE: Final = {"Node": _is_text, "Datacenter": _is_text, "Address": _is_place, "Meta": _are_texts_by_name}
_SERVICE: Final = {
    "ID": _is_text,
    "Service": _is_text,
    "Address": _is_place,
    "Port": _is_port,
    "Ports": _is_missing,
    "Tags": _are_texts,
    "Meta": _are_texts_by_name,
    "Weights": _are_weights,
    "ModifyIndex": _is_number,
}
