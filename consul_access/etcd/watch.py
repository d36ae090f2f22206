"""`/v3/watch`: a request that names what to watch, and an answer that goes on, one JSON object a line.

Over HTTP/1.1 nothing can be added once the request is sent: a watch is ended by closing its connection, which belongs
to it alone. After a watch was canceled the server leaves the stream open for ever.
https://etcd.io/docs/v3.5/learning/api/#watch-api
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from consul_access.call import Call, Reply
from consul_access.errors import AnswerTooLarge, BadAnswer
from consul_access.etcd.coding import MALFORMED, gateway_body, key_value, revision_of
from consul_access.etcd.texts import fault_of
from consul_access.models.keys import EventKind, KeyEvent
from consul_access.rules.key_watching import WatchLine

__all__ = ["PATH", "LineDecoder", "Range", "line_of", "open_watch", "result_of"]

PATH: Final = "/v3/watch"
_OF_EVENTS: Final = frozenset({"header", "watch_id", "events"})
"""What a line that tells of events has; most do nothing else."""


class Range(NamedTuple):
    """What to watch: one key, or with an end all keys from the first up to it."""

    key: bytes
    end: bytes | None = None


def open_watch(ranges: Sequence[tuple[Range, int]], *, previous: bool = False) -> Call[None]:
    """Begins to watch.

    Args:
        ranges: each with the revision to begin at, 0 for now; their watch ids are 0, 1, ...
        previous: whether events tell what was there before.
    """
    body = b"".join(gateway_body(_create(wanted, start, previous)) for wanted, start in ranges)
    subject = ", ".join(wanted.key.decode("utf-8", "backslashreplace") for wanted, _ in ranges)
    return Call(name="watch", method="POST", path=PATH, body=body, read=_no_result, subject=subject)


def _create(wanted: Range, start: int, previous: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"key": wanted.key, "progress_notify": True, "fragment": True}
    if wanted.end is not None:
        fields["range_end"] = wanted.end
    if start:
        fields["start_revision"] = start
    if previous:
        fields["prev_kv"] = True
    return {"create_request": fields}


def _no_result(_: Reply) -> None:
    """A stream is not read as one answer."""


class LineDecoder:
    """Makes lines out of bytes, however they were cut on their way.

    Args:
        limit: how many bytes a line may have.
    """

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[WatchLine]:
        """The lines that are complete with these bytes.

        Raises:
            AnswerTooLarge: a line exceeds its limit.
            BadAnswer: a line is not what a watch is answered with.
        """
        if self._rest:
            self._rest += data
            data = bytes(self._rest) if b"\n" in data else b""
        if data:
            *lines, rest = data.split(b"\n")
            self._rest = bytearray(rest)
        else:
            lines = []
        if len(self._rest) > self._limit:
            raise AnswerTooLarge(f"a line of the watch exceeds {self._limit} bytes")
        return [line_of(line) for line in lines if line.strip()]


def line_of(text: bytes) -> WatchLine:
    try:
        found = from_json(text)
        if "error" in found and "result" not in found:
            return WatchLine(error=fault_of(found))
        return result_of(found["result"])
    except MALFORMED as error:
        excerpt = text[:800].decode("utf-8", "replace")
        raise BadAnswer(f"a line of the watch cannot be read ({error})", excerpt=excerpt) from error


def result_of(answer: dict[str, Any]) -> WatchLine:
    get = answer.get
    events = tuple(map(_event, get("events", ())))
    if answer.keys() <= _OF_EVENTS:
        return WatchLine(revision_of(answer), int(get("watch_id", 0)), events=events)
    return WatchLine(
        revision_of(answer),
        int(get("watch_id", 0)),
        bool(get("created", False)),
        bool(get("canceled", False)),
        int(get("compact_revision", 0)),
        str(get("cancel_reason", "")),
        bool(get("fragment", False)),
        events,
    )


def _event(answer: dict[str, Any]) -> KeyEvent:
    value, metadata = key_value(answer["kv"])
    kind = EventKind.DELETE if answer.get("type", "PUT") in {"DELETE", 1} else EventKind.PUT
    before = answer.get("prev_kv")
    previous = None if before is None else key_value(before)
    return KeyEvent(kind, metadata.key, value, metadata, metadata.mod_revision, previous)
