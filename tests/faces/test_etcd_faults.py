"""etcd clients and everything that can go wrong between them and a member, on every face, without an etcd."""

from __future__ import annotations

import json
import threading
import time

import anyio
import httpx
import pytest

from consul_access import (
    AsyncEtcdRegistry,
    BadAnswer,
    InvalidSettings,
    NoLeader,
    OutcomeUnknown,
    RateLimited,
    ResourceExhausted,
    RetryPolicy,
    Unavailable,
)
from consul_access.testing.stories import tell
from tests.support.etcd import encoded
from tests.support.scripted import ScriptedServer, answer, never, reset, truncate

HEADER = {"revision": "7", "cluster_id": "1", "member_id": "2"}
FOUND = json.dumps({"header": HEADER, "kvs": [{"key": "YQ==", "value": "MQ==", "mod_revision": "3"}], "count": "1"})
WRITTEN = json.dumps({"header": HEADER})


def refused(message: str, code: int, status: int):
    return answer(status, json.dumps({"code": code, "message": message}).encode())


FOUND_STEP, WRITTEN_STEP = answer(body=FOUND.encode()), answer(body=WRITTEN.encode())

AMBIGUOUS = {
    "timed out": refused("etcdserver: request timed out", 14, 503),
    "leader changed": refused("etcdserver: leader changed", 14, 503),
    "deadline": refused("context deadline exceeded", 4, 504),
    "reset": reset(),
    "cut off": truncate(WRITTEN.encode()),
    "bad gateway": answer(502, b"<html>"),
}
NOT_APPLIED = {
    "no leader": refused("etcdserver: no leader", 14, 503),
    "too many": refused("etcdserver: too many requests", 8, 429),
}


@pytest.mark.parametrize("step", [*AMBIGUOUS.values(), *NOT_APPLIED.values()], ids=[*AMBIGUOUS, *NOT_APPLIED])
def test_reads_are_repeated(face, scripted, step):
    server = scripted([step, FOUND_STEP])

    async def story() -> None:
        async with face.etcd("127.0.0.1", server.port) as client:
            assert (await client.get("a"))[0] == b"1"

    face.run(story)
    assert len(server.requests) == 2


