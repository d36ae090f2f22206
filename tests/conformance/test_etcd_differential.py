"""Random sequences of operations on a real etcd and a fake: every answer is the same, from the revision to the error.

Watches are open meanwhile, and both sides tell the same events. `CONSUL_ACCESS_SOAK` is how many operations there are
at least for each release, with the events told; 1,000 otherwise. `CONSUL_ACCESS_SOAK_SEED` is what they are chosen
with: a difference tells which one does the same again.
"""

from __future__ import annotations

import base64
import itertools
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conformance.etcd_differential import COMPACTION, KNOWN, EtcdPair
from tests.support.etcd import NEWER, OLDER, RELEASES, EtcdServer, encoded
from tests.support.fake_etcds import FakeEtcdServer

OPERATIONS = int(os.environ.get("CONSUL_ACCESS_SOAK", "1000"))
SEED = int(os.environ.get("CONSUL_ACCESS_SOAK_SEED") or random.SystemRandom().randrange(10**6))
AGAIN = f"CONSUL_ACCESS_SOAK={OPERATIONS} CONSUL_ACCESS_SOAK_SEED={SEED} pytest {os.path.relpath(__file__)}"
PER_EXAMPLE = 25
KEYS = st.sampled_from(["a", "b", "ba", "c", "d/1", "d/2", "e"]).map(encoded)
VALUES = st.sampled_from(["", "1", "2", "other"]).map(encoded)
LEASES = st.sampled_from([0, 11, 12, 13])
TRUTH = st.booleans()
ENDS = st.one_of(st.just(""), st.just("AA=="), KEYS)


def decoded(key: str) -> str:
    return base64.b64decode(key).decode()


