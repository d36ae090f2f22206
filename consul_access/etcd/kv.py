"""`/v3/kv`: reading, writing and deleting keys, and several of these in one step.

https://etcd.io/docs/v3.5/learning/api/#key-value-api
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from consul_access.call import Call, Repeat
from consul_access.errors import InvalidInput
from consul_access.etcd.coding import gateway_call, key_body, key_value, key_values, revision_of
from consul_access.models.keys import KeyValue, key_bytes, prefix_end, value_bytes

__all__ = [
    "Compare",
    "Delete",
    "Deleted",
    "Get",
    "Operation",
    "Page",
    "Put",
    "Written",
    "compact",
    "delete",
    "get",
    "get_key",
    "put",
    "txn",
]

MAX_OPERATIONS = 128
"""How many operations a transaction may have (`--max-txn-ops`)."""

_RESULTS = {"=": "EQUAL", "!=": "NOT_EQUAL", "<": "LESS", ">": "GREATER"}


class Page(NamedTuple):
    """An answer to `get`.

    Args:
        items: the keys with their values, in the order of the keys.
        more: whether the range holds more than the limit let through.
        total: how many keys the whole range holds.
        revision: the store's revision; a watch from the next one misses nothing.
    """

    items: tuple[KeyValue, ...]
    more: bool
    total: int
    revision: int


class Written(NamedTuple):
    """An answer to `put`: the store's revision, and what was there before if that was asked for."""

    revision: int
    previous: KeyValue | None


class Deleted(NamedTuple):
    """An answer to `delete`: how many keys are gone, the store's revision, and what they held if that was asked for."""

    deleted: int
    revision: int
    previous: tuple[KeyValue, ...]


class TxnAnswer(NamedTuple):
    """An answer to `txn`.

    Args:
        succeeded: whether all comparisons held.
        revision: the store's revision.
        answers: one for each operation that was done, in order.
    """

    succeeded: bool
    revision: int
    answers: tuple[Page | Written | Deleted, ...]


# --- operations: each stands for itself, and for a part of a transaction ------------------------------------


@dataclass(frozen=True, slots=True)
class Get:
    """Reads keys.

    Args:
        key: the key, or the first of a range.
        range_end: the first key after the range; None for a single key.
        limit: at most so many keys; 0 for all.
        revision: as of this revision of the store; 0 for now.
        serializable: any member may answer from what it has, which may be old.
        keys_only: leave out the values.
        count_only: only count.
    """

    key: str | bytes
    range_end: bytes | None = None
    limit: int = 0
    revision: int = 0
    serializable: bool = False
    keys_only: bool = False
    count_only: bool = False

    def body(self) -> dict[str, Any]:
        """As the gateway takes it, bytes as bytes."""
        fields: dict[str, Any] = {"key": key_bytes(self.key)}
        if self.range_end is not None:
            fields["range_end"] = self.range_end
        for name in ("limit", "revision", "serializable", "keys_only", "count_only"):
            value = getattr(self, name)
            if value:
                fields[name] = value
        return fields


