"""HTTP/1.1 as bytes: one request out, one answer in, however the bytes arrive and whatever they are."""

from __future__ import annotations

import gzip
import itertools
import os
import time
import tracemalloc
import zlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.call import Headers
from consul_access.errors import AnswerTooLarge, BadAnswer, ConnectionLost, ConsulAccessError
from consul_access.models.address import Address, Target
from consul_access.wire import AnswerReader, Broken, Request, RequestHeaders, WireAnswer, unpack

LIMIT = 1000
MEBIBYTE = 1024 * 1024


@dataclass
class Read:
    """What became of some bytes."""

    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def read(*parts: bytes, method: str = "GET", eof: bool = False, limit: int = LIMIT) -> Read | None:
    """The answer in these bytes; None when it has not ended."""
    reader = AnswerReader(limit)
    reader.expect(method)
    done = False
    for part in filter(None, parts):  # no bytes at all are the end of the connection
        done = reader.feed(part)
    if eof and not done:
        reader.feed_eof()
        done = True
    return outcome(reader) if done else None


def outcome(reader: AnswerReader) -> Read:
    answer = reader.answer("127.0.0.1")
    assert answer.remote_ip == "127.0.0.1"
    return Read(answer.status, dict(answer.headers), answer.body, answer.reusable)


def head(*lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode()


PLAIN = head("Content-Type: application/json", "X-Consul-Index: 7", "Content-Length: 2") + b"[]"
CHUNKED = head("Transfer-Encoding: chunked") + b"1\r\n[\r\n5;name=value\r\n1,2,3\r\n1\r\n]\r\n0\r\n\r\n"
CONTINUED = head(status="100 Continue") + head("Link: </style.css>", status="103 Early Hints") + PLAIN
EMPTY = head("X-Consul-Index: 7", status="204 No Content")
UNCHANGED = head("Content-Length: 500", status="304 Not Modified")
UNTIL_EOF = head("Content-Type: text/plain") + b"all until the end"
OLD = head("Content-Length: 2", version="1.0") + b"[]"
CLOSING = head("Connection: close", "Content-Length: 2") + b"[]"
REFUSAL = head("Content-Length: 17", status="500 Internal Server Error") + b"No cluster leader"


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "body", "reusable"),
    [
        pytest.param(PLAIN, 200, b"[]", True, id="with a length"),
        pytest.param(CHUNKED, 200, b"[1,2,3]", True, id="in chunks"),
        pytest.param(CONTINUED, 200, b"[]", True, id="after 100 and 103"),
        pytest.param(EMPTY, 204, b"", True, id="204"),
        pytest.param(UNCHANGED, 304, b"", True, id="304"),
        pytest.param(OLD, 200, b"[]", False, id="HTTP/1.0"),
        pytest.param(CLOSING, 200, b"[]", False, id="closing"),
        pytest.param(REFUSAL, 500, b"No cluster leader", True, id="500"),
        pytest.param(head("Content-Length: 0"), 200, b"", True, id="of no bytes"),
        pytest.param(head("cOnTeNt-LeNgTh: 2") + b"[]", 200, b"[]", True, id="in odd case"),
    ],
)
def test_an_answer_is_read_to_its_end_and_no_further(data: bytes, status: int, body: bytes, reusable: bool) -> None:
    found = read(data)

    assert found is not None
    assert (found.status, found.body, found.reusable) == (status, body, reusable)


@pytest.mark.parametrize("data", [PLAIN, CHUNKED, CONTINUED, EMPTY, UNCHANGED, OLD, CLOSING, REFUSAL])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_the_size_of_the_pieces_makes_no_difference(data: bytes, size: int) -> None:
    assert read(*pieces(data, size)) == read(data)


@pytest.mark.parametrize("data", [PLAIN, CHUNKED, CONTINUED, EMPTY, OLD, CLOSING, REFUSAL])
def test_an_answer_has_not_ended_before_its_last_byte(data: bytes) -> None:
    for end in range(len(data)):
        assert read(data[:end]) is None


