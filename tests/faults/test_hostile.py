"""Servers that mean harm, or are none: wrong lengths, bombs, endless streams, odd redirects, impossible numbers."""

from __future__ import annotations

import json
import socket
import ssl
import time

import pytest
import trustme

from consul_access import (
    AnswerTooLarge,
    BadAnswer,
    ConnectFailed,
    ConsulAccessError,
    DeadlineExceeded,
    EtcdSettings,
    RetryPolicy,
    TlsError,
    UnexpectedRedirect,
)
from tests.faults.decoders import DECODERS
from tests.support.memory import peak_memory
from tests.support.scripted import answer, drip_body, drip_headers, endless, garbage, gzip_bomb, never

MEBIBYTE = 1024 * 1024
ENTRY = {
    "Node": {"Node": "n1", "Address": "10.0.0.1"},
    "Service": {"ID": "web-1", "Service": "web", "Address": "10.0.0.5", "Port": 8080},
    "Checks": [],
}
ONE = json.dumps([ENTRY]).encode()
PAIR = b'{"header":{"revision":"7"},"kvs":[{"key":"YQ==","value":"MQ==","mod_revision":"3"}],"count":"1"}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def told(body: bytes, *lines: str):
    """An answer with these lines, and the end of the connection."""
    return garbage("\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode() + body)


WRONG_LENGTHS = {
    "too long": lambda body: told(body, f"Content-Length: {len(body) + 10}"),
    "too short": lambda body: told(body, f"Content-Length: {len(body) - 10}"),
    "two of them": lambda body: told(body, f"Content-Length: {len(body)}", "Content-Length: 2"),
    "negative": lambda body: told(body, "Content-Length: -1"),
    "no number": lambda body: told(body, "Content-Length: many"),
    "beyond all bounds": lambda body: told(body, f"Content-Length: {10**30}"),
    "larger than a number": lambda body: told(body, f"Content-Length: {2**64 - 1}"),
    "and chunked": lambda body: told(body, f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"),
    "a chunk of 16 exbibytes": lambda body: garbage(CHUNKED + b"ffffffffffffffff\r\n" + body),
    "a chunk of less than nothing": lambda body: garbage(CHUNKED + b"-1\r\n" + body),
    "a chunk that is longer than it says": lambda body: garbage(CHUNKED + b"2\r\n" + body + b"\r\n0\r\n\r\n"),
    "chunks without an end": lambda body: garbage(CHUNKED + b"%x\r\n%s\r\n" % (len(body), body)),
}


@pytest.mark.parametrize("wrong", WRONG_LENGTHS.values(), ids=WRONG_LENGTHS)
def test_a_wrong_length_is_never_believed(face, scripted, wrong):
    consul, etcd = scripted([wrong(ONE)]), scripted([wrong(PAIR)])

    async def story():
        async with face.access(url=consul.url, timeout=2, retry=RetryPolicy.none()) as access:
            with pytest.raises(ConsulAccessError):
                await access.instances("web")
        async with face.etcd("127.0.0.1", etcd.port, timeout=2, retry=RetryPolicy.none()) as client:
            with pytest.raises(ConsulAccessError):
                await client.get("a")

    face.run(story)


def test_with_the_right_length_they_are_believed(face, scripted):
    consul, etcd = (scripted([told(body, f"Content-Length: {len(body)}")]) for body in (ONE, PAIR))

    async def story():
        async with face.access(url=consul.url) as access, face.etcd("127.0.0.1", etcd.port) as client:
            assert len(await access.instances("web")) == 1
            assert (await client.get("a"))[0] == b"1"

    face.run(story)


def endless_continue(connection):
    while not connection.ended.is_set():
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    return False


def endless_header(connection):
    connection.send(b"HTTP/1.1 200 OK\r\nX: ")
    while not connection.ended.is_set():
        connection.send(b"x" * 65536)
    return False


def endless_chunk_extension(connection):
    connection.send(CHUNKED + b"1;")
    while not connection.ended.is_set():
        connection.send(b"x" * 65536)
    return False


ENDLESS = {  # until a limit is reached, or the deadline
    "interim answers": (endless_continue, 2.0),
    "a header": (endless_header, 2.0),
    "a chunk's extension": (endless_chunk_extension, 2.0),
    "headers one by one": (drip_headers(0.05), 0.5),
    "a body byte by byte": (drip_body(ONE, 0.05), 0.5),
    "a body": (endless(200 * MEBIBYTE, chunked=True), 2.0),
    "a packed body": (gzip_bomb(200 * MEBIBYTE), 2.0),
    "silence": (never(), 0.5),
}


@pytest.mark.parametrize(("step", "timeout"), ENDLESS.values(), ids=ENDLESS)
def test_what_has_no_end_is_ended_by_us(face, scripted, step, timeout):
    server = scripted([step])

    async def story():
        async with face.access(url=server.url, timeout=timeout, retry=RetryPolicy.none()) as access:
            begun = time.monotonic()
            with pytest.raises((AnswerTooLarge, BadAnswer, DeadlineExceeded)):
                await access.instances("web")
            assert time.monotonic() - begun < timeout + 4

    face.run(story)


MANY = 200_000
SWARMS = {
    "objects": b"[" + b"{}," * MANY + b"{}]",
    "numbers": b"[" + b"1," * MANY + b"1]",
    "fields": b'{"a":[' + b"{}," * MANY + b"{}]}",
    "long ones": b"[" + b'{"some":"thing"},' * (MANY // 5) + b"{}]",
}


@pytest.mark.parametrize("body", SWARMS.values(), ids=SWARMS)
@pytest.mark.parametrize("name", ["health.instances", "catalog.service", "catalog.services", "agent.services"])
def test_a_swarm_of_things_that_are_none_is_refused_without_a_complaint_about_each(name, body):
    """Three megabytes of `{}` took two gigabytes and a quarter of a minute."""
    read, _ = DECODERS[name]
    before, begun = peak_memory(), time.process_time()
    with pytest.raises(BadAnswer):
        read(body)
    assert time.process_time() - begun < 2
    assert peak_memory() - before < 200 * MEBIBYTE


def test_more_bad_entries_than_good_ones_are_no_list_and_fewer_are_left_out():
    read, _ = DECODERS["health.instances"]
    bad = {"Node": {"Node": "n1"}, "Service": {"ID": "it has neither a name nor a port"}}
    good = [ENTRY | {"Service": ENTRY["Service"] | {"ID": f"web-{number}"}} for number in range(1100)]
    assert len(read(json.dumps([*good, *[bad] * 1050]).encode())) == 1100
    with pytest.raises(BadAnswer):
        read(json.dumps([*good, *[bad] * 1150]).encode())


NUMBERS = {
    "a port beyond all bounds": ONE.replace(b"8080", b"9" * 400),
    "an index beyond all bounds": ONE.replace(b'"Port"', b'"ModifyIndex": ' + b"9" * 5000 + b', "Port"'),
    "no number": ONE.replace(b"8080", b"NaN"),
    "infinity": ONE.replace(b"8080", b"1e999"),
    "a million digits": ONE.replace(b"8080", b"9" * MEBIBYTE),
    "minus nothing": ONE.replace(b"8080", b"-0"),
}


@pytest.mark.parametrize("body", NUMBERS.values(), ids=NUMBERS)
def test_impossible_numbers_are_no_addresses(face, scripted, body):
    server = scripted([answer(body=body)])

    async def story():
        async with face.access(url=server.url) as access:
            try:
                found = await access.search_service("web")
            except BadAnswer:
                return
            assert {str(one) for one in found} <= {"10.0.0.5:8080"}

    face.run(story)


REDIRECTS = {
    "elsewhere": "http://127.0.0.1:{port}/v1/health/service/web",
    "without a scheme": "//127.0.0.1:{port}/",
    "within the same server": "/v1/kv/other",
    "to a file": "file:///etc/passwd",
    "to itself": "",
    "with user and password": "http://a:b@127.0.0.1:{port}/",
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", REDIRECTS.values(), ids=REDIRECTS)
def test_no_redirect_is_followed_anywhere_by_anything(face, scripted, status, location):
    elsewhere = scripted([answer(body=ONE)])
    server = scripted([answer(status, b"", {"Location": location.format(port=elsewhere.port)})])

    async def story():
        async with face.access(url=server.url, token="canary-elsewhere-1") as access:
            with pytest.raises(UnexpectedRedirect):
                await access.instances("web")
            with pytest.raises(UnexpectedRedirect):
                await access.register_service("web", "10.0.0.5", 80)
            with pytest.raises(UnexpectedRedirect):
                await access.deregister_service("web-1")
        async with face.etcd("127.0.0.1", server.port) as client:
            with pytest.raises(UnexpectedRedirect):
                await client.put("a", "1")

    face.run(story)
    assert len(server.requests) == 4
    assert elsewhere.requests == []


def test_a_list_that_is_followed_is_asked_for_nowhere_else_either(face, scripted):
    elsewhere = scripted([answer(body=ONE)])
    server = scripted([answer(302, b"", {"Location": elsewhere.url})])

    async def story():
        async with face.access(url=server.url, token="canary-elsewhere-2") as access, access.resolver("web") as web:
            await face.eventually(lambda: "302" in web.snapshot().reason, what="the redirect is the reason")
            assert web.snapshot().is_stale

    face.run(story)
    assert elsewhere.requests == []


class TestTls:
    """Wrong TLS is refused before the token is sent."""

    def serving(self, scripted, certificate, **limits):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        for name, value in limits.items():
            setattr(context, name, value)
        return scripted([answer(body=ONE)], tls=context)

    def refused(self, face, server, authority, **options):
        context = ssl.create_default_context()
        authority.configure_trust(context)

        async def story():
            async with face.access(url=server.url, ssl_context=context, token="canary-tls-2", **options) as access:
                with pytest.raises((TlsError, ConnectFailed)) as caught:
                    await access.instances("web")
                assert isinstance(caught.value, TlsError)

        face.run(story)
        assert server.requests == []

    def test_a_certificate_that_has_expired(self, face, scripted, authority):
        import datetime as dt

        past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        self.refused(face, self.serving(scripted, authority.issue_cert("127.0.0.1", not_after=past)), authority)

    def test_a_certificate_for_another_host(self, face, scripted, authority):
        self.refused(face, self.serving(scripted, authority.issue_cert("10.0.0.5")), authority)

    def test_a_certificate_of_an_unknown_authority(self, face, scripted, authority):
        self.refused(face, self.serving(scripted, trustme.CA().issue_cert("127.0.0.1")), authority)

    def test_a_protocol_of_yesterday(self, face, scripted, authority):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            server = self.serving(
                scripted, authority.issue_cert("127.0.0.1"), minimum_version=ssl.TLSVersion.TLSv1,
                maximum_version=ssl.TLSVersion.TLSv1_1,
            )  # fmt: skip
        self.refused(face, server, authority)


def test_a_handshake_that_never_ends_is_ended_by_us(face, authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with socket.create_server(("127.0.0.1", 0)) as silent:

        async def story():
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            async with face.access(url=url, ssl_context=context, timeout=1) as access:
                begun = time.monotonic()
                with pytest.raises((ConnectFailed, DeadlineExceeded)):
                    await access.instances("web")
                assert time.monotonic() - begun < 4

        face.run(story)


def test_a_server_that_is_gone_before_it_was_spoken_to_is_a_failed_connection(face, scripted, monkeypatch):
    """Found by the soak: between connecting and asking for the other end's address it can be reset."""

    def gone(sock):
        raise OSError(107, "Transport endpoint is not connected")

    server = scripted([answer(body=ONE)])
    monkeypatch.setattr(socket.socket, "getpeername", gone, raising=False)

    async def story():
        async with face.access(url=server.url, retry=RetryPolicy(base=0.01)) as access:
            with pytest.raises(ConnectFailed, match="not connected"):
                await access.instances("web")

    face.run(story)


# --- watches at etcd ------------------------------------------------------------------------------------------

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CREATED = b'{"result":{"header":{"revision":"7"},"created":true}}\n'


def line(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


def endless_line(connection):
    connection.send(STREAM + line(CREATED))
    while not connection.ended.is_set():
        connection.send(line(b" " * 65536))
    return False


WRONG_STREAMS = {
    "a line without an end": endless_line,
    "a line that is no JSON": garbage(STREAM + line(CREATED) + line(b"<html>\n")),
    "a line nested deeply": garbage(STREAM + line(CREATED) + line(b"[" * 50_000 + b"\n")),
    "a revision beyond all bounds": garbage(
        STREAM + line(b'{"result":{"header":{"revision":"' + b"9" * 5000 + b'"}}}\n')
    ),
    "an event without a key": garbage(STREAM + line(CREATED) + line(b'{"result":{"events":[{"type":"PUT"}]}}\n')),
    "a redirect": answer(302, b"", {"Location": "http://127.0.0.1:1/"}),
}


async def first_event(watch):
    async with watch:
        return await anext(aiter(watch))


@pytest.mark.parametrize("step", WRONG_STREAMS.values(), ids=WRONG_STREAMS)
def test_a_watch_of_a_hostile_server_ends_with_our_error(face, scripted, step):
    server = scripted([answer(body=b'{"header":{"revision":"7"}}'), step])

    async def story():
        settings = EtcdSettings.load("127.0.0.1", server.port, max_answer_bytes=4 * MEBIBYTE, environ={})
        async with face.etcd(settings=settings) as client:
            with pytest.raises(ConsulAccessError):
                await first_event(client.watch_key("a"))

    face.run(story)
