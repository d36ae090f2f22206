"""`/v3/kv`: what reading, writing and transactions do to a store and its leases, and how it is told."""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from consul_access.testing.etcd.dialect import Refused
from consul_access.testing.etcd.leases import Leases
from consul_access.testing.etcd.store import Pair, Store, covers

__all__ = ["Keyspace", "ranges_of", "told_pair"]

NO_KEY: Final = "etcdserver: key is not provided"
KEY_NOT_FOUND: Final = "etcdserver: key not found"
DUPLICATE: Final = "etcdserver: duplicate key given in txn request"
TOO_MANY: Final = "etcdserver: too many operations in txn request"
MAX_OPERATIONS: Final = 128

Asked: TypeAlias = Mapping[str, Any]
_ORDERS: Final[tuple[Callable[[Pair], Any], ...]] = (
    lambda pair: pair.key,
    lambda pair: pair.version,
    lambda pair: pair.create,
    lambda pair: pair.mod,
    lambda pair: pair.value,
)
_TARGETS: Final[tuple[tuple[str, Callable[[Pair], Any]], ...]] = (
    ("version", lambda pair: pair.version),
    ("create_revision", lambda pair: pair.create),
    ("mod_revision", lambda pair: pair.mod),
    ("value", lambda pair: pair.value),
    ("lease", lambda pair: pair.lease),
)
_RESULTS: Final[tuple[Callable[[Any, Any], bool], ...]] = (operator.eq, operator.gt, operator.lt, operator.ne)
_VALUE: Final = 3


