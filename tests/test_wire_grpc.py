"""HTTP/2 as gRPC needs it: one call at a time, spoken with h2 as the server, however the bytes are cut."""

from __future__ import annotations

import struct

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, PingAckReceived, RequestReceived, SettingsAcknowledged, StreamEnded
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import AnswerTooLarge, BadAnswer, ConnectionLost, ConsulAccessError
from consul_access.models.address import Address, Target
from consul_access.wire import Broken, Unprocessed
from consul_access.wire_grpc import SURPLUS, CallReader, head_of
from tests.support.scripted2 import frame

LIMIT = 100_000
TARGET = Target(Address("etcd.example", 2379))
SECRET = "b1gs33cret"
HEAD = head_of(TARGET, "/etcdserverpb.KV/Range", (("user-agent", "tests"), ("token", SECRET)), frozenset({"token"}))
DATA, HEADERS, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
ANSWERED = ((":status", "200"), ("content-type", "application/grpc"))
DONE = (("grpc-status", "0"), ("grpc-message", ""))


class Talk:
    """A reader and a server that keeps to the rules, with nothing between them but bytes."""

    def __init__(self, limit=LIMIT, window=65_535, largest_frame=16_384):
        self.reader = CallReader(limit)
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        values = {SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.MAX_FRAME_SIZE: largest_frame}
        self.server.local_settings = Settings(client=False, initial_values=values)
        self.server.max_inbound_frame_size = largest_frame
        self.server.initiate_connection()
        self.events = []
        self.received = b""

    def ask(self, body=b"asked", *, ends=True):
        self.reader.ask(HEAD, body, ends=ends)
        self.told()
        return self.number

    def told(self):
        """What is to be sent arrives at the server, which makes room again for what it has read."""
        data = self.reader.to_send()
        for event in self.server.receive_data(data) if data else ():
            self.events.append(event)
            if isinstance(event, DataReceived):
                self.received += event.data
                self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def heard(self, cuts=()):
        """What the server has sent arrives, in as many pieces."""
        data = self.server.data_to_send()
        for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            if begin < end:
                self.reader.feed(data[begin:end])
        self.told()

    @property
    def number(self):
        return max(event.stream_id for event in self.events if isinstance(event, RequestReceived))

    def answer(self, body=b"answered", trailers=DONE, **padding):
        self.server.send_headers(self.number, ANSWERED)
        self.server.send_data(self.number, body, **padding)
        self.server.send_headers(self.number, trailers, end_stream=True)

    def raw(self, *frames):
        """These very bytes arrive, behind the server's greeting."""
        self.reader.feed(self.server.data_to_send() + b"".join(frames))


def window(number, more):
    return frame(WINDOW, 0, number, more.to_bytes(4, "big"))


def block(*pairs):
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(pairs)


def test_a_call_arrives_with_its_headers_and_its_secret_may_never_be_kept_in_a_table():
    talk = Talk()
    talk.ask(b"asked")
    (event,) = (event for event in talk.events if isinstance(event, RequestReceived))
    assert dict(event.headers) == {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/etcdserverpb.KV/Range",
        b":authority": b"etcd.example:2379",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"user-agent": b"tests",
        b"token": SECRET.encode(),
    }
    assert [name for name in event.headers if type(name).__name__ == "NeverIndexedHeaderTuple"] == [
        (b"token", SECRET.encode())
    ]
    assert talk.received == b"asked"
    assert isinstance(talk.events[-1], StreamEnded)


def test_an_answer_is_complete_with_its_trailers_and_the_next_call_can_follow():
    talk = Talk()
    for number in range(3):
        assert talk.ask() == 2 * number + 1
        talk.answer(b"number %d" % number)
        talk.heard()
        assert talk.reader.ended
        assert talk.reader.is_idle
        assert (talk.reader.status, talk.reader.take(), talk.reader.outcome()) == (200, b"number %d" % number, (0, ""))
    assert any(isinstance(event, SettingsAcknowledged) for event in talk.events)


