"""What goes wrong on switches, and what the library makes of it."""

from __future__ import annotations

import pytest

from consul_access import (
    ConnectionLimit,
    ConnectionLost,
    ConsulAccess,
    DeadlineExceeded,
    InvalidInput,
    NoLeader,
    OutcomeUnknown,
    RateLimited,
    RetryPolicy,
    TokenUnknown,
    Unavailable,
)
from consul_access.testing import FakeConsul, FakeEtcd, MemoryRegistry, SimulatedClock

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def clock():
    return SimulatedClock()


@pytest.fixture
def fake(clock):
    return FakeConsul(clock=clock)


def read(fake, target="/v1/health/service/web"):
    return fake.request("GET", target, timeout=5)


def register(fake, name="web"):
    return fake.request("PUT", "/v1/agent/service/register", f'{{"Name": "{name}"}}'.encode(), timeout=5)


@pytest.mark.parametrize(
    ("switch", "error"),
    [
        (lambda faults: faults.lose_leader(), NoLeader),
        (lambda faults: faults.lose_leader(text="rpc error making call: EOF"), Unavailable),
        (lambda faults: faults.limit_connections(), Unavailable),  # a reset, at whatever moment it comes
        (lambda faults: faults.rate_limit(), RateLimited),
        (lambda faults: faults.be_unavailable(), RateLimited),
        (lambda faults: faults.answer(500, "stream closed"), Unavailable),
        (lambda faults: faults.truncate(), ConnectionLost),
        (lambda faults: faults.reset_connections(), ConnectionLost),
        (lambda faults: faults.lose_answers(), ConnectionLost),
        (lambda faults: faults.freeze(), DeadlineExceeded),
    ],
    ids=["leader", "eof", "limit", "429", "503", "500", "truncate", "reset", "lost", "freeze"],
)  # fmt: skip
@pytest.mark.parametrize("served", [False, True], ids=["in process", "on a port"])
def test_each_fault_is_what_it_is_called_to_the_library(face, fake, switch, error, served):
    switch(fake.faults)

    async def story(**where):
        limit = 0.4 if error is DeadlineExceeded else 30.0
        async with face.access(**where, retry=ONCE, timeout=limit) as access:
            with pytest.raises(error):
                await access.instances("web")
        fake.faults.heal()
        async with face.access(**where, timeout=30.0) as access:
            assert await access.instances("web") == []

    if served:
        with fake.serve() as server:
            face.run(lambda: story(url=server.url))
    else:
        face.run(lambda: story(transport=fake.transport()))


def test_the_connection_limit_is_told_from_1_9_on():
    fake = FakeConsul("1.10")
    fake.faults.limit_connections()
    with ConsulAccess(transport=fake.transport(), retry=ONCE) as access, pytest.raises(ConnectionLimit):
        access.services()
    with fake.serve() as server, ConsulAccess(url=server.url, retry=ONCE) as access, pytest.raises(ConnectionLimit):
        access.services()


def test_without_a_leader_the_agents_own_calls_and_stale_reads_work_and_the_catalog_learns_it_later(fake, clock):
    fake.faults.lose_leader(for_=2)
    assert read(fake).status == 500
    assert register(fake).status == 200
    assert read(fake, "/v1/agent/services").json().keys() == {"web"}
    stale = read(fake, "/v1/health/service/web?stale")
    assert (stale.json(), stale.header("X-Consul-Knownleader")) == ([], "false")
    assert read(fake, "/v1/status/leader").json() == ""
    assert fake.request("PUT", "/v1/catalog/deregister", b'{"Node": "x"}').status == 500
    clock.advance(2)
    assert len(read(fake).json()) == 1
    assert fake.faults.active == ()


def test_a_cached_answer_survives_the_loss(fake):
    read(fake, "/v1/health/service/web?cached")
    fake.faults.lose_leader()
    assert read(fake, "/v1/health/service/web?cached").status == 200
    assert read(fake, "/v1/health/service/other?cached").status == 500


def test_a_write_whose_answer_is_lost_was_done(face, fake):
    fake.faults.lose_answers(times=1, only="/v1/agent/service/deregister/")
    register(fake)

    async def story():
        async with face.access(transport=fake.transport(), retry=ONCE) as access:
            with pytest.raises(OutcomeUnknown):
                await access.deregister_service("web")

    face.run(story)
    assert read(fake).json() == []


def memory(clock=None):
    return MemoryRegistry(FakeConsul(clock=clock or SimulatedClock())).fake


