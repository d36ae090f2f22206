"""Watches over TLS at real agents of Consul 1.8.7: many share a few HTTP/2 connections, whatever happens to those."""

from __future__ import annotations

import json
import socket
import time

import pytest

from consul_access import ConsulSettings
from tests.support.freezing import sees_it_frozen
from tests.support.many import all_told, connections, forgotten, written


def ids(found):
    return sorted(instance.id for instance in found)


@pytest.fixture
def told(record_property):
    return lambda what, seconds: record_property(
        what, f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
    )


@pytest.fixture
def settings(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")

    def load(*agents, **options):
        urls = [f"https://127.0.0.1:{agent.https_port}" for agent in agents]
        return ConsulSettings.load(addresses=urls, ca_cert=tmp_path / "authority.pem", **options, environ={})

    return load


def test_1000_services_over_six_connections_at_most_and_no_change_is_missed(face, tls_consul, settings, told):
    names = [f"s{number}" for number in range(1000)]
    written(tls_consul, names, 1)

    async def story():
        async with face.access(settings=settings(tls_consul)) as access:
            watch = aiter(access.watch(names))
            begun = time.monotonic()
            await all_told(watch, names)
            told("all were served after", time.monotonic() - begun)
            most = connections(tls_consul.https_port)
            for port in (2, 3):
                written(tls_consul, names, port)
                begun, missing = time.monotonic(), set(names)
                while missing:
                    snapshot = await anext(watch)
                    assert not snapshot.shared
                    if snapshot.instances[0].port == port and not snapshot.is_stale:
                        missing.discard(snapshot.service)
                    assert time.monotonic() - begun < 60
                told("1000 changes were seen after", time.monotonic() - begun)
                most = max(most, connections(tls_consul.https_port))
            assert most <= 6
            assert len(await access.instances("s7")) == 1

    try:
        face.run(story)
    finally:
        forgotten(tls_consul)


def test_a_watch_that_ends_is_no_longer_answered_and_the_others_are(face, tls_consul, settings):
    for name in ("orders", "billing"):
        tls_consul.register(name, id=f"{name}-1", port=8001)

    async def story():
        async with face.access(settings=settings(tls_consul)) as access, access.resolver("billing") as billing:
            async with access.watch("orders") as watch:
                assert ids(await anext(aiter(watch))) == ["orders-1"]
            hub = access._engine._hub
            await face.eventually(lambda: len(hub._questions) == hub._busy == 1)
            tls_consul.register("billing", id="billing-2", port=8002)
            await face.eventually(lambda: ids(billing.instances()) == ["billing-1", "billing-2"], within=2)
            assert connections(tls_consul.https_port) == 1

    face.run(story)


def test_an_agent_is_killed_and_comes_back(face, agents, authority, settings, told):
    agent = agents(server=True, authority=authority)
    names = [f"s{number}" for number in range(250)]
    written(agent, names, 1)

    async def story():
        async with face.access(settings=settings(agent)) as access:
            watch = aiter(access.watch(names))
            await all_told(watch, names)
            agent.kill()
            away, stale = time.monotonic(), set()
            while len(stale) < len(names):
                snapshot = await anext(watch)
                assert len(snapshot) == 1  # the list stays
                stale |= {snapshot.service} if snapshot.is_stale else set()
            told("all were doubted after", time.monotonic() - away)
            await face.sleep(1)
            agent.run()
            begun = time.monotonic()
            written(agent, names, 2)
            missing = set(names)
            while missing:
                snapshot = await anext(watch)
                if snapshot.instances[0].port == 2 and not snapshot.is_stale:
                    missing.discard(snapshot.service)
                assert time.monotonic() - begun < 60
            told("all were fresh after", time.monotonic() - begun)
            assert connections(agent.https_port) <= 6

    face.run(story)


def test_a_frozen_agent_is_noticed_as_soon_as_without_tls(face, agents, authority, settings, told):
    agent = agents(authority=authority)
    agent.register("orders", id="orders-1", port=8001)

    async def story():
        async with face.access(settings=settings(agent)) as access:
            await sees_it_frozen(face, access, agent, told, longer=6)  # by then the connection has been given up

    face.run(story)


def test_another_agent_is_asked_when_the_first_is_gone(face, agents, authority, settings):
    first, second = agents(authority=authority), agents(authority=authority)
    for agent in (first, second):
        agent.register("orders", id="orders-1", port=8001)

    async def story():
        async with face.access(settings=settings(first, second)) as access, access.resolver("orders") as orders:
            assert ids(orders.instances()) == ["orders-1"]
            first.kill()
            second.register("orders", id="orders-2", port=8002)
            await face.eventually(lambda: len(orders.instances()) == 2)
            assert not orders.snapshot().is_stale

    face.run(story)


def test_a_token_is_revoked_while_watching(face, agents, authority, settings, told):
    agent = agents(acl=True, authority=authority)
    agent.register("orders", id="orders-1", port=8001)

    def token():
        rules = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
        status, text = agent.request("PUT", "/v1/acl/policy", {"Name": f"p{time.monotonic_ns()}", "Rules": rules})
        assert status == 200, text
        policies = [{"ID": json.loads(text)["ID"]}]
        status, text = agent.request("PUT", "/v1/acl/token", {"Policies": policies})
        assert status == 200, text
        made = json.loads(text)
        return made["AccessorID"], made["SecretID"]

    accessor, secret = token()
    tokens = [secret]

    async def story():
        async with face.access(settings=settings(agent, token=lambda: tokens[-1])) as access:
            async with access.resolver("orders") as orders:
                assert orders.pick().id == "orders-1"
                agent.request("DELETE", f"/v1/acl/token/{accessor}")
                agent.register("orders", id="orders-1", port=8002)  # has the waiting query answered
                _, after = await face.eventually(lambda: orders.snapshot().is_stale, within=15)
                told("noticed after", after)
                assert "does not know the token" in orders.snapshot().reason
                assert ids(orders.instances()) == ["orders-1"]
                tokens.append(token()[1])
                _, after = await face.eventually(lambda: not orders.snapshot().is_stale, within=60)
                told("the new token was used after", after)
                assert orders.pick().port == 8002

    face.run(story)


def test_the_agents_connection_limit(face, agents, authority, settings, told):
    """All connections that the agent lets in are taken: lists stay, and go on when there is room again."""
    patient = {"http_max_conns_per_client": 20, "https_handshake_timeout": "10m"}  # with those who say nothing
    agent = agents(authority=authority, config={"limits": patient})
    agent.source = "127.0.0.2"  # what the test itself asks is not counted with it
    names = [f"s{number}" for number in range(150)]
    written(agent, names, 1)

    async def story():
        async with face.access(settings=settings(agent)) as access:
            async with access.resolver("s0") as first:
                assert connections(agent.https_port) == 1
                greedy = [socket.create_connection(("127.0.0.1", agent.https_port)) for _ in range(25)]
                try:
                    watch = aiter(access.watch(names))  # they fit on the connection there is
                    await all_told(watch, names)
                    written(agent, names, 2)
                    missing = set(names)
                    while missing:
                        snapshot = await anext(watch)
                        missing -= {snapshot.service} if snapshot.instances[0].port == 2 else set()
                    assert not first.snapshot().is_stale
                    assert connections(agent.https_port) <= 1 + len(greedy)
                    async with face.access(settings=settings(agent)) as other, other.resolver("s0") as second:
                        await face.eventually(lambda: second.snapshot().is_stale, within=30)
                        for sock in greedy:
                            sock.close()
                        _, after = await face.eventually(lambda: second.snapshot().source == "live", within=5)
                        told("served after the limit was no more", after)
                finally:
                    for sock in greedy:
                        sock.close()

    face.run(story)
