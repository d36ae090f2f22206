"""Services at real etcd servers and clusters: kept whatever happens to them, found meanwhile, gone in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from consul_access import (
    ConnectFailed,
    ConsulAccessError,
    EtcdRegistry,
    InvalidInput,
    InvalidSettings,
    KeeperState,
    NoInstances,
    PermissionDenied,
    StaleList,
    StalePolicy,
    Unavailable,
)
from tests.support.etcd import RELEASES, EtcdCluster, EtcdServer, encoded
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PREFIX = "/consul-access/v1/services/"
KEY = f"{PREFIX}orders/orders-1"
LOOKED_AT = 7.0
"""Seconds between two looks at a key, and some room."""
WATCHED = 15.0
"""Seconds that a thousand registrations are watched being kept."""


@pytest.fixture
def told(record_property) -> Callable[[str, float], None]:
    return lambda what, seconds: record_property(what, f"{seconds:.2f} s")


@pytest.fixture(params=RELEASES)
def cluster(request, etcd_cluster) -> EtcdCluster:
    return etcd_cluster(request.param)


def held(server: EtcdServer, prefix: str = PREFIX) -> dict[str, dict[str, object]]:
    """Keys and values below the prefix, read by nothing of ours."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    found = server.call("/v3/kv/range", {"key": encoded(prefix), "range_end": encoded(end)})
    decoded = httpx.Response(200, json=found).json().get("kvs", ())
    return {_text(pair["key"]): json.loads(_text(pair.get("value", ""))) for pair in decoded}


def _text(data: str) -> str:
    import base64

    return base64.b64decode(data).decode()


def found(client: EtcdRegistry, name: str = "orders") -> list[str]:
    """The ids that a caller would be sent to; nothing while etcd cannot be asked."""
    try:
        return [one.id for one in client.instances(name)]
    except ConsulAccessError:
        return []


