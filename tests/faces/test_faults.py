"""What a registry, a network or a stranger on the port can do to a single call."""

from __future__ import annotations

import gc
import json
import logging
import os
import ssl
import threading
import time
import traceback

import anyio
import httpx
import pytest
import trustme

from consul_access import (
    AnswerTooLarge,
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    ConsulAccess,
    ConsulAccessError,
    ConsulSettings,
    DeadlineExceeded,
    InvalidInput,
    NoInstances,
    OutcomeUnknown,
    RateLimited,
    TlsError,
    UnexpectedRedirect,
)
from tests.support.awkward import AWKWARD, REFUSED
from tests.support.calls import COMPARE_AND_SET
from tests.support.faces import Awaited
from tests.support.memory import peak_memory
from tests.support.scripted import (
    answer,
    drip_body,
    drip_headers,
    endless,
    gzip_bomb,
    hang_up_after,
    never,
    reset,
    truncate,
)

MEBIBYTE = 1024 * 1024


def entry(port: object = 8080, address: object = "10.0.0.5", identity: str = "web-1") -> dict[str, object]:
    return {
        "Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"},
        "Service": {"ID": identity, "Service": "web", "Address": address, "Port": port},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}],
    }


ONE = json.dumps([entry()]).encode()


def test_f01_connections_closed_on_reuse_are_never_an_error(face, scripted):
    server = scripted([hang_up_after(answer(body=ONE))])

    async def story():
        async with face.access(url=server.url) as access:
            for _ in range(60):
                assert len(await access.instances("web")) == 1

    face.run(story)
    assert len(server.requests) >= 60


def test_f02_a_passing_loss_of_the_leader_is_waited_out(face, scripted):
    no_leader = answer(status=500, body=b"No cluster leader")
    server = scripted([step for _ in range(10) for step in (no_leader, answer(body=ONE))])

    async def story():
        async with face.access(url=server.url) as access:
            for _ in range(10):
                begun = time.monotonic()
                assert len(await access.instances("web")) == 1
                assert time.monotonic() - begun <= 2

    face.run(story)


def test_f03_a_server_that_asks_to_wait_is_given_the_time(face, scripted):
    server = scripted([answer(status=429, body=b"slow down", headers={"Retry-After": "1"}), answer(body=ONE)])

    async def story():
        async with face.access(url=server.url) as access:
            begun = time.monotonic()
            assert len(await access.instances("web")) == 1
            assert time.monotonic() - begun >= 1

    face.run(story)


def test_f03_a_server_that_asks_for_more_time_than_there_is_gets_none(face, scripted):
    server = scripted([answer(status=429, body=b"slow down", headers={"Retry-After": "20"})])

    async def story():
        async with face.access(url=server.url, timeout=3) as access:
            begun = time.monotonic()
            with pytest.raises(RateLimited):
                await access.instances("web")
            assert time.monotonic() - begun < 2

    face.run(story)


def test_f04_a_reset_instead_of_an_answer_is_retried(face, scripted):
    server = scripted([step for _ in range(10) for step in (reset(), answer(body=ONE))])

    async def story():
        async with face.access(url=server.url) as access:
            for _ in range(10):
                assert len(await access.instances("web")) == 1

    face.run(story)


def test_f05_a_truncated_body_is_never_believed(face, scripted):
    server = scripted([step for _ in range(5) for step in (truncate(ONE), answer(body=ONE))])

    async def story():
        async with face.access(url=server.url) as access:
            for _ in range(5):
                assert [instance.id for instance in await access.instances("web")] == ["web-1"]

    face.run(story)


WRONG_SHAPES = {
    "an object": b"{}",
    "null": b"null",
    "a text": b'"x"',
    "a number": b"5",
    "true": b"true",
    "a list of null": b"[null]",
    "a list of numbers": b"[1, 2]",
    "a list of lists": b"[[]]",
    "a list of empty objects": b"[{}]",
    "nothing": b"",
    "half of it": ONE[:-20],
    "a web page": b"<html><body>502 Bad Gateway</body></html>",
    "a wrong type inside": json.dumps([{"Node": 5, "Service": [], "Checks": "x"}]).encode(),
}