@pytest.mark.parametrize("data", [PLAIN, CHUNKED, CONTINUED, REFUSAL])
def test_a_connection_that_closes_before_the_last_byte_is_lost(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(ConnectionLost, match="before it answered" if end == 0 else "in the middle of its answer"):
            read(data[:end], eof=True)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_an_answer_without_a_length_ends_with_the_connection_which_is_then_of_no_more_use(size: int) -> None:
    assert read(UNTIL_EOF) is None
    found = read(*pieces(UNTIL_EOF, size), eof=True)

    assert found is not None
    assert (found.status, found.body, found.reusable) == (200, b"all until the end", False)


@pytest.mark.parametrize("lines", [("Content-Length: 5000",), ("Transfer-Encoding: chunked",), ()])
def test_an_answer_to_head_ends_with_its_headers(lines: tuple[str, ...]) -> None:
    found = read(head(*lines), method="HEAD")

    assert found is not None
    assert (found.body, found.reusable) == (b"", False)


def test_headers_are_found_in_any_case() -> None:
    found = read(PLAIN)

    assert found is not None
    assert found.headers == {"content-type": "application/json", "x-consul-index": "7", "content-length": "2"}


def test_headers_of_a_preliminary_answer_are_forgotten() -> None:
    found = read(CONTINUED)

    assert found is not None
    assert "link" not in found.headers


def test_one_reader_reads_the_answers_of_a_connection_one_after_the_other() -> None:
    reader = AnswerReader(LIMIT)
    for data, body in (
        (PLAIN, b"[]"),
        (CHUNKED, b"[1,2,3]"),
        (EMPTY, b""),
        (REFUSAL, b"No cluster leader"),
        (PLAIN, b"[]"),
    ):
        reader.expect("GET")
        assert not reader.begun
        assert reader.feed(data)
        assert reader.begun
        assert outcome(reader).body == body


# --- suspicion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surplus", [b"x", b"\0", PLAIN, PLAIN[:5], REFUSAL, b"[]", head(status="100 Continue")])
@pytest.mark.parametrize("data", [PLAIN, CHUNKED, EMPTY])
def test_what_follows_an_answer_leaves_it_as_it_is_and_condemns_the_connection(data: bytes, surplus: bytes) -> None:
    found, alone = read(data + surplus), read(data)

    assert found is not None
    assert alone is not None
    assert found == Read(alone.status, alone.headers, alone.body, reusable=False)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n[]",
        head("Content-Length: -1") + b"[]",
        head("Content-Length: 2x") + b"[]",
        head("Content-Length: " + "9" * 5000) + b"[]",
        head("Content-Length: 2", "Content-Length: 3") + b"[]",
        head("Content-Length: 2", "Transfer-Encoding: chunked") + b"[]",
        head("Transfer-Encoding: chunked") + b"xyz\r\n",
        head("Transfer-Encoding: chunked") + b"-1\r\n",
        head("Transfer-Encoding: chunked") + b"2\r\n[]garbage",
        head("No colon"),
        head("Na me: x"),
        head("Name: a\0b"),
        head("Connection: upgrade", "Upgrade: h2c", status="101 Switching Protocols"),
    ],
)
def test_what_is_not_http_is_a_bad_answer(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(data)
    with pytest.raises(BadAnswer):
        read(*pieces(data, 1))


def test_the_beginning_of_garbage_is_quoted() -> None:
    with pytest.raises(BadAnswer) as caught:
        read(b"SSH-2.0-OpenSSH_9.6\r\n")

    assert caught.value.excerpt == "SSH-2.0-OpenSSH_9.6"


@pytest.mark.parametrize("line", [b"X-Bomb: " + b"a" * 990 + b"\r\n", b"a" * 1000, b"X:y\r\n" * 200])
def test_headers_without_end_are_cut_off(line: bytes) -> None:
    with pytest.raises(ConsulAccessError) as caught:
        read(b"HTTP/1.1 200 OK\r\n", *[line] * 1000)

    assert isinstance(caught.value, AnswerTooLarge | BadAnswer)


def test_preliminary_answers_without_end_are_cut_off() -> None:
    with pytest.raises(AnswerTooLarge):
        read(*[head(status="100 Continue")] * 10_000)


def test_trailers_without_end_are_cut_off() -> None:
    beginning = head("Transfer-Encoding: chunked") + b"2\r\n[]\r\n0\r\n"

    with pytest.raises(AnswerTooLarge):
        read(beginning, *[b"X-Bomb: " + b"a" * 990 + b"\r\n"] * 1000)


def test_a_trailer_does_not_change_what_the_headers_said() -> None:
    found = read(head("Transfer-Encoding: chunked", "X-Consul-Index: 7") + b"2\r\n[]\r\n0\r\nX-Consul-Index: 9\r\n\r\n")

    assert found is not None
    assert found.headers["x-consul-index"] == "7"


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
def test_a_body_up_to_its_limit_is_taken(size: int) -> None:
    for data in (head(f"Content-Length: {size}") + b"x" * size, in_chunks(b"x" * size)):
        found = read(data)
        assert found is not None
        assert len(found.body) == size


def in_chunks(body: bytes, size: int = 64) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces(body, size))
    return head("Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"


def test_a_body_that_states_more_than_its_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(AnswerTooLarge, match="1000 bytes"):
        read(head(f"Content-Length: {LIMIT + 1}"))


@pytest.mark.parametrize("size", [1, 10, 100_000])
def test_a_body_that_grows_beyond_its_limit_is_refused(size: int) -> None:
    for data in (in_chunks(b"x" * (LIMIT + 1)), head() + b"x" * (LIMIT + 1)):
        with pytest.raises(AnswerTooLarge):
            read(*pieces(data, size))


ANSWERS = st.builds(
    lambda body, chunk, lines: (
        in_chunks(body, chunk) if chunk else head(f"Content-Length: {len(body)}", *lines) + body,
        body,
    ),
    st.binary(max_size=60),
    st.integers(0, 20),
    st.lists(st.from_regex(r"X-[A-Za-z]{1,5}: [ -~]{0,10}", fullmatch=True), max_size=3),
)


@given(ANSWERS, st.lists(st.integers(0, 200), max_size=6))
def test_any_answer_cut_anywhere_is_read_as_a_whole(answer: tuple[bytes, bytes], cuts: list[int]) -> None:
    data, body = answer
    places = [0, *sorted(cuts), len(data)]
    found = read(*[data[a:b] for a, b in itertools.pairwise(places) if data[a:b]])

    assert found == read(data)
    assert found is not None
    assert found.body == body


WORDS = [
    b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"200 OK", b"100 Continue\r\n\r\n", b"\r\n", b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"5\r\n", b"0\r\n\r\n", b"\0",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS) | st.binary(max_size=8), max_size=12))
