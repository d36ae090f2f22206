"""etcd's v3 API over gRPC: which method stands for which path of the gateway, and its messages as protobuf.

A request is written from the gateway's JSON, and an answer is read into the object that the gateway's JSON would be
parsed to, so that everything else reads one shape only. There is one exception: pairs of key and value, of which an
answer may have a hundred thousand, are `KeyValue` at once. Fields that are not known here are skipped in answers and
refused in requests (etcd-io/etcd: api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto).
"""

from __future__ import annotations

import json
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from consul_access.errors import AnswerTooLarge, BadAnswer, BadValue, InvalidInput
from consul_access.etcd.protobuf import ALL_BITS, BYTES, MOST_BITS, VARINT, field_at, signed, varint, written_field
from consul_access.models.keys import KeyMetadata, KeyValue

__all__ = [
    "METHODS",
    "TOLD",
    "Method",
    "as_json",
    "decode",
    "documents",
    "encode",
    "framed",
    "http_status",
    "messages_of",
]

_STATUSES: Final = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503, 16: 401}
"""HTTP's words for gRPC's codes."""
_PARSER: Final = json.JSONDecoder()
_new: Final = tuple.__new__


class Message:
    """A message: its fields, by their names in JSON."""

    def __init__(self, **fields: Field) -> None:
        self.by_name = fields

    @cached_property
    def by_tag(self) -> dict[int, tuple[str, Field, bool, Callable[..., Any]]]:
        """What its fields begin with in an answer: the name, the field, whether it is a number, and what reads it."""
        return {
            field.number << 3 | (VARINT if field.kind in _NUMBERS else BYTES): (
                name,
                field,
                field.kind in _NUMBERS,
                _READERS[field.kind],
            )
            for name, field in self.by_name.items()
        }


class Field(NamedTuple):
    """A field of a message.

    Args:
        number: in protobuf.
        kind: what it holds: int, uint, short, flag, text, bytes, enum, message or pair.
        many: whether there may be several.
        names: of an enum's values.
        message: of what is nested.
    """

    number: int
    kind: str
    many: bool = False
    names: tuple[str, ...] = ()
    message: Message = Message()


def _part(number: int, message: Message, *, many: bool = False) -> Field:
    return Field(number, "message", many, message=message)


_HEADER = Message(
    cluster_id=Field(1, "uint"),
    member_id=Field(2, "uint"),
    revision=Field(3, "int"),
    raft_term=Field(4, "uint"),
)
_NOTHING = Message()
_ONLY_HEADER = Message(header=_part(1, _HEADER))

_RANGE = Message(
    key=Field(1, "bytes"),
    range_end=Field(2, "bytes"),
    limit=Field(3, "int"),
    revision=Field(4, "int"),
    sort_order=Field(5, "enum", names=("NONE", "ASCEND", "DESCEND")),
    sort_target=Field(6, "enum", names=("KEY", "VERSION", "CREATE", "MOD", "VALUE")),
    serializable=Field(7, "flag"),
    keys_only=Field(8, "flag"),
    count_only=Field(9, "flag"),
    min_mod_revision=Field(10, "int"),
    max_mod_revision=Field(11, "int"),
    min_create_revision=Field(12, "int"),
    max_create_revision=Field(13, "int"),
)
_RANGED = Message(
    header=_part(1, _HEADER),
    kvs=Field(2, "pair", many=True),
    more=Field(3, "flag"),
    count=Field(4, "int"),
)
_PUT = Message(
    key=Field(1, "bytes"),
    value=Field(2, "bytes"),
    lease=Field(3, "int"),
    prev_kv=Field(4, "flag"),
    ignore_value=Field(5, "flag"),
    ignore_lease=Field(6, "flag"),
)
_WRITTEN = Message(header=_part(1, _HEADER), prev_kv=Field(2, "pair"))
_DELETE = Message(key=Field(1, "bytes"), range_end=Field(2, "bytes"), prev_kv=Field(3, "flag"))
_DELETED = Message(
    header=_part(1, _HEADER),
    deleted=Field(2, "int"),
    prev_kvs=Field(3, "pair", many=True),
)
_COMPARE = Message(
    result=Field(1, "enum", names=("EQUAL", "GREATER", "LESS", "NOT_EQUAL")),
    target=Field(2, "enum", names=("VERSION", "CREATE", "MOD", "VALUE", "LEASE")),
    key=Field(3, "bytes"),
    version=Field(4, "int"),
    create_revision=Field(5, "int"),
    mod_revision=Field(6, "int"),
    value=Field(7, "bytes"),
    lease=Field(8, "int"),
    range_end=Field(64, "bytes"),
)
_OPERATION = Message(
    request_range=_part(1, _RANGE),
    request_put=_part(2, _PUT),
    request_delete_range=_part(3, _DELETE),
)
_DONE = Message(
    response_range=_part(1, _RANGED),
    response_put=_part(2, _WRITTEN),
    response_delete_range=_part(3, _DELETED),
)
_TXN = Message(
    compare=_part(1, _COMPARE, many=True),
    success=_part(2, _OPERATION, many=True),
    failure=_part(3, _OPERATION, many=True),
)
_TXN_ANSWER = Message(
    header=_part(1, _HEADER),
    succeeded=Field(2, "flag"),
    responses=_part(3, _DONE, many=True),
)
_COMPACT = Message(revision=Field(1, "int"), physical=Field(2, "flag"))