@given(body=st.binary(max_size=300), padding=st.none() | st.integers(0, 40), data=st.data())
def test_an_answer_is_the_same_however_it_is_cut(body, padding, data):
    talk = Talk()
    talk.ask()
    talk.answer(body, pad_length=padding)
    sent = talk.server.data_to_send()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    for begin, end in zip((0, *cuts), (*cuts, len(sent)), strict=True):
        if begin < end:
            assert not talk.reader.ended
            talk.reader.feed(sent[begin:end])
    assert talk.reader.ended
    assert (talk.reader.take(), talk.reader.outcome()) == (body, (0, ""))


@given(size=st.integers(0, 90_000), window=st.integers(1, 70_000), largest=st.integers(16_384, 40_000))
def test_a_body_is_sent_as_far_as_there_is_room_and_then_on(size, window, largest):
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    talk = Talk(window=max(window, size // 20), largest_frame=largest)
    talk.heard()  # the server's settings come first, so that its window counts from the beginning
    talk.ask(body)
    while not any(isinstance(event, StreamEnded) for event in talk.events):
        if not size:  # without a body there is no frame to end with
            break
        before = len(talk.received)
        talk.heard()
        assert len(talk.received) > before
    assert talk.received == body


def test_room_that_the_servers_settings_take_away_has_to_come_back_first():
    reader = CallReader(LIMIT)
    reader.ask(HEAD, b"x" * 70_000, ends=True)
    assert len(reader.to_send()) > 65_535  # by the rules' own window of 65,535: no settings are known yet
    reader.feed(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1000)) + window(0, 100_000) + window(1, 64_535))
    assert reader.to_send() == frame(SETTINGS, 1, 0, b"")
    reader.feed(window(1, 10))
    assert reader.to_send() == frame(DATA, 0, 1, b"x" * 10)
    reader.feed(window(1, 10_000))
    assert reader.to_send() == frame(DATA, END_STREAM, 1, b"x" * (70_000 - 65_535 - 10))


def test_an_answer_that_comes_before_all_is_sent_ends_the_call_and_the_connection():
    talk = Talk(window=1000)
    talk.heard()
    talk.reader.ask(HEAD, b"x" * 5000, ends=True)
    talk.told()
    talk.server.send_headers(1, (*ANSWERED, ("grpc-status", "8"), ("grpc-message", "too large")), end_stream=True)
    talk.heard()
    assert talk.reader.ended
    assert not talk.reader.is_idle
    assert talk.reader.outcome() == (8, "too large")


def test_texts_of_errors_are_unquoted_and_a_refusal_is_known_as_one():
    talk = Talk()
    talk.ask()
    told = (*ANSWERED, ("grpc-status", "5"), ("grpc-message", "no 100%25 of %C3%A4"))
    talk.server.send_headers(talk.number, told, end_stream=True)
    talk.heard()
    assert talk.reader.is_refused
    assert talk.reader.outcome() == (5, "no 100% of ä")


@pytest.mark.parametrize("code", ["", "x", "-1"])
def test_an_answer_that_does_not_say_how_it_ended_is_none(code):
    talk = Talk()
    talk.ask()
    talk.answer(trailers=(("grpc-status", code), ("x", "y")))
    talk.heard()
    with pytest.raises(BadAnswer, match="none of gRPC's"):
        talk.reader.outcome()


def test_what_a_proxy_answers_is_foreign():
    talk = Talk()
    talk.ask()
    talk.server.send_headers(talk.number, ((":status", "502"), ("content-type", "text/html")))
    talk.server.send_data(talk.number, b"<h1>bad gateway", end_stream=True)
    talk.heard()
    assert talk.reader.is_foreign
    assert (talk.reader.status, talk.reader.take()) == (502, b"<h1>bad gateway")


