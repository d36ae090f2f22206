"""How calls travel: one connection, one write, failover, tokens, hooks, and other people's transports."""

from __future__ import annotations

import gc
import json
import logging
import threading
import time
import warnings

import anyio
import httpx
import pytest
import respx

from consul_access import (
    AsyncConsulAccess,
    BadAnswer,
    Call,
    ClientClosed,
    ConnectFailed,
    ConsulAccess,
    ConsulAccessError,
    ConsulSettings,
    InvalidInput,
    InvalidSettings,
    NoLeader,
    PermissionDenied,
    PoolExhausted,
    RetryPolicy,
    TokenUnknown,
)
from consul_access._async.bridge import AsyncCarrierTransport
from consul_access._async.carrier import AsyncCarrier
from consul_access._sync.bridge import CarrierTransport
from consul_access._sync.carrier import Carrier
from tests.support.scripted import answer, garbage, hang_up_after, never, packed, reset
from tests.support.waiting import eventually

ONE = json.dumps(
    [{"Node": {"Node": "n", "Address": "10.0.0.1"}, "Service": {"ID": "web-1", "Service": "web", "Port": 80}}]
).encode()
UNKNOWN_TOKEN = answer(status=403, body=b"ACL not found")


def test_a_thousand_calls_in_a_row_use_one_connection_and_one_write_each(face, scripted):
    server = scripted([answer(body=ONE)])

    async def story():
        async with face.access(url=server.url) as access:
            for _ in range(1000):
                await access.instances("web")

    face.run(story)
    assert server.connections == 1
    assert len(server.requests) == 1000
    assert {request.pieces for request in server.requests} == {1}


def test_a_write_with_a_body_is_one_write_too_and_says_what_it_is(face, scripted):
    server = scripted([answer(body=b"")])

    async def story():
        async with face.access(url=server.url) as access:
            await access.register_service("web", "10.0.0.5", 80)

    face.run(story)
    (request,) = server.requests
    assert request.pieces == 1
    assert request.target == "/v1/agent/service/register?replace-existing-checks=true"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-length"] == str(len(request.body))


def test_every_request_says_who_asks_for_what(face, scripted):
    server = scripted([answer(body=ONE)])

    async def story():
        settings = ConsulSettings.load(url=server.url, token="t0k3n", http_auth=("ann", "pw"), environ={})
        async with face.access(settings=settings) as access:
            await access.instances("web")

    face.run(story)
    headers = server.requests[0].headers
    assert headers["host"] == server.address
    assert headers["user-agent"].startswith("consul-access/")
    assert headers["accept"] == "application/json"
    assert headers["x-consul-token"] == "t0k3n"
    assert headers["authorization"] == "Basic YW5uOnB3"
    assert "accept-encoding" not in headers  # on one machine, packing costs more than it saves


def test_defaults_for_datacenter_namespace_and_partition_are_sent_unless_the_call_names_its_own(face, scripted):
    server = scripted([answer(body=ONE)])

    async def story():
        scope = {"datacenter": "dc 1", "namespace": "n", "partition": "p"}
        async with face.access(url=server.url, **scope) as access:
            await access.instances("web")
            await access.instances("web", datacenter="dc2", policy="any")

    face.run(story)
    assert [request.target for request in server.requests] == [
        "/v1/health/service/web?passing=1&dc=dc%201&ns=n&partition=p",
        "/v1/health/service/web?dc=dc2&ns=n&partition=p",
    ]


def test_a_path_prefix_is_kept(face, scripted):
    server = scripted([answer(body=ONE)])

    async def story():
        async with face.access(url=f"{server.url}/some/prefix/") as access:
            await access.instances("web")

    face.run(story)
    assert server.requests[0].target.startswith("/some/prefix/v1/health/service/web")


def test_packed_answers_are_asked_for_when_told_to_and_unpacked(face, scripted):
    server = scripted([packed(ONE)])

    async def story():
        settings = ConsulSettings.load(url=server.url, compress=True, environ={})
        async with face.access(settings=settings) as access:
            assert len(await access.instances("web")) == 1

    face.run(story)
    assert server.requests[0].headers["accept-encoding"] == "gzip"


def test_a_real_agent_packs_and_is_understood(face, consul):
    for number in range(50):
        consul.register("web", id=f"web-{number}", port=80)

    async def story():
        settings = ConsulSettings.load(url=consul.url, compress=True, environ={})
        async with face.access(settings=settings) as access:
            assert len(await access.instances("web")) == 50
            reply = await access.send(Call("raw", "GET", "/v1/agent/services", read=lambda reply: reply))
            assert reply.headers["Content-Encoding"] == "gzip"

    face.run(story)


