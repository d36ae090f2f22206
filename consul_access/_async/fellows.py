"""The other processes that keep the same registration, such as the workers behind one port (`shared=True`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from consul_access._pairs.tasks import Flag, sleep
from consul_access.errors import RequestRefused
from consul_access.rules.handing_over import HandingOver
from consul_access.sharing import Share

if TYPE_CHECKING:
    from consul_access._async.place import AsyncPlace

__all__ = ["AsyncFellows"]

LOOKED_AFTER = 0.05
"""Seconds after which it is seen that another one has gone, or has ended."""


class AsyncFellows:
    """Those who keep a registration together with this process.

    Args:
        drain: seconds of grace that each of them gives.
        stop_timeout: seconds that each may need to deregister after that.
    """

    def __init__(self, drain: float, stop_timeout: float) -> None:
        self._drain = drain
        self._stop_timeout = stop_timeout
        self._share: Share | None = None
        self._were_there = False

    def begin(self, what: str) -> None:
        """A new life: it is about this registration, at this registry."""
        self._share = Share(what)
        self._were_there = False

    async def join(self) -> None:
        """Takes part in what they keep. While the last of them is leaving, that is waited for."""
        share = self._share
        if share is None:
            return
        deadline = time.monotonic() + self._drain + self._stop_timeout
        while (others := share.join()) is None and time.monotonic() < deadline:
            await sleep(LOOKED_AFTER)
        self._were_there = bool(others)

    async def hold(self, place: AsyncPlace, *, again: bool) -> bool:
        """Whether they have registered it already; writing it again would restart its checks.

        Args:
            place: where.
            again: this process has been part of it before.
        """
        # What the first one finds may be left from a process that was killed, in the middle of its drain even.
        if not (self._were_there or again):
            return False
        try:
            return await place.look() is None
        except RequestRefused:  # it is not there, or the token may not read it
            return False

    def go_on(self) -> bool:
        """Leaves them; whether some go on keeping it. If not, none begins to before `close`."""
        return self._share is not None and not self._share.leave()

    async def take_over(self, hurry: Flag) -> bool:
        """Leaves it to them, if there are any: whether they go on keeping it, or have ended it.

        Meanwhile this process goes on answering, since all may have been told to end. False when they have gone, such
        as killed: then it is ours to end, and in order.

        Args:
            hurry: ends the waiting.
        """
        share = self._share
        if share is None or not self.go_on():
            return False
        course = HandingOver(time.monotonic(), self._drain, self._stop_timeout)
        while (is_theirs := course.is_theirs(rest := share.rest(), time.monotonic())) is None:
            left = max(0.0, course.limit(rest) - time.monotonic())
            if await hurry.wait(min(LOOKED_AFTER, left)):
                return True
        return is_theirs

    def close(self) -> None:
        """This process has left, or ended it."""
        if self._share is not None:
            self._share.close()