def test_pings_are_answered_with_the_next_call_behind_it():
    talk = Talk()
    talk.ask()
    talk.server.ping(b"alive ??")
    talk.answer()
    talk.reader.feed(talk.server.data_to_send())
    assert talk.reader.has_to_send
    assert not talk.reader.is_urgent
    talk.ask(b"next")
    kinds = [type(event) for event in talk.events]
    assert kinds.index(PingAckReceived) > max(at for at, kind in enumerate(kinds) if kind is DataReceived)


def test_an_answer_that_goes_on_is_taken_piece_by_piece():
    talk = Talk(limit=10)
    talk.ask(ends=False)
    talk.server.send_headers(1, ANSWERED)
    for piece in (b"one", b"two", b"and three"):
        talk.server.send_data(1, piece)
        talk.heard()
        assert talk.reader.has_more
        assert talk.reader.take() == piece
    talk.server.send_data(1, b"x" * 11)
    with pytest.raises(AnswerTooLarge, match="10 bytes"):
        talk.heard()


def test_windows_are_opened_again_before_they_close():
    talk = Talk(limit=2**31)
    talk.ask(ends=False)
    talk.reader._taken = talk.reader._stream_taken = 2**30 - 5
    talk.server.send_headers(1, ANSWERED)
    talk.server.send_data(1, b"x" * 10)
    talk.reader.feed(talk.server.data_to_send())
    assert talk.reader.to_send().endswith(window(0, 2**30 + 5) + window(1, 2**30 + 5))


@pytest.mark.parametrize(
    ("frames", "error", "text"),
    [
        (
            [frame(GOAWAY, 0, 0, struct.pack(">II", 0, 11) + b"too_many_pings")],
            Unprocessed,
            "ENHANCE_YOUR_CALM too_many",
        ),
        ([frame(RESET, 0, 1, struct.pack(">I", 7))], Unprocessed, "without looking"),
        ([frame(RESET, 0, 1, struct.pack(">I", 8))], ConnectionLost, "before it answered .CANCEL"),
        ([frame(RESET, 0, 1, struct.pack(">I", 4711))], ConnectionLost, "code 4711"),
        ([frame(RESET, 0, 1, b"")], BadAnswer, "too short"),
        ([frame(GOAWAY, 0, 0, b"")], BadAnswer, "too short"),
        ([frame(WINDOW, 0, 0, b"x")], BadAnswer, "too short"),
        ([frame(SETTINGS, 0, 0, b"x")], BadAnswer, "too short"),
        ([frame(PUSH, 0, 1, b"")], BadAnswer, "a push"),
        ([frame(DATA, 0, 1, b"x")], BadAnswer, "before its headers"),
        ([frame(DATA, PADDED, 1, b"")], BadAnswer, "too short"),
        ([frame(DATA, PADDED, 1, b"\x09x")], BadAnswer, "more padding"),
        ([frame(CONTINUATION, END_HEADERS, 1, b"")], BadAnswer, "of nothing"),
        ([frame(HEADERS, 0, 1, block((":status", "200"))), frame(PING, 0, 0, b"12345678")], BadAnswer, "do not go on"),
        ([frame(HEADERS, 0, 1, b""), *[frame(CONTINUATION, 0, 1, b"x" * 16_000)] * 5], AnswerTooLarge, "65536 bytes"),
        ([frame(HEADERS, END_HEADERS, 1, block(("content-type", "x")))], BadAnswer, "without a status"),
        ([frame(HEADERS, END_HEADERS, 1, block((":status", "many")))], BadAnswer, "a status that is none"),
        ([frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff")], BadAnswer, "headers: "),
        ([b"\0\x40\1\0\0\0\0\0\1"], BadAnswer, "16385 bytes"),
        ([frame(PING, 0, 0, b"12345678")] * (SURPLUS + 1), BadAnswer, "say nothing"),
    ],
)
def test_what_ends_a_call_says_why(frames, error, text):
    talk = Talk()
    talk.ask()
    with pytest.raises(error, match=text):
        talk.raw(*frames)


def test_a_server_that_leaves_finishes_the_call_and_gets_no_further_one():
    talk = Talk()
    talk.ask()
    talk.server.close_connection(ErrorCodes.NO_ERROR, last_stream_id=1)
    leaving = talk.server.data_to_send()
    talk.reader.feed(leaving)
    encoder = block(*ANSWERED)
    talk.reader.feed(
        frame(HEADERS, END_HEADERS, 1, encoder) + frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*DONE))
    )
    assert talk.reader.outcome() == (0, "")
    assert not talk.reader.is_idle


