"""Several services at a real etcd at once: waiting for all of them, following their names, and why one is not found."""

from __future__ import annotations

import pytest

from consul_access import InvalidInput, NotReady

PREFIX = "/consul-access/v1/services/"


def test_a_wait_for_several_services_ends_when_all_are_there_at_once(face, any_etcd):
    async def story() -> None:
        told = []
        async with face.etcd(endpoints=any_etcd.address) as client, face.etcd(endpoints=any_etcd.address) as other:
            await other.register_service("orders", "10.0.0.5", 8080)
            wanted = {"orders": 1, "payments": 2}
            with pytest.raises(NotReady, match="'payments' not ready") as failure:
                await client.wait_for_all(wanted, timeout=1.0, on_progress=told.append)
            assert {one.service: one.is_ready for one in failure.value.progress} == {"orders": True, "payments": False}
            assert {one.service for one in told} == set(wanted)
            for number in (1, 2):
                await other.register_service("payments", "10.0.0.6", number, id=f"p-{number}", tags=["a"])
            found = await client.wait_for_all(wanted, timeout=10)
            assert {name: [one.port for one in entries] for name, entries in found.items()} == {
                "orders": [8080],
                "payments": [1, 2],
            }
            assert list(await client.wait_for_all(["payments"], timeout=10, tags="a")) == ["payments"]
            for wrong in ([], "orders", {"orders": 0}, [""]):
                with pytest.raises(InvalidInput):
                    await client.wait_for_all(wrong)

    face.run(story)


def test_the_names_of_all_services_are_followed(face, any_etcd):
    async def story() -> None:
        async with face.etcd(endpoints=any_etcd.address) as client:
            watch = client.watch_services()
            first = await anext(watch)
            assert (dict(first.services), first.source) == ({}, "live")
            handle = await client.register_service("orders", "10.0.0.5", 8080, tags=["a"])
            come = await anext(watch)
            assert (dict(come.services), come.added) == ({"orders": ["a"]}, ("orders",))
            await client.register_service("payments", "10.0.0.6", 1)
            assert (await anext(watch)).added == ("payments",)
            await handle.deregister()
            gone = await anext(watch)
            assert (dict(gone.services), gone.removed) == ({"payments": []}, ("orders",))
            assert gone.index > come.index
            await watch.aclose()

    face.run(story)


def test_an_explanation_says_why_a_service_is_found_or_not(face, etcd):
    async def story() -> None:
        async with face.etcd(endpoints=etcd.address) as client:
            await client.register_service("orders", "10.0.0.5", 8080, id="orders-1", tags=["a"])
            etcd.put(f"{PREFIX}orders/orders-2", '{"schema":1,"id":"orders-2","name":"orders","address":"h","port":1}')
            etcd.put(f"{PREFIX}orders/orders-3", "no JSON")
            etcd.put(f"{PREFIX}payments/p", "no JSON")
            found = await client.explain("orders")
            assert found.is_discoverable
            assert [one.id for one in found.instances] == ["orders-1", "orders-2"]
            assert [(one.code, one.instance) for one in found.findings] == [
                ("unusable_entries", "orders-3"),
                ("no_lease", "orders-2"),
            ]
            assert (found.agent.registry, found.agent.address) == ("etcd", etcd.address)
            assert found.agent.version.startswith(etcd.release)
            narrowed = await client.explain("orders-1", tags="b")
            assert (narrowed.instance_id, narrowed.is_discoverable) == ("orders-1", False)
            assert await client.search_service("orders", tags="b") == []
            assert (await client.explain("order")).found("unknown_service")
            for wrong in ({"policy": "good"}, {"near": "here"}):
                with pytest.raises(InvalidInput):
                    await client.explain("orders", **wrong)

    face.run(story)


def test_an_explanation_names_the_member_that_answered(face, etcd, free_port):
    async def story() -> None:
        async with face.etcd(endpoints=[f"127.0.0.1:{free_port}", etcd.address]) as client:
            found = await client.explain("orders")
            assert (found.agent.address, found.agent.version[:3]) == (etcd.address, etcd.release[:3])
            assert found.found("unknown_service")

    face.run(story)


def test_an_etcd_that_is_away_or_refuses_is_a_finding(face, free_port, etcd_with_users):
    async def story() -> None:
        async with face.etcd("127.0.0.1", free_port, timeout=2.0) as client:
            assert (await client.explain("orders")).found("agent_unreachable")
        login = {"endpoints": etcd_with_users.address, "user": "ann", "password": "annpw"}
        async with face.etcd(**login) as client:
            found = await client.explain("orders")
            assert [one.code for one in found.findings] == ["permission_denied"]

    face.run(story)
