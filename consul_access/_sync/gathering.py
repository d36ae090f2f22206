# Written by tools/faces.py from consul_access/_async/gathering.py; edit that one.
"""Many small questions that arise at the same time, asked together: 1,000 heartbeats need not be 1,000 requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from consul_access._pairs.threads import Later, Slots, sleep
from consul_access.errors import ConsulAccessError, DeadlineExceeded

__all__ = ["Gathering"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Wish(Generic[K, V]):
    """What one asker wants to know."""

    __slots__ = ("answers", "error", "key")

    def __init__(self, key: K) -> None:
        self.key = key
        self.answers: list[V] = []
        self.error: ConsulAccessError | None = None

    @property
    def is_open(self) -> bool:
        return not self.answers and self.error is None


class Gathering(Generic[K, V]):
    """Asks one request at a time, for everybody who has come while the last one was under way.

    Args:
        ask: asks about some keys, within so many seconds; may leave keys out, which are asked about again.
        most: how many keys a request may have.
        linger: seconds to wait for others to come, when there are not so many already.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[K], float], Later[Mapping[K, V]]],
        *,
        most: int,
        linger: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._most = most
        self._linger = linger
        self._turn = Slots(1)
        self._wishes: dict[_Wish[K, V], None] = {}  # other threads may add while one takes

    def ask(self, key: K, within: float) -> V:
        """The answer for this key.

        Args:
            key: what is asked about.
            within: seconds for the answer, waiting for one's turn included.

        Raises:
            ConsulAccessError: the request with this key has failed.
        """
        wish: _Wish[K, V] = _Wish(key)
        self._wishes[wish] = None
        deadline = time.monotonic() + within
        try:
            while wish.is_open:
                self._have_asked(wish, deadline)
        finally:
            self._wishes.pop(wish, None)
        if wish.error is not None:
            raise wish.error
        return wish.answers[0]

    def _have_asked(self, wish: _Wish[K, V], deadline: float) -> None:
        try:
            self._turn.acquire(deadline)
        except TimeoutError as error:
            if not wish.is_open:
                return
            raise DeadlineExceeded("the requests before this one have not been answered in time") from error
        try:
            if not wish.is_open:  # somebody else has asked for it meanwhile
                return
            if len(self._open()) < self._most and (pause := self._linger()):
                sleep(pause)
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded("there was no time left to ask")
            others = [one for one in self._open() if one is not wish]
            self._ask_for([wish, *others[: self._most - 1]], left)
        finally:
            self._turn.release()

    def _open(self) -> list[_Wish[K, V]]:
        return [one for one in list(self._wishes) if one.is_open]

    def _ask_for(self, wishes: list[_Wish[K, V]], within: float) -> None:
        try:
            answers = self._ask([one.key for one in wishes], within)
        except ConsulAccessError as error:
            for one in wishes:
                one.error = error
            return
        for one in wishes:
            if one.key in answers:
                one.answers.append(answers[one.key])