@contextlib.contextmanager
def running(program: str, server: EtcdServer) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is ready."""
    environ = os.environ | {"ETCDCTL_ENDPOINTS": server.address, "PYTHONPATH": str(ROOT)}
    start = "import os, signal, sys, threading, time\nfrom consul_access import *\n"
    command = [sys.executable, "-c", start + program]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            yield process
        finally:
            if process.poll() is None:
                process.kill()


KEPT = 'EtcdRegistry(ttl=3).registered("orders", "10.0.0.5", 8080, id="orders-1")'


# --- what is written ------------------------------------------------------------------------------------------


def test_one_key_an_instance_under_its_own_lease_with_a_schema(face, etcd):
    async def story():
        async with face.etcd(endpoints=etcd.address, ttl=5) as client:
            given = {"id": "orders-1", "tags": ["a"], "meta": {"v": "2"}, "ports": {"http": 8080, "admin": 9090}}
            await client.register_service("orders", "10.0.0.5", **given)
            await client.register_service("orders", "2001:db8::1", 8080, id="orders-2")
            first, second = held(etcd).items()
            assert (first[0], second[0]) == (KEY, f"{PREFIX}orders/orders-2")
            assert first[1].pop("registered_at")
            assert first[1] == {
                "schema": 1,
                "id": "orders-1",
                "name": "orders",
                "address": "10.0.0.5",
                "port": 0,
                "ports": {"http": 8080, "admin": 9090},
                "tags": ["a"],
                "meta": {"v": "2"},
            }
            one, two = await client.instances("orders")
            assert (one.address, one.port_named("admin").port) == (("10.0.0.5", 8080), 9090)
            assert str(two.address) == "[2001:db8::1]:8080"
            leases = {item.metadata.lease for item in await client.get_prefix(PREFIX)}
            assert len(leases) == 2
            assert None not in leases
            ttl = etcd.call("/v3/lease/timetolive", {"ID": min(leases)})
            assert int(ttl["grantedTTL"]) == 5
        assert held(etcd) == {}

    face.run(story)


def test_several_formats_are_written_in_one_step_and_end_together(any_etcd):
    formats = {"go_naming": "/grpc/", "kratos": "/microservices/"}
    with EtcdRegistry(endpoints=any_etcd.address, also_write=formats, ttl=3) as client:
        with client.registered("orders", "10.0.0.5", 8080, id="orders-1", meta={"version": "2"}):
            items = client.get_prefix("/")
            assert [item.key.decode() for item in items] == [
                KEY,
                "/grpc/orders/orders-1",
                "/microservices/orders/orders-1",
            ]
            assert len({(item.metadata.mod_revision, item.metadata.lease) for item in items}) == 1
            for codec, prefix in formats.items():
                with EtcdRegistry(endpoints=any_etcd.address, codec=codec, prefix=prefix) as other:
                    (instance,) = other.instances("orders")
                    assert (instance.id, instance.address) == ("orders-1", ("10.0.0.5", 8080))
            time.sleep(4)  # longer than the lease lives by itself
            assert len(client.get_prefix("/")) == 3
        assert client.get_prefix("/") == []


def test_what_go_wrote_is_found_and_what_we_write_go_reads(any_etcd):
    """`AddEndpoint` of go.etcd.io/etcd/client/v3/naming/endpoints writes this; `Op` is 0 for what is there."""
    any_etcd.put("/grpc/orders/10.0.0.5:8080", '{"Op":0,"Addr":"10.0.0.5:8080","Metadata":null}')
    any_etcd.put("/grpc/orders/six", '{"Op":0,"Addr":"[2001:db8::1]:80","Metadata":{"zone":"a","n":1}}')
    any_etcd.put("/grpc/orders/gone", '{"Op":1,"Addr":"10.0.0.9:8080","Metadata":null}')
    with EtcdRegistry(endpoints=any_etcd.address, codec="go_naming", prefix="/grpc/") as client:
        assert client.search_service("orders") == [("10.0.0.5", 8080), ("2001:db8::1", 80)]
        assert client.instances("orders", meta={"zone": "a"})[0].id == "six"
        with client.registered("mine", "10.0.0.5", 8080, id="10.0.0.5:8080"):
            (item,) = client.get_prefix("/grpc/mine/")
            assert item.key == b"/grpc/mine/10.0.0.5:8080"
            assert item.value == b'{"Op":0,"Addr":"10.0.0.5:8080","Metadata":null}'
        with pytest.raises(InvalidInput, match="'/'"):
            client.register_service("mine", "10.0.0.5", 8080, id="a/b")


def test_what_kratos_wrote_is_found(any_etcd):
    value = {
        "id": "5f3a",
        "name": "helloworld",
        "version": "v1.0.0",
        "metadata": {"region": "eu"},
        "endpoints": ["grpc://10.0.0.5:9000?isSecure=false", "http://10.0.0.5:8000?isSecure=false"],
    }
    any_etcd.put("/microservices/helloworld/5f3a", json.dumps(value))
    with EtcdRegistry(endpoints=any_etcd.address, codec="kratos") as client:
        (instance,) = client.instances("helloworld")
        assert (instance.id, instance.address) == ("5f3a", ("10.0.0.5", 8000))
        assert instance.port_named("grpc").port == 9000
        assert instance.meta == {"region": "eu", "version": "v1.0.0"}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"schema":2,"id":"bad","name":"orders","address":"10.0.0.5","port":1}',
        '{"schema":1,"id":"other","name":"orders","address":"10.0.0.5","port":1}',
        '{"schema":1,"id":"bad","name":"orders","address":"http://evil","port":1}',
        '{"schema":1,"id":"bad","name":"orders","address":"10.0.0.5","port":99999}',
        '{"schema":1,"id":"bad","name":"orders","address":"10.0.0.5","port":1,"tags":7}',
        '{"schema":1,"id":"bad","name":"orders","address":"10.0.0.5","port":1,"health":{"status":"so so"}}',
        '{"schema":1,"id":"bad","name":"orders","address":"10.0.0.5","port":1,"health":null}',
    ],
)
def test_a_value_that_cannot_be_read_is_left_out_and_counted(any_etcd, caplog, value):
    with EtcdRegistry(endpoints=any_etcd.address) as client, client.resolver("orders") as orders:
        client.register_service("orders", "10.0.0.5", 8080, id="orders-1")
        any_etcd.put(f"{PREFIX}orders/bad", value)
        any_etcd.put(f"{PREFIX}nothing", "no instance's key")
        answer = client.instances("orders")
        assert ([one.id for one in answer], answer.rejected) == (["orders-1"], 1)
        assert client.services() == {"orders": []}
        assert f"{PREFIX}orders/bad" in caplog.text
        assert [one.id for one in orders.wait_ready(10)] == ["orders-1"]


def test_fields_of_later_writers_do_no_harm(any_etcd):
    value = '{"schema":1,"id":"new","name":"orders","address":"10.0.0.5","port":1,"flavour":"mint","tags":["a"]}'
    any_etcd.put(f"{PREFIX}orders/new", value)
    with EtcdRegistry(endpoints=any_etcd.address) as client:
        (instance,) = client.instances("orders")
        assert (instance.tags, instance.address) == (("a",), ("10.0.0.5", 1))


@pytest.mark.parametrize(
    "settings",
    [
        {"prefix": "/services"},
        {"prefix": ""},
        {"codec": "toml"},
        {"codec": "go_naming"},
        {"ttl": 1},
        {"ttl": 2.5},
        {"also_write": {"go_naming": "/grpc"}},
        {"also_write": {"xml": "/grpc/"}},
        {"also_write": {"kratos": "/consul-access/v1/services/"}},
    ],
    ids=str,
)
def test_settings_that_cannot_be_right_are_refused(settings):
    with pytest.raises(InvalidSettings, match="="):
        EtcdRegistry(**settings)


@pytest.mark.parametrize("settings", [{"prefix": "/registry/"}, {"also_write": {"go_naming": "/registry/x/"}}], ids=str)
def test_kubernetes_keys_are_not_written(any_etcd, settings):
    with EtcdRegistry(endpoints=any_etcd.address, **settings) as client:
        with pytest.raises(InvalidInput, match="Kubernetes"):
            client.register_service("orders", "10.0.0.5", 8080)
        with pytest.raises(InvalidInput, match="Kubernetes"):
            client.deregister_service("orders-1", service="orders")
        assert client.get_prefix("/") == []


def test_an_address_that_others_cannot_call_has_to_be_given(any_etcd, monkeypatch):
    with EtcdRegistry(endpoints=any_etcd.address) as client:
        with pytest.raises(InvalidInput, match="give address="):
            client.register_service("orders", port=8080)
        monkeypatch.setenv("POD_IP", "10.9.8.7")
        client.register_service("orders", port=8080)
        assert client.search_service("orders") == [("10.9.8.7", 8080)]


def test_an_id_that_several_services_have_is_ambiguous(any_etcd):
    with EtcdRegistry(endpoints=any_etcd.address) as client, EtcdRegistry(endpoints=any_etcd.address) as other:
        for name in ("orders", "payments"):
            client.register_service(name, "10.0.0.5", 8080, id="one")
        for caller in (client, other):
            with pytest.raises(InvalidInput, match="orders, payments"):
                caller.deregister_service("one")
        assert client.deregister_service("one", service="payments")
        assert list(other.services()) == ["orders"]


def test_users_need_rights_for_the_prefix_alone(etcd_with_users):
    login = {"endpoints": etcd_with_users.address, "user": "ann", "password": "annpw"}
    with EtcdRegistry(**login, prefix="ann/services/", ttl=3) as client, client.resolver("orders") as orders:
        with client.registered("orders", "10.0.0.5", 8080) as keeper:
            assert orders.wait_ready(10)[0].address == ("10.0.0.5", 8080)
            etcd_with_users.outlast_tokens("ann", "annpw")
            assert client.search_service("orders") == [("10.0.0.5", 8080)]
            assert keeper.state is KeeperState.REGISTERED
            eventually(lambda: not orders.snapshot().is_stale)
        assert client.search_service("orders") == []
    with EtcdRegistry(**login, ttl=3) as client:
        with pytest.raises(PermissionDenied):
            client.register_service("orders", "10.0.0.5", 8080)
        with client.resolver("orders") as orders, pytest.raises(Unavailable, match="permission"):
            orders.pick()


# --- health ---------------------------------------------------------------------------------------------------


def test_a_health_function_decides_whether_it_is_found(face, any_etcd):
    well = [False]

    async def story():
        settings = {"endpoints": any_etcd.address, "ttl": 3, "also_write": {"go_naming": "/grpc/"}}
        async with face.etcd(**settings) as client:

            def health():
                return well[0], "said so"

            async with client.registered("orders", "10.0.0.5", 8080, id="orders-1", health=health):
                assert await client.instances("orders") == []
                (instance,) = await client.instances("orders", policy="any")
                assert str(instance.status) == "critical"
                assert held(any_etcd, "/grpc/") == {}
                well[0] = True
                await face.sleep(0)
                begun = time.monotonic()
                while not await client.instances("orders"):
                    assert time.monotonic() - begun < 5
                    await face.sleep(0.02)
                assert held(any_etcd)[KEY]["health"] == {"status": "passing", "output": "said so"}
                assert list(held(any_etcd, "/grpc/")) == ["/grpc/orders/orders-1"]

    face.run(story)


def test_a_draining_instance_is_in_no_list_and_still_there(any_etcd):
    with EtcdRegistry(endpoints=any_etcd.address) as client, client.resolver("orders") as orders:
        keeper = client.registered("orders", "10.0.0.5", 8080, id="orders-1", drain=30).start()
        orders.wait_ready(10)
        stopping = threading.Thread(target=keeper.stop)
        stopping.start()
        eventually(lambda: not orders.instances())
        assert keeper.state is KeeperState.DRAINING
        assert str(client.instances("orders", policy="any")[0].status) == "maintenance"
        keeper.stop(hurry=True)
        stopping.join(10)
        assert held(any_etcd) == {}


# --- keeping --------------------------------------------------------------------------------------------------


def test_e07_a_frozen_process_is_registered_again_when_it_goes_on(etcd, told):
    program = f"with {KEPT}:\n  print('ready', flush=True)\n  time.sleep(120)\n"
    with EtcdRegistry(endpoints=etcd.address) as reader, running(program, etcd) as process:
        assert found(reader) == ["orders-1"]
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        time.sleep(9)
        eventually(lambda: not found(reader), within=10, what="the lease has ended")
        process.send_signal(signal.SIGCONT)
        begun = time.monotonic()
        eventually(lambda: found(reader), within=3, what="it is back")
        told("back after", time.monotonic() - begun)
        process.terminate()
        process.wait(10)
        assert found(reader) == []


@pytest.mark.parametrize("harm", ["deleted", "overwritten", "lease revoked"])
def test_a_key_that_others_have_touched_is_ours_again(etcd, told, harm):
    events = []
    with (
        EtcdRegistry(endpoints=etcd.address) as client,
        client.registered("orders", "10.0.0.5", 8080, id="orders-1", on_event=events.append) as keeper,
    ):
        (item,) = client.get_prefix(PREFIX)
        if harm == "deleted":
            etcd.delete(KEY)
        elif harm == "overwritten":
            etcd.put(KEY, item.value)  # the same value, under no lease: it would outlive everybody
        else:
            etcd.call("/v3/lease/revoke", {"ID": item.metadata.lease})
        begun = time.monotonic()

        def is_ours():
            now = client.get_prefix(PREFIX)
            return (
                bool(now)
                and now[0].metadata.lease is not None
                and now[0].metadata.mod_revision > item.metadata.mod_revision
            )

        eventually(is_ours, within=LOOKED_AT)
        told("ours again after", time.monotonic() - begun)
        eventually(lambda: keeper.state is KeeperState.REGISTERED)
        assert keeper.re_registrations == 1
    assert [event.kind for event in events][2:4] == ["lost", "registered_again"]
    assert held(etcd) == {}


def test_the_end_leaves_alone_what_somebody_else_has_written_meanwhile(any_etcd):
    with EtcdRegistry(endpoints=any_etcd.address) as client, EtcdRegistry(endpoints=any_etcd.address) as other:
        keeper = client.registered("orders", "10.0.0.5", 8080, id="orders-1").start()
        other.register_service("orders", "10.0.0.6", 8080, id="orders-1")
        assert not keeper.stop()
        assert client.search_service("orders") == [("10.0.0.6", 8080)]


def test_heartbeats_keep_it_for_longer_than_its_lease_and_write_nothing(face, any_etcd):
    async def story():
        async with face.etcd(endpoints=any_etcd.address, ttl=2) as client:
            async with client.registered("orders", "10.0.0.5", 8080, id="orders-1") as keeper:
                (first,) = await client.get_prefix(PREFIX)
                until = time.monotonic() + 6
                while time.monotonic() < until:
                    assert await client.get_prefix(PREFIX) == [first]
                    await face.sleep(0.1)
                assert keeper.re_registrations == 0

    face.run(story)


def test_it_can_begin_while_etcd_is_away(etcd_server, told):
    server = etcd_server()
    server.kill()
    with EtcdRegistry(endpoints=server.address, retry=None, timeout=2) as client:
        with pytest.raises(ConnectFailed):
            client.register_service("orders", "10.0.0.5", 8080)
        with client.registered("orders", "10.0.0.5", 8080, fail_fast=False) as keeper:
            assert keeper.state is KeeperState.PENDING
            server.run()
            begun = time.monotonic()
            eventually(lambda: keeper.state is KeeperState.REGISTERED, within=10)
            told("registered after", time.monotonic() - begun)
            assert client.search_service("orders") == [("10.0.0.5", 8080)]


def test_a_thousand_registrations_in_one_process(any_etcd, told, record_property):
    most = 0
    with EtcdRegistry(endpoints=any_etcd.address, ttl=30) as client, client.resolver("orders") as orders:
        begun = time.monotonic()
        keepers = [client.register_service("orders", "10.0.0.5", 1000 + number) for number in range(1000)]
        told("registered after", time.monotonic() - begun)
        assert len(orders.wait_ready(30, at_least=1000)) == 1000
        counted = []
        client.on_exchange(counted.append)
        used = time.process_time()
        until = time.monotonic() + WATCHED
        while time.monotonic() < until:
            most = max(most, len(list(Path("/proc/self/fd").iterdir())))
            time.sleep(0.5)
        record_property("CPU", f"{(time.process_time() - used) / WATCHED:.0%}")
        record_property("open files at most", most)
        record_property("requests a second", len(counted) / WATCHED)
        assert len(held(any_etcd)) == 1000
        assert sum(keeper.re_registrations for keeper in keepers) == 0
        assert not [one.error for one in counted if one.error is not None]
        # One by one it would be 100 heartbeats and 200 looks a second.
        assert len(counted) / WATCHED < 150
        begun = time.monotonic()
    told("gone after", time.monotonic() - begun)
    assert held(any_etcd) == {}


# --- clusters -------------------------------------------------------------------------------------------------


def test_members_and_leaders_that_are_killed_are_not_noticed(cluster, told):
    events = []
    with (
        EtcdRegistry(endpoints=cluster.endpoints, ttl=3) as client,
        EtcdRegistry(endpoints=cluster.endpoints) as reader,
        reader.resolver("orders") as orders,
        client.registered("orders", "10.0.0.5", 8080, on_event=lambda event: events.append(event.kind)) as keeper,
    ):
        orders.wait_ready(10)
        emptied = watched_for_gaps(orders)
        with emptied as gaps:
            for choose in (lambda: cluster.followers()[0], cluster.leader):
                member = choose()
                member.kill()
                begun = time.monotonic()
                with client.registered("others", "10.0.0.6", 1):
                    told("another service is registered after", time.monotonic() - begun)
                eventually(lambda: not orders.snapshot().is_stale, within=30)
                time.sleep(4.5)  # longer than the lease lives by itself
                assert eventually(lambda: client.instances("orders"), within=20)
                member.run()
                cluster.leader()
        assert gaps == []
        assert keeper.re_registrations == 0
        assert "lost" not in events


@contextlib.contextmanager
def watched_for_gaps(orders) -> Iterator[list[str]]:
    """Picks again and again; what it was refused."""
    stop = threading.Event()
    gaps: list[str] = []

    def run() -> None:
        while not stop.wait(0.005):
            try:
                orders.pick()
            except ConsulAccessError as error:
                gaps.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield gaps
    finally:
        stop.set()
        thread.join()


def test_e06_a_quorum_that_is_lost_is_flagged_and_everything_is_there_when_it_is_back(cluster, told):
    with (
        EtcdRegistry(endpoints=cluster.endpoints, ttl=5) as client,
        client.resolver("orders") as orders,
        client.resolver("orders", stale=StalePolicy.fail_now()) as strict,
        client.registered("orders", "10.0.0.5", 8080) as keeper,
    ):
        orders.wait_ready(10)
        strict.wait_ready(10)
        stopped = cluster.running()[:2]
        for member in stopped:
            member.kill()
        begun = time.monotonic()
        eventually(lambda: orders.snapshot().is_stale, within=12, what="the list is flagged")
        told("flagged after", time.monotonic() - begun)
        assert orders.pick().address == ("10.0.0.5", 8080)
        assert orders.snapshot().source == "memory"
        with pytest.raises(StaleList):
            strict.pick()
        eventually(lambda: keeper.state is KeeperState.RENEWING, within=30)
        for member in stopped:
            member.launch()
        begun = time.monotonic()
        eventually(lambda: all(member.is_ready() for member in stopped), within=60, what="the members are back")
        told("quorum after", time.monotonic() - begun)
        eventually(lambda: not orders.snapshot().is_stale, within=30)
        told("confirmed after", time.monotonic() - begun)
        eventually(lambda: keeper.state is KeeperState.REGISTERED, within=30)
        told("kept again after", time.monotonic() - begun)
        assert strict.pick().address == ("10.0.0.5", 8080)
        assert found(client)


def test_a_member_that_is_frozen_is_left(cluster, told):
    with (
        EtcdRegistry(endpoints=cluster.endpoints, ttl=15) as client,
        EtcdRegistry(endpoints=cluster.endpoints) as reader,
        reader.resolver("orders") as orders,
        client.registered("orders", "10.0.0.5", 8080),
    ):
        orders.wait_ready(10)
        member = next(one for one in cluster.running() if one.address == str(reader.endpoints[0]))
        member.pause()
        try:
            begun = time.monotonic()
            client.register_service("orders", "10.0.0.6", 8080, id="orders-2")
            told("registered after", time.monotonic() - begun)
            eventually(lambda: len(orders.instances()) == 2, within=20)
            told("seen after", time.monotonic() - begun)
        finally:
            member.resume()


def test_n07_what_a_resolver_told_is_what_was_in_the_store(cluster, record_property):
    """Registrations come and go while members are killed and history is forgotten; nothing is told that never was."""
    with (
        EtcdRegistry(endpoints=cluster.endpoints, ttl=30) as client,
        EtcdRegistry(endpoints=cluster.endpoints) as reader,
        EtcdRegistry(endpoints=cluster.endpoints) as raw,
        reader.watch("orders") as watch,
        raw.watch_prefix(f"{PREFIX}orders/", start_revision=1) as history,
    ):
        told: list[tuple[int, frozenset[str]]] = []
        following = threading.Thread(
            target=lambda: [told.append((one.index, frozenset(i.id for i in one))) for one in watch]
        )
        following.start()
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.wait(0.02):
                number += 1
                key = f"{PREFIX}orders/o-{number % 20}"
                value = {"schema": 1, "id": f"o-{number % 20}", "name": "orders", "address": "10.0.0.5", "port": 1}
                with contextlib.suppress(ConsulAccessError):  # an outcome that is not known is in the history, or not
                    if number % 3:
                        client.put(key, json.dumps(value))
                    else:
                        client.delete(key)

        writing = threading.Thread(target=write)
        writing.start()
        for choose in (cluster.leader, lambda: cluster.running()[0]):
            time.sleep(1)
            member = choose()
            member.kill()
            time.sleep(1.5)  # the outage itself
            member.run()
            cluster.leader()
        stop.set()
        writing.join(60)
        client.put("end", "now")
        want = eventually(lambda: frozenset(one.id for one in raw.instances("orders")) or None, within=30)
        eventually(lambda: told and told[-1][1] == want, within=30, what="the watch has arrived at the store's content")
        watch.close()
        following.join(10)
        last = told[-1][0]
        states: dict[int, frozenset[str]] = {0: frozenset()}
        content: set[str] = set()
        for event in history:
            name = event.key.decode().rpartition("/")[2]
            (content.add if event.value else content.discard)(name)
            states[event.revision] = frozenset(content)
            if event.revision >= last:
                break
    record_property("snapshots", len(told))
    record_property("revisions", len(states))
    indexes = [index for index, _ in told]
    assert indexes == sorted(indexes)
    ever = set(states.values())
    assert [seen for _, seen in told if seen not in ever] == []
    for index, seen in told:
        if index in states:
            assert states[index] == seen


def test_a_store_that_was_lost_empties_no_list_and_keepers_fill_it_again(etcd_server, told):
    import shutil

    server = etcd_server()
    with (
        EtcdRegistry(endpoints=server.address, ttl=3) as client,
        client.resolver("orders") as orders,
        client.registered("orders", "10.0.0.5", 8080) as keeper,
    ):
        for number in range(30):
            client.put(f"filler/{number}", "so that the revision goes back")
        orders.wait_ready(10)
        with watched_for_gaps(orders) as gaps:
            server.kill()
            shutil.rmtree(server.home / "data")
            server.run()
            begun = time.monotonic()
            eventually(lambda: found(client), within=15, what="it is registered again")
            told("registered again after", time.monotonic() - begun)
            eventually(lambda: not orders.snapshot().is_stale, within=30, what="the list is confirmed")
        assert gaps == []
        eventually(lambda: keeper.state is KeeperState.REGISTERED)
        assert keeper.re_registrations == 1


def test_a_resolver_that_starts_while_etcd_is_away_waits_for_it(etcd_server):
    server = etcd_server()
    server.kill()
    with EtcdRegistry(endpoints=server.address) as client, client.resolver("orders") as orders:
        with pytest.raises(Unavailable):
            orders.pick()
        server.run()
        client.register_service("orders", "10.0.0.5", 8080)
        assert orders.wait_ready(20)[0].port == 8080
        with pytest.raises(NoInstances):
            client.resolve("payments")


# --- the ways out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "code"),
    [
        pytest.param(f"{KEPT}.start(); print('ready', flush=True)", 0, id="the end, without the block's end"),
        pytest.param(f"{KEPT}.start(); print('ready', flush=True); sys.exit(3)", 3, id="sys.exit"),
        pytest.param(f"with {KEPT}: print('ready', flush=True); 1 / 0", 1, id="an exception"),
        pytest.param(
            f"{KEPT}.start()\nif not os.fork(): sys.exit()\nos.wait()\nprint('ready', flush=True); time.sleep(0.3)",
            0,
            id="a forked child that exits",
        ),
    ],
)
def test_however_a_process_ends_its_key_is_gone(any_etcd, program, code):
    with running(program, any_etcd) as process:
        assert process.wait(20) == code
    assert held(any_etcd) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_deregisters_and_ends_the_process_as_without_us(any_etcd, number):
    program = f"{KEPT}.start()\nprint('ready', flush=True)\nwhile True: time.sleep(0.05)\n"
    with running(program, any_etcd) as process:
        assert list(held(any_etcd)) == [KEY]
        process.send_signal(number)
        assert process.wait(20) == -number
    assert held(any_etcd) == {}


def test_a_task_that_is_killed_by_sigterm_deregisters_too(any_etcd):
    program = """
import asyncio
async def main():
    async with AsyncEtcdRegistry(ttl=3) as etcd:
        await etcd.registered("orders", "10.0.0.5", 8080, id="orders-1").start()
        print("ready", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with running(program, any_etcd) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
    assert held(any_etcd) == {}


def test_a_process_that_is_killed_is_gone_with_its_lease(any_etcd, told):
    program = f"{KEPT}.start()\nprint('ready', flush=True)\nwhile True: time.sleep(0.05)\n"
    with running(program, any_etcd) as process:
        process.kill()
        begun = time.monotonic()
        eventually(lambda: held(any_etcd) == {}, within=15)
        told("gone after", time.monotonic() - begun)


def test_sigterm_in_the_middle_of_registering_leaves_nothing(any_etcd):
    program = f"print('ready', flush=True)\n{KEPT}.start()\nwhile True: time.sleep(0.05)\n"
    for moment in range(6):
        with running(program, any_etcd) as process:
            time.sleep(moment * 0.03)  # moments spread over the imports and the registration
            process.terminate()
            assert process.wait(20) == -signal.SIGTERM
        assert held(any_etcd) == {}, moment
