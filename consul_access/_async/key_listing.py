"""Everything that etcd tells about services, read at once and then followed: the sources of `CatalogSync`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from consul_access._async.gateway import AsyncGateway
from consul_access._async.key_watching import AsyncKeyWatch
from consul_access._async.keys import AsyncKeyReader
from consul_access.etcd import kv
from consul_access.models.keys import EventKind, KeyEvent, KeyValue
from consul_access.rules.key_watching import KeyWatchState

if TYPE_CHECKING:
    from consul_access.etcd.sources import Source
    from consul_access.models.sync import SyncList

__all__ = ["AsyncKeyListing"]


class AsyncKeyListing:
    """All that etcd has of services, as it should stand in Consul's catalog; made by `listing` of the sources.

    Iterate over it: the first list comes at once, the next one whenever it differs. Every list is complete. While no
    member of etcd answers there is none, and `stale_for` tells since when.

    Args:
        gateway: what calls are sent with.
        reader: what ranges are read with.
        source: keeps what is read, and makes lists of it.
        on_state: called when `stale_for` begins or ends.
    """

    def __init__(
        self,
        gateway: AsyncGateway,
        reader: AsyncKeyReader,
        source: Source,
        *,
        on_state: Callable[[], None] | None = None,
    ) -> None:
        self._gateway = gateway
        self._reader = reader
        self._on_state = on_state
        self._source = source
        self._events: AsyncKeyWatch | None = None
        self._told: SyncList | None = None
        self._closed = self._iterating = False
        self._suspended_since: float | None = None

    async def read(self) -> SyncList:
        """All of it as of one revision, completely or not at all.

        Raises:
            ConsulAccessError: it cannot be read.
        """
        revision = 0
        for wanted in self._source.ranges:
            items, told = await self._reader.read_all(kv.Get(wanted.key, wanted.end, revision=revision))
            revision = revision or told
            self._source.fill(wanted, items)
        return self._source.listed(revision)

    @property
    def stale_for(self) -> float:
        """Seconds for which changes could not be followed; 0 while they can."""
        since = self._suspended_since
        return 0.0 if since is None else time.monotonic() - since

    async def aclose(self) -> None:
        """Ends it; whoever waits for the next list is told that there is none."""
        self._closed = True
        if self._events is not None:
            await self._events.aclose()
            if not self._iterating:  # otherwise whoever iterates lets go of the connection
                await self._events.__aexit__(None, None, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SyncList:
        if self._closed:
            raise StopAsyncIteration
        self._iterating = True
        try:
            return await self._begin() if self._events is None else await self._next(self._events)
        finally:
            self._iterating = False

    async def _next(self, events: AsyncKeyWatch) -> SyncList:
        while True:
            event = await anext(events)
            self._take(event)
            if events.pending:  # what came together is told together
                continue
            found = self._source.listed(event.revision)
            if not _same(found, self._told):
                self._told = found
                return found

    async def _begin(self) -> SyncList:
        self._told = found = await self.read()
        self._events = AsyncKeyWatch(
            self._gateway, self._reader, self._source.ranges, start=found.revision + 1, on_state=self._became
        )
        if self._closed:
            await self._events.aclose()
        return found

    def _take(self, event: KeyEvent) -> None:
        (wanted,) = (one for one in self._source.ranges if event.key.startswith(one.key))
        if event.kind is EventKind.RESYNC:
            self._source.fill(wanted, event.items)
        elif event.kind is EventKind.DELETE:
            self._source.forget(wanted, event.key)
        elif event.metadata is not None:
            self._source.put(wanted, KeyValue(event.value, event.metadata))

    def _became(self, state: KeyWatchState) -> None:
        if state is KeyWatchState.CLOSED:
            return
        self._suspended_since = time.monotonic() if state is KeyWatchState.SUSPENDED else None
        if self._on_state is not None:
            self._on_state()


def _same(one: SyncList, other: SyncList | None) -> bool:
    return other is not None and (one.instances, one.left_out, one.doubtful) == (
        other.instances,
        other.left_out,
        other.doubtful,
    )