_GRANT = Message(TTL=Field(1, "int"), ID=Field(2, "int"))
_GRANTED = Message(header=_part(1, _HEADER), ID=Field(2, "int"), TTL=Field(3, "int"), error=Field(4, "text"))
_KEPT_ALIVE = Message(header=_part(1, _HEADER), ID=Field(2, "int"), TTL=Field(3, "int"))
_KEPT = Message(ID=Field(1, "int"))
_TIME_TO_LIVE = Message(ID=Field(1, "int"), keys=Field(2, "flag"))
_TIME_LEFT = Message(
    header=_part(1, _HEADER),
    ID=Field(2, "int"),
    TTL=Field(3, "int"),
    grantedTTL=Field(4, "int"),
    keys=Field(5, "bytes", many=True),
)
_LEASES = Message(header=_part(1, _HEADER), leases=_part(2, _KEPT, many=True))

_LOGIN = Message(name=Field(1, "text"), password=Field(2, "text"))
_LOGGED_IN = Message(header=_part(1, _HEADER), token=Field(2, "text"))
_MEMBER = Message(
    ID=Field(1, "uint"),
    name=Field(2, "text"),
    peerURLs=Field(3, "text", many=True),
    clientURLs=Field(4, "text", many=True),
    isLearner=Field(5, "flag"),
)
_LIST_MEMBERS = Message(linearizable=Field(1, "flag"))
_MEMBERS = Message(header=_part(1, _HEADER), members=_part(2, _MEMBER, many=True))
_STATUS = Message(
    header=_part(1, _HEADER),
    version=Field(2, "text"),
    dbSize=Field(3, "int"),
    leader=Field(4, "uint"),
    raftIndex=Field(5, "uint"),
    raftTerm=Field(6, "uint"),
    raftAppliedIndex=Field(7, "uint"),
    errors=Field(8, "text", many=True),
    dbSizeInUse=Field(9, "int"),
    isLearner=Field(10, "flag"),
)
_ALARM_NAMES = ("NONE", "NOSPACE", "CORRUPT")
_ALARM = Message(
    action=Field(1, "enum", names=("GET", "ACTIVATE", "DEACTIVATE")),
    memberID=Field(2, "uint"),
    alarm=Field(3, "enum", names=_ALARM_NAMES),
)
_ALARMED = Message(memberID=Field(1, "uint"), alarm=Field(2, "enum", names=_ALARM_NAMES))
_ALARMS = Message(header=_part(1, _HEADER), alarms=_part(2, _ALARMED, many=True))
_HASHED = Message(header=_part(1, _HEADER), hash=Field(2, "short"))

