"""N01: clocks that jump by an hour, to and fro, while services are kept, followed and waited for."""

from __future__ import annotations

import random
import time

import pytest

from consul_access import ConsulAccess, EtcdRegistry, TtlCheck
from tests.support.waiting import eventually

TTL = 2


@pytest.fixture
def jumping(monkeypatch):
    """Every look at the wall clock finds another hour; nobody may mind."""
    real, dice = time.time, random.Random(1)
    monkeypatch.setattr(time, "time", lambda: real() + dice.choice((-3600.0, 0.0, 3600.0)))
    assert {round((time.time() - real()) / 3600) for _ in range(100)} == {-1, 0, 1}


def test_n01_at_consul_nothing_is_lost_flagged_or_late_while_the_clock_jumps(consul, jumping, record_property):
    with ConsulAccess(url=consul.url) as access, access.resolver("orders") as orders:
        with access.registered("orders", "10.0.0.5", 8080, id="orders-1", check=TtlCheck(TTL)) as keeper:
            orders.wait_ready(10)
            begun = time.monotonic()
            for number in range(2, 8):
                consul.register("orders", id=f"orders-{number}", port=8000 + number, address="10.0.0.5")
                changed = time.monotonic()
                eventually(lambda number=number: len(orders.instances()) == number, within=5)
                record_property(f"change {number - 1} seen after", f"{time.monotonic() - changed:.3f} s")
                assert not orders.snapshot().is_stale
                assert 0 <= orders.snapshot().age < 60
            while time.monotonic() - begun < 2 * TTL:
                assert "orders-1" in {one.id for one in orders.instances()}
                time.sleep(0.02)
            assert (keeper.misses, keeper.re_registrations) == (0, 0)


def test_n01_an_outage_is_tried_again_at_the_usual_pace_while_the_clock_jumps(agents, jumping, record_property):
    agent = agents(server=True)
    agent.register("orders", id="orders-1", port=8001, address="10.0.0.5")
    with ConsulAccess(url=agent.url) as access, access.resolver("orders") as orders:
        orders.wait_ready(10)
        agent.kill()
        eventually(lambda: orders.snapshot().is_stale, within=5)
        assert orders.pick().id == "orders-1"
        agent.run()
        back = time.monotonic()
        eventually(lambda: not orders.snapshot().is_stale, within=15)
        record_property("confirmed after", f"{time.monotonic() - back:.2f} s")


def test_n01_at_etcd_leases_and_members_are_judged_by_the_monotonic_clock(etcd, free_port, jumping):
    """python-etcd3 refuses a member for five minutes of the wall clock after one failure."""
    dead = f"127.0.0.1:{free_port}"
    with EtcdRegistry(endpoints=[dead, etcd.address], ttl=TTL) as client, client.resolver("orders") as orders:
        with client.registered("orders", "10.0.0.5", 8080, id="orders-1") as keeper:
            orders.wait_ready(10)
            begun = time.monotonic()
            while time.monotonic() - begun < 3 * TTL:
                assert [one.id for one in client.instances("orders")] == ["orders-1"]
                assert [one.id for one in orders.instances()] == ["orders-1"]
                time.sleep(0.05)
            assert keeper.re_registrations == 0
