"""An exchange that breaks at each of its points, for each kind of call: what is repeated, and what is told."""

from __future__ import annotations

import json
import ssl

import pytest

from consul_access import (
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    EtcdRegistry,
    OutcomeUnknown,
)
from consul_access.consul import agent
from tests.support.calls import COMPARE_AND_SET
from tests.support.faulty import FaultyProxy, Way
from tests.support.scripted import answer, garbage, never, reset, truncate

ENTRY = {
    "Node": {"Node": "n1", "Address": "10.0.0.1"},
    "Service": {"ID": "web-1", "Service": "web", "Address": "10.0.0.5", "Port": 8080},
    "Checks": [],
}
LIST = json.dumps([ENTRY]).encode()
HEADER = {"revision": "7", "cluster_id": "1", "member_id": "2"}
PAIR = {"key": "YQ==", "value": "MQ==", "mod_revision": "3"}


def head_only(connection):
    """A good beginning, and the end in the middle of a header."""
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    return False


POINTS = {
    "after it was sent": reset(),
    "within the headers": head_only,
    "within the body": truncate(LIST),
    "without a word": garbage(b""),
}


READS = {
    "instances": lambda client: client.instances("web"),
    "health": lambda client: client.health("web"),
    "search_service": lambda client: client.search_service("web"),
    "services": lambda client: client.services(),
}
REPEATED_WRITES = {
    "register_service": lambda client: client.register_service("web", "10.0.0.5", 80, check=None),
    "agent.deregister": lambda client: client.send(agent.deregister("web-1")),
    "pass_check": lambda client: client.pass_check("service:web-1"),
    "maintenance": lambda client: client.maintenance("web-1", True),
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("operation", READS)
def test_a_read_is_repeated_wherever_it_broke(face, scripted, operation, point):
    good = answer(body=b"{}" if operation == "services" else LIST)
    server = scripted([point, good])

    async def story():
        async with face.access(url=server.url) as access:
            await READS[operation](access)

    face.run(story)
    assert len(server.requests) == 2


@pytest.mark.parametrize("point", [point for name, point in POINTS.items() if name != "within the body"])
@pytest.mark.parametrize("operation", REPEATED_WRITES)
def test_a_write_by_id_is_repeated_wherever_it_broke(face, scripted, operation, point):
    server = scripted([point, answer(body=b"")])

    async def story():
        async with face.access(url=server.url) as access:
            await REPEATED_WRITES[operation](access)

    face.run(story)
    assert len(server.requests) == 2
    assert server.requests[0].target == server.requests[1].target
    assert server.requests[0].body == server.requests[1].body


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_a_write_that_must_not_happen_twice_is_sent_once_wherever_it_broke(face, scripted, point):
    server = scripted([point, answer(body=b"true")])

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(OutcomeUnknown) as caught:
                await access.send(COMPARE_AND_SET)
            assert not caught.value.repeatable

    face.run(story)
    assert len(server.requests) == 1


def test_a_write_that_must_not_happen_twice_is_repeated_when_it_was_not_sent(face, scripted, free_port):
    server = scripted([answer(body=b"true")])

    async def story():
        async with face.access(addresses=[f"127.0.0.1:{free_port}", server.address]) as access:
            assert await access.send(COMPARE_AND_SET) == "true"

    face.run(story)
    assert len(server.requests) == 1


ETCD_ONCE = {
    "put": lambda client: client.put("a", "1"),
    "delete": lambda client: client.delete("a"),
    "replace": lambda client: client.replace("a", "1", "2"),
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("operation", ETCD_ONCE)
def test_a_write_at_etcd_is_sent_once_wherever_it_broke(face, scripted, operation, point):
    server = scripted([point, answer(body=json.dumps({"header": HEADER}).encode())])

    async def story():
        async with face.etcd("127.0.0.1", server.port) as client:
            with pytest.raises(OutcomeUnknown):
                await ETCD_ONCE[operation](client)

    face.run(story)
    assert len(server.requests) == 1


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_a_read_at_etcd_is_repeated_wherever_it_broke(face, scripted, point):
    server = scripted([point, answer(body=json.dumps({"header": HEADER, "kvs": [PAIR], "count": "1"}).encode())])

    async def story():
        async with face.etcd("127.0.0.1", server.port) as client:
            assert (await client.get("a"))[0] == b"1"

    face.run(story)
    assert len(server.requests) == 2


@pytest.mark.parametrize("silent", ["at once", "after the headers"])
def test_silence_ends_a_read_at_its_deadline_and_a_write_with_its_outcome_unknown(face, scripted, silent):
    def half(connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[")
        return never()(connection)

    server = scripted([never() if silent == "at once" else half])

    async def story():
        async with face.access(url=server.url, timeout=0.5) as access:
            with pytest.raises(DeadlineExceeded):
                await access.instances("web")
            with pytest.raises(OutcomeUnknown):
                await access.send(COMPARE_AND_SET)

    face.run(story)


# --- on the way to real servers -------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [True, False], ids=["reset", "closed"])
def test_an_answer_cut_after_any_number_of_bytes_is_never_taken_for_a_whole_one(consul, hard):
    from consul_access import ConsulAccess, RetryPolicy

    for number in range(3):
        consul.register("orders", id=f"orders-{number}", port=8000 + number, address="10.0.0.5")
    refused = 0
    with FaultyProxy(consul.port) as proxy:
        with ConsulAccess(url=proxy.url, retry=RetryPolicy.none()) as access:
            for cut in range(0, 4000, 40):
                with proxy.way(Way(cut=cut, reset=hard)):
                    proxy.hang_up()
                    try:
                        assert len(access.instances("orders")) == 3
                    except ConnectionLost:
                        refused += 1
    assert refused > 10


def outcome(access):
    """The port that it says, or that it says none."""
    try:
        return access.instances("orders")[0].port
    except ConsulAccessError:
        return "broken"


@pytest.mark.parametrize("place", [5, 60, 300, 700])
def test_over_tls_a_byte_that_was_changed_on_the_way_is_noticed(consul, authority, place):
    """Without TLS a digit that became another one cannot be told from the truth; nothing in HTTP or JSON shows it."""
    from consul_access import ConsulAccess, RetryPolicy

    consul.register("orders", id="orders-1", port=8001, address="10.0.0.5")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with FaultyProxy(consul.https_port) as proxy:
        url = f"https://{proxy.address}"
        with ConsulAccess(url=url, ssl_context=context, timeout=2, retry=RetryPolicy.none()) as access:
            assert [one.port for one in access.instances("orders")] == [8001]
            with proxy.way(Way(spoil=lambda data: data[:place] + bytes(byte ^ 1 for byte in data[place:]))):
                proxy.hang_up()
                # A short answer may end before the place.
                assert {outcome(access) for _ in range(5)} <= ({"broken", 8001} if place >= 300 else {"broken"})
            assert [one.port for one in access.instances("orders")] == [8001]


def test_etcd_is_read_through_a_slow_way_and_a_silent_one_ends_in_time(any_etcd):
    any_etcd.put("a", "1")
    with FaultyProxy(any_etcd.port) as proxy, EtcdRegistry(endpoints=proxy.address, timeout=2) as client:
        with proxy.way(Way(delay=0.1)):
            assert client.get("a")[0] == b"1"
        with proxy.way(Way(silent=True)), pytest.raises(DeadlineExceeded):
            client.get("a")
        assert client.get("a")[0] == b"1"