def fields(**of: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these, each with a value of its own."""
    needed = {name: of[name] for name in ("key", "TTL", "ID") if name in of}
    return st.fixed_dictionaries(needed, optional={name: one for name, one in of.items() if name not in needed})


PUT = fields(key=KEYS, value=VALUES, lease=LEASES, prev_kv=TRUTH, ignore_value=TRUTH, ignore_lease=TRUTH)
DELETE = fields(key=KEYS, range_end=ENDS, prev_kv=TRUTH)
BACK = st.integers(-3, 2)
"""How far from the present revision."""
RANGE = fields(
    key=KEYS,
    range_end=ENDS,
    limit=st.integers(0, 4),
    back=BACK,
    keys_only=TRUTH,
    count_only=TRUTH,
    sort_order=st.sampled_from(["NONE", "ASCEND", "DESCEND"]),
    serializable=TRUTH,
)
COMPARE = st.one_of(
    fields(key=KEYS, target=st.just("VALUE"), value=VALUES, result=st.sampled_from(["EQUAL", "NOT_EQUAL", "LESS"])),
    fields(key=KEYS, range_end=ENDS, target=st.just("VERSION"), version=st.integers(0, 3), result=st.just("GREATER")),
    fields(key=KEYS, target=st.just("LEASE"), lease=LEASES),
)
OPERATION = st.one_of(
    PUT.map(lambda one: {"request_put": one}),
    DELETE.map(lambda one: {"request_delete_range": one}),
    RANGE.map(lambda one: {"request_range": one}),
)


def is_survived(step: list[dict[str, Any]]) -> bool:
    """Whether no real server ends of it: see `test_a_real_server_ends...`."""
    gone: list[str] = []
    for one in step:
        if one.get("request_delete_range", {}).get("range_end") == "AA==":
            gone.append(decoded(one["request_delete_range"]["key"]))
        elif "request_put" in one and any(decoded(one["request_put"]["key"]) >= first for first in gone):
            return False
    return True


TXN = st.fixed_dictionaries(
    {
        "compare": st.lists(COMPARE, max_size=2),
        "success": st.lists(OPERATION, max_size=3).filter(is_survived),
        "failure": st.lists(OPERATION, max_size=2).filter(is_survived),
    }
)
STEP = st.one_of(
    st.tuples(st.just("/v3/kv/put"), PUT),
    st.tuples(st.just("/v3/kv/put"), PUT),
    st.tuples(st.just("/v3/kv/range"), RANGE),
    st.tuples(st.just("/v3/kv/range"), RANGE),
    st.tuples(st.just("/v3/kv/deleterange"), DELETE),
    st.tuples(st.just("/v3/kv/txn"), TXN),
    st.tuples(st.just("/v3/kv/txn"), TXN),
    # Otherwise a real server forgets in the background, and a watch may still be told of what is to be forgotten.
    st.tuples(st.just(COMPACTION), fields(back=BACK).map(lambda one: one | {"physical": True})),
    st.tuples(st.just("/v3/lease/grant"), fields(TTL=st.just(5000), ID=LEASES.filter(bool))),
    st.tuples(st.just("/v3/lease/revoke"), fields(ID=LEASES)),
    st.tuples(st.just("/v3/lease/timetolive"), fields(ID=LEASES, keys=TRUTH)),
    st.tuples(st.just("/v3/lease/leases"), fields()),
)

WATCHES = st.lists(
    fields(
        key=KEYS,
        range_end=ENDS,
        back=BACK,
        prev_kv=TRUTH,
        filters=st.lists(st.sampled_from(["NOPUT", "NODELETE"]), max_size=1),
        watch_id=st.sampled_from([0, 0, 5]),
    ),
    min_size=1,
    max_size=3,
)


def dated(value: Any, revision: int, name: str = "revision") -> Any:
    """`back` as the revision that it means."""
    if isinstance(value, list):
        return [dated(one, revision, name) for one in value]
    if not isinstance(value, dict):
        return value
    made = {key: dated(one, revision, name) for key, one in value.items() if key != "back"}
    return made | ({name: revision + value["back"]} if "back" in value else {})


@pytest.mark.parametrize("release", RELEASES)
def test_every_answer_is_the_same(release, record_property):
    record_property("seed", SEED)
    first: list[Exception] = []

    @settings(max_examples=max(1, OPERATIONS // PER_EXAMPLE), deadline=None, database=None, phases=[Phase.generate])
    @given(WATCHES, st.lists(STEP, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
    def told(watches: list[dict[str, Any]], steps: list[tuple[str, dict[str, Any]]]) -> None:
        if first:  # hypothesis does once more what has failed, at servers that are not what they were
            raise first[0]
        try:
            do(pair, watches, steps)
        except Exception as error:
            first.append(error)
            raise

    with EtcdServer(release) as real, FakeEtcdServer(release) as fake, EtcdPair(real, fake, AGAIN) as pair:
        rounds = itertools.count(SEED)
        while pair.operations < OPERATIONS:  # what hypothesis has found to be the same again is not counted
            seed(next(rounds))(told)()
    record_property("operations", pair.operations)


def do(pair: EtcdPair, watches: list[dict[str, Any]], steps: list[tuple[str, dict[str, Any]]]) -> None:
    """Some operations, with watches meanwhile."""
    pair.forget()
    revision = pair.revision()
    with pair.watched([{"create_request": dated(one, revision, "start_revision")} for one in watches]):
        for path, body in steps:
            answer = pair.do(path, dated(body, revision))
            revision = int(answer.get("header", {}).get("revision", revision))


OLD = {"create_request": {"key": encoded("a"), "start_revision": 2}}
NEW = {"create_request": {"key": encoded("a")}}
FIVE = {"create_request": {"key": encoded("a"), "start_revision": 2, "watch_id": 5}}
NUMBERED = [
    [NEW, {"cancel_request": {"watch_id": 0}}, NEW, NEW],
    [OLD, OLD, NEW],
    [FIVE, FIVE, NEW],
    [{"create_request": NEW["create_request"] | {"watch_id": 1}}, NEW, NEW],
]


@pytest.fixture(params=RELEASES)
def pair(request) -> Iterator[EtcdPair]:
    """A real server and a fake of each release."""
    release = request.param
    with EtcdServer(release) as real, FakeEtcdServer(release) as fake, EtcdPair(real, fake, AGAIN) as both:
        yield both


def test_the_number_of_a_watch_that_has_ended_is_not_given_to_another_one(pair):
    """Neither after it was canceled nor when it had begun before a compaction: that one has to be canceled as well."""
    for _ in range(3):
        revision = int(pair.do("/v3/kv/put", {"key": encoded("a")})["header"]["revision"])
    pair.do(COMPACTION, {"revision": revision})
    for requests in NUMBERED:
        with pair.watched(requests):
            pair.do("/v3/kv/put", {"key": encoded("a")})


def write(pair: EtcdPair, key: str) -> int:
    return int(pair.do("/v3/kv/put", {"key": encoded(key)})["header"]["revision"])


def delete(pair: EtcdPair, key: str) -> int:
    return int(pair.do("/v3/kv/deleterange", {"key": encoded(key)})["header"]["revision"])


def rewriting(key: str, **fields: Any) -> dict[str, Any]:
    """Deletes a key and writes it in one step: servers refuse that, but miss it where all that follows is deleted."""
    gone = {"request_delete_range": {"key": encoded(key), "range_end": "AA=="}}
    return {"success": [gone, {"request_put": {"key": encoded(key), **fields}}]}


def compact(pair: EtcdPair, revision: int) -> None:
    pair.do(COMPACTION, {"revision": revision, "physical": True})


def known(pair: EtcdPair) -> list[str]:
    """What both tell who watches from the last compaction on."""
    with pair.watched([]) as told:
        pass
    events = [event for event in told[str(KNOWN)] if "kv" in event and not decoded(event["kv"]["key"]).startswith("~")]
    return [f"{event.get('type', 'PUT')} {decoded(event['kv']['key'])}" for event in events]


def test_what_was_deleted_at_the_revision_of_a_compaction_is_told_by_newer_servers_alone(pair):
    """Whoever was away, and goes on from there, never hears of it from an older one."""
    write(pair, "a")
    deleted = delete(pair, "a")
    write(pair, "b")
    compact(pair, deleted)
    assert known(pair) == (["PUT b"] if pair.release == OLDER else ["DELETE a", "PUT b"])
    assert write(pair, "a") == delete(pair, "a") - 1
    compact(pair, deleted + 1)
    assert known(pair) == ["PUT b", "PUT a", "DELETE a"]


def test_what_is_deleted_and_written_in_one_step_is_known_as_it_was_in_the_end(pair):
    write(pair, "a")
    rewritten = int(pair.do("/v3/kv/txn", rewriting("a"))["header"]["revision"])
    write(pair, "b")
    assert known(pair) == ["PUT a", "DELETE a", "PUT a", "PUT b"]
    if pair.release == OLDER:
        compact(pair, rewritten)
        assert known(pair) == ["PUT a", "PUT b"]
    compact(pair, rewritten + 1)
    assert known(pair) == ["PUT b"]
    assert pair.do("/v3/kv/range", {"key": encoded("a")})["kvs"][0]["version"] == "1"


@pytest.mark.parametrize("release", RELEASES)
def test_a_real_server_ends_where_one_step_deletes_a_key_and_writes_what_it_had(release):
    """Nobody gains by a fake that ends as well: it goes on, here and below."""
    with EtcdServer(release) as real, FakeEtcdServer(release) as fake, EtcdPair(real, fake) as pair:
        write(pair, "a")
        body = rewriting("a", ignore_lease=True)
        with pytest.raises(ConnectionError):
            real.post("/v3/kv/txn", body)
        assert "unexpected error during txn" in real.log()
        assert fake.call("/v3/kv/txn", body)["succeeded"]


def test_a_real_server_that_keeps_deletions_ends_where_one_step_deleted_and_wrote_a_key_and_is_what_was_compacted():
    with EtcdServer(NEWER) as real, FakeEtcdServer(NEWER) as fake, EtcdPair(real, fake) as pair:
        write(pair, "a")
        compact(pair, int(pair.do("/v3/kv/txn", rewriting("a"))["header"]["revision"]))
        body = {"key": encoded("a")}
        with pytest.raises(ConnectionError):
            real.post("/v3/kv/range", body)
        assert "failed to find revision pair" in real.log()
        assert fake.call("/v3/kv/range", body)["count"] == "1"
