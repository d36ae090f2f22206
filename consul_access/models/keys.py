"""What etcd stores: keys, values, what it knows about each, and what happens to them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from consul_access.errors import InvalidInput

__all__ = ["EventKind", "KeyEvent", "KeyMetadata", "KeyValue", "key_bytes", "prefix_end", "value_bytes"]

EVERYTHING = b"\0"
"""As key and end of a range: all keys there are."""


class KeyMetadata(NamedTuple):
    """What etcd knows about a key.

    Args:
        key: the key.
        create_revision: the store's revision when it was created.
        mod_revision: the store's revision when it was last written.
        version: how many times it was written since it was created.
        lease: the lease it ends with; None when it stays.
    """

    key: bytes
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int | None = None


class KeyValue(NamedTuple):
    """A value and what is known about its key; in the order in which the etcd3 package gives them."""

    value: bytes
    metadata: KeyMetadata

    @property
    def key(self) -> bytes:
        """The key."""
        return self.metadata.key


class EventKind(StrEnum):
    """What a watch tells."""

    PUT = "put"
    """A key was written."""
    DELETE = "delete"
    """A key is gone, deleted or ended with its lease."""
    RESYNC = "resync"
    """Events were missed, since etcd had compacted them away; `items` are all the keys that there are now."""


class KeyEvent(NamedTuple):
    """One change of one key, or a `resync`.

    Args:
        kind: what happened.
        key: the key that was watched or changed; for a `resync` the key or prefix that is watched.
        value: what was written; empty for other kinds.
        metadata: of the key after the change. A deleted key has a `mod_revision` and nothing else.
        revision: the store's revision that the event belongs to; several events may share one.
        previous: what was there before, if it was asked for (`previous=True`) and there was something.
        items: for a `resync`, everything that is there now.
    """

    kind: EventKind
    key: bytes
    value: bytes = b""
    metadata: KeyMetadata | None = None
    revision: int = 0
    previous: KeyValue | None = None
    items: tuple[KeyValue, ...] = ()


def key_bytes(key: str | bytes, what: str = "the key") -> bytes:
    """A key as etcd stores it.

    Raises:
        InvalidInput: it is empty, or no text and no bytes.
    """
    data = value_bytes(key, what)
    if not data:
        raise InvalidInput(f"{what} is empty: etcd has no such key")
    return data


def value_bytes(value: str | bytes, what: str = "the value") -> bytes:
    """A value as etcd stores it; text in UTF-8.

    Raises:
        InvalidInput: it is no text and no bytes, or a text that has no form in UTF-8.
    """
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be text or bytes, not {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{what} {value!r} cannot be written in UTF-8") from None


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range that holds all keys beginning with the prefix: the first key after them."""
    for position in range(len(prefix) - 1, -1, -1):
        if prefix[position] < 255:
            return prefix[:position] + bytes([prefix[position] + 1])
    return EVERYTHING
