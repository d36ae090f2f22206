"""A real etcd by way of an httpx transport that the user gives: what streams is followed, what does not is refused."""

from __future__ import annotations

import httpx
import pytest

from consul_access import EtcdRegistry, InvalidSettings
from tests.support.waiting import eventually

IN_VAIN = 1.0
"""Seconds that the headers of a watch are waited for here, instead of five and more."""


class Whole(httpx.BaseTransport):
    """Reads every answer to its end before it hands it on, as transports that log or cache do."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        response.read()
        response.close()
        return response

    def close(self) -> None:
        self.inner.close()


class AsyncWhole(httpx.AsyncBaseTransport):
    """The same for tasks."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        await response.aread()
        await response.aclose()
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


def test_a_transport_for_threads_carries_the_watch_of_all_services(any_etcd):
    with EtcdRegistry(endpoints=any_etcd.address, transport=httpx.HTTPTransport()) as client:
        with client.watch("orders") as watch, client.resolver("orders") as orders:
            assert (len(next(watch)), orders.snapshot().source) == (0, "live")
            client.register_service("orders", "10.0.0.5", 8080, id="orders-1")
            assert [one.id for one in next(watch)] == ["orders-1"]
            assert [one.id for one in orders.wait_ready(10)] == ["orders-1"]
            assert not orders.snapshot().is_stale
            assert client.wait_for("orders", timeout=10)[0].port == 8080
            any_etcd.clear()
            assert len(next(watch)) == 0


def test_a_transport_that_hands_on_nothing_before_the_end_is_refused_by_a_watch_of_keys(face, any_etcd):
    async def story() -> None:
        given = {"transport": AsyncWhole() if face.is_async else Whole(), "timeout": IN_VAIN}
        async with face.etcd(any_etcd.host, any_etcd.port, **given) as client:
            for _ in range(2):
                with pytest.raises(InvalidSettings, match="transport= gives an answer only when it is whole"):
                    async with client.watch_key("a"):
                        pass

    face.run(story)


def test_a_list_by_such_a_transport_is_never_called_fresh_once_that_is_known(any_etcd):
    any_etcd.put("/consul-access/v1/services/orders/o", '{"schema":1,"id":"o","name":"orders","address":"h","port":1}')
    with EtcdRegistry(endpoints=any_etcd.address, transport=Whole(), timeout=IN_VAIN) as client:
        with client.resolver("orders") as orders, client.watch("orders") as watch:
            told = [next(watch), next(watch)]
            assert [one.is_stale for one in told] == [False, True]
            eventually(lambda: "transport=" in orders.snapshot().reason, within=20)
            assert [one.id for one in orders.instances()] == ["o"]
            any_etcd.put(
                "/consul-access/v1/services/orders/p", '{"schema":1,"id":"p","name":"orders","address":"h","port":1}'
            )
            # It is read again now and then, and still nobody is told that it is followed.
            while len(last := next(watch)) < 2:  # another reason may be told first
                assert last.is_stale
            assert ([one.id for one in last], last.is_stale) == (["o", "p"], True)
            with client.watch("orders", raise_errors=True) as strict:
                with pytest.raises(InvalidSettings, match="transport="):
                    list(strict)
