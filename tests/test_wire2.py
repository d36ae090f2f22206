"""HTTP/2 as bytes: many questions on one connection, however the bytes arrive and whatever they are."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamReset
from h2.settings import SettingCodes, Settings
from hpack import Encoder, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from consul_access import wire2
from consul_access.errors import (
    AnswerTooLarge,
    BadAnswer,
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    InvalidInput,
)
from consul_access.models.address import Address, Target
from consul_access.wire import Request, RequestHeaders, Unprocessed
from consul_access.wire2 import SURPLUS, Conversation
from tests.support.scripted2 import frame

LIMIT = 1000
TARGET = Target(Address("agent.example", 8501), tls=True, prefix="/consul")
HEADERS = RequestHeaders(TARGET, (("User-Agent", "tests"), ("X-Consul-Token", "b1gs33cret")), "b1gs33cret")
HEADER, DATA, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 1, 0, 3, 4, 5, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4


def question(path="/v1/health/service/orders"):
    return Request("GET", TARGET, path, HEADERS, arrived=lambda answer: None)


class Talk:
    """A conversation and a server that keeps to the rules, with nothing between them but bytes."""

    def __init__(self, limit=LIMIT, at_once=250):
        self.conversation = Conversation(limit, "127.0.0.1")
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.server.local_settings = Settings(
            client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: at_once}
        )
        self.server.initiate_connection()
        self.endings = []
        self.heard()

    def heard(self, data=b""):
        """What the server has sent arrives, and what it makes the client send as well."""
        self.endings += self.conversation.feed(self.server.data_to_send() + data)
        return self.told()

    def told(self):
        data = self.conversation.to_send()
        return self.server.receive_data(data) if data else []

    def ask(self, path="/v1/health/service/orders"):
        number = self.conversation.ask(question(path))
        self.told()
        return number

    def answer(self, number, body=b"[]", status=200, **headers):
        pairs = [(":status", str(status)), *((name.replace("_", "-"), value) for name, value in headers.items())]
        self.server.send_headers(number, pairs)
        self.server.send_data(number, body, end_stream=True)
        self.heard()

    @property
    def ending(self):
        (ending,) = self.endings
        return ending


def refused(ending, kind):
    assert ending.answer is None
    assert isinstance(ending.broken.error, kind)
    return ending.broken.error.message


class TestAnswers:
    def test_each_comes_to_the_question_it_belongs_to_in_any_order(self):
        talk = Talk()
        first, second, third = (talk.ask(f"/v1/health/service/s{number}") for number in range(3))
        talk.answer(second, b"two", x_consul_index="7")
        talk.answer(first, b"one")
        talk.answer(third, b"three", status=404)
        assert [(one.number, one.answer.status, one.answer.body) for one in talk.endings] == [
            (second, 200, b"two"),
            (first, 200, b"one"),
            (third, 404, b"three"),
        ]
        assert talk.endings[0].answer.remote_ip == "127.0.0.1"

    def test_headers_are_written_as_they_are_over_http_1(self):
        talk = Talk()
        talk.answer(talk.ask(), x_consul_index="7", content_type="application/json")
        headers = talk.ending.answer.headers
        assert headers.first(b"X-Consul-Index") == "7"
        assert headers["content-type"] == "application/json"
        assert not [name for name in headers if name.startswith(":")]

    def test_what_is_asked_arrives_and_secrets_may_never_be_kept_in_a_table(self):
        talk = Talk()
        talk.conversation.ask(question("/v1/health/service/orders?index=5&wait=55000ms"))
        (event,) = (event for event in talk.told() if isinstance(event, RequestReceived))
        assert dict(event.headers) == {
            b":method": b"GET",
            b":scheme": b"https",
            b":authority": b"agent.example:8501",
            b":path": b"/consul/v1/health/service/orders?index=5&wait=55000ms",
            b"user-agent": b"tests",
            b"x-consul-token": b"b1gs33cret",
        }
        never = {bytes(header[0]) for header in event.headers if isinstance(header, NeverIndexedHeaderTuple)}
        assert never == {b":path", b"x-consul-token"}
        assert event.stream_ended

    def test_basic_authentication_is_a_secret_too(self):
        talk = Talk()
        headers = RequestHeaders(TARGET, (("Authorization", "Basic eDp5"),))
        talk.conversation.ask(Request("GET", TARGET, "/", headers))
        (event,) = (event for event in talk.told() if isinstance(event, RequestReceived))
        assert isinstance(event.headers[-1], NeverIndexedHeaderTuple)

    def test_nothing_but_questions_is_sent(self):
        talk = Talk()
        with pytest.raises(InvalidInput, match="PUT with a body"):
            talk.conversation.ask(Request("PUT", TARGET, "/v1/agent/service/register", HEADERS, b"{}"))
        assert talk.told() == []

    def test_trailers_and_a_100_continue_are_no_answer(self):
        talk = Talk()
        number = talk.ask()
        talk.server.send_headers(number, [(":status", "103"), ("link", "<x>")])
        talk.server.send_headers(number, [(":status", "200"), ("x-consul-index", "7")])
        talk.server.send_data(number, b"[]")
        talk.server.send_headers(number, [("grpc-status", "0")], end_stream=True)
        talk.heard()
        assert dict(talk.ending.answer.headers) == {"x-consul-index": "7"}
        assert talk.ending.answer.status == 200

    @given(st.integers(1, 7000))
    def test_it_does_not_matter_how_the_bytes_arrive(self, size):
        talk = Talk(limit=100_000)
        numbers = [talk.ask() for _ in range(3)]
        for number in numbers:
            talk.server.send_headers(number, [(":status", "200"), ("x-number", str(number))])
            talk.server.send_data(number, b"x" * number * 1000)
            talk.server.end_stream(number)
        sent = talk.server.data_to_send()
        for start in range(0, len(sent), size):
            talk.endings += talk.conversation.feed(sent[start : start + size])
        assert [(one.number, len(one.answer.body)) for one in talk.endings] == [(one, one * 1000) for one in numbers]

    def test_more_than_any_window_is_taken_in_pieces(self):
        """What is taken is acknowledged, for the stream and for the connection."""
        talk = Talk(limit=40 * 1024 * 1024)
        number = talk.ask()
        talk.server.send_headers(number, [(":status", "200")])
        left = 30 * 1024 * 1024
        while left:
            room = min(left, talk.server.local_flow_control_window(number), 16 * 1024)
            assert room > 0
            talk.server.send_data(number, b"x" * room)
            left -= room
            talk.heard()
        talk.server.end_stream(number)
        talk.heard()
        assert len(talk.ending.answer.body) == 30 * 1024 * 1024


class TestPlaces:
    def test_none_before_the_server_has_told_its_limits(self):
        conversation = Conversation(LIMIT)
        assert (conversation.is_ready, conversation.free) == (False, 0)

    @pytest.mark.parametrize(
        ("allowed", "free", "spare"),
        [(250, 200, 10), (1000, 200, 10), (205, 200, 5), (100, 100, 0), (1, 1, 0), (0, 0, 0)],
    )
    def test_as_many_as_the_server_allows_and_200_at_most_beside_some_that_are_brief(self, allowed, free, spare):
        talk = Talk(at_once=allowed)
        assert talk.conversation.free == free
        for _ in range(free):
            talk.ask()
        assert (talk.conversation.free, talk.conversation.spare) == (0, spare)

    def test_brief_ones_take_no_place_of_those_that_wait(self):
        talk = Talk()
        number = talk.conversation.ask(Request("GET", TARGET, "/v1/status/leader", HEADERS))
        talk.told()
        assert (talk.conversation.free, talk.conversation.spare) == (200, 209)
        talk.answer(number)
        assert (talk.conversation.free, talk.conversation.spare) == (200, 210)

    def test_an_answer_gives_its_place_back(self):
        talk = Talk(at_once=1)
        for _ in range(5):
            talk.answer(talk.ask())
        assert [one.answer.body for one in talk.endings] == [b"[]"] * 5
        assert talk.conversation.free == 1

    def test_one_that_is_no_longer_wanted_gives_it_back_at_once_and_harms_no_other(self):
        talk = Talk()
        wanted, other = talk.ask(), talk.ask()
        talk.conversation.drop(other)
        assert talk.conversation.free == 199
        (event,) = (event for event in talk.told() if isinstance(event, StreamReset))
        assert (event.stream_id, event.error_code) == (other, ErrorCodes.CANCEL)
        talk.answer(wanted)
        assert talk.ending.number == wanted

    def test_what_was_on_its_way_when_it_was_dropped_is_not_minded(self):
        talk = Talk(limit=10**6)
        wanted, other = talk.ask(), talk.ask()
        talk.server.send_headers(other, [(":status", "200")])
        for _ in range(3):
            talk.server.send_data(other, b"x" * 16_000)
        late = talk.server.data_to_send()
        talk.conversation.drop(other)
        window = talk.server.outbound_flow_control_window
        assert talk.conversation.feed(late) == []
        talk.told()
        assert talk.server.outbound_flow_control_window >= window  # nothing was lost for the others
        talk.answer(wanted, b"y" * 16_000)
        assert len(talk.ending.answer.body) == 16_000

    def test_a_limit_that_is_lowered_holds_from_then_on(self):
        talk = Talk()
        numbers = [talk.ask() for _ in range(10)]
        talk.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 5})
        talk.heard()
        assert talk.conversation.free == 0
        for number in numbers[:6]:
            talk.answer(number)
        assert talk.conversation.free == 1

    def test_thousands_one_after_the_other_leave_nothing_behind(self):
        talk = Talk()
        for _ in range(2500):
            talk.conversation.drop(talk.ask())
        assert talk.conversation.free == 200
        assert len(talk.conversation._machine.streams) <= 2 * 200 + 1
        assert len(talk.conversation._machine._closed_streams) <= 1000

    def test_when_the_numbers_run_out_there_is_another_connection(self):
        talk = Talk()
        talk.conversation._machine.highest_outbound_stream_id = 2**31 - 3
        talk.ask()
        assert talk.conversation.free == 0
        assert "run out of numbers" in talk.conversation.leaving


class TestTheServerGivesUp:
    def test_a_question_that_was_refused_may_be_asked_again(self):
        talk = Talk()
        number, other = talk.ask(), talk.ask()
        talk.server.reset_stream(number, ErrorCodes.REFUSED_STREAM)
        talk.heard()
        assert isinstance(talk.ending.broken, Unprocessed)
        assert not talk.ending.broken.sent
        talk.answer(other)
        assert talk.endings[1].answer.body == b"[]"

    @pytest.mark.parametrize("code", [ErrorCodes.INTERNAL_ERROR, ErrorCodes.NO_ERROR, ErrorCodes.CANCEL, 0xBAD])
    def test_one_that_was_given_up_is_lost(self, code):
        talk = Talk()
        number = talk.ask()
        talk.heard(frame(RESET, 0, number, struct.pack(">I", code)))
        message = refused(talk.ending, ConnectionLost)
        assert message == f"the server gave the request up before it answered ({getattr(code, 'name', 'code 2989')})"
        assert talk.ending.broken.sent
        assert talk.conversation.failure is None

    def test_in_the_middle_of_the_answer_as_well(self):
        talk = Talk()
        number = talk.ask()
        talk.server.send_headers(number, [(":status", "200")])
        talk.server.send_data(number, b"[1,")
        talk.server.reset_stream(number, ErrorCodes.INTERNAL_ERROR)
        talk.heard()
        assert "in the middle of its answer, after 3 bytes" in refused(talk.ending, ConnectionLost)

    def test_whoever_leaves_answers_what_it_has_taken_on_and_the_rest_may_be_asked_again(self):
        talk = Talk()
        first, second, third = (talk.ask() for _ in range(3))
        talk.heard(frame(GOAWAY, 0, 0, struct.pack(">II", second, 0)))
        assert talk.ending.number == third
        assert isinstance(talk.ending.broken, Unprocessed)
        assert talk.conversation.free == 0
        assert talk.conversation.leaving.endswith("NO_ERROR")
        talk.answer(second, b"2")
        talk.answer(first, b"1")
        assert [one.answer.body for one in talk.endings[1:]] == [b"2", b"1"]

    def test_it_may_say_so_twice_first_without_a_number(self):
        """As servers written in Go do."""
        talk = Talk()
        first, second = talk.ask(), talk.ask()
        talk.heard(frame(GOAWAY, 0, 0, struct.pack(">II", 2**31 - 1, 0)))
        assert talk.endings == []
        talk.heard(frame(GOAWAY, 0, 0, struct.pack(">II", first, 0)))
        assert talk.ending.number == second
        talk.answer(first)
        assert talk.endings[1].answer.body == b"[]"

    def test_the_end_of_the_connection_ends_what_is_under_way_and_says_why(self):
        talk = Talk()
        first, second = talk.ask(), talk.ask()
        talk.server.send_headers(second, [(":status", "200")])
        talk.heard(frame(GOAWAY, 0, 0, struct.pack(">II", second, ErrorCodes.ENHANCE_YOUR_CALM)))
        talk.endings += talk.conversation.feed(b"")
        assert [one.number for one in talk.endings] == [first, second]
        assert "before it answered (the server takes no further requests" in refused(talk.endings[0], ConnectionLost)
        assert "ENHANCE_YOUR_CALM" in refused(talk.endings[1], ConnectionLost)
        assert isinstance(talk.conversation.failure, ConnectionLost)
        assert talk.conversation.feed(b"more") == talk.conversation.fail(None) == []

    def test_what_ended_it_here_is_told_to_all_each_with_an_error_of_its_own(self):
        talk = Talk()
        talk.ask(), talk.ask()
        endings = talk.conversation.fail(DeadlineExceeded("too late"))
        assert [refused(one, DeadlineExceeded) for one in endings] == ["too late"] * 2
        assert endings[0].broken.error is not endings[1].broken.error

    def test_a_sign_of_life_is_given_and_can_be_asked_for(self):
        talk = Talk()
        talk.server.ping(b"12345678")
        talk.heard()
        talk.conversation.ping()
        talk.told()
        assert talk.heard() == []
        assert talk.conversation.failure is None


def broken_by(*frames, before=b"", limit=LIMIT):
    """What a server does that has greeted and was asked one question; why the connection was ended."""
    talk = Talk(limit)
    talk.ask()
    for one in (before, *frames):
        talk.heard(one) if one else None
    assert talk.conversation.failure is not None
    assert len(talk.endings) == 1
    return refused(talk.endings[-1], BadAnswer)


def head(*pairs):
    return Encoder().encode([(":status", "200"), *pairs])


class TestHostility:
    @pytest.mark.parametrize(
        "data",
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28\0\0", frame(PING, 0, 0, b"12345678"),
         frame(SETTINGS, 1, 0, b"")],
    )  # fmt: skip
    def test_a_server_that_speaks_something_else_is_found_out_at_its_first_word(self, data):
        conversation = Conversation(LIMIT)
        assert conversation.feed(data) == []
        assert "chose HTTP/2 and speaks something else" in conversation.failure.message
        assert not conversation.is_ready

    @pytest.mark.parametrize(
        "data",
        [
            frame(DATA, 0, 0, b"x"),  # data for nobody
            frame(DATA, 0, 1, b"x"),  # before the headers
            frame(HEADER, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            frame(HEADER, END_HEADERS, 1, b"\xbe"),  # an entry of the table that is not there
            frame(HEADER, END_HEADERS, 2, head()),  # a number that we did not give
            frame(HEADER, END_HEADERS, 99, head()),
            frame(HEADER, END_HEADERS | END_STREAM, 1, Encoder().encode([("x", "y")])),  # no status
            frame(HEADER, END_HEADERS | END_STREAM, 1, Encoder().encode([(":status", "many")])),
            frame(HEADER, END_HEADERS, 1, head((":path", "/"))),
            frame(CONTINUATION, END_HEADERS, 1, b""),
            frame(HEADER, 0, 1, head()[:1]) + frame(PING, 0, 0, b"12345678"),
            frame(PUSH, END_HEADERS, 1, b"\0\0\0\x02" + Encoder().encode([(":method", "GET")])),
            frame(PING, 0, 0, b"123"),
            frame(SETTINGS, 0, 0, b"123"),
            frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)),  # a window too large
            frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 3)),  # frames too small
            frame(WINDOW, 0, 0, b"\0\0\0\0"),
            frame(WINDOW, 0, 0, struct.pack(">I", 2**31 - 1)),
            frame(RESET, 0, 0, b"\0\0\0\0"),
            frame(RESET, 0, 1, b"\0"),
            frame(GOAWAY, 0, 0, b"\0\0"),
            frame(DATA, 8, 1, b"\xff"),  # more padding than frame
            b"\xff\xff\xff\0\0\0\0\0\1",
        ],
    )
    def test_whatever_breaks_the_rules_ends_the_connection_and_nothing_else(self, data):
        assert broken_by(data).startswith("what came is not HTTP/2 (")

    def test_a_window_too_large_is_the_end_of_that_request(self):
        talk = Talk()
        number, other = talk.ask(), talk.ask()
        talk.heard(frame(WINDOW, 0, number, struct.pack(">I", 2**31 - 1)))
        assert "FLOW_CONTROL_ERROR" in refused(talk.ending, ConnectionLost)
        talk.answer(other)
        assert talk.endings[1].answer.body == b"[]"

    def test_a_body_of_another_length_than_was_said_is_not_believed(self):
        data = frame(HEADER, END_HEADERS, 1, head(("content-length", "5"))) + frame(DATA, END_STREAM, 1, b"123")
        assert "not HTTP/2" in broken_by(data)

    def test_headers_without_end(self):
        assert "not HTTP/2" in broken_by(*[frame(HEADER, 0, 1, b"")], *[frame(CONTINUATION, 0, 1, b"")] * 100)

    def test_headers_that_unpack_to_very_much(self):
        """One entry of 4000 bytes, named again and again by a single byte each."""
        encoder = Encoder()
        bomb = encoder.encode([(":status", "200"), ("x", "y" * 4000)]) + b"\xbe" * 16_000
        tracemalloc.start()
        try:
            assert "not HTTP/2" in broken_by(
                frame(HEADER, 0, 1, bomb[:16_000]), frame(CONTINUATION, 4, 1, bomb[16_000:])
            )
            assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "flood",
        [
            frame(SETTINGS, 0, 0, b""),
            frame(PING, 0, 0, b"12345678"),
            frame(PING, 1, 0, b"12345678"),
            frame(WINDOW, 0, 0, b"\0\0\0\1"),
            frame(2, 0, 1, b"\0\0\0\0\1"),  # priorities
            frame(0xFE, 0, 0, b"what nobody knows"),
            frame(DATA, 0, 1, b""),
        ],
    )
    def test_floods_of_what_says_nothing(self, flood):
        begun = frame(HEADER, END_HEADERS, 1, head()) if flood[3] == DATA else b""
        assert str(SURPLUS) in broken_by(*[flood * 500] * 21, before=begun)

    def test_informing_for_ever_is_no_answer(self):
        informing = frame(HEADER, END_HEADERS, 1, Encoder().encode([(":status", "103")]))
        assert str(SURPLUS) in broken_by(*[informing * 500] * 21)

    def test_a_quiet_server_may_live_long(self):
        """What says nothing is counted anew after each answer."""
        talk = Talk()
        for _ in range(3):
            for _ in range(9):
                talk.heard(frame(PING, 0, 0, b"12345678") * 1000)
            talk.answer(talk.ask())
        assert talk.conversation.failure is None
        assert len(talk.endings) == 3

    def test_a_body_too_long_is_refused_and_the_others_go_on(self):
        talk = Talk()
        number, other = talk.ask(), talk.ask()
        talk.server.send_headers(number, [(":status", "200")])
        talk.server.send_data(number, b"x" * (LIMIT + 1))
        events = talk.heard()
        assert refused(talk.ending, AnswerTooLarge) == "the answer's body exceeds 1000 bytes"
        assert [event.stream_id for event in events if isinstance(event, StreamReset)] == [number]
        talk.answer(other, b"x" * LIMIT)
        assert len(talk.endings[1].answer.body) == LIMIT

    @pytest.mark.parametrize("flags", [END_HEADERS, END_HEADERS | END_STREAM])
    def test_also_when_it_only_says_how_long_it_will_be(self, flags):
        talk = Talk()
        number, other = talk.ask(), talk.ask()
        block = head(("content-length", "1001"))
        talk.heard(
            frame(HEADER, flags & ~END_STREAM, number, block)
            + (b"" if flags == END_HEADERS else frame(DATA, 1, number, b"x" * 1001))
        )
        assert isinstance(talk.endings[0].broken.error, AnswerTooLarge)
        talk.answer(other) if talk.conversation.failure is None else None
        assert [one.number for one in talk.endings] == [number, other]

    def test_all_unfinished_answers_together_are_bounded(self):
        talk = Talk(limit=100_000)
        numbers = [talk.ask() for _ in range(10)]
        for number in numbers:
            talk.server.send_headers(number, [(":status", "200")])
            for _ in range(6):
                talk.server.send_data(number, b"x" * 15_000)
            talk.heard()
        assert "on one connection exceed 400000 bytes together" in refused(talk.endings[0], AnswerTooLarge)
        assert talk.conversation._held <= 400_000
        assert talk.conversation.failure is None

    def test_memory_stays_small_however_much_is_thrown_at_it(self):
        talk = Talk(limit=1000)
        numbers = [talk.ask() for _ in range(200)]
        junk = b"x" * 16_000
        tracemalloc.start()
        try:
            for number in numbers:
                talk.heard(frame(HEADER, END_HEADERS, number, head()) + frame(DATA, 0, number, junk))
            assert tracemalloc.get_traced_memory()[1] < 3 * 1024 * 1024
        finally:
            tracemalloc.stop()
        assert len(talk.endings) == 200


kinds = st.sampled_from([HEADER, DATA, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION, 2, 10, 0xEE])
blocks = st.sampled_from(
    [head(), head(("x-consul-index", "7")), head(("content-length", "3")), b"\x88", b"\x3f\xff\xff"]
)
payloads = st.one_of(st.binary(max_size=40), blocks, st.binary(min_size=4, max_size=8))
frames = st.builds(frame, kinds, st.integers(0, 255) | st.sampled_from([0, 1, 4, 5]), st.integers(0, 7), payloads)


@given(st.lists(frames | st.binary(max_size=60), max_size=40), st.integers(1, 200), st.data())
def test_whatever_comes_every_question_ends_exactly_once_and_nothing_is_raised(sent, size, data):
    talk = Talk()
    numbers = [talk.conversation.ask(question()) for _ in range(3)]
    dropped = data.draw(st.sets(st.sampled_from(numbers), max_size=2))
    endings = []
    whole = b"".join(sent)
    for position, start in enumerate(range(0, len(whole), size)):
        endings += talk.conversation.feed(whole[start : start + size] or b"\0")
        if position == 1:
            for number in dropped:
                talk.conversation.drop(number)
        talk.conversation.to_send()
        assert len(talk.conversation._rest) <= 16 * 1024 + 9
    endings += talk.conversation.feed(b"")
    ended = [one.number for one in endings]
    assert len(ended) == len(set(ended))
    assert set(numbers) - dropped <= set(ended) <= set(numbers)
    for one in endings:
        assert (one.answer is None) != (one.broken is None)
        assert one.broken is None or isinstance(one.broken.error, ConsulAccessError)
    assert isinstance(talk.conversation.failure, ConsulAccessError)


@given(st.data())
def test_a_good_answer_with_some_bytes_changed_is_an_answer_or_our_error(data):
    talk = Talk()
    numbers = [talk.ask() for _ in range(2)]
    for number in numbers:
        talk.server.send_headers(number, [(":status", "200"), ("x-consul-index", "7"), ("content-length", "2")])
        talk.server.send_data(number, b"[]", end_stream=True)
    spoilt = bytearray(talk.server.data_to_send())
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    endings = talk.conversation.feed(bytes(spoilt)) + talk.conversation.feed(b"")
    assert sorted(one.number for one in endings) == numbers


def test_a_large_heap_of_garbage():
    dice = random.Random(7)
    for _ in range(100):
        talk = Talk()
        numbers = [talk.ask() for _ in range(5)]
        endings = [*talk.conversation.feed(dice.randbytes(100)), *talk.conversation.feed(dice.randbytes(20_000))]
        endings += talk.conversation.feed(b"")
        assert sorted(one.number for one in endings) == numbers


def test_the_settings_are_told_before_anything_else():
    sent = Conversation(LIMIT).to_send()
    assert sent.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert wire2._settings()[SettingCodes.ENABLE_PUSH] == 0
