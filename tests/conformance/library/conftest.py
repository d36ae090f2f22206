"""The fixtures that bring real agents elsewhere bring fakes here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.support.fakes import FakeAgent


@pytest.fixture
def consul() -> Iterator[FakeAgent]:
    with FakeAgent(config={"enable_script_checks": True}) as fake:
        yield fake


@pytest.fixture
def acl_consul() -> Iterator[FakeAgent]:
    with FakeAgent(acl=True) as fake:
        yield fake


@pytest.fixture
def agents() -> Iterator[Callable[..., FakeAgent]]:
    with contextlib.ExitStack() as stack:
        yield lambda **kwargs: stack.enter_context(FakeAgent(**kwargs))