def test_a_unix_socket_is_an_address(face, scripted, tmp_path):
    server = scripted([answer(body=ONE)], unix=tmp_path / "agent.sock")

    async def story():
        async with face.access(url=server.url) as access:
            assert len(await access.instances("web")) == 1
            reply = await access.send(Call("raw", "GET", "/x", read=lambda reply: reply))
            assert reply.address == server.url
            assert reply.remote_ip is None

    face.run(story)
    assert server.requests[0].headers["host"] == "localhost"


def test_a_real_agent_at_a_unix_socket_registers_and_answers(face, agents, tmp_path):
    agent = agents(unix=tmp_path / "consul.sock")

    async def story():
        async with face.access(url=f"unix://{agent.unix}") as access:
            async with await access.register_service("web", "10.0.0.5", 80, check=None):
                assert len(await access.search_service("web")) == 1

    face.run(story)


def test_a_real_agent_answers_over_tls(face, tls_consul, authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def story():
        for trust in ({"ca_cert": tmp_path / "ca.pem"}, {"verify": False}):
            settings = ConsulSettings.load(url=f"https://127.0.0.1:{tls_consul.https_port}", **trust, environ={})
            async with face.access(settings=settings) as access:
                assert "consul" in await access.services()
        named = {"ca_cert": tmp_path / "ca.pem", "tls_server_name": "localhost"}
        settings = ConsulSettings.load(url=f"https://127.0.0.1:{tls_consul.https_port}", **named, environ={})
        async with face.access(settings=settings) as access:
            assert "consul" in await access.services()

    face.run(story)


def test_a_reply_carries_status_headers_body_time_and_address(face, scripted):
    server = scripted([reset(), answer(status=207, body=b"hello", headers={"X-Thing": "1"})])

    async def story():
        async with face.access(url=server.url) as access:
            call = Call("raw", "GET", "/x", read=lambda reply: reply, statuses=frozenset({207}))
            reply = await access.send(call)
            assert (reply.status, reply.text, reply.headers["x-thing"]) == (207, "hello", "1")
            assert (reply.address, reply.remote_ip, reply.attempts) == (server.address, "127.0.0.1", 2)
            assert 0 < reply.elapsed < 5

    face.run(story)


class TestSeveralServers:
    def test_the_next_one_takes_over_at_once_and_is_remembered(self, face, scripted, free_port):
        server = scripted([answer(body=ONE)])

        async def story():
            async with face.access(addresses=[f"127.0.0.1:{free_port}", server.address]) as access:
                attempts = []
                access.on_exchange(lambda exchange: attempts.append(exchange.address))
                begun = time.monotonic()
                for _ in range(3):
                    await access.instances("web")
                assert time.monotonic() - begun < 2
                assert attempts == [f"127.0.0.1:{free_port}", *[server.address] * 3]

        face.run(story)

    def test_a_server_without_a_leader_is_left_for_another(self, face, scripted):
        lost = scripted([answer(status=500, body=b"No known Consul servers")])
        good = scripted([answer(body=ONE)])

        async def story():
            async with face.access(addresses=[lost.address, good.address]) as access:
                assert len(await access.instances("web")) == 1

        face.run(story)
        assert len(lost.requests) == 1

    def test_when_none_answers_the_error_is_the_last_ones(self, face, free_port):
        async def story():
            async with face.access(addresses=[f"127.0.0.1:{free_port}", ("127.0.0.1", free_port)]) as access:
                with pytest.raises(ConnectFailed):
                    await access.instances("web")
                with pytest.raises(ConnectFailed):
                    await access.register_service("web", "10.0.0.5", 80)

        face.run(story)

    def test_a_name_with_a_dead_and_a_living_address_is_no_problem(self, face, scripted, monkeypatch):
        server = scripted([answer(body=ONE)])
        monkeypatch.setattr(
            "socket.getaddrinfo",
            lambda host, port, type=0, flags=0: [
                (2, 1, 6, "", (ip, port)) for ip in ("127.0.0.9", "127.0.0.1") if not flags
            ],
        )

        async def story():
            async with face.access("two.example", server.port) as access:
                assert len(await access.instances("web")) == 1

        face.run(story)

    def test_an_unknown_name_is_named(self, face):
        async def story():
            async with face.access("no-such-host.invalid", 8500) as access:
                with pytest.raises(ConnectFailed, match=r"no-such-host\.invalid"):
                    await access.instances("web")

        face.run(story)


class TestTokens:
    def test_a_token_file_is_read_again_when_it_changes(self, face, scripted, tmp_path):
        server = scripted([answer(body=ONE)])
        file = tmp_path / "token"
        file.write_text("first\n")

        async def story():
            async with face.access(url=server.url, token=file) as access:
                await access.instances("web")
                file.write_text("second-one\n")
                await access.instances("web")

        face.run(story)
        assert [request.headers["x-consul-token"] for request in server.requests] == ["first", "second-one"]

    def test_a_function_is_asked_again_once_when_the_servers_forgot_its_token(self, face, scripted):
        server = scripted([answer(body=ONE), UNKNOWN_TOKEN, answer(body=ONE)])
        tokens = iter(["old", "new", "never asked for"])

        async def story():
            async with face.access(url=server.url, token=lambda: next(tokens)) as access:
                await access.instances("web")
                await access.instances("web")

        face.run(story)
        assert [request.headers["x-consul-token"] for request in server.requests] == ["old", "old", "new"]

    def test_a_renewed_token_is_tried_even_when_nothing_else_is_retried(self, face, scripted):
        server = scripted([UNKNOWN_TOKEN, answer(body=ONE)])
        tokens = iter(["old", "new"])

        async def story():
            async with face.access(url=server.url, token=lambda: next(tokens), retry=RetryPolicy.none()) as access:
                assert len(await access.instances("web")) == 1

        face.run(story)

    def test_a_token_that_worked_and_is_unknown_now_fails_at_once(self, face, scripted):
        server = scripted([answer(body=ONE), UNKNOWN_TOKEN])

        async def story():
            async with face.access(url=server.url, token="static") as access:
                await access.instances("web")
                with pytest.raises(TokenUnknown):
                    await access.instances("web")

        face.run(story)
        assert len(server.requests) == 2

    def test_a_token_that_no_server_has_seen_yet_gets_a_second_chance(self, face, scripted):
        server = scripted([UNKNOWN_TOKEN, answer(body=ONE)])

        async def story():
            async with face.access(url=server.url, token="made a moment ago") as access:
                begun = time.monotonic()
                assert len(await access.instances("web")) == 1
                assert time.monotonic() - begun >= 0.5

        face.run(story)

    def test_an_async_function_is_for_tasks(self, face, scripted):
        server = scripted([answer(body=ONE)])

        async def token() -> str:
            return "awaited"

        async def story():
            async with face.access(url=server.url, token=token) as access:
                if face.is_async:
                    await access.instances("web")
                    assert server.requests[0].headers["x-consul-token"] == "awaited"
                else:
                    with pytest.raises(InvalidSettings, match="AsyncConsulAccess"):
                        await access.instances("web")

        face.run(story)

    def test_real_agents_say_who_may_do_what(self, face, acl_consul):
        async def story():
            async with face.access(url=acl_consul.url) as nobody:
                assert await nobody.services() == {}  # as if there were nothing
                with pytest.raises(PermissionDenied):
                    await nobody.register_service("web", "10.0.0.5", 80, check=None)
            async with face.access(url=acl_consul.url, token="00000000-0000-4000-8000-000000000000") as stranger:
                with pytest.raises(TokenUnknown):
                    await stranger.services()
            async with face.access(url=acl_consul.url, token=acl_consul.token) as master:
                async with await master.register_service("web", "10.0.0.5", 80, check=None) as web:
                    assert await web.read()
                assert await web.deregister() is False

        face.run(story)


class TestHooks:
    def test_a_hook_is_told_of_every_exchange_repeats_included(self, face, scripted):
        server = scripted([answer(status=500, body=b"No cluster leader"), answer(body=ONE)])
        told = []

        async def story():
            async with face.access(url=server.url) as access:
                remove = access.on_exchange(told.append)
                await access.instances("web")
                remove()
                await access.instances("web")

        face.run(story)
        assert [(one.operation, one.status, one.attempt, type(one.error)) for one in told] == [
            ("health.service", 500, 1, NoLeader),
            ("health.service", 200, 2, type(None)),
        ]
        assert {one.address for one in told} == {server.address}
        assert all(one.elapsed > 0 for one in told)

    def test_a_failing_hook_is_logged_and_the_call_goes_on(self, face, scripted, caplog):
        server = scripted([answer(body=ONE)])

        def broken(exchange):
            raise RuntimeError("broken hook")

        async def story():
            async with face.access(url=server.url) as access:
                access.on_exchange(broken)
                assert len(await access.instances("web")) == 1

        face.run(story)
        assert "broken hook" in caplog.text

    def test_the_log_has_one_line_a_request(self, face, scripted, caplog):
        server = scripted([answer(body=ONE)])
        caplog.set_level(logging.DEBUG, "consul_access")

        async def story():
            async with face.access(url=server.url) as access:
                await access.instances("web")

        face.run(story)
        (line,) = [record.getMessage() for record in caplog.records if record.name == "consul_access"]
        assert line.startswith(f"health.service GET /v1/health/service/web?passing=1 at {server.address}: 200 in ")


class TestEnds:
    def test_a_closed_client_says_so(self, face, scripted):
        server = scripted([answer(body=ONE)])

        async def story():
            access = face.access(url=server.url)
            async with access as open_access:
                await open_access.instances("web")
            with pytest.raises(ClientClosed):
                await open_access.instances("web")
            await open_access.aclose()  # twice is no error

        face.run(story)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_closing_ends_calls_under_way_for_tasks(self, scripted, backend):
        server = scripted([never()])

        async def story():
            access = AsyncConsulAccess(url=server.url)
            ended = []

            async def ask():
                with pytest.raises(ClientClosed):
                    await access.instances("web")
                ended.append(time.monotonic())

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                while not server.requests:
                    await anyio.sleep(0.01)
                begun = time.monotonic()
                await access.aclose()
            assert ended[0] - begun < 5  # and not the ten seconds of the deadline

        anyio.run(story, backend=backend)

    def test_closing_ends_calls_under_way_for_threads(self, scripted):
        server = scripted([never()])
        access = ConsulAccess(url=server.url)
        ended = []

        def ask():
            try:
                access.instances("web")
            except ConsulAccessError as error:
                ended.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        access.close()
        thread.join(5)
        assert isinstance(ended[0], ClientClosed)

    def test_a_forgotten_client_says_so(self, scripted):
        server = scripted([answer(body=ONE)])
        access = ConsulAccess(url=server.url)
        access.instances("web")
        with pytest.warns(ResourceWarning, match=server.address):
            del access
            gc.collect()

    def test_a_client_that_was_never_used_may_be_forgotten(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            access = ConsulAccess(port=1)
            del access
            gc.collect()

    def test_an_async_client_survives_a_second_event_loop(self, scripted):
        server = scripted([answer(body=ONE)])
        access = AsyncConsulAccess(url=server.url)

        async def ask():
            assert len(await access.instances("web")) == 1

        for _ in range(3):
            anyio.run(ask)
        anyio.run(access.aclose)
        assert server.connections == 1


class TestPool:
    def test_when_all_connections_are_busy_the_next_caller_waits_for_one(self, scripted):
        server = scripted([answer(body=ONE)])
        settings = ConsulSettings.load(url=server.url, max_connections=2, environ={})
        with ConsulAccess(settings=settings) as access:
            threads = [threading.Thread(target=access.instances, args=("web",)) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(server.requests) == 20
        assert server.connections <= 2

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_waiting_in_vain_for_a_connection_is_named(self, scripted, backend):
        from consul_access import Timeouts

        server = scripted([never()])
        settings = ConsulSettings.load(
            url=server.url, max_connections=1, timeout=Timeouts(pool=0.1), retry=RetryPolicy.none(), environ={}
        )

        async def story():
            async with AsyncConsulAccess(settings=settings) as access, anyio.create_task_group() as group:
                group.start_soon(access.instances, "web")
                while not server.requests:
                    await anyio.sleep(0.01)
                with pytest.raises(PoolExhausted):
                    await access.instances("web")
                group.cancel_scope.cancel()

        anyio.run(story, backend=backend)

    def test_after_a_restart_of_the_agent_nobody_notices(self, face, agents):
        agent = agents(server=True)
        agent.register("web", port=80)

        async def story():
            async with face.access(url=agent.url) as access:
                assert len(await access.instances("web")) == 1
                agent.restart()
                assert len(await access.instances("web", policy="any")) == 1

        face.run(story)

    def test_what_is_not_http_is_named(self, face, scripted):
        for data in (b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00\x01\x02", b"HTTP/1.1 abc\r\n\r\n"):
            server = scripted([garbage(data)])

            async def story(server=server):
                async with face.access(url=server.url) as access:
                    with pytest.raises(BadAnswer):
                        await access.instances("web")

            face.run(story)

    def test_a_connection_with_something_left_over_is_not_used_again(self, face, scripted):
        surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        server = scripted([lambda connection: bool(connection.send(surplus)) or True])

        async def story():
            async with face.access(url=server.url) as access:
                for _ in range(3):
                    assert await access.instances("web") == []

        face.run(story)
        assert server.connections == 3


class TestOtherPeoplesTransports:
    def test_a_given_transport_gets_every_request(self, face):
        seen = []

        def handler(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(200, content=ONE, headers={"X-Consul-Index": "9"})

        async def story():
            async with face.access("consul.example", 8500, token="t", transport=face.transport(handler)) as access:
                found = await access.instances("a/b c", tags="ü&x=1")
                assert found.meta.index == 9
                await access.register_service("web", "10.0.0.5", 80)

        face.run(story)
        read, write = seen
        assert str(read.url) == "http://consul.example:8500/v1/health/service/a%2Fb%20c?passing=1&tag=%C3%BC%26x%3D1"
        assert read.headers["x-consul-token"] == "t"
        assert read.extensions["timeout"]["connect"] == 2
        assert json.loads(write.content)["Name"] == "web"

    def test_it_must_belong_to_the_same_face(self, face):
        class Other:
            pass

        with pytest.raises(InvalidSettings, match="transport="):
            (AsyncConsulAccess if face.is_async else ConsulAccess)(transport=Other())

    def test_its_answers_are_bounded_too(self, face):
        async def story():
            settings = ConsulSettings.load(max_answer_bytes=1000, environ={})
            big = face.transport(lambda request: httpx.Response(200, content=b"x" * 1001))
            async with face.access(settings=settings, transport=big) as access:
                with pytest.raises(BadAnswer, match="1000"):
                    await access.instances("web")

        face.run(story)

    def test_respx_is_asked_instead_of_the_network(self, face):
        async def story():
            async with face.access("consul.example", 8500) as access:
                with respx.mock:
                    route = respx.get("http://consul.example:8500/v1/health/service/web").respond(content=ONE)
                    assert len(await access.instances("web")) == 1
                    assert route.called

        face.run(story)

    def test_pytest_httpx_is_asked_instead_of_the_network(self, face, httpx_mock):
        httpx_mock.add_response(content=ONE)

        async def story():
            async with face.access("consul.example", 8500) as access:
                assert len(await access.instances("web")) == 1

        face.run(story)
        assert httpx_mock.get_request().url.path == "/v1/health/service/web"

    def test_our_carrier_serves_an_httpx_client(self, scripted):
        server = scripted([answer(body=b'{"a": 1}'), packed(b"unpacked"), hang_up_after(answer()), answer()])
        carrier = Carrier(max_connections=2, max_bytes=1000, tls=lambda: pytest.fail("no TLS here"))
        with httpx.Client(transport=CarrierTransport(carrier)) as client:
            assert client.post(f"{server.url}/x?y=1", json={"b": 2}).json() == {"a": 1}
            assert client.get(server.url).text == "unpacked"
            assert client.get(server.url).status_code == 200
            (pool,) = carrier._pools.values()
            eventually(lambda: pool.idle[0].is_at_end())  # the server hangs up after its answer, when it comes to it
            assert client.get(server.url).status_code == 200
        assert json.loads(server.requests[0].body) == {"b": 2}
        assert server.requests[0].target == "/x?y=1"
        assert server.requests[0].headers["host"] == server.address

    def test_our_carrier_serves_an_async_httpx_client(self, scripted, free_port):
        server = scripted([answer(body=b"hello"), never()])

        async def story():
            carrier = AsyncCarrier(max_connections=2, max_bytes=1000, tls=lambda: pytest.fail("no TLS here"))
            async with httpx.AsyncClient(transport=AsyncCarrierTransport(carrier)) as client:
                assert (await client.get(server.url)).text == "hello"
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(server.url, timeout=0.1)
                with pytest.raises(httpx.ConnectError):
                    await client.get(f"http://127.0.0.1:{free_port}")

        anyio.run(story)


def test_a_call_of_ones_own_is_sent_like_any_other(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            put = Call("kv.put", "PUT", "/v1/kv/x", body=b"1", read=lambda reply: reply.text)
            assert await access.send(put) == "true\n"
            get = Call("kv.get", "GET", "/v1/kv/x", query=(("raw", None),), read=lambda reply: reply.body)
            assert await access.send(get) == b"1"
            delete = Call("kv.delete", "DELETE", "/v1/kv/x", read=lambda reply: reply.text)
            assert await access.send(delete) == "true\n"

    face.run(story)


def test_settings_and_other_arguments_exclude_each_other(face):
    with pytest.raises(InvalidInput, match="token"):
        (AsyncConsulAccess if face.is_async else ConsulAccess)(settings=ConsulSettings.load(environ={}), token="x")
