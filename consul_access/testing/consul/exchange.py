"""One request and what comes of it: an answer, or word that it has to wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from consul_access.testing.common.exchange import Answer, Request
from consul_access.testing.consul.golang import duration, seconds

__all__ = [
    "Answer",
    "Ask",
    "Found",
    "Options",
    "Refused",
    "Request",
    "Told",
    "Waiting",
    "parse_query",
    "refuse_namespace",
]

LONGEST_WAIT: Final = 600.0
USUAL_WAIT: Final = 300.0


@dataclass(slots=True)
class Waiting:
    """A request whose answer has to wait for a change.

    Args:
        ask: what it asks.
        again: what answers it, to be asked again.
        until: when it is answered in any case.
        seen: the state that it has been compared with.
        known: what was there when it began, as `Found.wakes` tells it.
    """

    ask: Ask
    again: Callable[[Any, Ask], Told | Found]
    until: float
    seen: int
    known: Any = None


class Refused(Exception):
    """A request is refused.

    Args:
        status: the HTTP status.
        text: the body.
        headers: further headers.
        meta: the answer says, as reads do, that it knows no leader.
        found: what had been read by then.
    """

    def __init__(
        self,
        status: int,
        text: str = "",
        *,
        headers: tuple[tuple[str, str], ...] = (),
        meta: bool = False,
        found: Found | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers
        self.meta = meta
        self.found = found


@dataclass(slots=True)
class Told:
    """What an endpoint answers.

    Args:
        data: to be written as JSON; None with `raw` for nothing at all.
        status: the HTTP status.
        headers: further headers.
        raw: a body that is no JSON.
        kind: its content type.
    """

    data: Any = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None
    kind: str = ""


@dataclass(slots=True)
class Found:
    """What a read of the servers finds.

    Args:
        data: to be written as JSON.
        index: of what was read.
        status: the HTTP status.
        shows_consistency: the answer says how consistent it is.
        cacheable: agents can answer it from their cache.
        filtered: something was left out because the token may not see it.
        wakes: where the index moves with others' changes, too, what has to be another than before to wake who waits;
            None where the index alone does.
    """

    data: Any
    index: int
    status: int = 200
    shows_consistency: bool = True
    cacheable: bool = False
    filtered: bool = False
    wakes: Any = None


Query = dict[str, list[str]]


def parse_query(text: str) -> Query:
    """The parameters. A pair that cannot be unquoted is dropped, as Go drops it; so is what has no name."""
    found: Query = {}
    for pair in text.replace(";", "&").split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        try:
            pair_name, pair_value = unquoted(name, plus=True), unquoted(value, plus=True)
        except ValueError:
            continue
        found.setdefault(pair_name, []).append(pair_value)
    return found


def unquoted(text: str, *, plus: bool = False) -> str:
    """The text that was percent-encoded.

    Raises:
        ValueError: a percent sign is followed by something else than two digits.
    """
    at = text.find("%")
    while at >= 0:
        int(text[at + 1 : at + 3].ljust(2, "-"), 16)
        at = text.find("%", at + 3)
    return unquote_to_bytes(text.replace("+", " ") if plus else text).decode("utf-8", "replace")


@dataclass(slots=True)
class Options:
    """How a read is to be answered."""

    index: int = 0
    wait: float = 0.0
    stale: bool = False
    consistent: bool = False
    cached: bool = False

    @property
    def consistency(self) -> str:
        """What the answer calls it."""
        return "stale" if self.stale else "consistent" if self.consistent else "leader"

    @classmethod
    def parse(cls, query: Query) -> Options:
        """The options that the parameters tell.

        Raises:
            Refused: they contradict each other, or are none.
        """
        options = cls(stale="stale" in query, consistent="consistent" in query, cached="cached" in query)
        if _first(query, "max_stale"):
            try:
                duration(_first(query, "max_stale"))
            except ValueError:
                raise Refused(400, f'Invalid max_stale value "{_first(query, "max_stale")}"') from None
            options.stale = options.stale or not options.consistent
        for word in ("stale", "cached"):
            if word in query and options.consistent:
                raise Refused(400, f"Cannot specify ?{word} with ?consistent, conflicting semantics.")
        options.wait = _wait(query)
        if given := _first(query, "index"):
            try:
                options.index = _index(given)
            except ValueError:
                raise Refused(400, "Invalid index") from None
        return options


def _wait(query: Query) -> float:
    given = _first(query, "wait")
    if not given:
        return 0.0
    try:
        return seconds(duration(given))
    except ValueError:
        raise Refused(400, "Invalid wait time") from None


def _index(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 64:
        raise ValueError
    return int(text)


def _first(query: Query, name: str) -> str:
    return query.get(name, [""])[0]


@dataclass(slots=True)
class Ask:
    """What a request asks, understood.

    Args:
        request: the request.
        path: its path, unquoted.
        rest: what follows the endpoint's own path, such as a service's name.
        query: its parameters.
        options: how a read is to be answered; only reads have them.
        is_streamed: it is answered from a view that the servers keep up to date, in the agent itself.
    """

    request: Request
    path: str
    rest: str
    query: Query
    options: Options = field(default_factory=Options)
    is_streamed: bool = False

    def first(self, name: str, otherwise: str = "") -> str:
        """A parameter; of several the first."""
        return self.query.get(name, [otherwise])[0]

    @property
    def token(self) -> str:
        """The secret that it was sent with: in the query, the header, or as bearer."""
        headers = self.request.headers
        bearer = headers.get("authorization", "")
        own = headers.get("x-consul-token", "") or (bearer[7:].strip() if bearer[:7].lower() == "bearer " else "")
        return self.first("token") or own

    def wait_until(self, now: float, jitter: float) -> float:
        """Until when it is willing to wait; a little longer than asked, so that many do not come back at once."""
        wait = self.options.wait or USUAL_WAIT
        return now + min(wait, LONGEST_WAIT) * (1 + jitter / 16)


def refuse_namespace(ask: Ask) -> None:
    """Namespaces are for Consul Enterprise.

    Raises:
        Refused: one was given.
    """
    if ask.first("ns"):
        about = 'Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature'
        raise Refused(400, f"Bad request: {about}")
