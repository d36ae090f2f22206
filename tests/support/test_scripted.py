"""The scripted server, seen by a raw socket."""

from __future__ import annotations

import gzip
import socket
import ssl
import sys
import time

import pytest
import trustme

from tests.support import scripted as steps
from tests.support.scripted import MEBIBYTE, ScriptedServer, answer

REQUEST = b"PUT /v1/thing?x=1 HTTP/1.1\r\nHost: here\r\nX-Mixed-Case: Kept\r\nContent-Length: 4\r\n\r\nbody"


@pytest.fixture
def connected(scripted):
    """A scripted server, and a raw connection to it."""
    opened = []

    def connect(*script):
        server = scripted(script)
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        opened.append(sock)
        return server, sock

    yield connect
    for sock in opened:
        sock.close()


def everything(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(MEBIBYTE), b""))


def until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += (piece := sock.recv(65536))
        assert piece, f"the connection ended after {data!r}"
    return data


def test_requests_are_recorded_as_they_came(connected):
    server, sock = connected(answer())
    sock.sendall(REQUEST)
    until(sock, b"[]")
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("PUT", "/v1/thing?x=1", b"body")
    assert request.headers["x-mixed-case"] == "Kept"
    assert (request.connection, server.connections) == (1, 1)


def test_each_request_gets_its_step_and_the_last_one_repeats(connected):
    server, sock = connected(answer(body=b"one"), answer(status=503, body=b"two"))
    for status, end in ((b"200", b"one"), (b"503", b"two"), (b"503", b"two")):
        sock.sendall(REQUEST)
        assert until(sock, end).startswith(b"HTTP/1.1 " + status)
    assert [request.connection for request in server.requests] == [1, 1, 1]


def test_the_script_goes_on_over_connections(connected):
    server, sock = connected(steps.hang_up_after(answer(body=b"one")), answer(body=b"two"))
    sock.sendall(REQUEST)
    assert everything(sock).endswith(b"Content-Length: 3\r\n\r\none")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as another:
        another.sendall(REQUEST)
        until(another, b"two")
    assert [request.connection for request in server.requests] == [1, 2]


def test_an_answer_in_chunks(connected):
    _, sock = connected(answer(body=b"hello", chunked=True))
    sock.sendall(REQUEST)
    head, _, body = until(sock, b"0\r\n\r\n").partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert body == b"5\r\nhello\r\n0\r\n\r\n"


def test_a_reset_is_a_reset(connected):
    _, sock = connected(steps.reset())
    sock.sendall(REQUEST)
    with pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_a_truncated_answer_promises_more_than_it_holds(connected):
    _, sock = connected(steps.truncate(b"0123456789"))
    sock.sendall(REQUEST)
    assert everything(sock).endswith(b"Content-Length: 10\r\n\r\n012345678")


def test_silence(connected):
    _, sock = connected(steps.never())
    sock.sendall(REQUEST)
    sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        sock.recv(1)


def test_a_body_drips_and_the_connection_stays(connected):
    _, sock = connected(steps.drip_body(b"abc", 0.02), answer(body=b"next"))
    begun = time.monotonic()
    sock.sendall(REQUEST)
    until(sock, b"\r\n\r\nabc")
    assert time.monotonic() - begun >= 0.06
    sock.sendall(REQUEST)
    until(sock, b"next")


def test_headers_drip_without_end(connected):
    _, sock = connected(steps.drip_headers(0.01))
    sock.sendall(REQUEST)
    data = b""
    while data.count(b"X-Drip") < 3:
        data += sock.recv(65536)
    assert b"\r\n\r\n" not in data


def test_garbage_is_sent_as_it_is(connected):
    _, sock = connected(steps.garbage(b"\x00\xff nonsense"))
    sock.sendall(REQUEST)
    assert everything(sock) == b"\x00\xff nonsense"


@pytest.mark.parametrize("chunked", [False, True])
def test_an_endless_body_is_as_long_as_it_was_asked_to_be(connected, chunked):
    _, sock = connected(steps.endless(3 * MEBIBYTE, chunked=chunked))
    sock.sendall(REQUEST)
    _, _, body = everything(sock).partition(b"\r\n\r\n")
    assert body.count(b"x") == 3 * MEBIBYTE


def test_a_bomb_is_small_until_it_is_unpacked(connected):
    _, sock = connected(steps.hang_up_after(steps.gzip_bomb(8 * MEBIBYTE)))
    sock.sendall(REQUEST)
    head, _, body = everything(sock).partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert len(body) < MEBIBYTE // 8
    assert gzip.decompress(body) == b"\0" * (8 * MEBIBYTE)


def test_a_packed_answer(connected):
    _, sock = connected(steps.hang_up_after(steps.packed(b"text")))
    sock.sendall(REQUEST)
    assert gzip.decompress(everything(sock).partition(b"\r\n\r\n")[2]) == b"text"


def test_a_unix_socket(scripted, tmp_path):
    server = scripted([answer()], unix=tmp_path / "s")
    assert server.url == f"unix://{tmp_path / 's'}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(tmp_path / "s"))
        sock.sendall(REQUEST)
        until(sock, b"[]")


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_tls(scripted, server_tls, authority):
    server = scripted([answer()], tls=server_tls)
    assert server.url == f"https://127.0.0.1:{server.port}"
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
        with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
            sock.sendall(REQUEST)
            until(sock, b"[]")


@pytest.mark.parametrize("step", [steps.never(), steps.drip_headers(5.0), steps.endless(200 * MEBIBYTE)])
def test_closing_ends_whatever_a_step_is_doing(step):
    with ScriptedServer([step]) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(REQUEST)
        begun = time.monotonic()
        server.__exit__(None, None, None)
    assert time.monotonic() - begun < 4
    assert not any(thread.is_alive() for thread in server._threads)


@pytest.fixture
def hasty_threads():
    """Threads take turns so often that what is rare becomes common."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("secured", [False, True])
def test_closing_ends_connections_that_have_only_just_begun(server_tls, hasty_threads, secured):
    for _ in range(200):
        with socket.socket() as silent:
            with ScriptedServer([answer()], tls=server_tls if secured else None) as server:
                silent.connect(("127.0.0.1", server.port))
            assert not any(thread.is_alive() for thread in server._threads)
