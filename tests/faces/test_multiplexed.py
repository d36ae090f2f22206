"""Watches over HTTP/2, against registries that speak it well, badly, or not at all."""

from __future__ import annotations

import gzip
import ssl
import struct
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from h2.errors import ErrorCodes

from consul_access import (
    AsyncConsulAccess,
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    ConsulSettings,
    DeadlineExceeded,
    PoolExhausted,
    RetryPolicy,
    Timeouts,
    TlsError,
    consul,
)
from consul_access._live import carrying
from consul_access.consul import texts
from tests.support.many import all_told
from tests.support.registry import entry
from tests.support.scripted2 import BlockingRegistry2, Server2, frame

ROOT = Path(__file__).resolve().parents[2]


def ids(found):
    return [instance.id for instance in found]


@pytest.fixture(scope="module")
def trust(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("trust") / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue_cert("127.0.0.1").configure_cert


@pytest.fixture
def settings(trust):
    """Settings of a client of these servers."""

    def load(*servers, **options):
        places = {"url": servers[0].url} if len(servers) == 1 else {"addresses": [server.url for server in servers]}
        return ConsulSettings.load(**places, **({"ca_cert": trust} | options), environ={})

    return load


def blocked(server):
    return [asked for asked in server.waiting if "index" in asked.query]


class TestManyShareAConnection:
    def test_each_sees_its_changes_over_one_connection(self, face, certificate, settings):
        names = [f"s{number}" for number in range(50)]

        async def story():
            with BlockingRegistry2(certificate, *(entry(1, name) for name in names)) as registry:
                async with face.access(settings=settings(registry)) as access:
                    watch = aiter(access.watch(names))
                    first = {snapshot.service: snapshot for snapshot in [await anext(watch) for _ in names]}
                    assert {name: ids(first[name]) for name in names} == {name: [f"{name}-1"] for name in names}
                    await face.eventually(lambda: len(blocked(registry)) == 50)
                    registry.change(*(entry(2, name) for name in names))
                    second = {snapshot.service: snapshot for snapshot in [await anext(watch) for _ in names]}
                    assert {name: ids(second[name]) for name in names} == {name: [f"{name}-2"] for name in names}
                    assert not any(snapshot.shared or snapshot.is_stale for snapshot in second.values())
            assert len(registry.connections) == 1

        face.run(story)

    @pytest.mark.parametrize(("at_once", "connections"), [(250, 3), (100, 5)])
    def test_as_many_connections_as_are_needed_and_no_turns(self, certificate, settings, at_once, connections):
        names = [f"s{number}" for number in range(450)]

        async def story():
            with BlockingRegistry2(certificate, *(entry(1, name) for name in names), at_once=at_once) as registry:
                async with AsyncConsulAccess(settings=settings(registry)) as access:
                    watch = aiter(access.watch(names))
                    await all_told(watch, names)
                    while len(blocked(registry)) < len(names):
                        await anyio.sleep(0.01)
                    # One more is made while a slow machine has a question wait for too long.
                    assert connections <= len(registry.live) <= connections + 1
                    # Who leads is asked beside those that wait, also on a connection that is full.
                    assert max(connection.most for connection in registry.live) <= min(at_once, 200 + 1)
                    registry.change(*(entry(2, name) for name in names))
                    changed = [await anext(watch) for _ in names]
                    assert {snapshot.service for snapshot in changed} == set(names)
                    assert not any(snapshot.shared for snapshot in changed)

        anyio.run(story)

    def test_who_leads_is_asked_on_a_connection_that_is_full(self, certificate, settings, monkeypatch):
        monkeypatch.setattr("consul_access._live.hub.PROBE_EVERY", 0.3)
        names = [f"s{number}" for number in range(200)]

        async def story():
            with BlockingRegistry2(certificate, *(entry(1, name) for name in names)) as registry:
                async with AsyncConsulAccess(settings=settings(registry)) as access:
                    watch = aiter(access.watch(names))
                    await all_told(watch, names)
                    while len(blocked(registry)) < len(names):
                        await anyio.sleep(0.01)
                    before = len(registry.requests)
                    while not any(one.path == "/v1/status/leader" for one in registry.requests[before:]):
                        await anyio.sleep(0.01)
                    assert len(registry.connections) == 1

        anyio.run(story)

    def test_a_watch_that_ends_gives_its_place_back_and_leaves_the_others_alone(self, face, certificate, settings):
        async def story():
            with BlockingRegistry2(certificate, entry(1), entry(1, "billing")) as registry:
                async with face.access(settings=settings(registry)) as access:
                    other = access.watch("billing")
                    await anext(aiter(other))
                    async with access.watch("orders") as watch:
                        await anext(aiter(watch))
                        await face.eventually(lambda: len(blocked(registry)) == 2)
                    (connection,) = registry.live
                    await face.eventually(lambda: len(connection.resets) == 1)
                    assert [asked.path for asked in blocked(registry)] == ["/v1/health/service/billing"]
                    registry.change(entry(2, "billing"))
                    assert ids(await anext(other)) == ["billing-2"]
            assert len(registry.connections) == 1

        face.run(story)

    def test_connections_that_became_superfluous_are_closed(self, certificate, settings):
        async def story():
            names = [f"s{number}" for number in range(210)]
            with BlockingRegistry2(certificate, *(entry(1, name) for name in names)) as registry:
                async with AsyncConsulAccess(settings=settings(registry)) as access:
                    async with access.watch(names) as watch:
                        for _ in names:
                            await anext(aiter(watch))
                        while len(blocked(registry)) < len(names):
                            await anyio.sleep(0.01)
                        assert len(registry.live) == 2
                    with anyio.fail_after(5):
                        while len(registry.live) > 1:
                            await anyio.sleep(0.01)
                    assert ids(await anext(aiter(access.watch("s7")))) == ["s7-1"]

        anyio.run(story)

    def test_news_is_taken_over_where_it_is_found(self, certificate, settings, monkeypatch):
        """In the connection's one reader, before the task that asked has had its turn."""
        taken = []

        async def story():
            with BlockingRegistry2(certificate, entry(1)) as registry:
                async with (
                    AsyncConsulAccess(settings=settings(registry)) as access,
                    access.resolver("orders") as orders,
                ):
                    while not blocked(registry):
                        await anyio.sleep(0.01)
                    (question,) = access._engine._hub._questions.values()
                    registry.change(entry(2))
                    while ids(orders.instances()) != ["orders-2"]:
                        await checkpoint()
                    taken.append(question.taken)

        anyio.run(story)
        assert taken == [True]

    def test_hooks_are_told_what_they_are_told_otherwise(self, face, certificate, settings):
        async def story():
            told = []
            with BlockingRegistry2(certificate, entry(1)) as registry:
                async with face.access(settings=settings(registry)) as access:
                    access.on_exchange(told.append)
                    await anext(aiter(access.watch("orders")))
                    exchange = next(one for one in told if one.operation == "health.service")
                    assert (exchange.status, exchange.attempt, exchange.error) == (200, 1, None)
                    assert exchange.server == registry.url
                    assert exchange.path.startswith("/v1/health/service/orders")

        face.run(story)

    def test_closing_the_client_closes_the_connections_at_once(self, face, certificate, settings):
        async def story():
            with BlockingRegistry2(certificate, entry(1)) as registry:
                async with face.access(settings=settings(registry)) as access:
                    watch = access.watch("orders")
                    await anext(aiter(watch))
                    await face.eventually(lambda: blocked(registry))
                await face.eventually(lambda: not registry.live, within=2)

        face.run(story)

    def test_the_token_is_sent_with_every_question(self, face, certificate, settings):
        async def story():
            with BlockingRegistry2(certificate, entry(1)) as registry:
                async with face.access(settings=settings(registry, token="b1gs33cret")) as access:
                    watch = access.watch("orders")
                    await anext(aiter(watch))
                    await face.eventually(lambda: len(registry.requests) >= 2)
            assert {asked.headers["x-consul-token"] for asked in registry.requests} == {"b1gs33cret"}

        face.run(story)


class TestWhereHttp2IsNotSpoken:
    @pytest.mark.parametrize("protocols", [("http/1.1",), ()])
    def test_a_server_without_it_is_followed_as_ever(self, face, certificate, settings, protocols):
        async def story():
            with BlockingRegistry2(certificate, entry(1), protocols=protocols) as registry:
                async with face.access(settings=settings(registry)) as access:
                    watch = access.watch("orders")
                    assert ids(await anext(aiter(watch))) == ["orders-1"]
                    registry.change(entry(2))
                    assert ids(await anext(watch)) == ["orders-2"]
            assert {connection.protocol for connection in registry.connections} == {"http/1.1"}

        face.run(story)

    def test_there_the_questions_take_turns(self, certificate, settings):
        names = [f"s{number}" for number in range(20)]

        async def story():
            entries = [entry(1, name) for name in names]
            with BlockingRegistry2(certificate, *entries, protocols=("http/1.1",)) as registry:
                async with AsyncConsulAccess(settings=settings(registry, watch_connections=8)) as access:
                    watch = aiter(access.watch(names))
                    await all_told(watch, names)
                    assert len(registry.live) <= 8
                    assert access._engine._hub._shared

        anyio.run(story)

    def test_one_of_several_speaks_it_and_the_other_does_not(self, face, certificate, settings):
        names = [f"s{number}" for number in range(90)]

        async def story():
            new = BlockingRegistry2(certificate, *(entry(1, name) for name in names))
            old = BlockingRegistry2(certificate, *(entry(2, name) for name in names), protocols=("http/1.1",))
            with new, old:
                async with face.access(settings=settings(new, old)) as access:
                    watch = aiter(access.watch(names))
                    assert {(await anext(watch)).instances[0].id for _ in names} == {f"{name}-1" for name in names}
                    assert access._engine._hub._exchanger.room == 64 * 200
                    new.__exit__(None, None, None)
                    missing = set(names)
                    while missing:
                        snapshot = await anext(watch)
                        assert snapshot.instances
                        missing -= {snapshot.service} if snapshot.instances[0].id.endswith("-2") else set()
                    assert access._engine._hub._exchanger.room == 64
                    assert len(old.connections) <= 65

        face.run(story)

    def test_a_server_that_learns_it_and_forgets_it_again(self, face, certificate, settings):
        """What was agreed on is asked anew with each connection."""

        async def story():
            with BlockingRegistry2(certificate, entry(1), protocols=("http/1.1",)) as registry:
                async with face.access(settings=settings(registry)) as access, access.resolver("orders") as orders:
                    hub = access._engine._hub
                    for number, (protocol, room) in enumerate([("http/1.1", 64), ("h2", 12_800), ("http/1.1", 64)], 2):
                        registry.agree_on(protocol)
                        registry.change(entry(number))
                        await face.eventually(lambda number=number: ids(orders.instances()) == [f"orders-{number}"])
                        await face.eventually(lambda room=room: hub._exchanger.room == room)
                        await face.eventually(
                            lambda protocol=protocol: {one.protocol for one in registry.live} == {protocol}
                        )

        face.run(story)

    def test_without_the_package_it_is_not_offered(self, face, certificate, settings, monkeypatch):
        for name in ("h2.config", "consul_access.wire2", "consul_access._live.line"):
            monkeypatch.setitem(sys.modules, name, None)

        async def story():
            with BlockingRegistry2(certificate, entry(1)) as registry:
                async with face.access(settings=settings(registry)) as access:
                    assert ids(await anext(aiter(access.watch("orders")))) == ["orders-1"]
            assert {connection.protocol for connection in registry.connections} == {"http/1.1"}

        face.run(story)

    def test_over_plain_http_nothing_is_loaded_for_it(self):
        program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.registry import BlockingRegistry, entry
from consul_access import ConsulAccess
with BlockingRegistry(entry(1)) as registry, ConsulAccess(url=registry.url) as access:
    with access.resolver("orders") as orders:
        assert orders.pick().id == "orders-1"
print([name for name in ("h2", "hpack", "consul_access.wire2") if name in sys.modules])
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
        assert (done.stdout, done.stderr) == ("[]\n", "")


class TestTlsContexts:
    def context(self, authority, *protocols):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def test_a_given_one_is_never_changed(self, face, authority, certificate, settings):
        async def story():
            given = self.context(authority)
            with BlockingRegistry2(certificate, entry(1)) as registry:
                async with face.access(settings=settings(registry, ca_cert=None, ssl_context=given)) as access:
                    assert ids(await anext(aiter(access.watch("orders")))) == ["orders-1"]
                    assert len(await access.instances("orders")) == 1
            assert {connection.protocol for connection in registry.connections} == {"http/1.1"}

        face.run(story)

    def test_one_that_offers_http_2_serves_watches_and_ordinary_calls_say_what_to_do(
        self, face, authority, certificate, settings
    ):
        async def story():
            given = self.context(authority, "h2", "http/1.1")
            with BlockingRegistry2(certificate, entry(1)) as registry:
                async with face.access(settings=settings(registry, ca_cert=None, ssl_context=given)) as access:
                    assert ids(await anext(aiter(access.watch("orders")))) == ["orders-1"]
                    with pytest.raises(TlsError, match=r"leave h2 out of its set_alpn_protocols"):
                        await access.instances("orders")

        face.run(story)

    def test_ordinary_calls_offer_http_1_alone(self, face, certificate, settings):
        async def story():
            with BlockingRegistry2(certificate, entry(1)) as registry:
                async with face.access(settings=settings(registry)) as access:
                    assert len(await access.instances("orders")) == 1
            assert {connection.protocol for connection in registry.connections} == {"http/1.1"}

        face.run(story)


class Scene:
    """A registry that does something wrong to the questions that wait, and does well when they are asked again."""

    def __init__(self, certificate, *entries, **how):
        self.registry = BlockingRegistry2(certificate, *entries, **how)
        self.wrong = None
        self.registry.play = self._play

    def _play(self, asked):
        if self.wrong is not None and "index" in asked.query:
            wrong, self.wrong = self.wrong, None
            wrong(asked)
        else:
            self.registry._asked(asked)


class TestHostileServers:
    """Whatever is done to a question or to a connection: all are followed again, and nothing escapes or is believed."""

    def followed(self, face, certificate, settings, wrong, *, connections, **options):
        """Two services; `wrong` meets the second one's first question that waits. Then both change."""

        async def story():
            scene = Scene(certificate, entry(1), entry(1, "billing"))
            with scene.registry as registry:
                async with face.access(settings=settings(registry, **options)) as access:
                    async with access.resolver("billing") as billing:
                        await face.eventually(lambda: len(blocked(registry)) == 1)
                        scene.wrong = wrong
                        async with access.resolver("orders") as orders:
                            lists = (orders, billing)
                            await face.eventually(lambda: scene.wrong is None)
                            await face.eventually(lambda: len({one.path for one in blocked(registry)}) == 2, within=15)
                            await face.eventually(lambda: not any(one.snapshot().is_stale for one in lists), within=15)
                            registry.change(entry(2), entry(2, "billing"))
                            await face.eventually(lambda: ids(orders.instances()) == ["orders-2"])
                            await face.eventually(lambda: ids(billing.instances()) == ["billing-2"])
                assert len(registry.connections) == connections

        face.run(story)

    def test_a_refused_question_is_asked_again_without_a_doubt(self, face, certificate, settings, caplog):
        def refuse(asked):
            asked.connection.machine.reset_stream(asked.number, ErrorCodes.REFUSED_STREAM)
            asked.connection.open.pop(asked.number)

        self.followed(face, certificate, settings, refuse, connections=1)
        assert "cannot be confirmed" not in caplog.text

    def test_a_server_that_leaves_is_left_without_a_doubt(self, face, certificate, settings, caplog):
        """What it has taken on it answers; what it has not looked at is asked over another connection."""

        def leave(asked):
            asked.connection.goaway(asked.number - 2)
            asked.connection.open.pop(asked.number)

        self.followed(face, certificate, settings, leave, connections=2)
        assert "cannot be confirmed" not in caplog.text

    @pytest.mark.parametrize("code", [ErrorCodes.INTERNAL_ERROR, ErrorCodes.CANCEL, ErrorCodes.HTTP_1_1_REQUIRED])
    def test_a_question_that_is_given_up_is_asked_again(self, face, certificate, settings, code):
        def give_up(asked):
            asked.connection.machine.reset_stream(asked.number, code)
            asked.connection.open.pop(asked.number)

        self.followed(face, certificate, settings, give_up, connections=1)

    def test_an_endless_body_is_refused_on_its_own(self, face, certificate, settings):
        def flood(asked):
            asked.connection.open.pop(asked.number)
            asked.connection.begin(asked.number)
            for _ in range(100):
                asked.connection.machine.send_data(asked.number, b"x" * 100)

        self.followed(face, certificate, settings, flood, connections=1, max_answer_bytes=1000)

    def test_a_bomb_of_gzip_is_not_unpacked(self, face, certificate, settings):
        def bomb(asked):
            body = gzip.compress(b"\0" * 50_000_000)
            told = {"content-encoding": "gzip", "x-consul-index": "11"}
            asked.connection.open.pop(asked.number)
            asked.answer(body, headers=told)

        self.followed(face, certificate, settings, bomb, connections=1, max_answer_bytes=1_000_000)

    @pytest.mark.parametrize(
        "data",
        [
            b"garbage that is not HTTP/2 in any way",
            frame(6, 0, 0, b"12345678") * 11_000,
            frame(1, 0, 1, b"\x88") + frame(9, 0, 1, b"") * 100,
            frame(7, 0, 0, b"\0"),
            frame(8, 0, 0, struct.pack(">I", 2**31 - 1)),
        ],
        ids=["garbage", "pings", "continuations", "short goaway", "window"],
    )
    def test_what_breaks_the_rules_is_the_end_of_that_connection_alone(self, face, certificate, settings, data):
        self.followed(face, certificate, settings, lambda asked: asked.connection.raw(data), connections=2)

    def test_a_connection_that_ends_in_the_middle_of_an_answer(self, face, certificate, settings):
        def cut(asked):
            asked.connection.begin(asked.number, headers={"x-consul-index": "11"})
            asked.connection.machine.send_data(asked.number, b"[")
            asked.connection.flush()
            asked.connection.hang_up()

        self.followed(face, certificate, settings, cut, connections=2)


@asynccontextmanager
async def transport(settings, **limits):
    """What an engine sends with, and a group that it may read in."""
    loaded = replace(settings, retry=RetryPolicy.none(), timeouts=Timeouts(**limits), max_connections=4)
    made = carrying.WatchTransport(loaded, meaning=texts.meaning)
    async with anyio.create_task_group() as group:
        made.attend(group)
        yield made
        group.cancel_scope.cancel()
    await made.aclose()


async def asked(made, name="orders", **how):
    call = consul.health.service(name)
    return call.read(await made.reply(call, **how))


def alone(story):
    """Runs a story under both, asyncio and trio."""

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test(backend, certificate, settings):
        anyio.run(story, certificate, settings, backend=backend)

    test.__doc__ = story.__doc__
    return test


@alone
async def test_a_body_that_drips_ends_with_the_call(certificate, settings):
    """Each byte is a sign of life, and the whole has a limit all the same."""

    def drip(asked):
        asked.connection.begin(asked.number)
        drop(asked)

    def drop(asked):
        if asked.number in asked.connection.open:
            asked.connection.machine.send_data(asked.number, b" ")
            timer = threading.Timer(0.05, asked.connection.later, [lambda: drop(asked)])
            timer.daemon = True
            timer.start()

    with Server2(drip, certificate) as server:
        async with transport(settings(server), read=1.4, total=1.5) as made:
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="while the answer came"):
                await asked(made)
            assert 1.4 < time.monotonic() - begun < 3
            assert made.room == 4 * 200
        assert len(server.connections) == 1


