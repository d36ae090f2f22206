"""What goes wrong, on switches: now, after so many requests or seconds, for a while, or at random from a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar

from consul_access.errors import InvalidInput
from consul_access.testing.common.exchange import LOST, Answer, Request

if TYPE_CHECKING:
    from consul_access.testing.common.fake import Fake

__all__ = ["TEXT", "After", "Fault", "Switches"]

TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)

S = TypeVar("S", bound="Switches")


def _nothing() -> None:
    """Nothing to be done."""


@dataclass(slots=True)
class Fault:
    """One thing that is wrong.

    Args:
        name: the switch.
        start: done when it begins.
        stop: done when it ends.
        instead: the answer that a request gets, without being looked at.
        change: what becomes of an answer on its way.
        delay: seconds that a request is held up.
        freezes: requests are not answered before it ends.
        limit: how many connections there may be.
        only: it concerns requests whose path begins so.
        until: when it ends; None: when it is switched off.
        left: how many requests it still concerns; None: all.
    """

    name: str
    start: Callable[[], None] = _nothing
    stop: Callable[[], None] = _nothing
    instead: Answer | None = None
    change: Callable[[Request, Answer], Answer] | None = None
    delay: float = 0.0
    freezes: bool = False
    limit: int | None = None
    only: str = ""
    until: float | None = None
    left: int | None = None

    def concerns(self, request: Request) -> bool:
        """Whether a request is concerned."""
        return request.target.startswith(self.only)


@dataclass(slots=True)
class _Planned:
    fault: Fault
    at: float | None
    requests: int
    lasts: float | None


class Switches:
    """The switches of one fake.

    Every switch takes `for_`, the seconds of the fake's clock after which it switches itself off; most also take
    `times`, the number of requests that are concerned, and `only`, the beginning of their paths. Without `for_` and
    `times` it stays until `heal()`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("slow", "truncate", "reset_connections", "lose_answers")
    """Those that `at_random` chooses from by default: each concerns one request."""
    lasting: ClassVar[tuple[str, ...]] = ("freeze", "limit_connections")
    """Those that it can choose besides and that last for a while."""
    sudden: ClassVar[tuple[str, ...]] = ()
    """Those that it can choose besides and that happen in a moment."""

    def __init__(self, fake: Fake[Any]) -> None:
        self._of = fake
        self._active: list[Fault] = []
        self._planned: list[_Planned] = []
        self._dice: random.Random | None = None
        self._rate = 0.0
        self._chosen: Sequence[str] = self.kinds
        self._slow = self._lasts = 0.0
        self._requests: int | None = None
        """After how many requests these switches switch; None: at once, or after seconds."""
        self._seconds: float | None = None

    # --- connections and answers --------------------------------------------------------------------------

    def limit_connections(self, to: int = 0, *, for_: float | None = None) -> None:
        """No more than so many connections are taken of one client at once."""
        self._begin(Fault("limit_connections", limit=to), for_)

    def freeze(self, *, for_: float | None = None, only: str = "") -> None:
        """Requests are taken and not answered, as by a paused process; later they are answered after all."""
        self._begin(Fault("freeze", freezes=True, only=only), for_)

    def answer(
        self, status: int, text: str = "", *, for_: float | None = None, times: int | None = None, only: str = ""
    ) -> None:
        """Any other refusal."""
        instead = Answer(status, TEXT, text.encode())
        self._begin(Fault("answer", instead=instead, only=only, left=times), for_)

    def slow(self, seconds: float, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """Every answer takes so much longer."""
        self._begin(Fault("slow", delay=seconds, only=only, left=times), for_)

    def truncate(self, *, by: int = 1, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """The last bytes of an answer never come: the connection ends before."""

        def cut(_: Request, answer: Answer) -> Answer:
            return replace(answer, cut=min(by, len(answer.body)) or by, closes=True)

        self._begin(Fault("truncate", change=cut, only=only, left=times), for_)

    def reset_connections(self, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """The connection is reset before the request is looked at."""
        self._begin(Fault("reset_connections", instead=LOST, only=only, left=times), for_)

    def lose_answers(self, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """The request is done, and its answer lost: a write whose outcome nobody knows."""
        self._begin(Fault("lose_answers", change=lambda _request, _answer: LOST, only=only, left=times), for_)

    # --- when ---------------------------------------------------------------------------------------------

    def after(self, number: float) -> After[Self]:
        """Something goes wrong later: `after(3).requests.slow(1, for_=2)`, `after(1.5).seconds.freeze()`."""
        return After(self, number)

    def at_random(
        self,
        *,
        seed: int,
        rate: float = 0.1,
        kinds: Iterable[str] | None = None,
        slow: float = 0.05,
        lasts: float = 0.5,
    ) -> None:
        """From now on a request meets a fault with this probability. The same seed gives the same faults.

        Args:
            seed: what chance begins with.
            rate: how many of the requests, from 0 to 1.
            kinds: which faults, by the names of the switches: `kinds` by default, of which each concerns one request;
                those named in `lasting` and `sudden` can be chosen, too.
            slow: seconds that a slow one takes.
            lasts: seconds of the fake's clock that one of `lasting` takes.

        Raises:
            InvalidInput: it is no such rate, or there are no such kinds.
        """
        chosen = self.kinds if kinds is None else tuple(kinds)
        known = (*self.kinds, *self.lasting, *self.sudden)
        if not 0 <= rate <= 1 or set(chosen) - set(known) or not chosen:
            some = ", ".join(known)
            raise InvalidInput(f"rate= is a part of 1, kinds= some of {some}; not {rate!r} and {chosen!r}")
        with self._of.locked():
            self._dice, self._rate, self._chosen = random.Random(seed), rate, chosen  # noqa: S311
            self._slow, self._lasts = slow, lasts

    def heal(self) -> None:
        """Switches everything off, also what was planned."""
        with self._of.locked():
            self._planned.clear()
            self._dice = None
            for fault in self._active:
                fault.stop()
            self._active.clear()
            self._of.notify()

    @property
    def active(self) -> tuple[str, ...]:
        """What is wrong now, by name."""
        return tuple(fault.name for fault in self._active)

    def _begin(self, fault: Fault, lasts: float | None) -> None:
        with self._of.locked():
            if self._requests is None and self._seconds is None:
                self._start(fault, lasts)
            else:
                at = None if self._seconds is None else self._of.now + self._seconds
                self._of.faults.plan(_Planned(fault, at, self._requests or 0, lasts))
            self._of.notify()

    def _start(self, fault: Fault, lasts: float | None) -> None:
        fault.start()
        if fault.left == 0:
            return
        if lasts is not None:
            fault.until = self._of.now + lasts
        if fault.until is not None and fault.until <= self._of.now:
            fault.stop()
            return
        self._active.append(fault)

    # --- for the fake -------------------------------------------------------------------------------------

    def limits(self) -> list[int]:
        """How many connections there may be, by each fault that limits them."""
        return [fault.limit for fault in self._active if fault.limit is not None]

    def is_frozen(self, request: Request) -> bool:
        """Whether a request cannot be answered now."""
        return any(fault.freezes and fault.concerns(request) for fault in self._active)

    def next_due(self) -> float | None:
        """When one begins or ends."""
        ends = [fault.until for fault in self._active if fault.until is not None]
        begins = [planned.at for planned in self._planned if planned.at is not None]
        return min(ends + begins, default=None)

    def advance(self, now: float) -> None:
        """Ends what is over, and begins what was planned for now."""
        for fault in [fault for fault in self._active if fault.until is not None and fault.until <= now]:
            self._active.remove(fault)
            fault.stop()
        for planned in [planned for planned in self._planned if planned.at is not None and planned.at <= now]:
            self._planned.remove(planned)
            self._start(planned.fault, planned.lasts)

    def meet(self, request: Request) -> list[Fault]:
        """What a request meets. It is counted."""
        for planned in [planned for planned in self._planned if planned.at is None]:
            planned.requests -= 1
            if planned.requests < 0:
                self._planned.remove(planned)
                self._start(planned.fault, planned.lasts)
        self._throw()
        met = [fault for fault in self._active if fault.concerns(request)]
        for fault in met:
            if fault.left is not None:
                fault.left -= 1
                if fault.left <= 0:
                    self._active.remove(fault)
        return met

    def _throw(self) -> None:
        if self._dice is None or self._dice.random() >= self._rate:
            return
        kind = self._dice.choice(self._chosen)
        switch: Callable[..., None] = getattr(self, kind)
        if kind == "slow":
            self.slow(self._slow, times=1)
        elif kind in self.kinds:
            switch(times=1)
        elif kind in self.lasting:
            switch(for_=self._lasts)
        else:
            switch()

    def plan(self, planned: _Planned) -> None:
        """Remembers one for later."""
        self._planned.append(planned)

    def later(self, *, requests: int | None = None, seconds: float | None = None) -> Self:
        """The same switches, for later."""
        made = copy.copy(self)
        made._requests, made._seconds = requests, seconds  # noqa: SLF001 - it is one of us
        return made


class After(Generic[S]):
    """When something will go wrong.

    Args:
        switches: what it will happen to.
        number: so many requests, or seconds of the fake's clock.
    """

    def __init__(self, switches: S, number: float) -> None:
        self._switches = switches
        self._number = number

    @property
    def requests(self) -> S:
        """After so many requests: the next one is the first that meets it."""
        return self._switches.later(requests=int(self._number))

    @property
    def seconds(self) -> S:
        """After so many seconds."""
        return self._switches.later(seconds=self._number)