_WATCH_CREATE = Message(
    key=Field(1, "bytes"),
    range_end=Field(2, "bytes"),
    start_revision=Field(3, "int"),
    progress_notify=Field(4, "flag"),
    filters=Field(5, "enum", many=True, names=("NOPUT", "NODELETE")),
    prev_kv=Field(6, "flag"),
    watch_id=Field(7, "int"),
    fragment=Field(8, "flag"),
)
_WATCH = Message(create_request=_part(1, _WATCH_CREATE))
_EVENT = Message(
    type=Field(1, "enum", names=("PUT", "DELETE")),
    kv=Field(2, "pair"),
    prev_kv=Field(3, "pair"),
)
_WATCHED = Message(
    header=_part(1, _HEADER),
    watch_id=Field(2, "int"),
    created=Field(3, "flag"),
    canceled=Field(4, "flag"),
    compact_revision=Field(5, "int"),
    cancel_reason=Field(6, "text"),
    fragment=Field(7, "flag"),
    events=_part(11, _EVENT, many=True),
)


class Method(NamedTuple):
    """A method of etcd's API.

    Args:
        service: where it is.
        name: its name.
        message: what its messages' names begin with.
        request: what it is asked with.
        answer: what it answers with.
        many: it is a stream in both directions.
    """

    service: str
    name: str
    message: str
    request: Message
    answer: Message
    many: bool = False

    @property
    def path(self) -> str:
        """Where gRPC has it."""
        return f"/etcdserverpb.{self.service}/{self.name}"

    @property
    def goes_on(self) -> bool:
        """Whether it is answered until somebody ends it."""
        return self.name == "Watch"


METHODS: Final = {
    "/v3/kv/range": Method("KV", "Range", "Range", _RANGE, _RANGED),
    "/v3/kv/put": Method("KV", "Put", "Put", _PUT, _WRITTEN),
    "/v3/kv/deleterange": Method("KV", "DeleteRange", "DeleteRange", _DELETE, _DELETED),
    "/v3/kv/txn": Method("KV", "Txn", "Txn", _TXN, _TXN_ANSWER),
    "/v3/kv/compaction": Method("KV", "Compact", "Compaction", _COMPACT, _ONLY_HEADER),
    "/v3/lease/grant": Method("Lease", "LeaseGrant", "LeaseGrant", _GRANT, _GRANTED),
    "/v3/lease/revoke": Method("Lease", "LeaseRevoke", "LeaseRevoke", _KEPT, _ONLY_HEADER),
    "/v3/lease/timetolive": Method("Lease", "LeaseTimeToLive", "LeaseTimeToLive", _TIME_TO_LIVE, _TIME_LEFT),
    "/v3/lease/leases": Method("Lease", "LeaseLeases", "LeaseLeases", _NOTHING, _LEASES),
    "/v3/lease/keepalive": Method("Lease", "LeaseKeepAlive", "LeaseKeepAlive", _KEPT, _KEPT_ALIVE, many=True),
    "/v3/auth/authenticate": Method("Auth", "Authenticate", "Authenticate", _LOGIN, _LOGGED_IN),
    "/v3/cluster/member/list": Method("Cluster", "MemberList", "MemberList", _LIST_MEMBERS, _MEMBERS),
    "/v3/maintenance/status": Method("Maintenance", "Status", "Status", _NOTHING, _STATUS),
    "/v3/maintenance/alarm": Method("Maintenance", "Alarm", "Alarm", _ALARM, _ALARMS),
    "/v3/maintenance/defragment": Method("Maintenance", "Defragment", "Defragment", _NOTHING, _ONLY_HEADER),
    "/v3/maintenance/hash": Method("Maintenance", "Hash", "Hash", _NOTHING, _HASHED),
    "/v3/watch": Method("Watch", "Watch", "Watch", _WATCH, _WATCHED, many=True),
}
"""What the gateway's paths stand for (etcd-io/etcd: api/etcdserverpb/rpc.proto, the `google.api.http` options)."""


def http_status(code: int) -> int:
    """The HTTP status with which the gateway answers where gRPC has this code (grpc-gateway: runtime/errors.go)."""
    return _STATUSES.get(code, 500)


