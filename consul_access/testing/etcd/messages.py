"""Requests as the gateway reads them: bytes in base64, numbers as numbers or texts, names in both spellings.

Unknown names are passed over. What is of the wrong kind is refused; the texts of the first generation are Go's, those
of the second name no line and column here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from consul_access.testing.etcd.dialect import Dialect, Refused

__all__ = [
    "COMPACTION", "DELETE", "GRANT", "ID", "LOGIN", "NOTHING", "PUT", "RANGE", "TTL", "TXN", "WATCH", "documents",
    "read",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Enum:
    """Names that stand for numbers."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Many:
    """A list."""

    of: Kind


Kind: TypeAlias = "str | Enum | Many | Mapping[str, Kind]"
Message: TypeAlias = "Mapping[str, Kind]"

BYTES, INT, BOOL, TEXT = "bytes", "int64", "bool", "string"
_NAMES: Final = {BYTES: "[]uint8", INT: "int64", BOOL: "bool", TEXT: "string"}

NOTHING: Final[Message] = {}
RANGE: Final[Message] = {
    "key": BYTES, "range_end": BYTES, "limit": INT, "revision": INT, "serializable": BOOL, "keys_only": BOOL,
    "count_only": BOOL, "min_mod_revision": INT, "max_mod_revision": INT, "min_create_revision": INT,
    "max_create_revision": INT,
    "sort_order": Enum("etcdserverpb.RangeRequest_SortOrder", ("NONE", "ASCEND", "DESCEND")),
    "sort_target": Enum("etcdserverpb.RangeRequest_SortTarget", ("KEY", "VERSION", "CREATE", "MOD", "VALUE")),
}  # fmt: skip
PUT: Final[Message] = {
    "key": BYTES, "value": BYTES, "lease": INT, "prev_kv": BOOL, "ignore_value": BOOL, "ignore_lease": BOOL,
}  # fmt: skip
DELETE: Final[Message] = {"key": BYTES, "range_end": BYTES, "prev_kv": BOOL}
COMPARE: Final[Message] = {
    "key": BYTES, "range_end": BYTES, "version": INT, "create_revision": INT, "mod_revision": INT, "value": BYTES,
    "lease": INT,
    "result": Enum("etcdserverpb.Compare_CompareResult", ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")),
    "target": Enum("etcdserverpb.Compare_CompareTarget", ("VERSION", "CREATE", "MOD", "VALUE", "LEASE")),
}  # fmt: skip
OPERATION: Final[dict[str, Kind]] = {"request_range": RANGE, "request_put": PUT, "request_delete_range": DELETE}
TXN: Final[Message] = {"compare": Many(COMPARE), "success": Many(OPERATION), "failure": Many(OPERATION)}
OPERATION["request_txn"] = TXN
COMPACTION: Final[Message] = {"revision": INT, "physical": BOOL}
GRANT: Final[Message] = {"TTL": INT, "ID": INT}
ID: Final[Message] = {"ID": INT}
TTL: Final[Message] = {"ID": INT, "keys": BOOL}
LOGIN: Final[Message] = {"name": TEXT, "password": TEXT}
WATCH: Final[Message] = {
    "create_request": {
        "key": BYTES, "range_end": BYTES, "start_revision": INT, "progress_notify": BOOL, "prev_kv": BOOL,
        "watch_id": INT, "fragment": BOOL,
        "filters": Many(Enum("etcdserverpb.WatchCreateRequest_FilterType", ("NOPUT", "NODELETE"))),
    },
    "cancel_request": {"watch_id": INT},
    "progress_request": {},
}  # fmt: skip


class _Pairs(list[tuple[str, Any]]):
    """An object, with all that it names."""


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Pairs)


def read(body: bytes, message: Message, dialect: Dialect) -> dict[str, Any]:
    """A request; what follows its first document is not looked at. What was left out is not in it.

    Raises:
        Refused: it is none.
    """
    found = next(documents(body, message, dialect), {})
    if isinstance(found, Refused):
        raise found
    return found


def documents(body: bytes, message: Message, dialect: Dialect) -> Iterator[dict[str, Any] | Refused]:
    """The documents of a body that may have several; the first that cannot be read is the last."""
    text = body.decode("utf-8", "replace").strip()
    while text:
        try:
            found, end = _DECODER.raw_decode(text)
        except ValueError:
            yield Refused(3, _syntax(text))
            return
        try:
            yield _Reader(dialect).message(found, message)
        except Refused as refused:
            yield refused
            return
        text = text[end:].lstrip()


