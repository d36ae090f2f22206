"""The fixtures that bring real servers elsewhere bring fakes here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.support.etcd import OLDER, RELEASES
from tests.support.fake_etcds import FakeEtcdServer


@pytest.fixture(params=RELEASES)
def etcd(request: pytest.FixtureRequest) -> Iterator[FakeEtcdServer]:
    with FakeEtcdServer(request.param) as server:
        yield server


@pytest.fixture
def any_etcd() -> Iterator[FakeEtcdServer]:
    with FakeEtcdServer(OLDER) as server:
        yield server


@pytest.fixture
def etcd_server() -> Iterator[Callable[..., FakeEtcdServer]]:
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(FakeEtcdServer(*args, **kwargs))


@pytest.fixture(params=RELEASES)
def etcd_with_users(request: pytest.FixtureRequest) -> Iterator[FakeEtcdServer]:
    with FakeEtcdServer(request.param, token_ttl=4) as server:
        server.enable_users({"ann": ("annpw", "ann/")})
        yield server