def test_no_bytes_at_all_raise_anything_but_errors_of_this_library(parts: list[bytes]) -> None:
    for fed in (parts, [b"".join(parts)], pieces(b"".join(parts), 1)):
        try:
            found = read(*fed, eof=True)
        except ConsulAccessError:
            continue
        assert found is not None
        assert len(found.body) <= LIMIT


# --- unpacking --------------------------------------------------------------------------------------------


def packed(body: bytes, encoding: str = "gzip") -> WireAnswer:
    return WireAnswer(200, Headers(), body, reusable=True, packing=encoding.encode())


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", " gzip "])
def test_gzip_is_unpacked(encoding: str) -> None:
    assert unpack(packed(gzip.compress(b"[]" * 50), encoding), LIMIT) == b"[]" * 50


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_what_is_not_packed_stays_as_it_is(encoding: str) -> None:
    assert unpack(packed(b"[]", encoding), LIMIT) == b"[]"
    assert unpack(WireAnswer(200, Headers(), b"[]", reusable=True, packing=b""), LIMIT) == b"[]"


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "nonsense"])
def test_what_was_not_asked_for_is_a_bad_answer(encoding: str) -> None:
    with pytest.raises(BadAnswer, match="not asked for"):
        unpack(packed(b"[]", encoding), LIMIT)