class TestWhen:
    def test_after_so_many_requests_the_next_one_meets_it(self, fake, clock):
        fake.after(3).requests.lose_leader(for_=2)
        assert [read(fake).status for _ in range(4)] == [200, 200, 200, 500]
        clock.advance(2)
        assert read(fake).status == 200

    def test_after_so_many_seconds(self, fake, clock):
        fake.after(1.5).seconds.rate_limit(times=2)
        assert read(fake).status == 200
        clock.advance(1.5)
        assert [read(fake).status for _ in range(3)] == [429, 429, 200]

    def test_only_what_was_meant(self, fake):
        fake.faults.be_unavailable(only="/v1/catalog/")
        assert (read(fake, "/v1/catalog/services").status, read(fake).status) == (503, 200)

    def test_several_at_once_and_all_are_healed(self, fake):
        fake.faults.rate_limit(only="/v1/catalog/")
        fake.faults.lose_leader()
        fake.after(1).requests.freeze()
        assert fake.faults.active == ("rate_limit", "lose_leader")
        fake.faults.heal()
        assert [read(fake).status for _ in range(3)] == [200, 200, 200]

    @pytest.mark.parametrize(("query", "status"), [("", 500), ("&stale", 200)])
    def test_whoever_waits_meets_the_loss_of_the_leader_at_once(self, query, status):
        fake = FakeConsul()
        register(fake)
        index = read(fake).header("X-Consul-Index")
        fake.after(0.1).seconds.lose_leader(text="rpc error making call: EOF")
        assert read(fake, f"/v1/health/service/web?index={index}&wait=500ms{query}").status == status

    def test_whoever_waits_at_an_agent_that_ends_hears_no_more(self):
        fake = FakeConsul()
        register(fake)
        index = read(fake).header("X-Consul-Index")
        fake.after(0.1).seconds.restart(for_=60)
        with pytest.raises(ConnectionError):
            read(fake, f"/v1/health/service/web?index={index}&wait=30s")

    def test_chance_is_the_same_with_the_same_seed(self, clock):
        def course(seed):
            fake = FakeConsul(clock=SimulatedClock(automatic=True))
            fake.faults.at_random(seed=seed, rate=0.5)
            return [outcome(fake) for _ in range(60)]

        assert course(3) == course(3) != course(4)
        assert len(set(course(3))) >= 5

    @pytest.mark.parametrize("made", [FakeConsul, FakeEtcd, memory], ids=["FakeConsul", "FakeEtcd", "MemoryRegistry"])
    def test_all_that_can_go_wrong_can_by_chance_and_does_so_again(self, made):
        def course(seed):
            fake = made(clock=SimulatedClock(automatic=True))
            every = (*fake.faults.kinds, *fake.faults.lasting, *fake.faults.sudden)
            fake.faults.at_random(seed=seed, rate=0.6, kinds=every, lasts=3)
            met = []
            for _ in range(150):
                begun = fake.shared.clock.now()
                met.append((outcome(fake), fake.faults.active, fake.shared.clock.now() - begun))
                fake.shared.clock.advance(1)
            return met

        first = course(3)
        assert first == course(3) != course(4)
        waited_for = {"freeze", "lose_leader"}  # they may be over when whoever met them is answered
        assert {name for _, active, _ in first for name in active} >= set(made().faults.lasting) - waited_for
        assert any(took >= 2 for _, _, took in first)
        assert len({str(one) for one, _, _ in first}) >= 5

    @pytest.mark.parametrize("wrong", [{"rate": 2}, {"kinds": ()}, {"kinds": ("earthquake",)}])
    def test_chance_has_its_limits(self, fake, wrong):
        with pytest.raises(InvalidInput):
            fake.faults.at_random(seed=1, **wrong)


def outcome(fake):
    asked = ("GET", "/v1/catalog/services") if isinstance(fake, FakeConsul) else ("/v3/kv/range", {"key": "YQ=="})
    try:
        answer = fake.request(*asked, timeout=5)
    except ConnectionError as error:
        return type(error).__name__
    return answer.status, answer.cut, len(answer.body)


def test_slow_answers_take_their_time():
    clock = SimulatedClock(automatic=True)
    fake = FakeConsul(clock=clock)
    fake.faults.slow(3, times=1)
    assert read(fake).status == 200
    assert clock.now() == 3


def test_a_frozen_agent_answers_when_it_thaws():
    clock = SimulatedClock(automatic=True)
    fake = FakeConsul(clock=clock)
    fake.faults.freeze(for_=30)
    assert read(fake).status == 200
    assert clock.now() == 30


def test_look_ups_can_be_empty_and_look_right(fake):
    register(fake)
    index = read(fake).header("X-Consul-Index")
    fake.faults.answer_empty(times=1)
    answer = read(fake)
    assert (answer.json(), answer.header("X-Consul-Index")) == ([], index)
    assert len(read(fake).json()) == 1


def test_the_index_can_be_turned_back_and_goes_on_from_there(fake):
    register(fake)
    assert int(read(fake).header("X-Consul-Index")) > 5
    fake.faults.turn_index_back(to=5)
    assert read(fake).header("X-Consul-Index") == "5"
    register(fake, "other")
    assert read(fake, "/v1/catalog/services").header("X-Consul-Index") == "6"


def test_wiped_servers_learn_again_what_agents_hold(fake, clock):
    register(fake)
    fake.faults.wipe_servers()
    assert read(fake).json() == []
    clock.advance(121)
    assert len(read(fake).json()) == 1


@pytest.mark.parametrize("keep", [True, False])
def test_an_agent_can_be_restarted(face, keep):
    fake = FakeConsul()
    register(fake)
    fake.faults.restart(keep=keep)
    assert (len(read(fake, "/v1/agent/services").json()) == 1) is keep


def test_a_token_can_be_revoked(face):
    fake = FakeConsul(acl="root")
    fake.after(1).requests.revoke_token("root")

    async def story():
        async with face.access(transport=fake.transport(), token="root") as access:
            await access.services()
            with pytest.raises(TokenUnknown):
                await access.services()

    face.run(story)


def test_who_leaves_in_good_order_answers_what_waits_with_nothing():
    import threading

    fake = FakeConsul()
    register(fake)
    index = read(fake).header("X-Consul-Index")
    threading.Timer(0.2, fake.leave).start()
    answer = read(fake, f"/v1/health/service/web?index={index}&wait=30s")
    assert (answer.status, answer.json()) == (200, [])
