"""A lease: keys that end by themselves."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from consul_access._async.gateway import AsyncGateway
from consul_access.errors import ConsulAccessError, UnknownLease
from consul_access.etcd import leases

__all__ = ["AsyncLease"]

log = logging.getLogger("consul_access")


class AsyncLease:
    """A lease, made by `lease(ttl)`. Keys that are put with it end with it.

    It ends when nobody has called `keepalive` for `granted_ttl` seconds; call it at a third of that time. At the end of
    a `with` block it is revoked.

    Args:
        gateway: what calls are sent with.
        id: its id.
        granted_ttl: seconds it lives without a keepalive; the server may have raised what was asked for.
    """

    def __init__(self, gateway: AsyncGateway, id: int, granted_ttl: int) -> None:  # noqa: A002
        self._gateway = gateway
        self.id = id
        self.granted_ttl = granted_ttl

    async def keepalive(self) -> int:
        """Starts its time anew.

        Returns:
            The seconds it lives from now on.

        Raises:
            UnknownLease: it has ended, and its keys with it; etcd itself answers 200 then.
        """
        ttl = await self._gateway.send(leases.keepalive(self.id))
        if ttl is None:
            raise UnknownLease(f"lease {self.id} has ended", operation="lease.keepalive")
        return ttl

    async def ttl(self) -> int | None:
        """The seconds it has left; None when it has ended."""
        found = await self._gateway.send(leases.time_to_live(self.id))
        return None if found is None else found.ttl

    async def keys(self) -> tuple[bytes, ...]:
        """The keys that end with it."""
        found = await self._gateway.send(leases.time_to_live(self.id, keys=True))
        return () if found is None else found.keys

    async def revoke(self) -> bool:
        """Ends it and deletes its keys; whether it was still there."""
        try:
            await self._gateway.send(leases.revoke(self.id))
        except UnknownLease:
            return False
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.revoke()
        except ConsulAccessError as failure:
            if error is None:
                raise
            log.warning("lease %d could not be revoked and ends by itself: %s", self.id, failure)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.granted_ttl} s>"