@alone
async def test_silence_is_bounded_for_each_answer_and_a_living_connection_is_kept(certificate, settings):
    with Server2(lambda asked: None, certificate) as server:
        async with transport(settings(server), read=0.3, total=5) as made:
            with pytest.raises(DeadlineExceeded, match=r"silence for 0.3 s instead of an answer"):
                await asked(made)
            while not server.pings:  # nothing was heard meanwhile, so a sign of life is asked for
                await anyio.sleep(0.01)
            server.play = lambda asked: server.done(asked, asked.listed)
            assert await asked(made) == []
        assert len(server.connections) == 1


@alone
async def test_one_answer_too_late_is_no_doubt_about_a_connection_on_which_others_come(certificate, settings):
    def play(asked):
        if asked.path.endswith("orders"):
            server.done(asked, asked.listed)

    with Server2(play, certificate) as server:
        async with transport(settings(server), read=10, total=10) as made, anyio.create_task_group() as group:

            async def ask_often():
                while True:
                    await asked(made)
                    await anyio.sleep(0.01)

            group.start_soon(ask_often)
            with pytest.raises(DeadlineExceeded):
                await asked(made, "billing", within=1)
            await anyio.sleep(0.1)
            group.cancel_scope.cancel()
        assert (server.pings, len(server.connections)) == (0, 1)


