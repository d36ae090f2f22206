"""A `Call` describes one request completely; a `Reply` is the one answer received.

Neither knows who carries them. A call's name (`health.service`) comes back in every error, log line and hook.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from consul_access.errors import BadAnswer, InvalidInput

__all__ = ["Call", "Headers", "Repeat", "Reply", "json_body", "path", "quoted", "read_json"]

T = TypeVar("T")
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""What needs no quoting; most names and values are like this."""
_WRITER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: `json.dumps` makes one a call, which takes as long as writing a small body."""


class Repeat(Enum):
    """Whether a call may be sent again when its outcome is not known."""

    READ = "read"
    """Changes nothing: repeat freely."""
    IDEMPOTENT = "idempotent"
    """A write that leaves the same state however often it is applied."""
    NEVER = "never"
    """A write that must not be applied twice: only repeated when it certainly was not applied."""


class Headers(Mapping[str, str]):
    """The headers of a reply, by name in any case; of repeated ones the last counts."""

    __slots__ = ("_found", "_raw")

    def __init__(self, raw: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._raw = raw if isinstance(raw, list) else list(raw)
        self._found: dict[str, str] | None = None

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """The pairs as they came."""
        return self._raw

    def first(self, name: bytes) -> str:
        """The first value of a name written exactly so; empty when there is none. For whoever needs only that one."""
        for found, value in self._raw:
            if found == name:
                return value.decode("latin-1")
        return ""

    def _names(self) -> dict[str, str]:
        if self._found is None:
            self._found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._raw}
        return self._found

    def __getitem__(self, name: str) -> str:
        return self._names()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"Headers({self._names()!r})"


class Reply(NamedTuple):
    """One answer: complete, within its bounds, and unpacked, but not yet understood.

    Args:
        status: the HTTP status.
        headers: by name, in any case.
        body: the whole body, unpacked.
        elapsed: seconds from sending the first attempt to the end of this answer.
        address: who answered, as text (`127.0.0.1:8500`).
        remote_ip: the IP address of the connection's other end; None for Unix sockets and foreign transports.
        attempts: how many times the request was sent.
        message: what the body's JSON would be parsed to, when something else than JSON was spoken.
    """

    status: int
    headers: Headers
    body: bytes
    elapsed: float = 0.0
    address: str = ""
    remote_ip: str | None = None
    attempts: int = 1
    message: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def excerpt(self) -> str:
        """The first 200 characters of the body, for a person to read."""
        return " ".join(self.body[:800].decode("utf-8", "replace").split())[:200]


class Call(NamedTuple, Generic[T]):
    """One request, described.

    A named tuple, as `Reply` is: both are made for every request, and a frozen dataclass takes three times as long.

    Args:
        name: the operation, such as `health.service`.
        method: GET, PUT, POST or DELETE.
        path: the path below the target's prefix, every segment quoted; make it with `path(...)`.
        read: makes the result from a reply whose status is in `statuses`; raises `BadAnswer` if it cannot.
        query: pairs of name and value; values unquoted. A value of None sends the bare name (`?stale`).
        body: the bytes to send, or None.
        repeat: whether it may be sent again when the outcome is not known.
        statuses: the statuses that are answers and not errors.
        subject: whom it concerns (a service's name or id), for texts only.
        patience: seconds that the server may take on purpose (a blocking query), on top of every time limit.
        takes_message: whether `read` takes the reply's `message`, where there is one, so that no body has to be made.
    """

    name: str
    method: str
    path: str
    read: Callable[[Reply], T]
    query: tuple[tuple[str, str | None], ...] = ()
    body: bytes | None = None
    repeat: Repeat = Repeat.READ
    statuses: frozenset[int] = frozenset({200})
    subject: str = ""
    patience: float = 0.0
    takes_message: bool = False

    def __repr__(self) -> str:
        query = f", query={self.query!r}" if self.query else ""
        return f"{type(self).__name__}({self.name!r}, {self.method} {self.path}{query}, subject={self.subject!r})"

    @property
    def is_blocking(self) -> bool:
        """Whether the server is asked to hold its answer back until something changes."""
        return any(name in {"index", "hash"} for name, _ in self.query)

    @property
    def target_path(self) -> str:
        """Path and query as they go on the request line."""
        if not self.query:
            return self.path
        return f"{self.path}?{'&'.join([_pair(name, value) for name, value in self.query])}"


def _pair(name: str, value: str | None) -> str:
    if value is None:
        return name
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    return f"{name}={quoted(value)}"


def quoted(text: str) -> str:
    """The text as one piece of a path or query.

    Raises:
        InvalidInput: it cannot be written in UTF-8.
    """
    from urllib.parse import quote  # most texts are plain

    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidInput(f"{text!r} cannot be written in UTF-8") from None


def path(*segments: str) -> str:
    """Joins segments into a path in which every one stays exactly one segment.

    `path("v1", "health", "service", "a/b")` is `/v1/health/service/a%2Fb`.

    Raises:
        InvalidInput: a segment is empty, `.` or `..`, or holds a control character or a lone surrogate: servers
            clean such paths by redirecting to another one (hashicorp/consul answers 301, also to PUT).
    """
    try:
        are_plain = all(map(_PLAIN.fullmatch, segments))
    except TypeError:  # one is no text
        are_plain = False
    return "/" + "/".join(segments if are_plain else map(_segment, segments))


def _segment(segment: str) -> str:
    if not isinstance(segment, str):
        raise InvalidInput(f"{segment!r} must be a text")
    if _PLAIN.fullmatch(segment):
        return segment
    if not segment or segment.startswith("/") or "//" in segment or {".", ".."}.intersection(segment.split("/")):
        raise InvalidInput(f"{segment!r} cannot be looked up over HTTP: a server would clean it out of the path")
    if not segment.isprintable() and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in segment):
        raise InvalidInput(f"{segment!r} holds a control character; names and ids may not")
    return quoted(segment)


def json_body(value: object) -> bytes:
    """The value as strict, compact JSON in UTF-8.

    Raises:
        InvalidInput: it holds NaN, an infinity, a lone surrogate or something JSON has no form for.
    """
    try:
        return _WRITER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot be sent as JSON: {error}") from error


def read_json(reply: Reply) -> Any:
    """The body as plain dicts and lists.

    Raises:
        BadAnswer: it is not JSON, or nested too deeply.
    """
    try:
        return _parser()(reply.body)
    except ValueError as error:
        raise BadAnswer(f"the answer is not JSON ({error})", status=reply.status, excerpt=reply.excerpt()) from error


@cache
def _parser() -> Callable[[bytes], Any]:
    """Imported with the first answer: no client needs it before, and an import costs a little each time it is met."""
    from pydantic_core import from_json

    return from_json
