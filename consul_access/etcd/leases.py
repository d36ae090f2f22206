"""`/v3/lease`: keys that end by themselves unless somebody says again and again that they are still needed.

https://etcd.io/docs/v3.5/learning/api/#lease-api
"""

from __future__ import annotations

from binascii import a2b_base64
from typing import Any, NamedTuple

from consul_access.call import Call, Repeat
from consul_access.errors import InvalidInput
from consul_access.etcd.coding import gateway_call

__all__ = ["Granted", "TimeToLive", "grant", "keepalive", "revoke", "time_to_live"]

LONGEST = 9_000_000_000
"""The longest time that etcd grants, in seconds."""


class Granted(NamedTuple):
    """A lease: its id, and how many seconds it lives without a keepalive; servers raise what is less than 2 s."""

    id: int
    ttl: int


class TimeToLive(NamedTuple):
    """How a lease stands: seconds it has left, seconds it was granted for, and its keys if they were asked for."""

    ttl: int
    granted_ttl: int
    keys: tuple[bytes, ...]


def grant(ttl: int, *, id: int = 0) -> Call[Granted]:  # noqa: A002
    """Grants a lease. Repeated after a lost answer it may leave a second one behind, which ends by itself.

    Args:
        ttl: whole seconds, 1 or more.
        id: its id; the server chooses one when it is 0.

    Raises:
        InvalidInput: the time is none that etcd grants.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not 1 <= ttl <= LONGEST:
        raise InvalidInput(f"ttl={ttl!r} is no time to live: write whole seconds, 1 to {LONGEST}")
    # Spelt otherwise than TTL and ID the fields would be ignored, and the lease would live 2 s.
    body: dict[str, Any] = {"TTL": ttl} | ({"ID": id} if id else {})
    repeat = Repeat.NEVER if id else Repeat.IDEMPOTENT
    return gateway_call("lease.grant", "lease/grant", body, _granted, repeat=repeat)


def keepalive(lease: int) -> Call[int | None]:
    """Starts the lease's time anew: its seconds, or None when the lease no longer exists.

    etcd answers 200 for a lease that it does not know, and only leaves the time out.
    """
    return gateway_call(
        "lease.keepalive",
        "lease/keepalive",
        {"ID": lease},
        _kept_alive,
        repeat=Repeat.IDEMPOTENT,
        subject=str(lease),
    )


def revoke(lease: int) -> Call[None]:
    """Ends the lease, and deletes its keys; `UnknownLease` when there is none."""
    return gateway_call(
        "lease.revoke", "lease/revoke", {"ID": lease}, _nothing, repeat=Repeat.IDEMPOTENT, subject=str(lease)
    )


def time_to_live(lease: int, *, keys: bool = False) -> Call[TimeToLive | None]:
    """How the lease stands; None when it no longer exists.

    Args:
        lease: its id.
        keys: whether to name the keys that end with it.
    """
    body = {"ID": lease, "keys": keys}
    return gateway_call("lease.time_to_live", "lease/timetolive", body, _time_to_live, subject=str(lease))


def _granted(answer: dict[str, Any]) -> Granted:
    return Granted(int(answer["ID"]), int(answer["TTL"]))


def _kept_alive(answer: dict[str, Any]) -> int | None:
    return int(answer["result"].get("TTL", 0)) or None


def _time_to_live(answer: dict[str, Any]) -> TimeToLive | None:
    ttl = int(answer.get("TTL", 0))
    if ttl < 0:
        return None
    keys = tuple(a2b_base64(key) for key in answer.get("keys", ()))
    return TimeToLive(ttl, int(answer.get("grantedTTL", 0)), keys)


def _nothing(_: dict[str, Any]) -> None:
    """Nothing worth reading."""