# --- framing ------------------------------------------------------------------------------------------------

PLAIN, TOLD = 0, 0x80
"""What a message begins with: as it is or, as in gRPC-Web, what tells how the call has ended."""
_HEAD: Final = struct.Struct(">BI")


def framed(message: bytes, kind: int = PLAIN) -> bytes:
    """A message with its length before it (grpc/grpc: doc/PROTOCOL-HTTP2.md)."""
    return _HEAD.pack(kind, len(message)) + message


def messages_of(data: bytes, limit: int) -> tuple[list[tuple[int, memoryview]], bytes]:
    """The messages that are whole, each with what it begins with, and the rest.

    Raises:
        AnswerTooLarge: one says that it has more bytes than the limit.
        BadAnswer: one is packed, which was not asked for.
    """
    found: list[tuple[int, memoryview]] = []
    view, position = memoryview(data), 0
    while position + _HEAD.size <= len(data):
        kind, size = _HEAD.unpack_from(data, position)
        if kind not in {PLAIN, TOLD}:
            raise BadAnswer("a message of the answer is packed, which was not asked for")
        if size > limit:
            raise AnswerTooLarge(f"a message of {size} bytes exceeds {limit}")
        end = position + _HEAD.size + size
        if end > len(data):
            break
        found.append((kind, view[position + _HEAD.size : end]))
        position = end
    return found, data[position:]


# --- writing ------------------------------------------------------------------------------------------------


def documents(body: bytes) -> list[dict[str, Any]]:
    """The JSON documents of a request: of a stream there may be several."""
    try:
        return [from_json(body)]
    except ValueError:  # there is something behind the first one
        text, found, position = body.decode(), [], 0
        while position < len(text):
            document, position = _PARSER.raw_decode(text, position)
            found.append(document)
        return found


def encode(message: Message, fields: Mapping[str, Any]) -> bytes:
    """A request as protobuf.

    Args:
        message: which one.
        fields: the gateway's JSON for it, parsed.

    Raises:
        InvalidInput: it is no such request.
    """
    found = bytearray()
    for name, value in fields.items():
        field = message.by_name.get(name)
        if field is None:
            raise InvalidInput(f"{name!r} is no field of such a request")
        for one in value if field.many else (value,):
            found += written_field(field.number, _written(field, one))
    return bytes(found)


def _written(field: Field, value: Any) -> int | bytes:
    kind = field.kind
    if kind == "message":
        return encode(field.message, value)
    if kind == "bytes":
        return a2b_base64(value)
    if kind == "text":
        return str(value).encode()
    return _number(kind, field.names.index(value) if isinstance(value, str) and field.names else int(value))


def _number(kind: str, number: int) -> int:
    least, most = (0, 1 << 64) if kind == "uint" else (-(1 << 63), 1 << 63)
    if not least <= number < most:
        raise InvalidInput(f"{number} does not fit into the 64 bits that etcd has for it")
    return number


# --- reading ------------------------------------------------------------------------------------------------


def decode(message: Message, data: bytes | memoryview) -> dict[str, Any]:
    """An answer as the gateway's JSON would be parsed to, but for pairs of key and value, which are `KeyValue`.

    Raises:
        BadValue: it is damaged.
    """
    raw = bytes(data)
    try:
        return _message(message, raw, 0, len(raw))
    except IndexError:
        raise BadValue(f"the value is cut off: {len(raw)} bytes are not all") from None


def _message(message: Message, raw: bytes, position: int, end: int) -> dict[str, Any]:
    by_tag = message.by_tag
    found: dict[str, Any] = {}
    while position < end:
        tag, after = raw[position], position + 1
        if tag > 0x7F:
            tag, after = varint(raw, position)
        if tag not in by_tag:
            position = _skipped(message, raw, position)
            continue
        name, field, is_number, read = by_tag[tag]
        number, position = raw[after], after + 1
        if number > 0x7F:
            number, position = varint(raw, after)
        if is_number:
            value = read(field, number)
        else:
            begin, position = position, position + number
            _within(position, end)
            value = read(field, raw, begin, position)
        if field.many:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    _within(position, end)
    return found


