"""What goes wrong, on switches: now, after so many requests or seconds, for a while, or at random from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from consul_access.errors import InvalidInput
from consul_access.testing.consul.exchange import Answer, Request

if TYPE_CHECKING:
    from consul_access.testing.consul.fake import FakeConsul

__all__ = ["After", "Fault", "Faults", "Kind"]

Kind: TypeAlias = Literal[
    "rate_limit", "be_unavailable", "slow", "truncate", "reset_connections", "lose_answers", "answer_empty"
]
KINDS: Final[tuple[Kind, ...]] = (
    "rate_limit", "be_unavailable", "slow", "truncate", "reset_connections", "lose_answers", "answer_empty",
)  # fmt: skip
_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)
TOO_MANY_CONNECTIONS: Final = Answer(
    429, _TEXT, b"Your IP is issuing too many concurrent connections, please rate limit your calls\n", closes=True
)
LOST: Final = Answer(lost=True)


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


class Faults:
    """The switches of one agent.

    Every switch takes `for_`, the seconds of the fake's clock after which it switches itself off; most also take
    `times`, the number of requests that are concerned, and `only`, the beginning of their paths (`/v1/health/`).
    Without `for_` and `times` it stays until `heal()`.
    """

    def __init__(self, fake: FakeConsul) -> None:
        self._fake = fake
        self._active: list[Fault] = []
        self._planned: list[_Planned] = []
        self._dice: random.Random | None = None
        self._rate = 0.0
        self._kinds: Sequence[Kind] = KINDS
        self._slow = 0.0

    # --- the servers --------------------------------------------------------------------------------------

    def lose_leader(self, *, for_: float | None = None, text: str = "No cluster leader") -> None:
        """The servers have no leader: reads and catalog writes answer 500, stale reads and the agent's own calls work.

        What is registered meanwhile reaches the catalog when there is a leader again.

        Args:
            for_: seconds until there is one.
            text: what the refusals say, such as `rpc error making call: EOF`.
        """
        cluster = self._fake.cluster
        self._begin(Fault("lose_leader", start=lambda: cluster.lose_leader(text), stop=cluster.find_leader), for_)

    def turn_index_back(self, *, to: int = 1) -> None:
        """Every index is lower from now on, as with servers that were restored from a snapshot."""

        def turn() -> None:
            self._fake.cluster.catalog.rewind(to)
            self._fake.cluster.changed()

        self._begin(Fault("turn_index_back", start=turn, left=0), None)

    def wipe_servers(self) -> None:
        """The servers lose the catalog; agents tell them what they hold within two minutes of the fake's clock."""
        self._begin(Fault("wipe_servers", start=self._fake.cluster.wipe, left=0), None)

    def revoke_token(self, secret: str) -> None:
        """Nobody knows this token any more."""
        self._begin(Fault("revoke_token", start=lambda: self._fake.revoke(secret), left=0), None)

    # --- the agent ----------------------------------------------------------------------------------------

    def restart(self, *, keep: bool = True, for_: float = 0.0) -> None:
        """The agent is killed and started again.

        Args:
            keep: with what was registered, or with nothing, as without its data directory.
            for_: seconds that it is away; connections are refused meanwhile.
        """

        def back() -> None:
            self._fake.start(keep=keep)

        self._begin(Fault("restart", start=self._fake.kill, stop=back), for_)

    def limit_connections(self, to: int = 0, *, for_: float | None = None) -> None:
        """The agent takes no more than so many connections of one client at once: a reset in 1.8, a 429 from 1.9 on."""
        self._begin(Fault("limit_connections", limit=to), for_)

    def freeze(self, *, for_: float | None = None, only: str = "") -> None:
        """Requests are taken and not answered, as by a paused process; later they are answered after all."""
        self._begin(Fault("freeze", freezes=True, only=only), for_)

    # --- answers ------------------------------------------------------------------------------------------

    def rate_limit(self, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """429: `rate limit exceeded, try again later or against a different server`."""
        text = b"rate limit exceeded, try again later or against a different server"
        self._begin(Fault("rate_limit", instead=Answer(429, _TEXT, text), only=only, left=times), for_)

    def be_unavailable(self, *, for_: float | None = None, times: int | None = None, only: str = "") -> None:
        """503: `rate limit exceeded for operation that can only be performed by the leader, try again later`."""
        text = b"rate limit exceeded for operation that can only be performed by the leader, try again later"
        self._begin(Fault("be_unavailable", instead=Answer(503, _TEXT, text), only=only, left=times), for_)

    def answer(
        self, status: int, text: str = "", *, for_: float | None = None, times: int | None = None, only: str = ""
    ) -> None:
        """Any other refusal."""
        instead = Answer(status, _TEXT, text.encode())
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

    def answer_empty(
        self, *, for_: float | None = None, times: int | None = None, only: str = "/v1/health/service/"
    ) -> None:
        """Look-ups find nothing, with a 200 and an index that looks right."""

        def emptied(request: Request, answer: Answer) -> Answer:
            return replace(answer, body=b"[]") if request.method == "GET" and answer.status == 200 else answer

        self._begin(Fault("answer_empty", change=emptied, only=only, left=times), for_)

    # --- when ---------------------------------------------------------------------------------------------

    def after(self, number: float) -> After:
        """Something goes wrong later: `after(3).requests.lose_leader(for_=2)`, `after(1.5).seconds.freeze()`."""
        return After(self._fake, number)

    def at_random(self, *, seed: int, rate: float = 0.1, kinds: Iterable[Kind] = KINDS, slow: float = 0.05) -> None:
        """From now on a request meets a fault with this probability. The same seed gives the same faults.

        Args:
            seed: what chance begins with.
            rate: how many of the requests, from 0 to 1.
            kinds: which faults.
            slow: seconds that a slow one takes.
        """
        chosen = tuple(kinds)
        unknown = set(chosen) - set(KINDS)
        if not 0 <= rate <= 1 or unknown or not chosen:
            raise InvalidInput(f"rate= is a part of 1, kinds= some of {', '.join(KINDS)}; not {rate!r} and {chosen!r}")
        with self._fake.locked():
            self._dice, self._rate, self._kinds, self._slow = random.Random(seed), rate, chosen, slow  # noqa: S311

    def heal(self) -> None:
        """Switches everything off, also what was planned."""
        with self._fake.locked():
            self._planned.clear()
            self._dice = None
            for fault in self._active:
                fault.stop()
            self._active.clear()
            self._fake.notify()

    @property
    def active(self) -> tuple[str, ...]:
        """What is wrong now, by name."""
        return tuple(fault.name for fault in self._active)

    def _begin(self, fault: Fault, lasts: float | None) -> None:
        with self._fake.locked():
            self._start(fault, lasts)
            self._fake.notify()

    def _start(self, fault: Fault, lasts: float | None) -> None:
        fault.start()
        if fault.left == 0:
            return
        if lasts is not None:
            fault.until = self._fake.cluster.now + lasts
        if fault.until is not None and fault.until <= self._fake.cluster.now:
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
        kind = self._dice.choice(self._kinds)
        if kind == "slow":
            self.slow(self._slow, times=1)
        elif kind == "answer_empty":
            self.answer_empty(times=1)
        else:
            switch: Callable[..., None] = getattr(self, kind)
            switch(times=1)

    def plan(self, fault: Fault, lasts: float | None, *, at: float | None, requests: int) -> None:
        """Remembers one for later."""
        with self._fake.locked():
            self._planned.append(_Planned(fault, at, requests, lasts))
            self._fake.notify()


class After:
    """When something will go wrong.

    Args:
        fake: what it will happen to.
        number: so many requests, or seconds of the fake's clock.
    """

    def __init__(self, fake: FakeConsul, number: float) -> None:
        self._fake = fake
        self._number = number

    @property
    def requests(self) -> Faults:
        """After so many requests: the next one is the first that meets it."""
        return _Later(self._fake, requests=int(self._number))

    @property
    def seconds(self) -> Faults:
        """After so many seconds."""
        return _Later(self._fake, seconds=self._number)


class _Later(Faults):
    """The same switches, for later."""

    def __init__(self, fake: FakeConsul, *, requests: int = 0, seconds: float | None = None) -> None:
        super().__init__(fake)
        self._requests = requests
        self._seconds = seconds

    def _begin(self, fault: Fault, lasts: float | None) -> None:
        at = None if self._seconds is None else self._fake.cluster.now + self._seconds
        self._fake.faults.plan(fault, lasts, at=at, requests=self._requests)
