"""What every registry does, done over the channel of an etcd3 client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consul_access import EtcdRegistry
from consul_access.compat.etcd3 import Etcd3Transport, install
from consul_access.testing.conformance import Backend, RegistryContract
from tests.support.etcd import RELEASES, EtcdServer


class TestOverGrpc(RegistryContract):
    faces = ("threads",)

    @pytest.fixture(params=RELEASES)
    def backend(self, request: pytest.FixtureRequest) -> Iterator[Backend]:
        install()
        import etcd3

        server: EtcdServer = request.getfixturevalue("etcd_servers")(request.param)
        server.clear()
        client = etcd3.client(server.host, server.port)
        yield Backend(
            lambda: EtcdRegistry(endpoints=server.address, transport=Etcd3Transport(client)), forget=server.clear
        )
        client.close()
        server.clear()
