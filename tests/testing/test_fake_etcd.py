"""`FakeEtcd`: reached by both faces, with time that passes when it is told to, and faults on switches."""

from __future__ import annotations

import pytest

from consul_access import AsyncEtcdRegistry, EtcdRegistry, InvalidInput, OutcomeUnknown, RetryPolicy, Unavailable
from consul_access.testing import FakeEtcd, SimulatedClock


def client(fake, **kwargs):
    return EtcdRegistry(transport=fake.transport(), retry=RetryPolicy.none(), **kwargs)


@pytest.mark.parametrize(
    ("version", "gateway", "has_error"),
    [("3.4", None, True), ("3.5", None, True), ("3.5", 2, False), ("3.6", None, False)],
)
def test_refusals_have_the_shape_of_the_gateway(version, gateway, has_error):
    answer = FakeEtcd(version, gateway=gateway).request("/v3/lease/revoke", {"ID": 5})
    assert (answer.status, "error" in answer.json()) == (404, has_error)


@pytest.mark.parametrize(("version", "gateway"), [("2.3", None), ("3.3", None), ("3.5", 3), ("three", None)])
def test_what_cannot_be_imitated_is_refused(version, gateway):
    with pytest.raises(InvalidInput):
        FakeEtcd(version, gateway=gateway)


@pytest.mark.parametrize(
    ("version", "is_kept"),
    [("3.4.33", False), ("3.4.34", True), ("3.5.15", False), ("3.5.16", True), ("3.6.0", True), ("3.7.0", True)],
)
def test_whether_a_compaction_keeps_what_was_deleted_last_goes_by_the_whole_version(version, is_kept):
    fake = FakeEtcd(version)
    fake.put("a", "1")
    fake.delete("a")
    revision = fake.compact()
    assert [event.is_delete for event in fake.state.keys.store.events_since(revision)] == [True] * is_kept
    fake.put("b", "1")
    fake.compact()
    assert [event.pair.key for event in fake.state.keys.store.events_since(revision)] == [b"b"]
    assert fake.keys() == [b"b"]


def test_a_lease_ends_with_the_clock_and_its_keys_with_it():
    clock = SimulatedClock()
    fake = FakeEtcd(clock=clock)
    with client(fake) as etcd:
        lease = etcd.lease(10)
        etcd.put("a", "1", lease)
        clock.advance(9.9)
        assert etcd.get("a")[0] == b"1"
        clock.advance(0.2)
        assert etcd.get("a") == (None, None)


def test_the_same_seed_makes_the_same_ids_and_the_same_faults():
    def outcomes(seed):
        fake = FakeEtcd(seed=seed)
        fake.faults.at_random(seed=seed, rate=0.5, kinds=["rate_limit", "be_unavailable"])
        return [fake.request("/v3/lease/grant", {"TTL": 5}).body for _ in range(30)]

    assert outcomes(1) == outcomes(1)
    assert outcomes(1) != outcomes(2)


def test_without_leader_writes_time_out_after_7_s_and_stale_reads_work():
    clock = SimulatedClock(automatic=True)
    fake = FakeEtcd(clock=clock)
    fake.put("a", "1")
    fake.faults.lose_leader(for_=60)
    with client(fake) as etcd:
        assert etcd.get("a", serializable=True)[0] == b"1"
        assert etcd.status().leader is None
    # without our header, which has a missing leader told at once
    answer = fake.request("/v3/kv/put", {"key": "YQ=="}, timeout=20)
    assert (answer.status, answer.json()["message"], clock.now()) == (500, "context deadline exceeded", 7.0)


def test_faults_come_when_they_were_planned_for():
    fake = FakeEtcd()
    fake.after(1).requests.be_unavailable(times=1)
    with client(fake) as etcd:
        etcd.put("a", "1")
        with pytest.raises((Unavailable, OutcomeUnknown)):
            etcd.put("a", "2")
        etcd.put("a", "3")
        assert fake.get("a") == b"3"


def test_a_lost_lease_and_a_lost_answer():
    fake = FakeEtcd()
    with client(fake) as etcd:
        etcd.put("a", "1", etcd.lease(60))
        fake.faults.lose_leases()
        assert fake.keys() == []
        fake.faults.lose_answers(times=1)
        with pytest.raises(OutcomeUnknown):
            etcd.put("b", "1")
        assert fake.keys() == [b"b"]
        with pytest.raises(InvalidInput, match="there is no lease 5"):
            fake.faults.lose_leases(5)


@pytest.mark.parametrize("wrong", ["compact", "broken", "ended", "restarted", "truncated"])
def test_a_watch_survives(wrong):
    fake = FakeEtcd()
    fake.put("a", "0")
    if wrong == "truncated":
        fake.faults.truncate(times=1, only="/v3/watch")
    with EtcdRegistry(transport=fake.transport()) as etcd, etcd.watch_key("a") as watch:
        fake.put("a", "1")
        assert next(watch).value == b"1"
        {
            "compact": fake.faults.compact,
            "broken": lambda: fake.faults.end_streams(broken=True),
            "ended": fake.faults.end_streams,
            "restarted": fake.faults.restart,
            "truncated": lambda: None,
        }[wrong]()
        fake.put("a", "2")
        assert next(watch).value == b"2"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_log_in_again_when_tokens_are_revoked(backend):
    import anyio

    async def story():
        fake = FakeEtcd(users={"root": "rootpw", "ann": "annpw"})
        async with AsyncEtcdRegistry(transport=fake.transport(), user="ann", password="annpw") as etcd:
            await etcd.put("ann/1", "x")
            fake.faults.revoke_tokens()
            await etcd.put("ann/1", "y")
        assert fake.get("ann/1") == b"y"

    anyio.run(story, backend=backend)