@alone
async def test_a_dead_connection_is_noticed_and_all_that_waits_on_it_ends(certificate, settings):
    with Server2(lambda asked: None, certificate) as server:
        async with (
            transport(settings(server), connect=0.5, read=10, total=10) as made,
            anyio.create_task_group() as group,
        ):
            ended = []

            async def wait():
                with pytest.raises(ConnectionLost, match=r"is dead: not even a ping was answered within 0.5 s"):
                    await asked(made)
                ended.append(time.monotonic())

            for _ in range(3):
                group.start_soon(wait)
            while len(server.waiting) < 3:
                await anyio.sleep(0.01)
            (frozen,) = server.live
            frozen.is_frozen = True
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await asked(made, within=0.5)
            server.play = lambda asked: server.done(asked, asked.listed)
            assert await asked(made) == []  # over another connection, while the first is in doubt
            while len(ended) < 3:
                await anyio.sleep(0.01)
            assert max(ended) - begun < 2
            frozen.hang_up()
        assert len(server.connections) == 2


@alone
async def test_a_server_that_agrees_on_it_and_says_nothing(certificate, settings):
    with Server2(lambda asked: None, certificate) as server:
        server.greet = lambda connection: setattr(connection, "is_frozen", True)
        async with transport(settings(server), connect=0.4) as made:
            begun = time.monotonic()
            with pytest.raises(ConnectFailed, match=r"agreed on HTTP/2 and said nothing for 0.4 s"):
                await asked(made)
            assert time.monotonic() - begun < 2