@dataclass(frozen=True, slots=True)
class Put:
    """Writes a key.

    Args:
        key: the key.
        value: the value; text is written in UTF-8.
        lease: the lease that the key ends with.
        previous: whether to answer with what was there before.
    """

    key: str | bytes
    value: str | bytes
    lease: int | None = None
    previous: bool = False

    def body(self) -> dict[str, Any]:
        """As the gateway takes it, bytes as bytes."""
        fields: dict[str, Any] = {
            "key": key_bytes(self.key),
            "value": value_bytes(self.value),
        }
        if self.lease:
            fields["lease"] = self.lease
        if self.previous:
            fields["prev_kv"] = True
        return fields


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes keys.

    Args:
        key: the key, or the first of a range.
        range_end: the first key after the range; None for a single key.
        previous: whether to answer with what was there.
    """

    key: str | bytes
    range_end: bytes | None = None
    previous: bool = False

    def body(self) -> dict[str, Any]:
        """As the gateway takes it, bytes as bytes."""
        fields: dict[str, Any] = {"key": key_bytes(self.key)}
        if self.range_end is not None:
            fields["range_end"] = self.range_end
        if self.previous:
            fields["prev_kv"] = True
        return fields


Operation: TypeAlias = Get | Put | Delete


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction; make it with one of the class methods, such as `Compare.value(key, "=", "x")`."""

    key: bytes
    target: str
    field: str
    operator: str
    operand: bytes | int

    @classmethod
    def value(cls, key: str | bytes, operator: Literal["=", "!=", "<", ">"], value: str | bytes) -> Compare:
        """About what a key holds. A key that is not there fits no such condition."""
        return cls(key_bytes(key), "VALUE", "value", _operator(operator), value_bytes(value))

    @classmethod
    def version(cls, key: str | bytes, operator: Literal["=", "!=", "<", ">"], version: int) -> Compare:
        """About how often a key was written; 0 for one that is not there."""
        return cls(key_bytes(key), "VERSION", "version", _operator(operator), _whole(version))

    @classmethod
    def create_revision(cls, key: str | bytes, operator: Literal["=", "!=", "<", ">"], revision: int) -> Compare:
        """About when a key was created; 0 for one that is not there."""
        return cls(key_bytes(key), "CREATE", "create_revision", _operator(operator), _whole(revision))

    @classmethod
    def mod_revision(cls, key: str | bytes, operator: Literal["=", "!=", "<", ">"], revision: int) -> Compare:
        """About when a key was last written; 0 for one that is not there."""
        return cls(key_bytes(key), "MOD", "mod_revision", _operator(operator), _whole(revision))

    @classmethod
    def exists(cls, key: str | bytes) -> Compare:
        """The key is there."""
        return cls.create_revision(key, ">", 0)

    @classmethod
    def missing(cls, key: str | bytes) -> Compare:
        """The key is not there."""
        return cls.create_revision(key, "=", 0)

    def body(self) -> dict[str, Any]:
        """As the gateway takes it, bytes as bytes."""
        operand = self.operand if isinstance(self.operand, bytes) else str(self.operand)
        return {
            "key": self.key,
            "target": self.target,
            "result": _RESULTS[self.operator],
            self.field: operand,
        }


def _operator(operator: str) -> str:
    if operator not in _RESULTS:
        raise InvalidInput(f"{operator!r} compares nothing: write one of {', '.join(_RESULTS)}")
    return operator


