"""Keys, leases and transactions at real etcd servers of both gateway generations, on every face."""

from __future__ import annotations

import json
import time

import pytest

from consul_access import (
    Compacted,
    Compare,
    ConnectFailed,
    Delete,
    EtcdRegistry,
    EtcdSettings,
    FeatureDisabled,
    Get,
    InvalidInput,
    OutcomeUnknown,
    Put,
    ResourceExhausted,
    RetryPolicy,
    UnknownLease,
)
from consul_access.call import Call
from consul_access.etcd import leases
from tests.support.cutting import CuttingProxy
from tests.support.etcd import encoded

BIG = 1_400_000


def test_keys_are_written_read_replaced_and_deleted(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            assert await client.get("web/1") == (None, None)
            revision = await client.put("web/1", "10.0.0.5:80")
            value, metadata = await client.get("web/1")
            assert value == b"10.0.0.5:80"
            assert (metadata.key, metadata.mod_revision, metadata.version, metadata.lease) == (
                b"web/1",
                revision,
                1,
                None,
            )
            assert await client.replace("web/1", "10.0.0.5:80", "10.0.0.6:80")
            assert not await client.replace("web/1", "10.0.0.5:80", "10.0.0.7:80")
            assert (await client.get("web/1"))[0] == b"10.0.0.6:80"
            assert (await client.get("web/1", revision=revision))[0] == b"10.0.0.5:80"
            assert await client.delete("web/1")
            assert not await client.delete("web/1")
            assert await client.get("web/1", serializable=True) == (None, None)

    face.run(story)


def test_a_prefix_is_read_and_deleted_in_order(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            for key in ("web/2", "web/1", "web2/1", "a"):
                await client.put(key, key)
            assert [item.key for item in await client.get_prefix("web/")] == [b"web/1", b"web/2"]
            assert [item.value for item in await client.get_prefix("")] == [b"a", b"web/1", b"web/2", b"web2/1"]
            assert [item.value for item in await client.get_prefix("web/", keys_only=True)] == [b"", b""]
            assert await client.delete_prefix("web/") == 2
            with pytest.raises(InvalidInput, match="everything=True"):
                await client.delete_prefix("")
            assert [item.key for item in await client.get_prefix("")] == [b"a", b"web2/1"]

    face.run(story)


def test_any_bytes_can_be_keys_and_values(etcd, face):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            for key in (b"\0", b"\n", b"\xff\xff", "ü/é".encode(), b" "):
                await client.put(key, key * 3)
                assert (await client.get(key))[0] == key * 3
            assert len(await client.get_prefix(b"\xff")) == 1

    face.run(story)


def test_several_operations_are_one_step(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            claim = [Put("lock", "me"), Put("count", "1")]
            first = await client.txn([Compare.missing("lock")], claim, [Get("lock")])
            second = await client.txn([Compare.missing("lock")], claim, [Get("lock")])
            assert (first.succeeded, second.succeeded) == (True, False)
            assert second.answers[0].items[0].value == b"me"
            third = await client.txn([Compare.version("lock", "=", 1)], [Delete("lock"), Get("count")])
            assert third.answers[0].deleted == 1
            assert third.answers[1].items[0].value == b"1"

    face.run(story)


def test_a_key_ends_with_its_lease(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            async with await client.lease(60) as lease:
                assert lease.granted_ttl == 60
                await client.put("web/1", "x", lease)
                assert (await client.get("web/1"))[1].lease == lease.id
                assert await lease.keys() == (b"web/1",)
                assert await lease.keepalive() == 60
                assert 50 < await lease.ttl() <= 60
            assert await client.get("web/1") == (None, None)
            assert await lease.ttl() is None
            assert not await lease.revoke()
            with pytest.raises(UnknownLease):
                await lease.keepalive()
            with pytest.raises(UnknownLease):
                await client.put("web/1", "x", lease)

    face.run(story)


def test_a_lease_that_nobody_keeps_alive_ends(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            lease = await client.lease(2)
            await client.put("web/1", "x", lease.id)
            await face.eventually(lambda: etcd.call("/v3/kv/range", {"key": encoded("web/1")}).get("kvs") is None, 20)
            with pytest.raises(UnknownLease):
                await lease.keepalive()

    face.run(story)


def test_values_of_1_4_mb(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            value = bytes(range(256)) * (BIG // 256)
            for number in range(30):
                await client.put(f"big/{number:02}", value)
            assert (await client.get("big/00"))[0] == value
            found = await client.get_prefix("big/")  # 56 MB as JSON, more than one answer may have
            assert len(found) == 30
            assert all(item.value == value for item in found)
            with pytest.raises(ResourceExhausted):
                await client.put("big/x", bytes(1_600_000))

    face.run(story)


def test_a_prefix_of_100_000_keys_is_read_page_by_page_as_of_one_revision(etcd_server, record_property):
    number = 100_000
    server = etcd_server("3.5")
    with EtcdRegistry(server.host, server.port) as client:
        for begin in range(0, number, 128):
            keys = range(begin, min(begin + 128, number))
            client.txn([], [Put(f"many/{key:06}", f"{key}") for key in keys])
        pages = []
        written = []

        def meddle(exchange) -> None:
            """Writes behind the reader's back, between its pages."""
            pages.append(exchange.operation)
            if exchange.operation == "kv.range":
                written.append(server.put(f"many/{number + len(written):06}", "late"))

        client.on_exchange(meddle)
        begun = time.monotonic()
        found = client.get_prefix("many/")
        record_property("seconds", round(time.monotonic() - begun, 2))
        assert [item.value for item in found] == [b"%d" % key for key in range(number)]
        assert len(pages) == number / 2000
        assert len(written) == len(pages)


def test_the_past_can_be_read_until_it_is_compacted(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            old = await client.put("a", "1")
            await client.put("a", "2")
            etcd.compact()
            with pytest.raises(Compacted, match="watch from that"):
                await client.get("a", revision=old)

    face.run(story)


def test_keys_of_kubernetes_are_not_written_by_mistake(face, etcd):
    async def story() -> None:
        key = "/registry/services/specs/default/web"
        async with face.etcd(etcd.host, etcd.port) as client:
            for write in (
                lambda: client.put(key, "x"),
                lambda: client.delete(key),
                lambda: client.replace(key, "x", "y"),
                lambda: client.delete_prefix("/registry"),
                lambda: client.delete_prefix("", everything=True),
                lambda: client.txn([], [Put("a", "1"), Put(key, "x")]),
                lambda: client.txn([], [Get("a")], [Delete("/", b"0")]),
            ):
                with pytest.raises(InvalidInput, match="Kubernetes"):
                    await write()
            assert await client.get("a") == (None, None)
        async with face.etcd(etcd.host, etcd.port, allow_kubernetes_writes=True) as client:
            await client.put(key, "x")
            assert await client.delete_prefix("/registry/") == 1

    face.run(story)


def test_any_other_call_can_be_sent(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            raw = Call("hash", "POST", "/v3/maintenance/hash", lambda reply: json.loads(reply.body)["hash"], body=b"{}")
            assert isinstance(await client.send(raw), int)
            unknown = Call("none", "POST", "/v3/no/such/call", lambda reply: None, body=b"{}")
            with pytest.raises(FeatureDisabled):
                await client.send(unknown)

    face.run(story)


def test_the_cluster_tells_about_itself(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            status = await client.status()
            assert status.version.startswith(etcd.release)
            assert status.is_leader
            (member,) = await client.members()
            assert member.client_urls == (etcd.url,)
            assert await client.discover() == ()

    face.run(story)


def test_a_lost_answer_to_a_write_is_an_unknown_outcome(face, etcd):
    async def story() -> None:
        behind_the_request = 400  # within the answer's headers
        with CuttingProxy(etcd.port, behind_the_request) as proxy:
            async with face.etcd("127.0.0.1", proxy.port) as client:
                with pytest.raises(OutcomeUnknown) as caught:
                    await client.put("cut", "1")
            assert proxy.has_cut
            assert not caught.value.repeatable
        with CuttingProxy(etcd.port, behind_the_request) as proxy:
            async with face.etcd("127.0.0.1", proxy.port) as client:
                await client.put("cut", "2", idempotent=True)
                assert proxy.has_cut
                assert (await client.get("cut"))[0] == b"2"

    face.run(story)


def test_e10_refused(face, free_port, record_property):
    async def story() -> None:
        begun = time.monotonic()
        async with face.etcd("127.0.0.1", free_port) as client:
            with pytest.raises(ConnectFailed, match="endpoints="):
                await client.get("a")
        record_property("seconds", round(time.monotonic() - begun, 2))
        assert time.monotonic() - begun < 5

    face.run(story)


def test_settings_can_be_given_whole(face, etcd):
    async def story() -> None:
        settings = EtcdSettings.load(etcd.host, etcd.port, retry=RetryPolicy.none(), environ={})
        async with face.etcd(settings=settings) as client:
            assert client.settings.retry.attempts == 1
            assert repr(client).endswith(f"{etcd.address}>")
            assert await client.send(leases.grant(5))
        with pytest.raises(InvalidInput):
            async with face.etcd("127.0.0.1", settings=settings):
                pass

    face.run(story)