@alone
async def test_a_server_that_agrees_on_it_and_speaks_something_else(certificate, settings):
    with Server2(lambda asked: None, certificate) as server:
        server.greet = lambda connection: connection.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        async with transport(settings(server)) as made:
            with pytest.raises(BadAnswer, match="speaks something else"):
                await asked(made)


@alone
async def test_hundreds_that_need_the_same_connection_hear_of_one_failure(certificate, settings):
    with Server2(lambda asked: None, certificate) as server:
        server.greet = lambda connection: setattr(connection, "is_frozen", True)
        async with transport(settings(server), connect=1.5) as made, anyio.create_task_group() as group:
            begun = time.monotonic()

            async def fail():
                with pytest.raises(ConnectFailed):
                    await asked(made)

            for _ in range(300):
                group.start_soon(fail)
        assert time.monotonic() - begun < 6
        assert len(server.connections) == 1


@alone
async def test_whoever_waits_for_a_connection_waits_no_longer_than_for_one_of_the_pool(certificate, settings):
    with Server2(lambda asked: None, certificate) as server:
        gate = threading.Event()
        server.greet = lambda connection: gate.wait(5)
        async with transport(settings(server), connect=2, pool=0.3) as made, anyio.create_task_group() as group:
            maker = anyio.CancelScope()

            async def make():
                with maker:
                    await asked(made)

            group.start_soon(make)
            await anyio.sleep(0.1)
            begun = time.monotonic()
            with pytest.raises(PoolExhausted, match="no connection was made"):
                await asked(made)
            assert time.monotonic() - begun < 1.5
            maker.cancel()
            gate.set()


