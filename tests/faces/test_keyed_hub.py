"""The engine behind all watches, resolvers and waits of a client of etcd, without an etcd."""

from __future__ import annotations

import httpx
import pytest

from consul_access import EtcdRegistry, Unavailable
from consul_access._live import keyed
from consul_access.testing import FakeEtcd
from tests.support.waiting import eventually

KEY = "/consul-access/v1/services/orders/orders-1"
VALUE = '{"schema":1,"id":"orders-1","name":"orders","address":"10.0.0.5","port":8080}'


class Counting(httpx.BaseTransport):
    """Hands everything on, and counts the streams."""

    def __init__(self, fake: FakeEtcd) -> None:
        self.inner = fake.transport()
        self.streams = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.streams += request.url.path == "/v3/watch"
        return self.inner.handle_request(request)


@pytest.fixture
def fake() -> FakeEtcd:
    fake = FakeEtcd()
    fake.put(KEY, VALUE)
    return fake


def test_one_stream_answers_all_questions(fake):
    transport = Counting(fake)
    with EtcdRegistry(transport=transport) as client:
        watches = [client.watch(f"service-{number}") for number in range(20)]
        assert all(len(next(watch)) == 0 for watch in watches)
        with client.resolver("orders") as orders, client.watch_services() as names:
            assert orders.wait_ready(10)[0].id == "orders-1"
            assert next(names).services == {"orders": []}
            assert len(client.wait_for_all(["orders"], timeout=10)) == 1
            fake.put(KEY.replace("orders-1", "orders-2"), VALUE.replace("orders-1", "orders-2").replace("8080", "8081"))
            eventually(lambda: len(orders.instances()) == 2)
        assert transport.streams == 1


def test_a_change_of_one_service_is_told_to_nobody_who_asks_about_others(fake):
    with EtcdRegistry(transport=fake.transport()) as client:
        with client.watch("orders") as orders, client.watch("payments") as payments:
            assert (len(next(orders)), len(next(payments))) == (1, 0)
            fake.delete(KEY)
            assert len(next(orders)) == 0
            assert payments._inbox.news == {}


def test_what_nobody_wants_to_know_any_more_is_not_followed_for_long(fake, monkeypatch):
    monkeypatch.setattr(keyed, "IDLE", 0.1)
    transport = Counting(fake)
    with EtcdRegistry(transport=transport) as client:
        with client.watch("orders") as watch:
            assert len(next(watch)) == 1
            eventually(lambda: transport.streams == 1)
        hub = client._engine._hub
        eventually(lambda: hub._following is None, what="the stream is let go")
        fake.delete(KEY)
        with client.watch("orders") as watch:
            assert len(next(watch)) == 0
        assert transport.streams <= 2


def test_an_outage_is_told_and_forgotten_when_it_is_over(fake):
    with EtcdRegistry(transport=fake.transport()) as client:
        with client.watch("orders", policy="any") as watch:
            assert not next(watch).is_stale
            fake.kill()
            lost = next(watch)
            assert (lost.is_stale, lost.source, len(lost)) == (True, "memory", 1)
            with client.watch("orders", raise_errors=True) as strict, pytest.raises(Unavailable):
                list(strict)
            fake.start()
            again = next(watch)
            assert (again.is_stale, again.source, again.reason) == (False, "live", "")
            # Whoever asks the same question now is not told of the error that there was.
            assert client.wait_for("orders", timeout=2.0)[0].id == "orders-1"