class _Reader:
    def __init__(self, dialect: Dialect) -> None:
        self._first = dialect.gateway == 1

    def message(self, found: Any, message: Message) -> dict[str, Any]:
        if not isinstance(found, _Pairs):
            if found is None and self._first:
                return {}
            raise Refused(3, self._no_object(found))
        names = {spelt: name for name in message for spelt in (name, _camel(name))}
        made: dict[str, Any] = {}
        for spelt, value in found:
            name = names.get(spelt)
            if name is not None and value is not None:
                if name in made and not self._first:
                    raise Refused(3, f'proto: duplicate field "{spelt}"')
                made[name] = self.value(name, value, message[name])
        return {name: value for name, value in made.items() if value is not None}

    def value(self, name: str, found: Any, kind: Kind) -> Any:
        if isinstance(kind, Many):
            if isinstance(found, _Pairs) or not isinstance(found, list):
                raise self._wrong(name, found, "[]json.RawMessage")
            return [made for one in found if (made := self.value(name, one, kind.of)) is not None]
        if isinstance(kind, Enum):
            return self._enum(name, found, kind)
        if isinstance(kind, str):
            return {BYTES: self._bytes, INT: self._whole, BOOL: self._truth, TEXT: self._text}[kind](name, found)
        return self.message(found, kind)

    def _enum(self, name: str, found: Any, kind: Enum) -> int | None:
        if isinstance(found, str):
            if found in kind.values:
                return kind.values.index(found)
            if not self._first:
                return None  # what is unknown is passed over
            raise Refused(3, f'unknown value "{found}" for enum {kind.name}')
        if isinstance(found, bool) or not isinstance(found, int):
            raise self._wrong(name, found, "int32")
        return found

    def _bytes(self, name: str, found: Any) -> bytes:
        if not isinstance(found, str):
            raise self._wrong(name, found, _NAMES[BYTES])
        text = found if self._first else found.replace("-", "+").replace("_", "/").rstrip("=")
        if not self._first:
            text += "=" * (-len(text) % 4)
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            if not self._first:
                raise self._wrong(name, found, "") from None
            raise Refused(3, f"illegal base64 data at input byte {_illegal(found)}") from None

    def _whole(self, name: str, found: Any) -> int:
        if isinstance(found, str) and re.fullmatch(r"-?\d+", found):
            found = int(found)
        if isinstance(found, float) and found.is_integer() and not self._first:
            found = int(found)
        if isinstance(found, str) and self._first:
            raise Refused(3, f"invalid character {found[:1]!r} looking for beginning of value")
        if isinstance(found, bool) or not isinstance(found, int) or not -(1 << 63) <= found < 1 << 63:
            raise self._wrong(name, found, _NAMES[INT])
        return found

    def _truth(self, name: str, found: Any) -> bool:
        if not isinstance(found, bool):
            raise self._wrong(name, found, _NAMES[BOOL])
        return found

    def _text(self, name: str, found: Any) -> str:
        if not isinstance(found, str):
            raise self._wrong(name, found, _NAMES[TEXT])
        return found

    def _wrong(self, name: str, found: Any, wanted: str) -> Refused:
        if not self._first:
            kind = {"[]uint8": "bytes"}.get(wanted, wanted or "bytes")
            return Refused(3, f"proto: invalid value for {kind} field {_camel(name)}: {json.dumps(found)}")
        number = f"number {found}" if isinstance(found, float) else _kind_of(found)
        return Refused(3, f"json: cannot unmarshal {number} into Go value of type {wanted}")

    def _no_object(self, found: Any) -> str:
        if self._first:
            return f"json: cannot unmarshal {_kind_of(found)} into Go value of type map[string]json.RawMessage"
        return f"proto: syntax error (line 1:1): unexpected token {'null' if found is None else json.dumps(found)[:1]}"


def _kind_of(found: Any) -> str:
    if isinstance(found, _Pairs):
        return "object"
    kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(found), "null")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _illegal(text: str) -> int:
    """Where Go finds base64 to be wrong."""
    for place, char in enumerate(text):
        if not re.match(r"[A-Za-z0-9+/=]", char):
            return place
    return len(text) // 4 * 4


def _syntax(text: str) -> str:
    """What Go says about a text that is no JSON."""
    for literal in ("null", "true", "false"):
        if text[0] == literal[0]:
            for place, char in enumerate(literal):
                if text[place : place + 1] != char:
                    return f"invalid character {text[place : place + 1]!r} in literal {literal} (expecting {char!r})"
    return "unexpected EOF" if text[0] in '{["' else f"invalid character {text[0]!r} looking for beginning of value"
