"""JSON as agents read it: every key must be known, every value of the right kind, and the first mistake is told.

Go goes through a body from its beginning to its end, keeps the first mistake, and names structures as it calls them
itself; so does this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from consul_access.testing.consul.golang import duration, quoted

__all__ = ["ANYTHING", "BOOL", "DURATION", "INT", "STRING", "Items", "Kind", "Malformed", "Mapped", "Scalar", "Struct",
           "decode"]  # fmt: skip


class Malformed(Exception):
    """The body is not what was expected; the text is Go's."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, by its name in Go."""

    name: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    of: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """Values by names that are not known beforehand."""

    of: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Struct:
    """Values by names that are known.

    Args:
        name: how Go names it inside a field's path; empty for anonymous ones.
        fields: what is known; names are compared without regard to case.
        shown: its whole type, as Go writes it out.
        closed: it reads itself, so that what is wrong inside is told of the field that holds it.
        lenient: unknown names are passed over.
    """

    name: str
    fields: Mapping[str, Kind]
    shown: str = ""
    closed: bool = False
    lenient: bool = False
    folded: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folded", {name.lower(): name for name in self.fields})


Kind: TypeAlias = Scalar | Items | Mapped | Struct

STRING: Final = Scalar("string")
INT: Final = Scalar("int")
BOOL: Final = Scalar("bool")
ANYTHING: Final = Scalar("interface {}")
DURATION: Final = Scalar("time.Duration")


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Place:
    struct: str
    path: tuple[str, ...] = ()


class _Pairs(list[tuple[str, Any]]):
    """An object, with its keys in the order they came."""


def decode(body: bytes, kind: Kind, *, knows: Callable[[str], bool] = lambda _: True) -> Any:
    """The body, as dicts of the known names; what was left out or null is not in them.

    Args:
        body: the JSON text; what follows its first value is not looked at.
        kind: what is expected.
        knows: whether a name that the kind has is known to this version.

    Raises:
        Malformed: it is something else.
    """
    reader = _Reader(knows)
    try:
        value = reader.read(_parsed(body), kind, None)
    except _Aborted as aborted:
        raise Malformed(str(aborted)) from None
    if reader.mistake is not None:
        raise Malformed(reader.mistake)
    return value


def _parsed(body: bytes) -> Any:
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise Malformed("EOF")
    decoder = json.JSONDecoder(
        object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant, strict=True
    )
    try:
        value, _ = decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(_syntax(error, text)) from None
    except RecursionError:
        raise Malformed("exceeded max depth") from None
    return value


def _refuse_constant(name: str) -> None:
    raise Malformed(f"invalid character {name[0]!r} looking for beginning of value")


def _syntax(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    char = "'\\''" if text[error.pos] == "'" else f"'{quoted(text[error.pos])[1:-1]}'"
    places = {
        "Expecting value": "looking for beginning of value",
        "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
        "Expecting ':' delimiter": "after object key",
        "Expecting ',' delimiter": "after object key:value pair",
    }
    return f"invalid character {char} {places.get(error.msg, 'in string literal')}"


class _Aborted(Exception):
    """Something that reads itself gave up; that counts more than what was found before."""


class _Reader:
    def __init__(self, knows: Callable[[str], bool]) -> None:
        self.knows = knows
        self.mistake: str | None = None

    def _mistaken(self, text: str) -> None:
        if self.mistake is None:
            self.mistake = text

    def read(self, value: Any, kind: Kind, place: _Place | None) -> Any:
        """The value, or None if it is null or none of its kind."""
        if value is None:
            return None
        if isinstance(kind, Struct):
            return self._struct(value, kind, place)
        if isinstance(kind, Items):
            return self._items(value, kind, place)
        if isinstance(kind, Mapped):
            return self._mapped(value, kind, place)
        return self._scalar(value, kind, place)

    def _struct(self, value: Any, kind: Struct, place: _Place | None) -> dict[str, Any] | None:
        if not isinstance(value, _Pairs):
            mistake = _mismatch(value, kind.shown or kind.name, place)
            if kind.closed:
                raise _Aborted(mistake)
            self._mistaken(mistake)
            return None
        if not kind.closed:
            return self._fields(value, kind, place)
        inner = _Reader(self.knows)
        found = inner._fields(value, kind, place)
        inner._durations(found, kind)
        if inner.mistake is not None:
            raise _Aborted(inner.mistake)
        return found

    def _fields(self, value: _Pairs, kind: Struct, place: _Place | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, element in value:
            name = kind.folded.get(key.lower(), "")
            if not name or not self.knows(name):
                if not kind.lenient:
                    self._mistaken(f"json: unknown field {quoted(key)}")
                continue
            read = self.read(element, kind.fields[name], _inside(place, kind, name))
            if read is not None:
                found[name] = read
        return found

    def _durations(self, found: dict[str, Any], kind: Struct) -> None:
        """Lengths are read when everything else has been: a text is one with units, a number counts nanoseconds."""
        for name, value in list(found.items()):
            if kind.fields[name] is not DURATION:
                continue
            try:
                found[name] = duration(value) if type(value) is str else int(float(value))
            except ValueError as error:
                self._mistaken(str(error))
            except TypeError:
                del found[name]

    def _items(self, value: Any, kind: Items, place: _Place | None) -> list[Any] | None:
        if not isinstance(value, list) or isinstance(value, _Pairs):
            self._mistaken(_mismatch(value, kind.name, place))
            return None
        return [self.read(element, kind.of, place) for element in value]

    def _mapped(self, value: Any, kind: Mapped, place: _Place | None) -> dict[str, Any] | None:
        if not isinstance(value, _Pairs):
            self._mistaken(_mismatch(value, kind.name, place))
            return None
        read = {key: self.read(element, kind.of, place) for key, element in value}
        return {key: _zero(kind.of) if element is None else element for key, element in read.items()}

    def _scalar(self, value: Any, kind: Scalar, place: _Place | None) -> Any:
        if kind is ANYTHING:
            return _plain(value)
        if kind is DURATION:
            return value if isinstance(value, str) else object()
        if kind is INT and isinstance(value, _Number):
            return self._whole(value, place)
        if (kind is STRING and type(value) is str) or (kind is BOOL and isinstance(value, bool)):
            return value
        self._mistaken(_mismatch(value, kind.name, place))
        return None

    def _whole(self, value: _Number, place: _Place | None) -> int | None:
        try:
            number = int(value)
        except ValueError:
            number = 1 << 63
        if -(1 << 63) <= number < 1 << 63:
            return number
        self._mistaken(_mismatch(value, "int", place, told=f"number {value}"))
        return None


def _mismatch(found: Any, wanted: str, place: _Place | None, *, told: str = "") -> str:
    into = "value" if place is None else f"struct field {place.struct}.{'.'.join(place.path)}"
    return f"json: cannot unmarshal {told or _called(found)} into Go {into} of type {wanted}"


def _inside(place: _Place | None, kind: Struct, name: str) -> _Place:
    if place is None or not kind.closed:
        path = (*(place.path if place else ()), name)
        return _Place(kind.name if place is None or kind.name else place.struct, path)
    return place


def _called(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, _Number):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, _Pairs) else "array"


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(element) for key, element in value}
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return float(value) if isinstance(value, _Number) else value


def _zero(kind: Kind) -> Any:
    if isinstance(kind, Scalar):
        return {"string": "", "int": 0, "bool": False}.get(kind.name)
    return [] if isinstance(kind, Items) else {}
