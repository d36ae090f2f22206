"""etcd over gRPC and everything that can go wrong on the way, on every face, without an etcd."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys

import pytest

from consul_access import (
    AnswerTooLarge,
    BadAnswer,
    Compacted,
    DeadlineExceeded,
    EtcdSettings,
    InvalidSettings,
    NoLeader,
    OutcomeUnknown,
    ServerError,
    Timeouts,
)
from consul_access.etcd.protobuf import written_field
from tests.support.scripted import answer
from tests.support.scripted_grpc import (
    GrpcServer,
    answered,
    cut_off,
    given_up,
    hung_up,
    leaving,
    never,
    noise,
    proxied,
    refused,
    unseen,
)

HEADER = written_field(1, written_field(3, 7))
PAIR = written_field(1, b"a") + written_field(3, 3) + written_field(5, b"1")
FOUND = answered(HEADER + written_field(2, PAIR) + written_field(4, 1))
WRITTEN = answered(HEADER)
LOST = {
    "given up": given_up,
    "hung up": hung_up,
    "cut off": cut_off(HEADER),
    "timed out": refused(14, "etcdserver: request timed out"),
    "bad gateway": proxied(502, b"<html>"),
}
NOT_SEEN = {"unseen": unseen, "leaving": leaving, "no leader": refused(14, "etcdserver: no leader")}


@pytest.fixture
def member():
    servers = []

    def started(*steps):
        servers.append(GrpcServer(steps).__enter__())
        return servers[-1]

    yield started
    for server in servers:
        server.__exit__(None, None, None)


def over_grpc(face, server, **kwargs):
    return face.etcd("127.0.0.1", server.port, protocol="grpc", **kwargs)


@pytest.mark.parametrize("step", [*LOST.values(), *NOT_SEEN.values()], ids=[*LOST, *NOT_SEEN])
def test_reads_are_repeated(face, member, step):
    server = member(step, FOUND)

    async def story() -> None:
        async with over_grpc(face, server) as client:
            value, metadata = await client.get("a")
            assert (value, metadata.mod_revision) == (b"1", 3)

    face.run(story)
    assert [call.path for call in server.calls] == ["/etcdserverpb.KV/Range"] * 2


@pytest.mark.parametrize("step", LOST.values(), ids=LOST)
def test_a_write_that_may_have_been_done_is_not_repeated(face, member, step):
    server = member(step, WRITTEN)

    async def story() -> None:
        async with over_grpc(face, server) as client:
            with pytest.raises(OutcomeUnknown) as caught:
                await client.put("a", "1")
            assert caught.value.operation == "kv.put"

    face.run(story)
    assert len(server.calls) == 1


@pytest.mark.parametrize("step", NOT_SEEN.values(), ids=NOT_SEEN)
def test_a_write_that_was_not_done_is_repeated(face, member, step):
    server = member(step, WRITTEN)

    async def story() -> None:
        async with over_grpc(face, server) as client:
            assert await client.put("a", "1") == 7

    face.run(story)
    assert len(server.calls) == 2


def test_calls_share_a_connection_and_one_that_has_ended_meanwhile_is_noticed(face, member):
    server = member(WRITTEN, WRITTEN, WRITTEN)

    async def story() -> None:
        async with over_grpc(face, server) as client:
            for _ in range(2):
                await client.put("a", "1")
            server._hang_up()
            await client.put("a", "1")  # not repeated: the end of the idle connection is seen before

    face.run(story)
    assert [call.on for call in server.calls] == [1, 1, 2]


def test_pings_and_settings_that_come_while_it_is_idle_do_no_harm(face, member):
    def pinging(called):
        WRITTEN(called)
        called.connection.machine.ping(b"alive ??")

    server = member(pinging, pinging, pinging)

    async def story() -> None:
        async with over_grpc(face, server) as client:
            for _ in range(3):
                await client.put("a", "1")

    face.run(story)
    assert server.accepted == 1


def test_a_body_larger_than_the_servers_window_is_sent_piece_by_piece(face, member):
    server = member(WRITTEN)

    async def story() -> None:
        async with over_grpc(face, server) as client:
            await client.put("a", "x" * 1_400_000)

    face.run(story)
    assert len(server.calls[0].body) > 1_400_000


def test_a_server_that_never_answers_costs_the_time_allowed_and_no_more(face, member):
    server = member(never)

    async def story() -> None:
        async with over_grpc(face, server, timeout=Timeouts(total=0.3)) as client:
            with pytest.raises(DeadlineExceeded):
                await client.get("a")

    face.run(story)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (noise(b"\xff" * 20), "not HTTP/2"),
        (answered(b"\xff\xff"), "cannot be read"),
        (answered(b"\x12\x05ab"), "cut off"),
        (lambda called: called.end(), "0 messages"),
        (lambda called: (called.message(HEADER), answered(HEADER)(called)), "2 messages"),
        (proxied(200, b"<html>hello"), "none of gRPC's"),
    ],
    ids=["noise", "no protobuf", "cut off within", "nothing", "too much", "a page"],
)
def test_an_answer_that_is_none_is_told(face, member, step, text):
    server = member(step)

    async def story() -> None:
        async with over_grpc(face, server) as client:
            with pytest.raises(BadAnswer, match=text):
                await client.get("a")

    face.run(story)


def test_a_server_of_http_1_is_told_as_such(face, scripted):
    server = scripted([answer(400, b"what?")])

    async def story() -> None:
        async with over_grpc(face, server) as client:
            with pytest.raises(BadAnswer, match=r"HTTP/1\.1 here, and no gRPC"):
                await client.get("a")

    face.run(story)


def test_an_endless_answer_ends_at_the_limit(face, member):
    def endless(called):
        called.begin()
        for _ in range(20):
            called.connection.machine.send_data(called.number, b"\0\0\0\xff\xff" + b"x" * 10_000)
        called.end()

    server = member(endless)

    async def story() -> None:
        settings = EtcdSettings.load("127.0.0.1", server.port, protocol="grpc", max_answer_bytes=100_000)
        async with face.etcd(settings=settings) as client:
            with pytest.raises(AnswerTooLarge, match="100000"):
                await client.get("a")

    face.run(story)


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (11, "etcdserver: mvcc: required revision has been compacted", Compacted),
        (14, "etcdserver: no leader", NoLeader),
        (13, "something else", ServerError),
    ],
)
def test_errors_are_told_by_meaning(face, member, code, text, error):
    server = member(refused(code, text))

    async def story() -> None:
        async with over_grpc(face, server) as client:
            with pytest.raises(error):
                await client.get("a", revision=1)

    face.run(story)


def test_neither_password_nor_token_is_ever_written_down(face, member, caplog):
    caplog.set_level(logging.DEBUG, "consul_access")  # hpack tells its part of the server's side here
    server = member(answered(HEADER + written_field(2, b"t0k3n-of-ann")), FOUND)

    async def story() -> None:
        async with over_grpc(face, server, user="ann", password="s3cr3t-of-ann") as client:
            await client.get("a")
            assert "ann" not in repr(client).replace("'ann'", "")

    face.run(story)
    login, call = server.calls
    assert b"s3cr3t-of-ann" in login.body
    assert call.headers["token"] == "t0k3n-of-ann"
    assert "token" not in login.headers
    assert "s3cr3t" not in caplog.text
    assert "t0k3n" not in caplog.text


def test_a_watch_that_ends_with_an_error_is_opened_again(face, member):
    created = written_field(2, 0) + written_field(3, 1)
    event = written_field(11, written_field(1, 0) + written_field(2, PAIR))
    begun = written_field(1, written_field(3, 2)) + created

    def losing_its_leader(called):
        called.message(begun)
        called.end(14, "etcdserver: no leader")

    def telling(called):
        called.message(begun)
        called.message(written_field(1, written_field(3, 3)) + event)

    server = member(refused(14, "etcdserver: no leader"), losing_its_leader, telling)

    async def story() -> None:
        async with over_grpc(face, server) as client, client.watch_key("a", start_revision=2) as watch:
            assert (await anext(watch)).value == b"1"

    face.run(story)
    assert [call.path for call in server.calls] == ["/etcdserverpb.Watch/Watch"] * 3
    assert all(call.headers["hasleader"] == "true" for call in server.calls)


ASKING = """
import sys
from consul_access import ConnectFailed, EtcdRegistry, RetryPolicy
with EtcdRegistry("127.0.0.1", {port}, protocol={protocol!r}, retry=RetryPolicy.none()) as etcd:
    try:
        etcd.get("a")
    except ConnectFailed:
        names = ("hpack", "consul_access.etcd.messages", "consul_access.wire_grpc")
        print([name for name in names if name in sys.modules])
"""


@pytest.mark.parametrize(("protocol", "loaded"), [("gateway", 0), ("grpc", 3)])
def test_nothing_of_it_is_loaded_before_it_is_spoken(free_port, protocol, loaded):
    code = ASKING.format(port=free_port, protocol=protocol)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(ast.literal_eval(done.stdout)) == loaded


def test_it_says_so_when_its_extra_is_missing(monkeypatch):
    monkeypatch.setattr("consul_access.etcd.settings.find_spec", lambda name: None)
    with pytest.raises(InvalidSettings, match=r"consul-access\[http2\]"):
        EtcdSettings.load(protocol="grpc")


def test_other_protocols_are_refused():
    with pytest.raises(InvalidSettings, match="'gateway' or 'grpc'"):
        EtcdSettings.load(protocol="http")