def _whole(number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise InvalidInput(f"{number!r} is no revision and no version: write a whole number, 0 or more")
    return number


# --- calls --------------------------------------------------------------------------------------------------


def get(operation: Get) -> Call[Page]:
    """Reads a key or a range of keys."""
    return _range(operation.body(), operation.key)


def get_key(key: str | bytes) -> Call[Page]:
    """Reads one key as it is now: the call `get(Get(key))`, which is by far the most frequent one, made directly."""
    return _range(key_body(key_bytes(key)), key)


def _range(body: dict[str, Any] | bytes, key: str | bytes) -> Call[Page]:
    return gateway_call("kv.range", "kv/range", body, _page, subject=_shown(key))


def get_prefix(prefix: str | bytes, *, limit: int = 0, revision: int = 0, keys_only: bool = False) -> Call[Page]:
    """Reads the keys that begin with the prefix."""
    first, end = prefix_range(prefix)
    return get(Get(first, end, limit=limit, revision=revision, keys_only=keys_only))


def next_page(page: Get, last: bytes, revision: int) -> Get:
    """What to ask for after a page that was not the last: the next keys, as of the same revision.

    Args:
        page: what was asked for.
        last: the last key that came.
        revision: the first page's revision.
    """
    return Get(
        last + b"\0",
        page.range_end,
        limit=page.limit,
        revision=page.revision or revision,
        serializable=page.serializable,
        keys_only=page.keys_only,
    )


def put(operation: Put, *, repeat: Repeat = Repeat.NEVER) -> Call[Written]:
    """Writes a key.

    Args:
        operation: key and value.
        repeat: IDEMPOTENT where nobody else writes this key, so that writing the same again harms nobody.
    """
    body: dict[str, Any] | bytes
    if operation.lease or operation.previous:
        body = operation.body()
    else:
        body = key_body(key_bytes(operation.key), value_bytes(operation.value))
    return gateway_call("kv.put", "kv/put", body, _written, repeat=repeat, subject=_shown(operation.key))


def delete(operation: Delete, *, repeat: Repeat = Repeat.NEVER) -> Call[Deleted]:
    """Deletes a key or a range of keys."""
    return gateway_call(
        "kv.delete", "kv/deleterange", operation.body(), _deleted, repeat=repeat, subject=_shown(operation.key)
    )


def txn(when: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()) -> Call[TxnAnswer]:
    """Several operations in one step: `then` if all conditions hold, else `otherwise`.

    Raises:
        InvalidInput: there are more operations than etcd takes (128), or one key is written twice.
    """
    for operations in (then, otherwise):
        if len(operations) > MAX_OPERATIONS:
            raise InvalidInput(f"{len(operations)} operations are more than the {MAX_OPERATIONS} of one transaction")
        written = [key_bytes(operation.key) for operation in operations if isinstance(operation, Put)]
        if len(set(written)) < len(written):
            raise InvalidInput("a transaction cannot write the same key twice")
    body = {
        "compare": [compare.body() for compare in when],
        "success": [_request(operation) for operation in then],
        "failure": [_request(operation) for operation in otherwise],
    }
    only_reads = all(isinstance(operation, Get) for operation in (*then, *otherwise))
    return gateway_call("kv.txn", "kv/txn", body, _txn_answer, repeat=Repeat.READ if only_reads else Repeat.NEVER)


def compact(revision: int, *, physical: bool = False) -> Call[int]:
    """Forgets what was before this revision; the store's revision. Kubernetes' API server does this every 5 minutes.

    Args:
        revision: the oldest one to keep.
        physical: answer only when the space is free again.
    """
    body = {"revision": _whole(revision), "physical": physical}
    return gateway_call("kv.compact", "kv/compaction", body, revision_of, repeat=Repeat.NEVER)


def prefix_range(prefix: str | bytes) -> tuple[bytes, bytes]:
    """The range of the keys that begin with the prefix; the empty one begins them all."""
    first = value_bytes(prefix, "the prefix")
    return first or b"\0", prefix_end(first)


def _shown(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")


def _request(operation: Operation) -> dict[str, Any]:
    name = {Get: "request_range", Put: "request_put", Delete: "request_delete_range"}[type(operation)]
    return {name: operation.body()}


def _page(answer: dict[str, Any]) -> Page:
    get = answer.get
    return Page(key_values(get("kvs", ())), bool(get("more", False)), int(get("count", 0)), revision_of(answer))


def _written(answer: dict[str, Any]) -> Written:
    before = answer.get("prev_kv")
    return Written(revision_of(answer), None if before is None else key_value(before))


def _deleted(answer: dict[str, Any]) -> Deleted:
    return Deleted(int(answer.get("deleted", 0)), revision_of(answer), key_values(answer.get("prev_kvs", ())))


def _txn_answer(answer: dict[str, Any]) -> TxnAnswer:
    answers = tuple(map(_one_answer, answer.get("responses", ())))
    return TxnAnswer(bool(answer.get("succeeded", False)), revision_of(answer), answers)


def _one_answer(answer: dict[str, Any]) -> Page | Written | Deleted:
    if "response_put" in answer:
        return _written(answer["response_put"])
    if "response_delete_range" in answer:
        return _deleted(answer["response_delete_range"])
    return _page(answer["response_range"])