@pytest.mark.parametrize("body", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_f06_answers_of_the_wrong_shape_are_bad_answers(face, scripted, body):
    server = scripted([answer(body=body)])

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(BadAnswer) as caught:
                await access.instances("web")
            assert caught.value.operation == "health.service"
            assert caught.value.address == server.address
            for read in (access.health, access.catalog):
                with pytest.raises(BadAnswer):
                    await read("web")

    face.run(story)


def test_f07_an_answer_of_200_megabytes_ends_at_the_limit(face, scripted):
    server = scripted([endless(200 * MEBIBYTE)])
    before = peak_memory()

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(AnswerTooLarge):
                await access.instances("web")

    face.run(story)
    assert peak_memory() - before <= 64 * MEBIBYTE


def test_f07_an_endless_answer_without_a_length_ends_at_the_limit(face, scripted):
    server = scripted([endless(200 * MEBIBYTE, chunked=True)])
    before = peak_memory()

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(AnswerTooLarge):
                await access.instances("web")

    face.run(story)
    assert peak_memory() - before <= 64 * MEBIBYTE


def test_f08_a_zip_bomb_ends_at_the_limit(face, scripted):
    server = scripted([gzip_bomb(1024 * MEBIBYTE)])
    before = peak_memory()

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(AnswerTooLarge):
                await access.instances("web")

    face.run(story)
    assert peak_memory() - before <= 64 * MEBIBYTE


def test_f09_json_nested_a_hundred_thousand_deep_is_a_bad_answer(face, scripted):
    server = scripted([answer(body=b"[" * 100_000 + b"]" * 100_000)])

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(BadAnswer):
                await access.instances("web")
            with pytest.raises(BadAnswer):
                await access.services()

    face.run(story)


@pytest.mark.parametrize("silence", [never(), drip_body(ONE, 0.05), drip_headers(0.05)], ids=["f10", "f11", "f12"])
def test_f10_f11_f12_silence_and_drips_end_at_the_deadline(face, scripted, silence):
    server = scripted([silence])

    async def story():
        async with face.access(url=server.url, timeout=2) as access:
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await access.instances("web")
            assert time.monotonic() - begun <= 2.4

    face.run(story)


def test_the_deadline_is_ten_seconds_unless_told_otherwise():
    assert ConsulSettings.load(environ={}).timeouts.total == 10


def test_f15_a_redirect_is_not_followed_and_the_token_stays_here(face, scripted):
    elsewhere = scripted([answer(body=ONE)])
    server = scripted([answer(status=302, headers={"Location": f"{elsewhere.url}/v1/health/service/web"})])

    async def story():
        async with face.access(url=server.url, token="canary-5f1c") as access:
            with pytest.raises(UnexpectedRedirect) as caught:
                await access.instances("web")
            assert not caught.value.retryable

    face.run(story)
    assert elsewhere.requests == []
    assert len(server.requests) == 1


def test_f16_a_redirect_of_a_write_is_not_followed(face, scripted):
    elsewhere = scripted([answer()])
    server = scripted([answer(status=307, headers={"Location": f"{elsewhere.url}/"})])

    async def story():
        async with face.access(url=server.url, token="canary-5f1c") as access:
            with pytest.raises(UnexpectedRedirect):
                await access.register_service("web", "10.0.0.5", 8080)

    face.run(story)
    assert elsewhere.requests == []


def test_f17_a_registration_whose_answer_is_lost_is_repeated_and_registers_once(face, scripted):
    server = scripted([reset(), answer(body=b"")])

    async def story():
        async with face.access(url=server.url) as access:
            await access.register_service("web", "10.0.0.5", 8080, id="web-1")

    face.run(story)
    bodies = [json.loads(request.body) for request in server.requests]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert bodies[0]["ID"] == "web-1"


def test_f17_a_registration_that_never_gets_an_answer_has_an_unknown_but_repeatable_outcome(face, scripted):
    server = scripted([reset()])

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(OutcomeUnknown) as caught:
                await access.register_service("web", "10.0.0.5", 8080)
            assert caught.value.repeatable
            assert caught.value.attempts == 3

    face.run(story)


def test_f18_a_write_that_must_not_be_repeated_is_sent_once(face, scripted):
    server = scripted([reset()])

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(OutcomeUnknown) as caught:
                await access.send(COMPARE_AND_SET)
            assert not caught.value.repeatable

    face.run(story)
    assert len(server.requests) == 1


def test_f18_a_write_that_was_certainly_not_applied_is_repeated(face, scripted):
    server = scripted([answer(status=500, body=b"No cluster leader"), answer(body=b"true")])

    async def story():
        async with face.access(url=server.url) as access:
            assert await access.send(COMPARE_AND_SET) == "true"

    face.run(story)
    assert len(server.requests) == 2


@pytest.mark.parametrize("name", AWKWARD)
def test_f19_awkward_names_are_asked_for_exactly(face, consul, name):
    consul.register(name, id="awkward", port=80, address="10.0.0.5")

    async def story():
        async with face.access(url=consul.url) as access:
            (instance,) = await access.instances(name)
            assert instance.service == name

    face.run(story)


@pytest.mark.parametrize("name", REFUSED)
def test_f19_names_that_no_server_can_look_up_are_refused_here(face, scripted, name):
    server = scripted([answer(body=ONE)])

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(InvalidInput):
                await access.instances(name)
            with pytest.raises(InvalidInput):
                await access.register_service(name, "10.0.0.5", 80)
            with pytest.raises(InvalidInput):
                await access.deregister_service(name)

    face.run(story)
    assert server.requests == []


@pytest.mark.parametrize("segment", ["..", ".", "", "a\nb"])
def test_f20_a_path_made_from_segments_cannot_leave_its_place(segment):
    from consul_access.call import path

    with pytest.raises(InvalidInput):
        path("v1", "kv", segment, "x")


def test_f21_the_token_is_seen_nowhere_but_in_its_header(face, scripted, caplog):
    canary = "canary-7b1e55"
    server = scripted([answer(status=500, body=b"broken"), answer(status=403, body=b"Permission denied"), never()])
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    async def story():
        async with face.access(url=server.url, token=canary, timeout=0.5) as access:
            access.on_exchange(lambda exchange: seen.append(repr(exchange)))
            for _ in range(2):
                try:
                    await access.instances("web", tags="x")
                except ConsulAccessError as error:
                    seen.extend([str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)])
            seen.extend([repr(access), str(access), repr(access.settings), repr(access.settings.token)])
            inner = access._inner if isinstance(access, Awaited) else access
            seen.extend(repr(vars(one)) for one in (inner, inner._transport, inner._transport._own))

    face.run(story)
    assert any(request.headers.get("x-consul-token") == canary for request in server.requests)
    assert all(canary not in request.target for request in server.requests)
    assert len(seen) > 5
    assert canary not in "\n".join(seen) + caplog.text