@pytest.mark.parametrize("step", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_write_that_may_have_been_done_is_not_repeated(face, scripted, step):
    server = scripted([step, WRITTEN_STEP])

    async def story() -> None:
        async with face.etcd("127.0.0.1", server.port) as client:
            with pytest.raises(OutcomeUnknown) as caught:
                await client.put("a", "1")
            assert not caught.value.repeatable
            assert caught.value.operation == "kv.put"

    face.run(story)
    assert len(server.requests) == 1


@pytest.mark.parametrize("step", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_write_that_is_harmless_to_repeat_is_repeated(face, scripted, step):
    server = scripted([step, WRITTEN_STEP])

    async def story() -> None:
        async with face.etcd("127.0.0.1", server.port) as client:
            assert await client.put("a", "1", idempotent=True) == 7

    face.run(story)
    assert len(server.requests) == 2


@pytest.mark.parametrize("step", NOT_APPLIED.values(), ids=NOT_APPLIED)
def test_a_write_that_was_not_done_is_repeated(face, scripted, step):
    server = scripted([step, WRITTEN_STEP])

    async def story() -> None:
        async with face.etcd("127.0.0.1", server.port) as client:
            assert await client.put("a", "1") == 7

    face.run(story)
    assert len(server.requests) == 2


def test_a_full_store_is_told_at_once(face, scripted):
    server = scripted([refused("etcdserver: mvcc: database space exceeded", 8, 429)])

    async def story() -> None:
        async with face.etcd("127.0.0.1", server.port) as client:
            with pytest.raises(ResourceExhausted, match="alarm disarm"):
                await client.put("a", "1")

    face.run(story)
    assert len(server.requests) == 1


def test_a_repeated_read_goes_to_members_that_were_not_met_in_vain(face, scripted, free_port):
    ill = scripted([refused("etcdserver: no leader", 14, 503)])
    well = scripted([FOUND_STEP])

    async def story() -> None:
        endpoints = [f"127.0.0.1:{port}" for port in (free_port, ill.port, well.port)]
        async with face.etcd(endpoints=endpoints, retry=RetryPolicy(base=1.5, cap=1.5)) as client:
            for target in client.endpoints[:1]:
                client._gateway._failover.failed(target, time.monotonic() - 100)
            assert (await client.get("a"))[0] == b"1"

    face.run(story)
    assert (len(ill.requests), len(well.requests)) == (1, 1)


def test_what_a_member_said_is_told_rather_than_that_another_was_not_reached(face, scripted, free_port):
    ill = scripted([refused("etcdserver: no leader", 14, 503)])

    async def story() -> None:
        retry = RetryPolicy(attempts=2, base=0.01)
        async with face.etcd(endpoints=[f"127.0.0.1:{ill.port}", f"127.0.0.1:{free_port}"], retry=retry) as client:
            with pytest.raises(NoLeader, match="after 2 attempts"):
                await client.get("a")

    face.run(story)


def test_what_a_member_said_is_told_rather_than_that_time_ran_out(face, scripted):
    server = scripted([refused("etcdserver: too many requests", 8, 429), never()])

    async def story() -> None:
        async with face.etcd("127.0.0.1", server.port, timeout=1.0) as client:
            with pytest.raises(RateLimited):
                await client.get("a")

    face.run(story)


def test_an_answer_that_is_none_is_told(face, scripted):
    server = scripted([answer(body=b"<html>hello</html>")])

    async def story() -> None:
        async with face.etcd("127.0.0.1", server.port) as client:
            with pytest.raises(BadAnswer, match="hello"):
                await client.get("a")

    face.run(story)


# --- a transport of somebody else's ---------------------------------------------------------------------------

LINES = [
    {"result": {"header": HEADER, "created": True}},
    {"result": {"header": HEADER, "events": [{"kv": {"key": "YQ==", "value": "MQ==", "mod_revision": "8"}}]}},
]


def test_an_httpx_transport_can_carry_calls_and_watches(face):
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path == "/v3/watch":
            return httpx.Response(200, content=b"".join(json.dumps(line).encode() + b"\n" for line in LINES))
        return httpx.Response(200, text=FOUND)

    async def story() -> None:
        async with face.etcd("etcd.example", transport=face.transport(handler)) as client:
            assert (await client.get("a"))[0] == b"1"
            async with client.watch_key("a") as watch:
                assert (await anext(watch)).value == b"1"
                assert watch.next_revision == 9
        assert asked[0].url == "http://etcd.example:2379/v3/kv/range"
        assert asked[1].headers["grpc-metadata-hasleader"] == "true"

    face.run(story)


def test_streams_that_end_at_once_are_opened_again_with_growing_pauses(face):
    opened: list[float] = []

    def handler(_: httpx.Request) -> httpx.Response:
        opened.append(time.monotonic())
        lines = LINES if opened[-1] - opened[0] > 0.5 else LINES[:1]
        return httpx.Response(200, content=b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    async def story() -> None:
        async with face.etcd("etcd.example", transport=face.transport(handler)) as client:
            async with client.watch_key("a") as watch:
                assert (await anext(watch)).value == b"1"

    face.run(story)
    assert 2 < len(opened) < 25


def test_an_answer_that_its_transport_has_read_already_is_taken_as_it_is(face, scripted):
    server = scripted([FOUND_STEP])

    class Reading(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            response.read()
            return response

    class AsyncReading(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            await response.aread()
            return response

    async def story() -> None:
        transport = AsyncReading() if face.is_async else Reading()
        async with face.etcd("127.0.0.1", server.port, transport=transport) as client:
            assert (await client.get("a"))[0] == b"1"

    face.run(story)


def silent_stream(connection):
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.ended.wait()
    return False


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_a_watch_that_is_given_up_before_it_has_begun_leaves_no_connection(kind, scripted):
    server = scripted([silent_stream])

    async def story() -> None:
        async with AsyncEtcdRegistry("127.0.0.1", server.port) as client:
            watch = client.watch_key("a")
            async with anyio.create_task_group() as group:
                group.start_soon(watch.__aenter__)
                while watch._opened is None:
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
            assert client._gateway._own.connections == (0, 0)

    tell(kind, story)


def test_a_watch_whose_token_is_refused_logs_in_once_more(face):
    tokens = iter(["first.1", "second.2", "third.3"])
    shown: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v3/auth/authenticate":
            return httpx.Response(200, json={"token": next(tokens)})
        shown.append(request.headers.get("authorization"))
        if shown[-1] == "first.1":
            return httpx.Response(401, json={"code": 16, "message": "etcdserver: invalid auth token"})
        return httpx.Response(200, content=b"".join(json.dumps(line).encode() + b"\n" for line in LINES))

    async def story() -> None:
        given = {"user": "ann", "password": "annpw", "transport": face.transport(handler)}
        async with face.etcd("etcd.example", **given) as client:
            async with client.watch_key("a") as watch:
                assert (await anext(watch)).value == b"1"
        assert shown == ["first.1", "second.2"]

    face.run(story)


def test_a_watch_that_is_refused_by_a_foreign_transport_is_told(face):
    body = json.dumps({"code": 14, "message": "etcdserver: no leader"})

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=FOUND + "\n") if calls else httpx.Response(503, text=body)

    calls: list[int] = []
    states = []

    async def story() -> None:
        async with face.etcd("etcd.example", transport=face.transport(handler), retry=RetryPolicy.none()) as client:
            watch = client.watch_key("a", on_state=states.append)
            with pytest.raises(Unavailable):
                await client.get("a")
            calls.append(1)
            with pytest.raises(BadAnswer):  # what is answered to other calls is none to a watch
                async with watch:
                    pass

    face.run(story)


def test_a_transport_of_the_other_face_is_refused(face):
    class Other:
        pass

    async def story() -> None:
        with pytest.raises(InvalidSettings):
            async with face.etcd("etcd.example", transport=Other()):
                pass

    face.run(story)


class Lagging(ScriptedServer):
    """Lists one instance and is gone for a while; when it is back, its watch takes its time to tell that it is gone."""

    KEY = "/consul-access/v1/services/orders/orders-1"

    def __init__(self):
        self.away, self.begun = threading.Event(), threading.Event()
        super().__init__([never()])

    def _next_step(self, request):
        if self.away.is_set():
            return reset()
        return self._watched if request.target == "/v3/watch" else answer(body=json.dumps(self._listed()).encode())

    def _listed(self):
        value = {"schema": 1, "id": "orders-1", "name": "orders", "address": "10.0.0.5", "port": 1}
        pair = {"key": encoded(self.KEY), "value": encoded(json.dumps(value)), "mod_revision": "3"}
        return {"header": HEADER, "kvs": [pair], "count": "1"}

    def _watched(self, connection):
        def tell(revision, **fields):
            line = json.dumps({"result": {"header": {**HEADER, "revision": str(revision)}, **fields}}).encode() + b"\n"
            connection.send(b"%x\r\n%s\r\n" % (len(line), line))

        was_away = self.begun.is_set()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        tell(9 if was_away else 7, created=True)
        self.begun.set()
        if not was_away:
            self.away.wait()
            return False
        connection.ended.wait(0.4)
        tell(9, events=[{"type": "DELETE", "kv": {"key": encoded(self.KEY), "mod_revision": "9"}}])
        return never()(connection)


def test_a_list_is_not_confirmed_before_the_watch_has_told_what_happened_meanwhile(face):
    """Found by the soak: it counted as fresh as soon as the watch had begun again."""
    seen = set()

    async def story():
        with Lagging() as server:
            async with face.etcd("127.0.0.1", server.port) as client, client.resolver("orders") as orders:
                await face.eventually(lambda: server.begun.is_set() and len(orders.snapshot()) == 1)
                server.away.set()
                await face.eventually(lambda: orders.snapshot().is_stale)
                server.away.clear()

                def told():
                    snapshot = orders.snapshot()
                    seen.add((len(snapshot), snapshot.is_stale))
                    return (0, False) in seen

                await face.eventually(told)

    face.run(story)
    assert (1, False) not in seen
