"""Whatever is told here of etcd is told over gRPC: by the stories that are told of the gateway, and some of its own.

A face with an event loop of its own kind (trio) makes no difference to what is spoken, nor do both releases, but where
members die.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consul_access.etcd.settings import EtcdSettings
from tests.support.etcd import NEWER, EtcdServer
from tests.support.faces import Face


@pytest.fixture(autouse=True)
def over_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients speak it unless they are told to speak something else."""
    load = EtcdSettings.load

    def loaded(*args: Any, **kwargs: Any) -> EtcdSettings:
        return load(*args, **({"protocol": "grpc"} | kwargs))

    monkeypatch.setattr(EtcdSettings, "load", loaded)


@pytest.fixture(params=["threads", "asyncio"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def etcd(etcd_servers: Callable[[str], EtcdServer]) -> Iterator[EtcdServer]:
    """A real etcd without keys."""
    server = etcd_servers(NEWER)
    server.clear()
    yield server
    server.clear()
