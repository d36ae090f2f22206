"""Watches and resolvers of both faces against registries that play a part, well or badly."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import anyio
import httpx
import pytest

from consul_access import (
    Address,
    AsyncConsulAccess,
    ClientClosed,
    ConsulAccess,
    InvalidInput,
    NoInstances,
    PermissionDenied,
    StaleList,
    StalePolicy,
    TokenUnknown,
    Unavailable,
)
from tests.support import scripted as steps
from tests.support.registry import BlockingRegistry, PlayedRegistry, entry, listed
from tests.support.scripted import answer
from tests.support.waiting import eventually


def ids(found):
    return [instance.id for instance in found]


def watching(requests):
    return [request for request in requests if "/v1/health" in request.target]


@contextmanager
def later(seconds, function):
    """Has something done in a while, and has it done before the block is left."""
    timer = threading.Timer(seconds, function)
    timer.start()
    yield
    timer.join()


class TestWatch:
    def test_it_gives_what_is_there_and_then_every_change_and_what_is_different(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    watch = access.watch("orders")
                    first = await anext(aiter(watch))
                    assert (first.service, ids(first), first.source, first.index) == (
                        "orders",
                        ["orders-1"],
                        "live",
                        10,
                    )
                    assert ids(first.diff.added) == ["orders-1"]
                    assert first.age < 5
                    assert not first.is_stale
                    registry.change(entry(1), entry(2))
                    second = await anext(watch)
                    assert (ids(second), ids(second.diff.added)) == (["orders-1", "orders-2"], ["orders-2"])
                    assert second.instances[0] is first.instances[0]
                    registry.change(entry(2, Port=99))
                    third = await anext(watch)
                    assert ids(third.diff.removed) == ["orders-1"]
                    assert [change.after.port for change in third.diff.changed] == [99]

        face.run(story)

    def test_it_ends_at_once_when_the_client_is_closed_in_the_middle_of_a_blocking_query(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    watch = access.watch("orders")
                    await anext(aiter(watch))
                    eventually(lambda: len(watching(registry.requests)) == 2) if not face.is_async else None
                    await access.aclose()
                    begun = time.monotonic()
                    with pytest.raises(StopAsyncIteration):
                        await anext(watch)
                    assert time.monotonic() - begun < 1

        face.run(story)

    def test_for_threads_closing_from_another_thread_ends_a_loop_that_waits(self):
        with BlockingRegistry(entry(1)) as registry, ConsulAccess(url=registry.url) as access:
            closed = []

            def close():
                closed.append(time.monotonic())
                access.close()

            with later(0.2, close):
                assert [len(snapshot) for snapshot in access.watch("orders")] == [1]
            assert time.monotonic() - closed[0] < 1

    def test_closing_a_watch_ends_its_question(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    async with access.watch("orders") as watch:
                        await anext(aiter(watch))
                        hub = access._engine._hub
                        assert len(hub._questions) == 1
                    await face.eventually(lambda: not hub._questions)
                    await face.eventually(lambda: hub._busy == 0)

        face.run(story)

    def test_a_watch_that_is_forgotten_ends_its_question(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    async for _ in access.watch("orders"):
                        break
                    gc.collect()
                    await face.eventually(lambda: not access._engine._hub._questions)

        face.run(story)

    def test_equal_questions_are_asked_once_and_answered_to_all(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    watches = [access.watch("orders") for _ in range(5)]
                    for watch in watches:
                        await anext(aiter(watch))
                    async with access.resolver("orders") as orders, access.resolver("orders", tags="x") as tagged:
                        assert ids(orders.instances()) == ids(tagged.instances()) == ["orders-1"]
                        await face.eventually(lambda: len(watching(registry.requests)) == 4)
                        registry.change(entry(2))
                        for watch in watches:
                            assert ids(await anext(watch)) == ["orders-2"]
                        await face.eventually(lambda: ids(orders.instances()) == ["orders-2"])
                assert len(watching(registry.requests)) <= 6

        face.run(story)

    def test_several_services_by_one_iterator(self, face):
        def play(request, query):
            name = request.target.split("/")[4].partition("?")[0]
            return steps.never() if "index" in query else listed(entry(1, name), index=5)

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url) as access:
                    watch = aiter(access.watch(["orders", "payments"]))
                    seen = {(await anext(watch)).service for _ in range(2)}
                    assert seen == {"orders", "payments"}

        face.run(story)

    def test_the_list_of_services(self, face):
        answers = [{"consul": [], "web": ["b", "a"]}, {"consul": [], "db": []}]

        def play(request, query):
            number = int(query.get("index", ["0"])[0])
            if number == 2:
                return steps.never()
            return answer(
                body=str(answers[number]).replace("'", '"').encode(), headers={"X-Consul-Index": f"{number + 1}"}
            )

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url) as access:
                    watch = aiter(access.watch_services())
                    first, second = await anext(watch), None
                    if "web" in first.services:
                        assert first.services["web"] == ["a", "b"]
                        second = await anext(watch)
                        assert (second.added, second.removed) == (("db",), ("web",))

        face.run(story)

    def test_a_function_is_called_with_every_change_even_after_it_failed(self, face, caplog):
        seen = []

        def note(snapshot):
            seen.append(ids(snapshot))
            if len(seen) == 1:
                raise ZeroDivisionError

        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    caller = access.on_change("orders", note)
                    await face.eventually(lambda: len(seen) == 1)
                    registry.change(entry(2))
                    await face.eventually(lambda: len(seen) == 2)
                    await caller.stop()
                    registry.change(entry(3))
                    await face.sleep(0.1)

        face.run(story)
        assert seen == [["orders-1"], ["orders-2"]]
        assert "the function that watches failed" in caplog.text

    @pytest.mark.parametrize("query", [{"wait": 5}, {"index": 5}, {"polcy": "any"}, {"policy": "good"}])
    def test_a_question_that_cannot_be_right_is_refused_before_anything_is_sent(self, face, query):
        async def story():
            async with face.access(port=1) as access:
                for method in ("watch", "resolver"):
                    make = getattr(access, method)
                    with pytest.raises(InvalidInput):
                        make("orders", **query)

        face.run(story)

    def test_no_service_at_all_is_refused(self):
        with ConsulAccess(port=1) as access, pytest.raises(InvalidInput, match="at least one"):
            access.watch([])

    def test_a_closed_client_is_not_watched_with(self, face):
        async def story():
            async with face.access(port=1) as access:
                watch = access.watch("orders")
                await access.aclose()
                with pytest.raises(ClientClosed):
                    await anext(aiter(watch))

        face.run(story)


class TestIndexes:
    def test_f13_a_server_that_never_waits_is_asked_four_times_in_five_seconds(self, face, record_property):
        asked = {index: [] for index in (None, 0, "abc", -1, 10, "")}

        def at_once(index):
            def play(request, query):
                asked[index].append(time.monotonic())
                return listed(entry(1), index=index)

            return play

        async def story():
            async with contextlib.AsyncExitStack() as stack:
                for index in asked:
                    registry = stack.enter_context(PlayedRegistry(at_once(index)))
                    access = await stack.enter_async_context(face.access(url=registry.url))
                    orders = await stack.enter_async_context(access.resolver("orders"))
                    assert ids(orders.instances()) == ["orders-1"]
                begun = time.monotonic()
                while time.monotonic() - begun < 5:
                    await face.sleep(0.1)

        face.run(story)
        for moments in asked.values():
            in_time = sum(moment - moments[0] < 5 for moment in moments)
            record_property("requests in 5 s", str(in_time))
            assert 2 <= in_time <= 4

    def test_f14_an_index_that_goes_back_is_followed_at_once(self, face, record_property):
        moments = []

        def play(request, query):
            index = query.get("index", [""])[0]
            if index == "1000":
                return steps.later(0.2, listed(entry(2), index=7), moments)
            if not index:
                return listed(entry(3), index=8) if moments else listed(entry(1), index=1000)
            return steps.never()

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    await face.eventually(lambda: ids(orders.instances()) == ["orders-3"])
                    after = time.monotonic() - moments[0]
                    record_property("followed after", f"{after:.3f} s")
                    assert after < 1
                    asked = [request.target.partition("index=")[2].partition("&")[0] for request in registry.requests]
                    assert asked[:3] == ["", "1000", ""]

        face.run(story)

    def test_f31_a_half_open_connection_is_given_up(self, face, record_property, monkeypatch):
        monkeypatch.setattr("consul_access._live.making.WAIT", 4.0)
        silent = []

        def play(request, query):
            if "index" in query and not silent:
                silent.append(time.monotonic())
                return steps.never()
            return steps.never() if "index" in query else listed(entry(len(silent) + 1))

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    await face.eventually(lambda: ids(orders.instances()) == ["orders-2"], within=30)
                    asked = zip(registry.requests, registry.times, strict=True)
                    again = next(when for request, when in asked if watching([request]) and when > silent[0])
                    record_property("noticed after", f"{again - silent[0]:.1f} s")
                    assert 4 <= again - silent[0] <= 10

        face.run(story)


class TestWhatIsBelieved:
    def test_an_empty_list_is_confirmed_by_a_consistent_read(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with (
                    face.access(url=registry.url) as access,
                    access.resolver("orders", consistency="stale") as orders,
                ):
                    await face.eventually(lambda: len(watching(registry.requests)) == 2)
                    registry.change()
                    await face.eventually(lambda: orders.instances() == ())
                    confirming = watching(registry.requests)[2].target
                    assert "consistent" in confirming
                    assert "stale" not in confirming
                    assert "index" not in confirming
                    assert not orders.snapshot().is_stale
                    with pytest.raises(NoInstances, match="no instance of 'orders'"):
                        orders.pick()

        face.run(story)

    def test_an_empty_list_that_is_not_confirmed_is_never_seen(self, face):
        seen = []

        def play(request, query):
            if "consistent" in query:
                return listed(entry(1), entry(2), index=12)
            if query.get("index") == ["10"]:
                return listed(index=11)
            return steps.never() if "index" in query else listed(entry(1))

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url) as access:
                    watch = aiter(access.watch("orders"))
                    seen.extend([ids(await anext(watch)), ids(await anext(watch))])
            assert seen == [["orders-1"], ["orders-1", "orders-2"]]

        face.run(story)

    def test_a_list_of_an_earlier_time_is_never_seen(self, face):
        """A server that reads back what had happened answers with what was true once, and with the index of then."""
        seen = []

        def play(request, query):
            if "consistent" in query:
                return listed(entry(3), index=12)
            if query.get("index") == ["10"]:
                return listed(entry(1), entry(2), index=7)
            return steps.never() if "index" in query else listed(entry(1))

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url) as access:
                    watch = aiter(access.watch("orders"))
                    for _ in range(2):
                        snapshot = await anext(watch)
                        seen.append((ids(snapshot), snapshot.is_stale, snapshot.index))
            assert seen == [(["orders-1"], False, 10), (["orders-3"], False, 12)]

        face.run(story)

    def test_the_same_list_with_an_earlier_index_is_believed_and_what_comes_next_is_proven(self, face):
        def play(request, query):
            if "consistent" in query:
                return listed(entry(2), index=8)
            if query.get("index") == ["10"]:
                return listed(entry(1), index=7)
            return steps.never() if "index" in query else listed(entry(1))

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    await face.eventually(lambda: ids(orders.instances()) == ["orders-2"])
                    proven = ["consistent" in request.target for request in watching(registry.requests)]
                    assert proven[:3] == [False, False, True]

        face.run(story)

    @pytest.mark.parametrize(
        ("query", "chosen"),
        [({}, "consistent"), ({"consistency": "stale"}, "stale"), ({"cached": True}, "cached")],
        ids=["default", "stale", "cached"],
    )
    def test_after_an_outage_the_leader_has_to_prove_that_it_leads(self, face, query, chosen):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders", **query) as orders:
                    await face.eventually(lambda: len(watching(registry.requests)) == 2)
                    registry.fault = steps.reset()
                    registry.change(entry(2))
                    await face.eventually(lambda: orders.snapshot().is_stale)
                    registry.fault = None
                    await face.eventually(lambda: ids(orders.instances()) == ["orders-2"])
                    first, *later = watching(registry.requests)
                    reading = next(request.target for request in later if "index" not in request.target)
                    assert "consistent" not in first.target
                    assert [word for word in ("stale", "cached", "consistent") if word in reading] == [chosen]

        face.run(story)

    def test_a_list_of_an_earlier_time_that_nobody_can_prove_stays_out_and_the_one_that_is_known_is_flagged(self, face):
        def play(request, query):
            if "consistent" in query:
                return answer(500, body=b"No cluster leader")
            if query.get("index") == ["10"]:
                return listed(entry(2), index=7)
            return listed(entry(1))

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    await face.eventually(lambda: orders.snapshot().is_stale)
                    assert "leader" in orders.snapshot().reason
                    assert ids(orders.instances()) == ["orders-1"]

        face.run(story)

    def test_f30_all_instances_vanish_and_the_index_goes_back(self, face):
        """The servers lost their data: the list stays, and says that it is doubtful."""

        async def story():
            with BlockingRegistry(*map(entry, range(1, 11)), index=75) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    watch = aiter(access.watch("orders"))
                    assert len(await anext(watch)) == 10
                    registry.fault = steps.reset()
                    registry.change(index=11)
                    await face.eventually(lambda: orders.snapshot().is_stale)
                    registry.fault = None
                    await face.eventually(lambda: "vanished" in orders.snapshot().reason)
                    doubtful = await anext(watch)
                    assert (len(doubtful), doubtful.is_stale, doubtful.source) == (10, True, "memory")
                    assert len(orders.instances()) == 10
                    assert orders.pick().service == "orders"
                    registry.change(*map(entry, range(1, 9)), index=12)
                    await face.eventually(lambda: len(orders.instances()) == 8)
                    assert not orders.snapshot().is_stale

        face.run(story)

    def test_f30_a_loss_that_lasts_is_believed_in_the_end(self, face, monkeypatch):
        monkeypatch.setattr("consul_access.rules.guarding.GRACE", 1.0)
        monkeypatch.setattr("consul_access.rules.blocking.LOOK_AGAIN", 0.4)

        async def story():
            with BlockingRegistry(entry(1), index=75) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    await face.eventually(lambda: len(watching(registry.requests)) == 2)
                    registry.fault = steps.reset()
                    registry.change(index=11)
                    await face.eventually(lambda: orders.snapshot().is_stale)
                    registry.fault = None
                    await face.eventually(lambda: orders.instances() == ())
                    assert not orders.snapshot().is_stale

        face.run(story)

    def test_two_instances_at_one_address_are_one_to_call(self, face):
        twice = entry(2, Address="10.0.0.1", Port=8001)

        async def story():
            with BlockingRegistry(entry(1), twice, entry(3, Port=0)) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    assert len(orders.snapshot()) == 3
                    assert [instance.address for instance in orders.instances()] == [Address("10.0.0.1", 8001)]

        face.run(story)


class TestOutages:
    def test_after_a_long_one_nobody_waits_out_his_own_pause(self, monkeypatch):
        """The pauses grow to 15 s; the first answer ends all of them."""
        monkeypatch.setattr("consul_access.rules.blocking.PATIENT_AFTER", 0.0)
        monkeypatch.setattr("consul_access.rules.blocking.LONG_CAP", 60.0)
        names = [f"s{number}" for number in range(20)]
        with BlockingRegistry(entry(1)) as registry, ConsulAccess(url=registry.url) as access:
            watch = access.watch(names)
            assert {next(watch).service for _ in names} == set(names)
            leader, registry.leader, registry.fault = registry.leader, "", steps.reset()
            time.sleep(8)  # the outage
            registry.leader, registry.fault = leader, None
            begun, fresh = time.monotonic(), set()
            while len(fresh) < len(names):
                snapshot = next(watch)
                fresh = fresh - {snapshot.service} if snapshot.is_stale else fresh | {snapshot.service}
            assert time.monotonic() - begun < 8

    def test_f29_an_outage_of_15_seconds(self, face, record_property):
        outage = 5 if face.is_async else 15  # on every face the rules are the same ones

        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    registry.fault = steps.reset()
                    registry.change(entry(2))
                    begun = time.monotonic()
                    await face.eventually(lambda: orders.snapshot().is_stale)
                    while time.monotonic() - begun < outage:
                        assert orders.pick().id == "orders-1"
                        await face.sleep(0.05)
                    assert orders.snapshot().source == "memory"
                    assert orders.snapshot().age >= outage - 1
                    requests = len(watching(registry.requests))
                    registry.fault = None
                    _, after = await face.eventually(lambda: ids(orders.instances()) == ["orders-2"], within=2)
                    record_property("fresh after", f"{after:.2f} s")
                    record_property("requests during the outage", str(requests))
                    assert requests < 60
                    assert not orders.snapshot().is_stale

        face.run(story)

    def test_what_was_never_known_is_no_empty_list(self, face, free_port):
        async def story():
            async with face.access(port=free_port) as access, access.resolver("orders") as orders:
                snapshot = orders.snapshot()
                assert (snapshot.source, snapshot.is_stale, len(snapshot)) == ("nothing", True, 0)
                assert "no connection" in snapshot.reason
                with pytest.raises(Unavailable, match="nothing is known of 'orders' yet"):
                    orders.pick()
                with pytest.raises(Unavailable, match=r"within 0.2 s there were 0 of 1: nothing is known"):
                    await orders.wait_ready(0.2)

        face.run(story)

    def test_errors_end_a_watch_only_when_that_is_asked_for(self, face, free_port):
        async def story():
            async with face.access(port=free_port) as access:
                with pytest.raises(Unavailable):
                    await anext(aiter(access.watch("orders", raise_errors=True)))

        face.run(story)

    @pytest.mark.parametrize("status", [429, 503, 500])
    def test_an_agent_that_asks_to_slow_down_is_asked_again_and_the_list_stays(self, face, status):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    registry.fault = answer(status, b"Your IP is issuing too many concurrent connections")
                    registry.change(entry(2))
                    await face.eventually(lambda: orders.snapshot().is_stale)
                    assert len(orders.instances()) == 1
                    assert f"HTTP {status}" in orders.snapshot().reason
                    registry.fault = None
                    await face.eventually(lambda: not orders.snapshot().is_stale)

        face.run(story)

    def test_servers_without_a_leader_behind_a_200_are_noticed(self, face, monkeypatch, record_property):
        """C04 as streaming agents play it: every answer is a 200 with the old list."""
        monkeypatch.setattr("consul_access._live.hub.PROBE_EVERY", 1.0)

        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    registry.leader = ""
                    _, after = await face.eventually(lambda: orders.snapshot().is_stale)
                    record_property("flagged after", f"{after:.2f} s")
                    assert "no leader" in orders.snapshot().reason
                    assert orders.pick().id == "orders-1"
                    registry.change(entry(2))
                    await face.eventually(lambda: orders.pick().id == "orders-2")
                    assert orders.snapshot().is_stale
                    registry.leader = "127.0.0.1:8300"
                    await face.eventually(lambda: not orders.snapshot().is_stale, within=3)
                    assert orders.snapshot().source == "live"

        face.run(story)

    def test_a_policy_that_fails_at_once(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    async with access.resolver("orders", stale=StalePolicy.fail_now()) as orders:
                        assert orders.pick().id == "orders-1"
                        registry.fault = steps.reset()
                        registry.change(entry(1))
                        await face.eventually(lambda: orders.snapshot().is_stale)
                        with pytest.raises(StaleList, match=r"cannot be confirmed .*the policy is to fail now"):
                            orders.pick()
                        registry.fault = None
                        await face.eventually(lambda: not orders.snapshot().is_stale)
                        assert orders.pick().id == "orders-1"

        face.run(story)

    def test_a_policy_that_keeps_for_a_while(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    async with access.resolver("orders", stale=StalePolicy.keep_for(1)) as orders:
                        registry.fault = steps.reset()
                        registry.change(entry(1))
                        await face.eventually(lambda: orders.snapshot().is_stale)
                        assert orders.pick().id == "orders-1"
                        await face.sleep(1.1)
                        with pytest.raises(StaleList, match="keep for 1 s"):
                            orders.pick()

        face.run(story)


class TestTokens:
    def test_a_refused_question_is_not_hammered_and_the_list_stays(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    registry.fault = answer(403, b"Permission denied")
                    registry.change(entry(1))
                    await face.eventually(lambda: orders.snapshot().is_stale)
                    before = len(watching(registry.requests))
                    await face.sleep(2)
                    assert len(watching(registry.requests)) - before <= 1
                    assert ids(orders.instances()) == ["orders-1"]
                    with pytest.raises(PermissionDenied):
                        await anext(aiter(access.watch("orders", raise_errors=True)))

        face.run(story)

    def test_a_new_token_is_used_within_seconds(self, face, tmp_path):
        (tmp_path / "token").write_text("old")

        def play(request, query):
            if request.headers.get("x-consul-token") != "new":
                return answer(403, b"ACL not found")
            return steps.never() if "index" in query else listed(entry(1))

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(url=registry.url, token=tmp_path / "token") as access:
                    async with access.resolver("orders") as orders:
                        assert orders.snapshot().source == "nothing"
                        with pytest.raises(Unavailable) as caught:
                            orders.pick()
                        assert isinstance(caught.value.__cause__, TokenUnknown)
                        (tmp_path / "token").write_text("new")
                        await face.eventually(lambda: ids(orders.instances()) == ["orders-1"], within=4)
                        assert {request.headers["x-consul-token"] for request in registry.requests} == {"old", "new"}

        face.run(story)

    def test_a_token_function_that_fails_ends_nothing(self, face, monkeypatch):
        monkeypatch.setattr("consul_access._live.hub.PROBE_EVERY", 0.2)
        monkeypatch.setattr("consul_access.rules.blocking.SHORT_CAP", 0.2)
        asked = []

        def token():
            asked.append(None)
            if len(asked) < 8:
                raise RuntimeError("the vault is sealed")
            return "token"

        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url, token=token) as access:
                    async with access.resolver("orders") as orders:
                        assert "the vault is sealed" in orders.snapshot().reason
                        await face.eventually(lambda: ids(orders.instances()) == ["orders-1"])

        face.run(story)

    def test_a_start_that_is_cancelled_leaves_no_question(self):
        async def story():
            with PlayedRegistry(lambda request, query: steps.never()) as registry:
                async with AsyncConsulAccess(url=registry.url) as access:
                    with anyio.move_on_after(0.2):
                        await access.resolver("orders").start()
                    await anyio.sleep(0.05)
                    assert access._engine._hub._questions == {}

        for backend in ("asyncio", "trio"):
            anyio.run(story, backend=backend)


class TestBudget:
    def test_more_questions_than_places_take_turns_and_say_so(self, face):
        def play(request, query):
            name = request.target.split("/")[4].partition("?")[0]

            def held(connection):
                connection.ended.wait(float(query["wait"][0].removesuffix("ms")) / 1000)
                return listed(entry(1, name), index=5)(connection)

            return held if "index" in query else listed(entry(1, name), index=5)

        async def story():
            with PlayedRegistry(play) as registry:
                async with face.access(settings=settings(registry.url)) as access:
                    names = [f"s{number}" for number in range(24)]
                    watch = aiter(access.watch(names))
                    seen = [await anext(watch) for _ in names]
                    assert {snapshot.service for snapshot in seen} == set(names)
                    await face.eventually(
                        lambda: len({r.target for r in registry.requests if "index=" in r.target}) == 24, within=30
                    )
                    assert registry.connections <= 8
                    assert (await access.search_service("s0"))[
                        0
                    ].port == 8001  # ordinary calls have places of their own

        from consul_access import ConsulSettings

        def settings(url):
            return ConsulSettings.load(url=url, watch_connections=8)

        face.run(story)


class TestTransports:
    def test_a_foreign_transport_is_used_and_stays_open(self, face):
        asked, closed = [], []

        def handler(request):
            asked.append(request)
            if "index" in request.url.params:
                time.sleep(0.05)
            return httpx.Response(200, json=[entry(1)], headers={"X-Consul-Index": "5"})

        class Threads(httpx.BaseTransport):
            def handle_request(self, request):
                return handler(request)

            def close(self):
                closed.append(len(asked))

        async def story():
            transport = face.transport(handler) if face.is_async else Threads()
            async with face.access(url="http://consul.test:8500", transport=transport) as access:
                async with access.resolver("orders") as orders:
                    assert orders.pick().address == ("10.0.0.1", 8001)
                assert not closed
            assert len(closed) == (0 if face.is_async else 1)

        face.run(story)

    def test_hooks_are_told(self, face):
        told = []

        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    access.on_exchange(told.append)
                    async with access.resolver("orders"):
                        pass
            assert told[0].operation == "health.service"

        face.run(story)


class TestResolver:
    def test_ready_in_one_round_trip_and_picks_ask_nobody(self, face):
        async def story():
            with BlockingRegistry(entry(1), entry(2), entry(3)) as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    assert len(watching(registry.requests)) <= 2
                    assert "index" not in registry.requests[0].target
                    picked = [orders.pick().id for _ in range(30)]
                    assert {picked.count(f"orders-{number}") for number in (1, 2, 3)} == {10}
                    await face.sleep(0.2)
                    assert len(watching(registry.requests)) == 2

        face.run(story)

    def test_it_waits_until_there_is_somebody(self, face):
        async def story():
            with BlockingRegistry() as registry:
                async with face.access(url=registry.url) as access, access.resolver("orders") as orders:
                    with pytest.raises(NoInstances, match=r"within 0.1 s there were 0 of 1: there is no instance"):
                        await orders.wait_ready(0.1)
                    with later(0.2, lambda: registry.change(entry(1), entry(2))):
                        assert ids(await orders.wait_ready(5, at_least=2)) == ["orders-1", "orders-2"]

        face.run(story)

    def test_before_and_after_its_life_it_says_so(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    orders = access.resolver("orders")
                    with pytest.raises(InvalidInput, match="not started"):
                        orders.pick()
                    with pytest.raises(InvalidInput, match="not started"):
                        await orders.wait_ready()
                    for _ in range(2):
                        await orders.start()
                        assert orders.pick().id == "orders-1"
                        await orders.stop()
                        with pytest.raises(ClientClosed):
                            orders.pick()

        face.run(story)

    def test_a_balancer_that_fails_keeps_the_list_it_has_and_harms_nobody_else(self, face, caplog):
        class Picky:
            def prepare(self, instances):
                if len(instances) > 1:
                    raise ZeroDivisionError
                return lambda key=None: instances[0]

        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    async with access.resolver("orders", balancer=Picky()) as picky, access.resolver("orders") as other:
                        registry.change(entry(2), entry(3))
                        await face.eventually(lambda: ids(other.instances()) == ["orders-2", "orders-3"])
                        assert picky.pick().id == "orders-1"
                        registry.change(entry(4))
                        await face.eventually(lambda: picky.pick().id == "orders-4")

        face.run(story)
        assert "could not be taken over" in caplog.text

    def test_calls_are_reported_to_the_balancer(self, face):
        told = []
        balancer = SimpleNamespace(
            prepare=lambda instances: lambda key=None: instances[0],
            started=lambda address: told.append(address),
            report=lambda address, ok, elapsed: told.append((address, ok, elapsed)),
        )

        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    async with access.resolver("orders", balancer=balancer) as orders:
                        picked = orders.pick()
                        orders.started(picked)
                        orders.report(picked.address, True, 0.5)

        face.run(story)
        assert told == [("10.0.0.1", 8001), (("10.0.0.1", 8001), True, 0.5)]

    def test_the_end_of_the_client_ends_its_resolvers(self, face):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    orders = access.resolver("orders")
                    await orders.start()
                    await access.aclose()
                    with pytest.raises(ClientClosed):
                        await face.eventually(lambda: not orders.pick())

        face.run(story)

    def test_a_forked_child_follows_by_itself(self):
        with BlockingRegistry(entry(1)) as registry, ConsulAccess(url=registry.url) as access:
            with access.resolver("orders") as orders:
                eventually(lambda: len(watching(registry.requests)) == 2)
                reading, writing = os.pipe()
                child = os.fork()
                if not child:
                    try:
                        eventually(lambda: ids(orders.instances()) == ["orders-2"])
                        os.write(writing, b"followed")
                    finally:
                        os._exit(0)
                eventually(lambda: len(watching(registry.requests)) == 4)
                registry.change(entry(2))
                os.close(writing)
                assert os.read(reading, 100) == b"followed"
                os.waitpid(child, 0)
                os.close(reading)
                eventually(lambda: ids(orders.instances()) == ["orders-2"])


class TestDisk:
    def test_a_process_starts_with_what_an_earlier_one_knew(self, face, tmp_path):
        folder = tmp_path / "lists"

        async def story():
            with BlockingRegistry(entry(1, Tags=["a"], Meta={"v": "1"}), entry(2)) as registry:
                async with face.access(url=registry.url) as access:
                    async with access.resolver("orders", disk=folder) as orders:
                        live = orders.snapshot()
                        await face.eventually(lambda: list(folder.glob("orders-*.json")))
                registry.fault = steps.reset()
                async with face.access(url=registry.url) as access:
                    async with access.resolver("orders", disk=folder) as orders:
                        snapshot = orders.snapshot()
                        assert (snapshot.source, snapshot.is_stale) == ("disk", True)
                        assert snapshot.instances == live.instances
                        assert snapshot.instances[0].meta == {"v": "1"}
                        assert 0 <= snapshot.age < 30
                        assert orders.pick() in live.instances
                        assert orders.snapshot().reason
                    with pytest.raises(StaleList):
                        async with access.resolver("orders", disk=folder, stale=StalePolicy.fail_now()) as strict:
                            strict.pick()
                    async with access.resolver("orders", disk=folder, tags="other") as other:
                        assert other.snapshot().source == "nothing"
                    async with access.resolver("orders", disk=folder) as orders:
                        registry.change(entry(3))
                        registry.fault = None
                        await face.eventually(lambda: ids(orders.instances()) == ["orders-3"])
                        assert orders.snapshot().source == "live"
                        assert not orders.snapshot().is_stale

        face.run(story)
        (kept,) = folder.iterdir()
        assert kept.stat().st_mode & 0o777 == 0o600
        assert "orders-3" in kept.read_text()

    def test_a_live_answer_goes_before_whatever_is_on_disk(self, face, tmp_path):
        async def story():
            with BlockingRegistry(entry(1)) as registry:
                async with face.access(url=registry.url) as access:
                    async with access.resolver("orders", disk=tmp_path):
                        await face.eventually(lambda: list(tmp_path.glob("orders-*.json")))
                registry.change()
                async with face.access(url=registry.url) as access:
                    async with access.resolver("orders", disk=tmp_path) as orders:
                        assert orders.snapshot().source == "live"
                        assert orders.instances() == ()

        face.run(story)