@alone
async def test_a_server_that_leaves_while_nothing_is_under_way_is_left(certificate, settings):
    with Server2(lambda asked: server.done(asked, asked.listed), certificate) as server:
        async with transport(settings(server)) as made:
            assert await asked(made) == []
            (connection,) = server.live
            connection.later(lambda: connection.goaway(1))
            while made._carries._lines():
                await anyio.sleep(0.01)
            assert await asked(made) == []
        assert len(server.connections) == 2


@alone
async def test_who_made_the_connection_may_leave_and_the_others_go_on(certificate, settings):
    with Server2(lambda asked: server.done(asked, asked.listed), certificate) as server:
        gate = threading.Event()
        server.greet = lambda connection: gate.wait(5)
        async with transport(settings(server)) as made, anyio.create_task_group() as group:
            first = anyio.CancelScope()

            async def leave():
                with first:
                    await asked(made)

            group.start_soon(leave)
            await anyio.sleep(0.1)
            group.start_soon(asked, made)
            await anyio.sleep(0.05)
            first.cancel()
            gate.set()
        assert [one.path for one in server.requests] == ["/v1/health/service/orders"]


@alone
async def test_a_server_that_refuses_everything_is_asked_three_times(certificate, settings):
    def refuse(asked):
        asked.connection.machine.reset_stream(asked.number, ErrorCodes.REFUSED_STREAM)

    with Server2(refuse, certificate) as server:
        async with transport(settings(server)) as made:
            with pytest.raises(ConnectionLost, match="refused the request for now"):
                await asked(made)
        assert len(server.requests) == 3


