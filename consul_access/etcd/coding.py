"""How the gateway writes bytes, numbers and keys, and what every answer has."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

from consul_access.call import Call, Repeat, Reply, json_body, read_json
from consul_access.errors import BadAnswer
from consul_access.models.keys import KeyMetadata, KeyValue

__all__ = [
    "MALFORMED",
    "gateway_body",
    "gateway_call",
    "key_body",
    "key_value",
    "key_values",
    "read_object",
    "revision_of",
]

T = TypeVar("T")

MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
"""What reading an answer raises that is JSON, but not as it should be. JSON's `1e999` is infinite, which no int is."""


def gateway_body(fields: Mapping[str, object]) -> bytes:
    """The fields as the gateway takes them: JSON, in which bytes are standard, padded base64.

    Older gateways refuse all other kinds of base64. None of its characters needs escaping, and neither do numbers, so
    the usual body is put together here; whatever else there may be is written by `json_body`.

    Raises:
        InvalidInput: JSON has no form for something in it.
    """
    return _object(fields).encode()


def key_body(key: bytes, value: bytes | None = None) -> bytes:
    """`gateway_body` of a key, or of a key and its value, which most requests consist of: a fifth of the time."""
    if value is None:
        return b'{"key":"%b"}' % b2a_base64(key, newline=False)
    return b'{"key":"%b","value":"%b"}' % (b2a_base64(key, newline=False), b2a_base64(value, newline=False))


def _object(fields: Mapping[str, object]) -> str:
    return "{" + ",".join([f"{_name(name)}:{_written(value)}" for name, value in fields.items()]) + "}"


def _name(name: str) -> str:
    return f'"{name}"' if name.isidentifier() else json_body(name).decode()


def _written(value: object) -> str:
    if isinstance(value, bytes):
        return f'"{b2a_base64(value, newline=False).decode("ascii")}"'
    if type(value) is int:
        return str(value)
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json_body(value).decode()


def gateway_call(
    name: str,
    path: str,
    body: Mapping[str, object] | bytes,
    read: Callable[[dict[str, Any]], T],
    *,
    repeat: Repeat = Repeat.READ,
    subject: str = "",
) -> Call[T]:
    """A call of the gateway: always POST, JSON both ways.

    Args:
        name: the operation, such as `kv.range`.
        path: below `/v3`.
        body: the request, its bytes as bytes (what is zero or empty may be left out), or written already.
        read: makes the result from the answer's object.
        repeat: whether it may be sent again when the outcome is not known.
        subject: the key or lease that it concerns.
    """
    return Call(
        name=name,
        method="POST",
        path=f"/v3/{path}",
        body=body if isinstance(body, bytes) else gateway_body(body),
        read=partial(read_object, read),
        repeat=repeat,
        subject=subject,
        takes_message=True,
    )


def read_object(read: Callable[[dict[str, Any]], T], reply: Reply) -> T:
    """The result made from an answer that must be an object.

    Raises:
        BadAnswer: it is none, or something in it cannot be what it should be.
    """
    found = read_json(reply) if reply.message is None else reply.message
    if not isinstance(found, dict):
        raise BadAnswer("the answer is no JSON object", status=reply.status, excerpt=reply.excerpt())
    try:
        return read(found)
    except MALFORMED as error:
        raise BadAnswer(
            f"the answer is not what this call is answered with ({type(error).__name__}: {error})",
            status=reply.status,
            excerpt=reply.excerpt(),
        ) from error


def revision_of(answer: Mapping[str, Any]) -> int:
    """The store's revision when the answer was made; 0 where the answer does not tell."""
    return int(answer.get("header", {}).get("revision", 0))


def key_values(pairs: Sequence[Mapping[str, Any] | KeyValue]) -> tuple[KeyValue, ...]:
    """Keys and values, which gRPC gives as such; there may be many."""
    if pairs and isinstance(pairs[0], KeyValue):
        return tuple(cast("Sequence[KeyValue]", pairs))
    return tuple(map(key_value, pairs))


def key_value(pair: Mapping[str, Any] | KeyValue) -> KeyValue:
    """A key and its value, which gRPC gives as such."""
    if isinstance(pair, KeyValue):
        return pair
    get = pair.get
    try:
        key = a2b_base64(get("key", ""), strict_mode=True)
        value = a2b_base64(get("value", ""), strict_mode=True)
    except Error as error:
        raise ValueError(f"no base64: {error}") from error
    lease = int(get("lease", 0))
    return KeyValue(
        value,
        KeyMetadata(
            key,
            int(get("create_revision", 0)),
            int(get("mod_revision", 0)),
            int(get("version", 0)),
            lease or None,
        ),
    )
