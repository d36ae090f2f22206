"""A service that is a key at etcd, or several, under a lease of its own.

Whoever reads sees the key for as long as somebody keeps the lease alive, so no check and no agent is needed: a process
that is killed is gone when its time to live is over.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from consul_access._async.place import HANGING
from consul_access._pairs.tasks import sleep
from consul_access.call import Call, Repeat
from consul_access.errors import (
    ConnectFailed,
    ConsulAccessError,
    DeadlineExceeded,
    OutcomeUnknown,
    Unavailable,
    UnknownLease,
    UnknownService,
)
from consul_access.etcd import kv, leases
from consul_access.models.address import Address, Target
from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access._async.gateway import AsyncGateway
    from consul_access._async.gathering import AsyncGathering
    from consul_access.etcd.codecs import ServiceCodec
    from consul_access.models.definition import ServiceDefinition
    from consul_access.models.keys import KeyValue

__all__ = ["AsyncInEtcd"]

T = TypeVar("T")
log = logging.getLogger("consul_access")

ELECTION_PAUSE = 0.1
"""Seconds between two tries at the end."""
FROZEN = 3.0
"""Seconds after which another member is asked to grant and to write."""
FRESH = 10
"""A lease that was granted within this part of its time needs no heartbeat yet."""


class AsyncInEtcd:
    """A registration at etcd.

    Args:
        gateway: what calls are sent with.
        define: makes the definition, for the member that is asked.
        formats: where and how it is written: pairs of a format and its prefix, the one that is read first.
        guard: refuses keys that are not to be written.
        ttl: seconds after which the registration ends when it is not kept alive.
        starts_passing: whether it counts as passing before its first heartbeat.
        heartbeats: keeps leases alive.
        looks: reads keys.
    """

    definition: ServiceDefinition
    node = ""
    may_move = False
    owes = False

    def __init__(
        self,
        gateway: AsyncGateway,
        define: Callable[[Target], ServiceDefinition],
        *,
        formats: Sequence[tuple[ServiceCodec, str]],
        guard: Callable[[bytes], None],
        ttl: int,
        starts_passing: bool,
        heartbeats: AsyncGathering[int, int | None],
        looks: AsyncGathering[bytes, KeyValue | None],
    ) -> None:
        self._gateway = gateway
        self._define = define
        self._formats = tuple(formats)
        self._guard = guard
        self._ttl = ttl
        self._status = CheckStatus.PASSING if starts_passing else CheckStatus.CRITICAL
        self._output = "" if starts_passing else "registered, and not heard of yet"
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._heartbeats = heartbeats
        self._looks = looks
        self._lease: int | None = None
        self._alive_at = float("-inf")

    @property
    def address(self) -> Address:
        """The first of the members."""
        return self._gateway.targets[0].address

    @property
    def _within(self) -> float:
        """Seconds for one question: as long as a heartbeat may be late."""
        return max(2.0, self._ttl / 3)

    async def settle(self, *, fail_fast: bool) -> None:
        """Completes the definition: the way to etcd tells the service's own address."""
        try:
            member = await self._gateway.pin()
        except Unavailable:
            if fail_fast:
                raise
            member = self._gateway.targets[0]
        self.definition = self._define(member)
        for key in self._wanted():
            self._guard(key)

    def _wanted(self) -> Mapping[bytes, bytes | None]:
        """What each of the keys has to hold; None for one that must not be there."""
        found = self.definition
        return {
            codec.key(prefix, found.name, found.id): codec.encode(found, self._status, self._output, self._since)
            for codec, prefix in self._formats
        }

    # --- registering --------------------------------------------------------------------------------------

    async def register(self, *, again: bool) -> None:  # noqa: ARG002 - etcd knows no maintenance to keep
        """Writes the keys under the lease, which is granted anew when it has ended."""
        if self._lease is not None:
            try:
                await self._write()
            except UnknownLease:
                self._lease = None
            else:
                return
        begun = time.monotonic()
        self._lease = (await self._sent(leases.grant(self._ttl))).id
        self._alive_at = begun
        await self._write()

    async def _sent(self, call: Call[T]) -> T:
        """Sends what may be sent twice; when a member seems frozen, another one still has time to answer."""
        if len(self._gateway.targets) > 1:
            with contextlib.suppress(DeadlineExceeded, OutcomeUnknown):
                return await self._gateway.send(call, within=FROZEN)
        return await self._gateway.send(call)

    async def _write(self, *, within: float | None = None) -> None:
        """Writes what is wanted, in one step. Nobody else writes these keys, so it may be written twice."""
        operations: list[kv.Operation] = [
            kv.Delete(key) if value is None else kv.Put(key, value, self._lease)
            for key, value in self._wanted().items()
        ]
        if len(operations) == 1 and isinstance(operations[0], kv.Put):
            call: Call[Any] = kv.put(operations[0], repeat=Repeat.IDEMPOTENT)
        else:
            call = kv.txn((), operations)._replace(repeat=Repeat.IDEMPOTENT)
        await (self._sent(call) if within is None else self._gateway.send(call, within=within))

    # --- keeping ------------------------------------------------------------------------------------------

    async def beat(self, status: CheckStatus, output: str) -> None:
        """Keeps the lease alive, and writes the status when that has changed."""
        lease = self._lease
        if lease is not None and time.monotonic() - self._alive_at < self._ttl / FRESH:
            is_alive = True
        else:
            begun = time.monotonic()
            is_alive = lease is not None and await self._heartbeats.ask(lease, self._within) is not None
            self._alive_at = begun
        if not is_alive:
            self._lease = None
            ended = UnknownLease(f"the lease of {self.definition.id!r} has ended, and its keys with it")
            ended.advice = ""  # the keeper does what is to be done
            raise ended
        if status is not self._status:
            before = self._status, self._output
            self._status, self._output = status, output
            try:
                await self._write(within=self._within)
            except ConsulAccessError:
                self._status, self._output = before  # the next heartbeat tries again
                raise

    async def look(self) -> str | None:
        """Compares the keys with what was written: value and lease.

        The lease alone proves nothing: servers could renew one that was revoked (etcd-io/etcd, PR 20615).
        """
        for key, value in self._wanted().items():
            found = await self._looks.ask(key, self._within)
            shown = key.decode()
            if value is None:
                if found is not None:
                    return f"{shown!r} is there although the service does not pass"
            elif found is None:
                missing = UnknownService(f"etcd has no key {shown!r} any more")
                missing.advice = ""
                raise missing
            elif found.metadata.lease != self._lease:
                return f"{shown!r} is under another lease: somebody else has registered the same id"
            elif found.value != value:
                return f"{shown!r} holds another value"
        return None

    def can_watch(self) -> bool:
        """Never: a watch for each registration would be a connection for each."""
        return False

    async def watch(self, seconds: float) -> str | None:  # noqa: ARG002
        """Not here."""
        return None

    async def confirm(self, within: float | None = None) -> bool:  # noqa: ARG002
        """Always: etcd answers a write when most members hold it, so whoever reads after that sees it."""
        return True

    async def elsewhere(self, away: float) -> str | None:  # noqa: ARG002
        """Any of the members will do, so there is nowhere to go."""
        return None

    async def clean(self) -> float | None:
        """Nothing was left anywhere."""
        return None

    # --- the end ------------------------------------------------------------------------------------------

    async def drain(self, reason: str) -> None:
        """Writes that it is in maintenance."""
        self._status, self._output = CheckStatus.MAINTENANCE, reason
        await self._write(within=HANGING)

    async def take_back(self) -> None:
        """Ends the lease; the reason to do so is the one to hear about."""
        if self._lease is not None:
            with contextlib.suppress(ConsulAccessError):
                await self._gateway.send(leases.revoke(self._lease), within=HANGING)

    async def end(self, deadline: float) -> bool:
        """Ends the lease, and with it the keys that are still under it; during an election that takes several tries.

        A key that somebody else has written meanwhile is under another lease, and stays.
        """
        was_there: bool | None = None
        while self._lease is not None:
            left = max(0.1, min(HANGING, deadline - time.monotonic()))
            try:
                if was_there is None:
                    was_there = await self._is_there(self._lease, left)
                await self._gateway.send(leases.revoke(self._lease), within=left)
                break
            except UnknownLease:
                break
            except ConnectFailed:
                raise
            except (Unavailable, OutcomeUnknown):
                if time.monotonic() + ELECTION_PAUSE >= deadline:
                    raise
            await sleep(ELECTION_PAUSE)
        self._lease = None
        return bool(was_there)

    async def _is_there(self, lease: int, within: float) -> bool:
        found = await self._gateway.send(leases.time_to_live(lease, keys=True), within=within)
        return found is not None and bool(found.keys)

    def farewell(self, send: Callable[..., Any], within: float, *, certain: bool) -> None:  # noqa: ARG002
        """Ends the lease; a write that is still on its way finds none, and writes nothing."""
        if self._lease is not None:
            send(leases.revoke(self._lease), within=within)

    def consequence(self) -> str:
        """What becomes of the keys."""
        return f"its lease ends by itself, within {self._ttl} s"

    def leave(self) -> None:
        """Nothing is held."""