class Keyspace:
    """The keys, and the leases that they end with.

    Args:
        store: the keys.
        leases: the leases.
    """

    def __init__(self, store: Store, leases: Leases) -> None:
        self.store = store
        self.leases = leases

    # --- one operation ------------------------------------------------------------------------------------

    def range(self, asked: Asked) -> dict[str, Any]:
        """Reads.

        Raises:
            Refused: the revision cannot be read.
        """
        revision = max(asked.get("revision", 0), 0)
        self.store.expect_revision(revision)
        found = self.store.find(asked["key"], asked.get("range_end", b""), revision)
        count = len(found)
        told: dict[str, Any] = {"count": str(count)} if count else {}
        if asked.get("count_only"):
            return told
        found = _sorted([pair for pair in found if _fits(pair, asked)], asked)
        limit = asked.get("limit", 0)
        if 0 < limit < len(found):
            found, told["more"] = found[:limit], True
        if found:
            told["kvs"] = [told_pair(pair, with_value=not asked.get("keys_only")) for pair in found]
        return told

    def put(self, asked: Asked) -> dict[str, Any]:
        """Writes."""
        before = self.store.at(asked["key"], self.store.present)
        value, lease = asked.get("value", b""), asked.get("lease", 0)
        if before is not None:
            value = before.value if asked.get("ignore_value") else value
            lease = before.lease if asked.get("ignore_lease") else lease
        self.store.put(asked["key"], value, lease)
        self.leases.move(asked["key"], before.lease if before is not None else 0, lease)
        return {"prev_kv": told_pair(before)} if asked.get("prev_kv") and before is not None else {}

    def delete(self, asked: Asked) -> dict[str, Any]:
        """Deletes."""
        gone = self.store.delete(asked["key"], asked.get("range_end", b""))
        for pair in gone:
            self.leases.move(pair.key, pair.lease, 0)
        told: dict[str, Any] = {"deleted": str(len(gone))} if gone else {}
        if asked.get("prev_kv") and gone:
            told["prev_kvs"] = [told_pair(pair) for pair in gone]
        return told

    def end_lease(self, number: int) -> None:
        """Ends a lease and its keys, all in one step."""
        for key in self.leases.end(number):
            self.store.delete(key)
        self.store.commit()

    # --- what is refused beforehand -----------------------------------------------------------------------

    def expect(self, name: str, asked: Asked) -> None:
        """Refuses an operation that makes no sense, whatever the store holds.

        Raises:
            Refused: it makes none.
        """
        if name == "request_txn":
            self.expect_txn(asked)
            return
        if not asked.get("key"):
            raise Refused(3, NO_KEY)
        if name == "request_put":
            if asked.get("ignore_value") and asked.get("value"):
                raise Refused(3, "etcdserver: value is provided")
            if asked.get("ignore_lease") and asked.get("lease"):
                raise Refused(3, "etcdserver: lease is provided")

    def expect_possible(self, name: str, asked: Asked) -> None:
        """Refuses what the store does not allow now.

        Raises:
            Refused: a key or lease is not there, or a revision cannot be read.
        """
        if name == "request_range" and asked.get("revision", 0):
            self.store.expect_revision(asked["revision"])
        if name == "request_put":
            if (asked.get("ignore_value") or asked.get("ignore_lease")) and self.store.at(
                asked["key"], self.store.present
            ) is None:
                raise Refused(3, KEY_NOT_FOUND)
            if asked.get("lease"):
                self.leases.expect(asked["lease"])

    def expect_txn(self, asked: Asked) -> None:
        """The same for a transaction.

        Raises:
            Refused: it makes no sense.
        """
        branches = [asked.get("success", ()), asked.get("failure", ())]
        if max(len(asked.get("compare", ())), *map(len, branches)) > MAX_OPERATIONS:
            raise Refused(3, TOO_MANY)
        if not all(compare.get("key") for compare in asked.get("compare", ())):
            raise Refused(3, NO_KEY)
        for branch in branches:
            for operation in branch:
                self.expect(*_operation(operation))
        for branch in branches:
            _expect_apart(branch)

    # --- transactions -------------------------------------------------------------------------------------

    def txn(self, asked: Asked, header: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """Does one of its branches, or refuses it before anything is done.

        Raises:
            Refused: it cannot be done.
        """
        path = self._path(asked)
        taken = sorted(_taken(asked, path), key=lambda one: one[0] != "request_put")  # those that write come first
        for name, operation in taken:
            self.expect_possible(name, operation)
        return self._apply(asked, iter(path), header)

    def _path(self, asked: Asked) -> list[bool]:
        """Which branches are taken, the outermost first."""
        holds = all(self._holds(compare) for compare in asked.get("compare", ()))
        path = [holds]
        for operation in asked.get("success" if holds else "failure", ()):
            if "request_txn" in operation:
                path += self._path(operation["request_txn"])
        return path

    def _apply(self, asked: Asked, path: Any, header: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        holds = next(path)
        told: dict[str, Any] = {"succeeded": True} if holds else {}
        responses = []
        for one in asked.get("success" if holds else "failure", ()):
            name, operation = _operation(one)
            if name == "request_txn":
                responses.append({"response_txn": {"header": {}} | self._apply(operation, path, header)})
                continue
            do = {"request_range": self.range, "request_put": self.put, "request_delete_range": self.delete}[name]
            done = do(operation)
            responses.append({name.replace("request", "response"): {"header": header(self.store.present), **done}})
        if responses:
            told["responses"] = responses
        return told

    def _holds(self, compare: Asked) -> bool:
        found = self.store.find(compare["key"], compare.get("range_end", b""))
        target = compare.get("target", 0)
        if not found and target == _VALUE:
            return False
        field, read = _TARGETS[target]
        wanted = compare.get(field, b"" if target == _VALUE else 0)
        result = _RESULTS[compare.get("result", 0)]
        nothing = Pair(compare["key"], b"", 0, 0, 0)
        return all(result(read(pair), wanted) for pair in found or [nothing])


def ranges_of(name: str, asked: Asked) -> list[tuple[bytes, bytes]]:
    """The ranges of keys that an operation, or all of a transaction, has to do with."""
    if name != "request_txn":
        return [(asked.get("key", b""), asked.get("range_end", b""))]
    found = [(compare.get("key", b""), compare.get("range_end", b"")) for compare in asked.get("compare", ())]
    for branch in ("success", "failure"):
        for operation in asked.get(branch, ()):
            found += ranges_of(*_operation(operation))
    return found


def told_pair(pair: Pair, *, with_value: bool = True) -> dict[str, Any]:
    """A key as the gateway tells it: what is zero or empty is left out."""
    told: dict[str, Any] = {"key": base64.b64encode(pair.key).decode()}
    numbers = (
        ("create_revision", pair.create),
        ("mod_revision", pair.mod),
        ("version", pair.version),
        ("lease", pair.lease),
    )
    told |= {name: str(number) for name, number in numbers if number}
    if pair.value and with_value:
        told["value"] = base64.b64encode(pair.value).decode()
    return told


def _operation(asked: Asked) -> tuple[str, Asked]:
    if not asked:
        raise Refused(3, KEY_NOT_FOUND)
    return next(iter(asked.items()))


def _taken(asked: Asked, path: Iterable[bool]) -> Iterable[tuple[str, Asked]]:
    """The operations on the branches that are taken."""
    steps = iter(path)

    def walk(one: Asked) -> Iterable[tuple[str, Asked]]:
        for operation in one.get("success" if next(steps) else "failure", ()):
            name, inner = _operation(operation)
            if name == "request_txn":
                yield from walk(inner)
            else:
                yield name, inner

    return list(walk(asked))


def _expect_apart(branch: Sequence[Asked]) -> None:
    """Refuses a branch that writes a key twice, or writes one that it deletes."""
    written: set[bytes] = set()
    deleted: list[tuple[bytes, bytes]] = []
    for operation in branch:
        puts, ranges = _touched(operation)
        if written & puts:
            raise Refused(3, DUPLICATE)
        written |= puts
        deleted += ranges
    # Real servers take an end of one zero byte literally here, and so see nothing in such a range.
    if any(end != b"\0" and covers(key, end, one) for key, end in deleted for one in written):
        raise Refused(3, DUPLICATE)


def _touched(operation: Asked) -> tuple[set[bytes], list[tuple[bytes, bytes]]]:
    name, asked = _operation(operation)
    if name == "request_put":
        return {asked["key"]}, []
    if name == "request_delete_range":
        return set(), [(asked["key"], asked.get("range_end", b""))]
    puts: set[bytes] = set()
    ranges: list[tuple[bytes, bytes]] = []
    if name == "request_txn":
        for inner in (*asked.get("success", ()), *asked.get("failure", ())):
            more, further = _touched(inner)
            puts |= more
            ranges += further
    return puts, ranges


def _fits(pair: Pair, asked: Asked) -> bool:
    bounds = ((pair.mod, "mod_revision"), (pair.create, "create_revision"))
    return all(
        asked.get(f"min_{name}", 0) <= number <= (asked.get(f"max_{name}", 0) or number) for number, name in bounds
    )


def _sorted(found: list[Pair], asked: Asked) -> list[Pair]:
    order, target = asked.get("sort_order", 0), asked.get("sort_target", 0)
    if order not in {1, 2} and target == 0:
        return found
    by = _ORDERS[target] if target < len(_ORDERS) else _ORDERS[0]
    return sorted(found, key=by, reverse=order == 2)
