"""Reading ranges of keys, page by page, all as of one revision."""

from __future__ import annotations

from dataclasses import replace

from consul_access._async.gateway import AsyncGateway
from consul_access.errors import AnswerTooLarge, Compacted
from consul_access.etcd import kv
from consul_access.models.keys import KeyValue

__all__ = ["AsyncKeyReader"]

PAGE = 2000
"""How many keys are asked for at once, to begin with."""
ATTEMPTS = 3
"""How often it is begun anew when etcd compacts the revision away between two pages."""


class AsyncKeyReader:
    """Reads ranges of any size.

    Args:
        gateway: what calls are sent with.
    """

    __slots__ = ("_gateway",)

    def __init__(self, gateway: AsyncGateway) -> None:
        self._gateway = gateway

    async def read_all(self, wanted: kv.Get) -> tuple[tuple[KeyValue, ...], int]:
        """All keys of a range, and the revision as of which they are.

        Raises:
            Compacted: the revision that was asked for is no longer there.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._read(wanted)
            except Compacted:
                if wanted.revision:
                    raise
        return await self._read(wanted)

    async def _read(self, wanted: kv.Get) -> tuple[tuple[KeyValue, ...], int]:
        limit = PAGE
        asked = wanted
        items: list[KeyValue] = []
        revision = 0
        while True:
            try:
                page = await self._gateway.send(kv.get(replace(asked, limit=limit)))
            except AnswerTooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 8)  # large values: fewer of them at once
                continue
            items += page.items
            revision = revision or page.revision
            if not page.more:
                return tuple(items), revision
            asked = kv.next_page(wanted, page.items[-1].key, revision)
