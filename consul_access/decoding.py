"""Makes values out of an answer's bytes: in one step when all is well, entry by entry when something is not."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Generator
from functools import cache
from operator import is_
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar, cast

from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema, from_json, to_json

from consul_access.call import Reply
from consul_access.errors import BadAnswer
from consul_access.models.meta import Entries, QueryMeta

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

__all__ = ["AT_THE_FIRST", "Rereader", "decode", "decode_list"]

T = TypeVar("T")
log = logging.getLogger("consul_access")

SLICE: Final = 128 * 1024
"""Bytes that are read in one go: about a millisecond of work."""
SHORT: Final = 4 * 1024
"""Bytes of a list that is read anew when something in it has changed: two or three entries."""
MOST_SHARED: Final = 1024
MOST_REJECTED: Final = 1000
"""Entries that may be unusable, unless even more of them are good: beyond that it is no list of the kind."""
DENSEST: Final = 10
"""Bytes that a value of a list takes at least, on average; real lists need half as much again."""
MOST_COMPLAINTS: Final = 100
"""Complaints about one answer that are looked at."""
_SEPARATORS: Final = (
    (b'{"Node":{"ID":', b","),
    (b'{\n        "Node": {\n            "ID": ', b",\n    "),
)
"""What every entry begins with, and what stands between two: as servers write it, and as agents in dev mode do. Quotes
within JSON texts are escaped, so neither can occur in one."""


class _AtTheFirst:
    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast("CoreSchema", {**handler(source), "fail_fast": True})


AT_THE_FIRST: Final = _AtTheFirst()
"""Has a list be given up at its first bad item: a complaint takes many times what a bad item took."""


def _one(kind: Any) -> SchemaValidator:
    return _made(kind, listed=False)


def _list_of(kind: Any) -> SchemaValidator:
    return _made(kind, listed=True)


_PLAIN: Final[dict[Any, CoreSchema]] = {
    str: core_schema.str_schema(),
    list[str]: core_schema.list_schema(core_schema.str_schema()),
}
"""What needs no Pydantic, which a program that follows services would load to read who leads, in its event loop."""


@cache
def _made(kind: Any, *, listed: bool) -> SchemaValidator:
    # Made when the first such answer comes: building one takes milliseconds that not every program needs to spend.
    if not listed and kind in _PLAIN:
        return SchemaValidator(_PLAIN[kind])
    if hasattr(kind, "core_schema"):
        schema = kind.core_schema()
        return SchemaValidator(core_schema.list_schema(schema, fail_fast=True) if listed else schema)
    from pydantic import TypeAdapter  # to load it takes longer than all else that a look-up needs

    wanted: Any = Annotated[list[kind], AT_THE_FIRST] if listed else kind
    return cast("SchemaValidator", TypeAdapter(wanted).validator)


def decode(kind: type[T], reply: Reply) -> T:
    """The answer as a value of this type.

    Raises:
        BadAnswer: it is something else.
    """
    try:
        value: T = _one(kind).validate_json(reply.body)
    except ValidationError as error:
        raise _bad(reply, error) from error
    return value


def decode_list(kind: type[T], reply: Reply) -> Entries[T]:
    """The answer as a list of values of this type. Entries that are none are left out, counted and logged.

    Raises:
        BadAnswer: it is no list, or nothing in it can be used.
    """
    meta = QueryMeta(reply.headers)
    try:
        return Entries(_list_of(kind).validate_json(reply.body), meta=meta)
    except ValidationError as error:
        first = error
    entries, rejected = _one_by_one(kind, reply)
    if not entries:
        raise _bad(reply, first) from first
    log.warning("%d entries of %s cannot be used: %s", rejected, reply.address, _first(first))
    return Entries(entries, meta=meta, rejected=rejected)


class Rereader(Generic[T]):
    """Reads the same list again and again, and anew only those entries that are not as they were.

    Args:
        kind: the type of an entry.
        share: has a new entry share with others what is the same, by way of a pool that is given to it.

    Consul sends the whole list when one entry has changed. Entries are told apart by their bytes, by way of a hash of
    64 bits that is different in every process; unchanged ones stay the same objects.
    """

    __slots__ = ("_entries", "_kind", "_marks", "_pool", "_share", "_validate", "_whole", "rejected")

    def __init__(self, kind: type[T], share: Callable[[T, dict[object, object]], None] | None = None) -> None:
        self._kind = kind
        self._share = share
        self._pool: dict[object, object] = {}
        self._entries: tuple[T, ...] = ()
        self._marks = array("q")
        self._whole: int | None = None
        self._validate: Callable[[bytes], list[T]] | None = None
        self.rejected = 0

    def read(self, reply: Reply) -> Generator[None, None, tuple[T, ...]]:
        """Reads an answer, slice by slice: whoever runs this may do something else in between.

        Returns:
            All entries that can be used; the same tuple as before when nothing is different.

        Raises:
            BadAnswer: it is no list, or nothing in it can be used.
        """
        body = reply.body
        if len(self._pool) > MOST_SHARED:  # they are all different, or of instances that are gone
            self._pool = {}
        whole = hash(body) if len(body) <= SLICE else None
        if whole is not None and whole == self._whole:
            return self._entries
        found = yield from self._by_entry(body)
        if found is None:
            entries = decode_list(self._kind, reply)
            found = tuple(entries), array("q")
            self.rejected = entries.rejected
        elif not self.rejected and found[1] == self._marks and len(found[0]) == len(self._entries):
            self._whole = whole
            return self._entries
        else:
            self.rejected = 0
        self._entries, self._marks = found
        self._whole = whole
        return self._entries

    def read_short(self, body: bytes) -> tuple[T, ...] | None:
        """Reads an answer of a few entries in one go, which costs less than to take it apart.

        Returns:
            As `read` does; None when the answer is longer, or `read` has to see about it.
        """
        if len(body) > SHORT or self.rejected:
            return None
        try:
            read = self._validator()(body)
        except ValidationError:
            return None
        for place, entry in enumerate(read):
            # There are so few that comparing costs less than hashing.
            if (before := next((known for known in self._entries if known == entry), None)) is not None:
                read[place] = before
            elif self._share is not None and len(read) > 1:
                self._share(entry, self._pool)
        if len(read) == len(self._entries) and all(map(is_, read, self._entries)):
            return self._entries
        self._entries, self._marks = tuple(read), array("q")
        self._whole = None
        return self._entries

    def _validator(self) -> Callable[[bytes], list[T]]:
        if self._validate is None:
            self._validate = _list_of(self._kind).validate_json
        return self._validate

    def _by_entry(self, body: bytes) -> Generator[None, None, tuple[tuple[T, ...], array[int]] | None]:
        """The entries and their marks, or None when the answer has to be read as a whole."""
        separator, between = next((pair for pair in _SEPARATORS if _begins(body, pair[0])), (b"", b""))
        if not separator:
            return None
        known = dict(zip(self._marks, self._entries, strict=False))
        entries: list[T] = []
        marks = array("q")
        position = body.index(separator)
        while position >= 0:
            end = body.find(separator, position + SLICE)
            parts = body[position + len(separator) : end if end >= 0 else len(body)].split(separator)
            if end < 0:
                parts[-1] = parts[-1].rstrip(b"]\r\n ") + between
            slice_marks = list(map(hash, parts))
            slice_entries = self._known_or_read(parts, slice_marks, known, separator, between)
            if slice_entries is None:
                return None
            entries += slice_entries
            marks.extend(slice_marks)
            position = end
            if position >= 0:
                yield
        return tuple(entries), marks

    def _known_or_read(
        self, parts: list[bytes], marks: list[int], known: dict[int, T], separator: bytes, between: bytes
    ) -> list[T] | None:
        found = list(map(known.get, marks))
        new = [place for place, entry in enumerate(found) if entry is None]
        if new:
            texts = (separator + parts[place].removesuffix(between) for place in new)
            try:
                read: list[T] = _list_of(self._kind).validate_json(b"[" + b",".join(texts) + b"]")
            except ValidationError:
                return None
            if len(read) != len(new):
                return None
            for place, entry in zip(new, read, strict=True):
                if self._share is not None:
                    self._share(entry, self._pool)
                found[place] = entry
        return found  # type: ignore[return-value] # pyright: ignore[reportReturnType] - there is no gap any more


def _begins(body: bytes, separator: bytes) -> bool:
    """Whether a list's first entry begins so."""
    return body[:64].lstrip(b"[\r\n ").startswith(separator)


def _one_by_one(kind: type[T], reply: Reply) -> tuple[list[T], int]:
    """The entries that can be used, and how many others there are; none if it is no list of the kind at all."""
    if reply.body.count(b",") * DENSEST > len(reply.body):
        return [], 0
    try:
        raw = from_json(reply.body)
    except ValueError:
        return [], 0
    if not isinstance(raw, list):
        return [], 0
    entries: list[T] = []
    rejected = 0
    for entry in raw:
        try:
            entries.append(_one(kind).validate_json(to_json(entry)))
        except ValidationError:
            rejected += 1
            if rejected > max(MOST_REJECTED, len(entries)):
                return [], 0
    return entries, rejected


def _bad(reply: Reply, error: ValidationError) -> BadAnswer:
    return BadAnswer(
        f"the answer is not what was asked for: {_first(error)}", status=reply.status, excerpt=reply.excerpt()
    )


def _first(error: ValidationError) -> str:
    if error.error_count() > MOST_COMPLAINTS:  # they are made one and all
        return f"{error.error_count()} things in it are not what they should be"
    detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    return f"{place}: {detail['msg']}" if place else detail["msg"]
