"""N07: watches over keys while members die, freeze and forget, by dice with a seed, with 50 writes a second.

`make soak` runs it for a minute, CONSUL_ACCESS_SOAK_SECONDS and CONSUL_ACCESS_SOAK_SEED being given; the tests for some
seconds.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator

import anyio
import pytest

from consul_access import (
    AsyncEtcdRegistry,
    ConsulAccessError,
    Delete,
    EtcdRegistry,
    EventKind,
    KeyEvent,
    KeyMetadata,
    KeyValue,
)
from tests.faults.history import Stored, Written, judge
from tests.support.etcd import RELEASES, EtcdCluster, EtcdServer, encoded
from tests.support.waiting import eventually

SECONDS = float(os.environ.get("CONSUL_ACCESS_SOAK_SECONDS") or 0)
SEED = int(os.environ.get("CONSUL_ACCESS_SOAK_SEED") or random.SystemRandom().randrange(10**6))
PREFIX, LAST = "n07/", b"n07/~last"
WRITERS = 4
PAUSE = WRITERS / 50
"""Seconds between two writes of a writer, for 50 a second in all."""
PATIENCE = 1.5
"""Seconds for a write; a member that has lost its leader would think about it for seven."""
SETTLED = 60.0
"""Seconds after which everybody has heard of the last write."""


# --- who writes, who follows, what is done to the servers -----------------------------------------------------


def write(client: EtcdRegistry, name: int, written: Written, stop: threading.Event) -> None:
    """Writes and deletes keys that are nobody else's."""
    for number in itertools.count():
        if stop.wait(PAUSE):
            return
        key, value = f"{PREFIX}{name}-{number % 7}".encode(), f"{name}: {number}".encode()
        with contextlib.suppress(ConsulAccessError):  # then nobody knows, until the watches tell
            if number % 5 == 4:
                answer = client.txn([], [Delete(key)])
                if answer.answers[0].deleted:
                    written.certain[answer.revision] = key, None
            else:
                written.attempt(key, value)
                written.certain[client.put(key, value)] = key, value


class Follower(threading.Thread):
    """Follows the keys until the last one is written."""

    def __init__(self, endpoints: list[str], start: int) -> None:
        super().__init__(daemon=True)
        self.endpoints = endpoints
        self.start_revision = start
        self.events: list[KeyEvent] = []
        self.is_done = False

    def run(self) -> None:
        with EtcdRegistry(endpoints=self.endpoints) as client:
            with client.watch_prefix(PREFIX, start_revision=self.start_revision) as watch:
                while not self.take(next(watch)):
                    pass

    def take(self, event: KeyEvent) -> bool:
        """Takes an event; whether it was the last one."""
        self.events.append(event)
        self.is_done = event.key == LAST or any(item.key == LAST for item in event.items)
        return self.is_done


class AsyncFollower(Follower):
    """The same, as a task."""

    def run(self) -> None:
        anyio.run(self._follow)

    async def _follow(self) -> None:
        async with AsyncEtcdRegistry(endpoints=self.endpoints) as client:
            async with client.watch_prefix(PREFIX, start_revision=self.start_revision) as watch:
                while not self.take(await anext(watch)):
                    pass


def compact(members: list[EtcdServer]) -> bool:
    """Has the store forget everything before now; whether somebody did."""
    for member in members:
        with contextlib.suppress(OSError, AssertionError):  # no leader at the moment
            member.compact()
            return True
    return False


def harm(cluster: EtcdCluster, dice: random.Random, seconds: float, longest: float) -> list[str]:
    """Kills, stops and freezes members, one after the other, and compacts the store meanwhile; what was done."""
    done: list[str] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        member = dice.choice(cluster.members)
        how = dice.choice(["kill", "stop", "pause"])
        getattr(member, how)()
        time.sleep(dice.uniform(0.3, longest))
        is_compacted = compact([one for one in cluster.members if one is not member])
        if how == "pause":
            member.resume()
        else:
            member.run()
        done.append(f"{member.name} {how}{', compacted' if is_compacted else ''}")
        time.sleep(dice.uniform(0.0, 0.5))
    return done


def have_forgotten(cluster: EtcdCluster, member: EtcdServer, written: Written) -> None:
    """Has something happen while a member is away, and the store forget it before the member is back."""
    member.kill()
    before = len(written.certain)
    eventually(lambda: len(written.certain) > before + WRITERS, within=SETTLED, what="it is written without the member")
    eventually(lambda: compact([one for one in cluster.members if one is not member]), within=SETTLED)
    member.run()


