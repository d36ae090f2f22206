"""What every registry does, whatever is behind it: one suite, run in memory, on Consul and on etcd, real and fake."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from consul_access import AsyncConsulAccess, AsyncEtcdRegistry, ConsulAccess, EtcdRegistry, InvalidInput
from consul_access.testing import AsyncMemoryRegistry, FakeConsul, FakeEtcd, MemoryRegistry, SimulatedClock
from consul_access.testing.conformance import Backend, RegistryContract
from tests.support.agents import ConsulAgent
from tests.support.etcd import NEWER, OLDER, EtcdServer

WITHOUT_CHECK = {"check": None}
"""Consul would ask for an instance's health, and nothing answers there."""


def on_consul(url: str, **kwargs: object) -> Backend:
    return Backend(lambda: ConsulAccess(url=url), lambda: AsyncConsulAccess(url=url), **kwargs)


def on_etcd(address: str, protocol: str = "gateway", **kwargs: object) -> Backend:
    how = {"endpoints": address, "protocol": protocol}
    return Backend(lambda: EtcdRegistry(**how), lambda: AsyncEtcdRegistry(**how), **kwargs)


class TestMemory(RegistryContract):
    @pytest.fixture
    def backend(self) -> Backend:
        fake = FakeConsul(clock=SimulatedClock(), checks_pass=True)
        return Backend(lambda: MemoryRegistry(fake), lambda: AsyncMemoryRegistry(fake), forget=fake.clear)


class TestFakeConsul(RegistryContract):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with FakeConsul() as fake, fake.serve() as server:
            yield on_consul(server.url, forget=fake.clear, registration=WITHOUT_CHECK)


class TestConsul(RegistryContract):
    @pytest.fixture
    def backend(self, shared_agent: ConsulAgent) -> Iterator[Backend]:
        shared_agent.clear()
        yield on_consul(shared_agent.url, forget=shared_agent.clear, registration=WITHOUT_CHECK)
        shared_agent.clear()


class TestEtcd(RegistryContract):
    @pytest.fixture(params=[OLDER, NEWER])
    def backend(self, request: pytest.FixtureRequest) -> Iterator[Backend]:
        server: EtcdServer = request.getfixturevalue("etcd_servers")(request.param)
        server.clear()
        yield on_etcd(server.address, forget=server.clear)
        server.clear()


class TestEtcdOverGrpc(RegistryContract):
    @pytest.fixture
    def backend(self, etcd_servers: Callable[[str], EtcdServer]) -> Iterator[Backend]:
        server = etcd_servers(NEWER)
        server.clear()
        yield on_etcd(server.address, "grpc", forget=server.clear)
        server.clear()


class TestFakeEtcd(RegistryContract):
    @pytest.fixture(params=["3.4", "3.6"])
    def backend(self, request: pytest.FixtureRequest) -> Iterator[Backend]:
        with FakeEtcd(request.param) as fake, fake.serve() as server:
            yield on_etcd(server.address, forget=fake.clear)


class TestFakeEtcdInTheProcess(RegistryContract):
    @pytest.fixture
    def backend(self) -> Backend:
        fake = FakeEtcd()
        return Backend(
            lambda: EtcdRegistry(transport=fake.transport()),
            lambda: AsyncEtcdRegistry(transport=fake.transport()),
            forget=fake.clear,
        )


@pytest.mark.parametrize("kind", [ConsulAccess, EtcdRegistry])
@pytest.mark.parametrize("wrong", [{"name": ""}, {"port": 0}, {"address": "http://10.0.0.5"}, {"tags": "one"}], ids=str)
def test_what_cannot_be_right_is_refused_before_anything_is_sent(kind, wrong):
    with kind(port=1) as access:
        exchanges = []
        access.on_exchange(exchanges.append)
        with pytest.raises(InvalidInput):
            access.register_service(**{"name": "orders", "address": "10.0.0.5", "port": 8080} | wrong)
        assert exchanges == []