@alone
async def test_a_server_that_takes_no_request_at_all_gets_no_second_connection(certificate, settings):
    with Server2(lambda asked: None, certificate, at_once=0) as server:
        async with transport(settings(server), pool=0.3) as made:
            with pytest.raises(PoolExhausted, match=r"took no further request for 0.3 s"):
                await asked(made)
        assert len(server.connections) == 1


@alone
async def test_more_than_all_connections_carry_has_to_wait(certificate, settings):
    """Four connections at most, of two each."""
    with Server2(lambda asked: None, certificate, at_once=2) as server:
        async with transport(settings(server), pool=5) as made, anyio.create_task_group() as group:
            answers = []

            async def ask():
                answers.append(await asked(made))

            for _ in range(12):
                group.start_soon(ask)
            while len(server.waiting) < 8:
                await anyio.sleep(0.01)
            await anyio.sleep(0.1)
            assert (len(server.waiting), len(server.live), made.room) == (8, 4, 8)
            server.play = lambda asked: server.done(asked, asked.listed)
            for one in server.waiting:
                one.connection.later(lambda one=one: server.done(one, one.listed))
            while len(answers) < 12:
                await anyio.sleep(0.01)
        assert max(connection.most for connection in server.connections) == 2


@alone
async def test_a_peer_that_reads_nothing_is_given_up(certificate, settings):
    """Signs of life are asked for without end, and their answers not taken."""
    with Server2(lambda asked: None, certificate) as server:

        def ask_for_signs(connection):
            connection.machine.clear_outbound_data_buffer()
            connection.raw(frame(4, 0, 0, b"") + frame(6, 0, 0, b"12345678") * 9000)
            connection.is_frozen = True

        server.greet = ask_for_signs
        async with transport(settings(server), read=0.5, connect=0.5, total=3) as made:
            with pytest.raises((DeadlineExceeded, ConnectionLost)):
                await asked(made)
            assert made._carries.connections[0] == 0


