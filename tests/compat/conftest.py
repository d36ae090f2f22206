"""The face for threads whose calls to etcd travel over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from consul_access import EtcdRegistry
from consul_access.compat.etcd3 import Etcd3Transport, install
from tests.support.faces import Awaited, Face

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
"""gRPC's own limit, 4 MB, is below that of etcd's answers."""


@dataclass(frozen=True)
class GrpcFace(Face):
    """The face for threads, over the channel of an etcd3 client."""

    @asynccontextmanager
    async def etcd(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        install()
        import etcd3

        settings = kwargs.get("settings")
        host, port = settings.targets[0].address if settings is not None else args[:2]
        client = etcd3.client(host, port, grpc_options=LARGE)
        try:
            with EtcdRegistry(*args, transport=Etcd3Transport(client), **kwargs) as etcd:
                yield Awaited(etcd)
        finally:
            client.close()


@pytest.fixture
def face() -> Face:
    return GrpcFace("threads")