@pytest.mark.parametrize("port", [99999, -1, "80", 1.5, 2**31])
def test_f22_an_impossible_port_is_never_handed_out(face, scripted, port):
    server = scripted([answer(body=json.dumps([entry(port=port), entry(identity="good")]).encode())])

    async def story():
        async with face.access(url=server.url) as access:
            found = await access.instances("web")
            assert [instance.id for instance in found] == ["good"]
            assert found.rejected == 1
            assert [str(address) for address in await access.search_service("web")] == ["10.0.0.5:8080"]

    face.run(story)


@pytest.mark.parametrize("address", ["http://evil", "a b", "host:80", "10.0.0.1/24", "a\nb", "[::1]", "x" * 300])
def test_f22_an_impossible_address_is_never_handed_out(face, scripted, address):
    server = scripted([answer(body=json.dumps([entry(address=address), entry(identity="good")]).encode())])

    async def story():
        async with face.access(url=server.url) as access:
            assert [str(address) for address in await access.search_service("web")] == ["10.0.0.5:8080"]

    face.run(story)


@pytest.mark.parametrize("port", [0, None])
def test_f22_an_instance_without_a_port_is_no_address(face, scripted, port):
    server = scripted([answer(body=json.dumps([entry(port=port)]).encode())])

    async def story():
        async with face.access(url=server.url) as access:
            assert await access.search_service("web") == []
            with pytest.raises(NoInstances, match="no port"):
                await access.resolve("web")
            with pytest.raises(NoInstances, match="no port"):
                _ = (await access.instances("web"))[0].address

    face.run(story)