def _within(position: int, end: int) -> None:
    if position > end:
        raise BadValue(f"the value is cut off: it has {position - end} bytes fewer than it says")


def _skipped(message: Message, raw: bytes, position: int) -> int:
    """The end of a field that is not known here."""
    number, wire, _, position = field_at(memoryview(raw), position)
    for name, field in message.by_name.items():
        if field.number == number:
            raise BadValue(f"the field {name!r} has the wire type {wire}")
    return position


def as_json(message: Message, answer: Mapping[str, Any]) -> dict[str, Any]:
    """What `decode` gives as the gateway writes it: numbers of 64 bits as text, and bytes in base64."""
    return {name: _as_json(message.by_name[name], value) for name, value in answer.items()}


def _as_json(field: Field, value: Any) -> Any:
    if isinstance(value, list):
        return [_as_json(field, one) for one in value]
    if field.kind == "message":
        return as_json(field.message, value)
    if field.kind == "pair":
        return _pair_as_json(value)
    return str(value) if field.kind in _LONG else value


def _pair_as_json(pair: KeyValue) -> dict[str, str]:
    value, metadata = pair
    found: dict[str, bytes | int | None] = {
        "key": metadata.key,
        "create_revision": metadata.create_revision,
        "mod_revision": metadata.mod_revision,
        "version": metadata.version,
        "value": value,
        "lease": metadata.lease,
    }
    return {
        name: b2a_base64(one, newline=False).decode("ascii") if isinstance(one, bytes) else str(one)
        for name, one in found.items()
        if one
    }


def _pair(_field: Field, raw: bytes, position: int, end: int) -> KeyValue:
    """A key and its value. There may be many, so numbers are read here, and tuples made, without a further call."""
    found: list[Any] = [None, b"", 0, 0, 0, b"", 0]
    while position < end:
        tag, number, start = raw[position], raw[position + 1], position
        position += 2
        if number > 0x7F:
            number, shift = number & 0x7F, 7
            while (byte := raw[position]) > 0x7F:
                number |= (byte & 0x7F) << shift
                position, shift = position + 1, shift + 7
                if shift > MOST_BITS:
                    raise BadValue("a number is longer than 10 bytes")
            number, position = (number | byte << shift) & ALL_BITS, position + 1
        if tag in _NUMBER_TAGS:
            found[tag >> 3] = number
        elif tag in _TEXT_TAGS:
            found[tag >> 3] = raw[position : position + number]
            position += number
        else:
            position = field_at(memoryview(raw), start)[-1]
    _within(position, end)
    _, key, created, modified, version, value, lease = found
    return _new(KeyValue, (value, _new(KeyMetadata, (key, created, modified, version, signed(lease) or None))))


def _text(_field: Field, raw: bytes, begin: int, end: int) -> str:
    try:
        return raw[begin:end].decode()
    except UnicodeDecodeError as error:
        raise BadValue("a text is not UTF-8") from error


def _enum(field: Field, number: int) -> str | int:
    return field.names[number] if number < len(field.names) else number


_NUMBER_TAGS: Final = frozenset({0x10, 0x18, 0x20, 0x30})
_TEXT_TAGS: Final = frozenset({0x0A, 0x2A})
"""How a pair's fields begin: three revisions and the lease, key and value (etcd-io/etcd: api/mvccpb/kv.proto)."""
_LONG: Final = frozenset({"int", "uint"})
_NUMBERS: Final = frozenset({"int", "uint", "short", "flag", "enum"})
_READERS: Final[dict[str, Callable[..., Any]]] = {
    "int": lambda _field, number: signed(number),
    "uint": lambda _field, number: number,
    "short": lambda _field, number: number,
    "flag": lambda _field, number: bool(number),
    "enum": _enum,
    "text": _text,
    "bytes": lambda _field, raw, begin, end: b2a_base64(raw[begin:end], newline=False).decode("ascii"),
    "message": lambda field, raw, begin, end: _message(field.message, raw, begin, end),
    "pair": _pair,
}