def test_an_empty_body_needs_no_unpacking() -> None:
    assert unpack(packed(b""), LIMIT) == b""


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4))
def test_several_gzip_members_are_one_body(bodies: list[bytes]) -> None:
    assert unpack(packed(b"".join(map(gzip.compress, bodies))), LIMIT) == b"".join(bodies)


def test_damaged_gzip_is_a_bad_answer() -> None:
    good = gzip.compress(os.urandom(100))
    for data in (good[:-1], good[:5], b"garbage", good + b"garbage", good[:-8] + bytes(8), zlib.compress(b"[]")):
        with pytest.raises(BadAnswer, match="damaged"):
            unpack(packed(data), LIMIT)


@given(st.binary(min_size=1, max_size=60))
def test_no_bytes_at_all_make_unpacking_raise_anything_else(data: bytes) -> None:
    for body in (data, b"\x1f\x8b\x08\0" + data, gzip.compress(data)[: len(data)]):
        try:
            assert len(unpack(packed(body), LIMIT)) <= LIMIT
        except ConsulAccessError:
            continue


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_the_limit_counts_unpacked_bytes(size: int) -> None:
    body = gzip.compress(b"x" * size)
    if size <= LIMIT:
        assert len(unpack(packed(body), LIMIT)) == size
        return
    with pytest.raises(AnswerTooLarge, match="1000 bytes"):
        unpack(packed(body), LIMIT)


def test_a_gzip_bomb_stops_at_the_limit_and_takes_no_memory_beyond_it() -> None:
    bomb = gzip.compress(bytes(200 * MEBIBYTE), 1)
    tracemalloc.start()
    try:
        with pytest.raises(AnswerTooLarge):
            unpack(packed(bomb), MEBIBYTE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * MEBIBYTE


def test_a_body_of_very_many_empty_gzip_members_costs_time_in_proportion_to_its_size() -> None:
    member = gzip.compress(b"")
    data = member * (3 * MEBIBYTE // len(member))
    begun = time.process_time()
    unpack(packed(data), LIMIT)

    assert time.process_time() - begun < 1.5


# --- requests ---------------------------------------------------------------------------------------------

AGENT = Target(Address("127.0.0.1", 8500))


def test_a_request_is_one_piece_of_bytes() -> None:
    headers = RequestHeaders(AGENT, (("Accept", "application/json"),))

    assert Request("GET", AGENT, "/v1/status/leader", headers).render() == (
        b"GET /v1/status/leader HTTP/1.1\r\nHost: 127.0.0.1:8500\r\nAccept: application/json\r\n\r\n"
    )


@pytest.mark.parametrize("body", [b"", b"{}", "ä\r\n\0".encode()])
def test_a_body_is_sent_with_its_length(body: bytes) -> None:
    sent = Request("PUT", AGENT, "/v1/kv/a", RequestHeaders(AGENT, ()), body).render()

    assert sent == b"PUT /v1/kv/a HTTP/1.1\r\nHost: 127.0.0.1:8500\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    ("target", "line", "host"),
    [
        (Target(Address("::1", 8500)), b"/v1/x", b"[::1]:8500"),
        (Target(Address("proxy", 443), tls=True, prefix="/consul"), b"/consul/v1/x", b"proxy:443"),
        (Target(Address("", 0), unix_path="/run/consul.sock"), b"/v1/x", b"localhost"),
        (Target(Address("consul", 8500), ip="10.0.0.5"), b"/v1/x", b"consul:8500"),
    ],
)
def test_a_request_names_host_and_path_of_its_target(target: Target, line: bytes, host: bytes) -> None:
    first, second, *_ = Request("GET", target, "/v1/x", RequestHeaders(target, ())).render().split(b"\r\n")

    assert (first, second) == (b"GET " + line + b" HTTP/1.1", b"Host: " + host)


def test_an_exchange_that_broke_tells_whether_the_request_had_left() -> None:
    broken = Broken(ConnectionLost("gone"), sent=True)

    assert (broken.sent, broken.stale) == (True, False)
    assert "gone" in str(broken)
