"""`/v3/lease`: keys that end by themselves unless somebody says again and again that they are still needed.

https://etcd.io/docs/v3.5/learning/api/#lease-api
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from consul_access.call import Call, Repeat, Reply
from consul_access.errors import InvalidInput
from consul_access.etcd import texts
from consul_access.etcd.coding import gateway_body, gateway_call, read_object

__all__ = ["MOST_AT_ONCE", "Granted", "TimeToLive", "grant", "keepalive", "keepalive_all", "revoke", "time_to_live"]

LONGEST = 9_000_000_000
"""The longest time that etcd grants, in seconds."""
MOST_AT_ONCE: Final = 16
"""So many leases fit into what a gateway reads of a request before it answers."""


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


def keepalive_all(leases: Sequence[int]) -> Call[dict[int, int | None]]:
    """Starts the time of several leases anew: the seconds of each, or None for one that no longer exists.

    Not all may be answered: gateways read on only until they begin to answer, which was observed to be 512 bytes (3.4
    and 3.5), hence `MOST_AT_ONCE`. Who is missing has to be asked about again.
    """
    body = b"".join(gateway_body({"ID": lease}) for lease in leases)
    return Call(
        name="lease.keepalive",
        method="POST",
        path="/v3/lease/keepalive",
        body=body,
        read=_all_kept_alive,
        repeat=Repeat.IDEMPOTENT,
        subject=", ".join(map(str, leases)),
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


def _all_kept_alive(reply: Reply) -> dict[int, int | None]:
    def read(answer: dict[str, Any]) -> tuple[int, int | None]:
        if "error" in answer:
            text, code = texts.fault_of(answer)
            raise texts.meaning_of(text, code).error(text, status=reply.status)
        return int(answer["result"]["ID"]), _kept_alive(answer)

    lines = filter(bytes.strip, reply.body.split(b"\n"))
    return dict(read_object(read, reply._replace(body=line)) for line in lines)


def _time_to_live(answer: dict[str, Any]) -> TimeToLive | None:
    ttl = int(answer.get("TTL", 0))
    if ttl < 0:
        return None
    keys = tuple(a2b_base64(key) for key in answer.get("keys", ()))
    return TimeToLive(ttl, int(answer.get("grantedTTL", 0)), keys)


def _nothing(_: dict[str, Any]) -> None:
    """Nothing worth reading."""