def stored(server: EtcdServer) -> dict[bytes, Stored]:
    """What the store has, read by nothing of ours."""
    found = server.call("/v3/kv/range", {"key": encoded(PREFIX), "range_end": encoded(PREFIX[:-1] + "0")})
    return {
        base64.b64decode(pair["key"]): Stored(
            base64.b64decode(pair["value"]), int(pair["mod_revision"]), int(pair["version"])
        )
        for pair in found.get("kvs", ())
    }


@contextlib.contextmanager
def writing(cluster: EtcdCluster, written: Written) -> Iterator[None]:
    """Writes beside the block."""
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(EtcdRegistry(endpoints=cluster.endpoints, timeout=PATIENCE)) for _ in range(WRITERS)
        ]
        threads = [
            threading.Thread(target=write, args=(client, name, written, stop)) for name, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def followed(cluster: EtcdCluster, seed: int, seconds: float, longest: float, record: Callable) -> None:
    written = Written()
    start = cluster.members[0].put("before", "anything")
    alone = Follower([cluster.members[0].address], start)
    followers = [Follower(cluster.endpoints, start), AsyncFollower(cluster.endpoints, start), alone]
    for follower in followers:
        follower.start()
    begun = time.monotonic()
    with writing(cluster, written):
        eventually(lambda: alone.events, within=SETTLED, what="writing has begun")
        have_forgotten(cluster, cluster.members[0], written)
        done = harm(cluster, random.Random(seed), seconds, longest)
    took = time.monotonic() - begun
    with EtcdRegistry(endpoints=cluster.endpoints) as client:
        written.attempt(LAST, b"last")
        written.certain[client.put(LAST, "last", idempotent=True)] = LAST, b"last"
    ended = time.monotonic()
    eventually(lambda: all(one.is_done for one in followers), within=SETTLED, what="everybody knows the last write")
    record("seed", seed)
    record("told after", f"{time.monotonic() - ended:.2f} s")
    record("faults", len(done))
    record("writes a second", round(len(written.certain) / took))
    record("events", len(followers[0].events))
    record("resyncs", [sum(event.kind is EventKind.RESYNC for event in one.events) for one in followers])
    store = stored(cluster.leader())
    for follower in followers:
        assert judge(follower.events, written, store) == [], f"seed {seed}: {done}"
    assert any(event.kind is EventKind.RESYNC for event in alone.events)
    assert done
    assert len(written.certain) > 10


@pytest.mark.parametrize("release", RELEASES)
def test_n07_watches_tell_the_history_of_a_few_faults(etcd_cluster, release, record_property):
    followed(etcd_cluster(release), 7, 3.0, 0.8, record_property)


@pytest.mark.skipif(not SECONDS, reason="`make soak` runs it, for a minute each")
@pytest.mark.parametrize("release", RELEASES)
def test_n07_watches_tell_the_history_of_a_minute(etcd_cluster, release, record_property):
    followed(etcd_cluster(release), SEED, 60.0, 3.0, record_property)


# --- the judge ------------------------------------------------------------------------------------------------


def put(revision: int, value: bytes, version: int = 1, key: bytes = b"k") -> KeyEvent:
    return KeyEvent(EventKind.PUT, key, value, KeyMetadata(key, 1, revision, version), revision)


ONE, TWO, GONE = put(2, b"one"), put(3, b"two", 2), KeyEvent(EventKind.DELETE, b"k", revision=4)
RESYNC = KeyEvent(
    EventKind.RESYNC, b"k", revision=3, items=(KeyValue(b"two", KeyMetadata(b"k", 2, 3, 2)),)
)  # fmt: skip
TRUE = Written({b"k": {b"one", b"two"}}, {2: (b"k", b"one"), 3: (b"k", b"two"), 4: (b"k", None)})


@pytest.mark.parametrize("events", [[ONE, TWO, GONE], [RESYNC, GONE], [ONE, RESYNC, GONE]])
def test_the_judge_finds_nothing_wrong_with_what_is_true(events):
    assert judge(events, TRUE, {}) == []


@pytest.mark.parametrize(
    ("events", "finding"),
    [
        ([TWO, GONE], "is version 2, not 1"),
        ([ONE, TWO], "the cache is not the store"),
        ([ONE, GONE], "revision 3: .* was done"),
        ([ONE, TWO, TWO, GONE], "revision 3 is told after 3"),
        ([TWO, ONE, GONE], "revision 2 is told after 3"),
        ([ONE, TWO, GONE, GONE._replace(revision=5)], "was not there"),
        ([ONE, TWO, GONE, put(5, b"three")], "never written"),
        ([ONE, TWO, RESYNC._replace(revision=3), GONE], "revision 3 is told after 3"),
    ],
)
def test_the_judge_finds_whatever_is_not(events, finding):
    import re

    assert any(re.search(finding, one) for one in judge(events, TRUE, {}))