class TestDetails:
    def test_what_is_printed(self, certificate, settings):
        async def story():
            with Server2(lambda asked: server.done(asked, asked.listed), certificate) as server:
                async with transport(settings(server, token="b1gs33cret")) as made:
                    await asked(made)
                    assert repr(made._carries) == "<WatchCarrier 0 busy, 1 idle>"
                    (line,) = made._carries._lines()
                    assert repr(line) == "<Line open, 0 under way>"
                    assert "b1gs33cret" not in repr(vars(made._carries))

        anyio.run(story)

    def test_what_fails_while_an_answer_is_taken_over_is_the_asker_s(self, certificate, settings):
        async def story():
            def fail(answer):
                raise ValueError("mine")

            with Server2(lambda asked: server.done(asked, asked.listed), certificate) as server:
                async with transport(settings(server)) as made:
                    with pytest.raises(ValueError, match="mine"):
                        await made.reply(consul.health.service("orders"), arrived=fail)
                    assert await asked(made) == []
                assert len(server.connections) == 1

        anyio.run(story)

    @pytest.mark.parametrize("seconds", [0.0, 0.001, 0.003, 0.01])
    def test_cancelled_at_any_moment_no_place_is_lost(self, certificate, settings, seconds):
        async def story():
            with Server2(lambda asked: server.done(asked, asked.listed), certificate) as server:
                async with transport(settings(server)) as made:
                    for _ in range(60):
                        with anyio.move_on_after(seconds):
                            await asked(made)
                    assert await asked(made) == []
                    lines = made._carries._lines()
                    assert sum(line.busy for line in lines) == 0
                    assert sum(line.free for line in lines) == 200 * len(lines)

        anyio.run(story)