def test_what_belongs_to_an_earlier_call_and_what_is_not_known_is_passed_over():
    talk = Talk()
    talk.ask()
    talk.answer()
    talk.heard()
    talk.ask()
    talk.raw(frame(RESET, 0, 1, struct.pack(">I", 0)), frame(DATA, 0, 1, b"late"), frame(99, 0, 3, b"?"))
    talk.raw(
        frame(HEADERS, END_HEADERS | PRIORITY | PADDED, 3, b"\x02" + b"\0" * 5 + block((":status", "103")) + b"xx")
    )
    talk.answer(b"answered")
    talk.heard()
    assert talk.reader.take() == b"answered"


@pytest.mark.parametrize(
    ("said", "text"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1 here"), (b"220 mail.example ESMTP\r\n", "something else here")],
)
def test_a_server_that_speaks_something_else_is_told_as_such(said, text):
    reader = CallReader(LIMIT)
    reader.ask(HEAD, b"", ends=True)
    with pytest.raises(BadAnswer, match=text):
        reader.feed(said)


def test_the_end_of_the_connection_is_told_with_how_far_it_had_come():
    talk = Talk()
    talk.ask()
    with pytest.raises(ConnectionLost, match="before it answered"):
        talk.reader.feed(b"")
    talk = Talk()
    talk.ask()
    talk.server.send_headers(1, ANSWERED)
    talk.heard()
    with pytest.raises(ConnectionLost, match="in the middle"):
        talk.reader.feed(b"")


def test_an_idle_connection_that_ends_is_not_used_again():
    reader = CallReader(LIMIT)
    assert reader.is_idle
    talk = Talk()
    talk.ask()
    talk.answer()
    talk.heard()
    assert talk.reader.feed(b"")
    assert not talk.reader.is_idle


@pytest.mark.parametrize("size", [0, 126, 127, 128, 300, 20_000])
def test_headers_of_any_length_arrive(size):
    talk = Talk()
    talk.reader.ask(head_of(TARGET, "/" + "p" * size, (), frozenset()), b"x", ends=True)
    talk.told()
    (event,) = (event for event in talk.events if isinstance(event, RequestReceived))
    assert dict(event.headers)[b":path"] == b"/" + b"p" * size


@given(noise=st.binary(max_size=400), greeted=st.booleans(), asked=st.booleans())
def test_no_bytes_do_anything_else_than_end_it(noise, greeted, asked):
    reader = CallReader(LIMIT)
    if asked:
        reader.ask(HEAD, b"x", ends=True)
    try:
        reader.feed((frame(SETTINGS, 0, 0, b"") if greeted else b"") + noise)
    except (ConsulAccessError, Broken):
        return
    reader.to_send()


@given(
    frames=st.lists(
        st.tuples(st.integers(0, 10), st.integers(0, 255), st.sampled_from([0, 1, 3]), st.binary(max_size=30)),
        max_size=30,
    )
)
def test_no_frames_do_anything_else_than_end_it(frames):
    reader = CallReader(LIMIT)
    reader.ask(HEAD, b"x" * 70_000, ends=True)
    try:
        reader.feed(frame(SETTINGS, 0, 0, b"") + b"".join(frame(*one) for one in frames))
        if reader.ended:
            reader.outcome()
    except (ConsulAccessError, Broken):
        return
    reader.to_send()