def test_f23_a_hundred_threads_share_one_client(consul):
    names = [f"svc-{number}" for number in range(10)]
    for number, name in enumerate(names):
        consul.register(name, port=1000 + number, address="10.0.0.5")
    wrong: list[object] = []
    with ConsulAccess(url=consul.url) as access:

        def read(turn: int) -> None:
            for step in range(20):
                number = (turn + step) % len(names)
                try:
                    found = [instance.port for instance in access.instances(names[number])]
                except ConsulAccessError as error:
                    wrong.append(error)
                else:
                    if found != [1000 + number]:
                        wrong.append(found)

        threads = [threading.Thread(target=read, args=(turn,)) for turn in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_f24_a_forked_child_and_its_parent_never_read_each_others_answers(consul):
    for side, port in (("parent", 1111), ("child", 2222)):
        consul.register(side, port=port, address="10.0.0.5")
    with ConsulAccess(url=consul.url) as access:
        assert access.resolve("parent").port == 1111  # warm: a connection is open
        child = os.fork()
        side, port = ("parent", 1111) if child else ("child", 2222)
        wrong = sum([item.port for item in access.instances(side)] != [port] for _ in range(300))
        if not child:
            os._exit(min(wrong, 100))
        _, status = os.waitpid(child, 0)
    assert wrong == 0
    assert os.waitstatus_to_exitcode(status) == 0


def test_f25_a_refused_connection_is_our_own_error_at_once(face, free_port):
    async def story():
        async with face.access("127.0.0.1", free_port) as access:
            begun = time.monotonic()
            with pytest.raises(ConnectFailed, match="refused") as caught:
                await access.instances("web")
            assert time.monotonic() - begun <= 5
            assert caught.value.retryable
            assert caught.value.attempts == 3

    face.run(story)


def test_f26_a_black_holed_connect_ends_in_time(face, black_hole):
    async def story():
        async with face.access(url=black_hole.url, timeout=2.5) as access:
            begun = time.monotonic()
            with pytest.raises((ConnectFailed, DeadlineExceeded)):
                await access.instances("web")
            assert time.monotonic() - begun <= 3

    face.run(story)


class TestF27Tls:
    """Each way in which TLS can fail is named, and not tried again."""

    def serve(self, scripted, certificate: trustme.LeafCert, client_ca: trustme.CA | None = None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            client_ca.configure_trust(context)
        return scripted([answer(body=ONE)], tls=context)

    def trusting(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    def expect_tls_error(self, face, server, context: ssl.SSLContext, text: str) -> None:
        async def story():
            async with face.access(url=server.url, ssl_context=context) as access:
                with pytest.raises(TlsError, match=text) as caught:
                    await access.instances("web")
                assert not caught.value.retryable
                assert caught.value.attempts == 1

        face.run(story)

    def test_f27_a_good_certificate_is_accepted(self, face, scripted, authority):
        server = self.serve(scripted, authority.issue_cert("127.0.0.1"))

        async def story():
            async with face.access(url=server.url, ssl_context=self.trusting(authority)) as access:
                assert len(await access.instances("web")) == 1
                assert len(await access.instances("web")) == 1

        face.run(story)
        assert server.connections == 1

    def test_f27_a_foreign_authority_is_named(self, face, scripted, authority):
        server = self.serve(scripted, trustme.CA().issue_cert("127.0.0.1"))
        self.expect_tls_error(face, server, self.trusting(authority), "issuer|self.signed")

    def test_f27_a_wrong_name_is_named(self, face, scripted, authority):
        server = self.serve(scripted, authority.issue_cert("other.example"))
        self.expect_tls_error(face, server, self.trusting(authority), "(?i)mismatch|match")

    def test_f27_a_missing_client_certificate_is_named(self, face, scripted, authority):
        server = self.serve(scripted, authority.issue_cert("127.0.0.1"), client_ca=authority)
        self.expect_tls_error(face, server, self.trusting(authority), "certificate")

    def test_f27_a_client_certificate_from_files_is_shown(self, face, scripted, authority, tmp_path):
        server = self.serve(scripted, authority.issue_cert("127.0.0.1"), client_ca=authority)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        mine = authority.issue_cert("client.example")
        mine.private_key_pem.write_to_path(tmp_path / "key.pem")
        mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        environ = {
            "CONSUL_HTTP_ADDR": server.url,
            "CONSUL_CACERT": str(tmp_path / "ca.pem"),
            "CONSUL_CLIENT_CERT": str(tmp_path / "cert.pem"),
            "CONSUL_CLIENT_KEY": str(tmp_path / "key.pem"),
        }

        async def story():
            async with face.access(settings=ConsulSettings.load(environ=environ)) as access:
                assert len(await access.instances("web")) == 1

        face.run(story)

    def test_f27_https_to_the_plain_port_of_a_real_agent_is_named(self, face, consul, authority):
        async def story():
            async with face.access(url=f"https://{consul.address}", ssl_context=self.trusting(authority)) as access:
                with pytest.raises(TlsError) as caught:
                    await access.instances("web")
                assert caught.value.attempts == 1

        face.run(story)

    def test_f27_plain_http_to_a_tls_port_of_a_real_agent_is_named(self, face, tls_consul):
        async def story():
            async with face.access("127.0.0.1", tls_consul.https_port) as access:
                with pytest.raises(TlsError, match="https"):
                    await access.instances("consul")

        face.run(story)


def test_f28_a_proxy_in_the_environment_sees_nothing(face, scripted, monkeypatch):
    proxy, server = scripted([answer(body=b"[]")]), scripted([answer(body=ONE)])
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.setenv("NO_PROXY", "")

    async def story():
        async with face.access(url=server.url, token="canary") as access:
            assert len(await access.instances("web")) == 1

    face.run(story)
    assert proxy.requests == []


def test_f32_a_half_open_pooled_connection_ends_at_the_deadline_and_is_replaced(face, scripted):
    server = scripted([answer(body=ONE), never(), answer(body=ONE)])

    async def story():
        async with face.access(url=server.url, timeout=2) as access:
            await access.instances("web")
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await access.instances("web")
            assert time.monotonic() - begun <= 2.4
            assert len(await access.instances("web")) == 1

    face.run(story)
    assert server.connections == 2


# --- what is not in the list, and belongs to it ---------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ten_thousand_early_cancellations_lose_no_slot(consul, backend):
    """N02: cancelled within the first 5 ms, where other pools lose a place for ever."""
    from consul_access import AsyncConsulAccess

    async def story():
        settings = ConsulSettings.load(url=consul.url, max_connections=4, environ={})
        async with AsyncConsulAccess(settings=settings) as access:
            cancelled = 0

            async def cancel_after(delay: float) -> None:
                nonlocal cancelled
                with anyio.move_on_after(delay) as scope:
                    await access.instances("consul")
                cancelled += scope.cancelled_caught

            turn = 0
            while cancelled < 10_000:
                async with anyio.create_task_group() as group:
                    for _ in range(16):
                        turn += 1
                        group.start_soon(cancel_after, turn % 100 * 0.00001)
            begun = time.monotonic()
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(access.instances, "consul")
            assert time.monotonic() - begun <= 1
            busy, idle = access._transport._own.connections
            assert busy == 0
            assert idle <= 4

    anyio.run(story, backend=backend)


class Boom(Exception):
    """Something no one has foreseen."""


FOREIGN = [
    httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.ReadTimeout("x"), httpx.WriteTimeout("x"),
    httpx.PoolTimeout("x"), httpx.ReadError("x"), httpx.WriteError("x"), httpx.CloseError("x"),
    httpx.RemoteProtocolError("x"), httpx.LocalProtocolError("x"), httpx.ProxyError("x"),
    httpx.UnsupportedProtocol("x"), httpx.DecodingError("x"), httpx.TooManyRedirects("x"), httpx.InvalidURL("x"),
    httpx.StreamConsumed(), ssl.SSLError("x"), OSError("x"), ConnectionResetError("x"), TimeoutError("x"),
    RuntimeError("x"), ValueError("x"), RecursionError("x"), MemoryError("x"), KeyError("x"), Boom("x"),
]  # fmt: skip


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda error: type(error).__name__)
def test_no_foreign_exception_escapes_whatever_the_transport_raises(face, foreign):
    def handler(request: httpx.Request) -> httpx.Response:
        raise foreign

    async def story():
        async with face.access(transport=face.transport(handler), timeout=1) as access:
            with pytest.raises(ConsulAccessError) as read:
                await access.instances("web")
            with pytest.raises(ConsulAccessError) as write:
                await access.register_service("web", "10.0.0.5", 80)
            for caught in (read, write):
                chain, error = [], caught.value
                while error is not None:
                    chain.append(error)
                    error = error.__cause__
                assert foreign in chain

    face.run(story)


def test_no_connection_is_left_open_after_close(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            await access.instances("consul")

    face.run(story)
    gc.collect()  # a socket left open would be a ResourceWarning, and those are errors here


def test_errors_name_operation_and_address(face, scripted):
    server = scripted([reset()])

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(ConnectionLost, match=rf"health\.service at {server.address}: .* after 3 attempts"):
                await access.instances("web")

    face.run(story)
