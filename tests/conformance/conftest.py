"""Each test here is run against a real agent and against a fake of the same version."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.support.agents import ConsulAgent
from tests.support.fakes import FakeAgent
from tools import servers

Wire = ConsulAgent | FakeAgent
SCRIPTS = {"enable_script_checks": True}


@cache
def real_version() -> str:
    """Which version the real agent has; the fake answers as the same."""
    told = subprocess.run([servers.consul(), "version"], capture_output=True, text=True, check=True).stdout
    return told.split()[1].removeprefix("v").split("+")[0]


@pytest.fixture(params=["real", "fake"])
def wire(request: pytest.FixtureRequest) -> str:
    """Which of both is put to the test."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_fake() -> Iterator[FakeAgent]:
    with FakeAgent(real_version(), config=SCRIPTS) as fake:
        yield fake


@pytest.fixture(scope="session")
def shared_acl_agent() -> Iterator[ConsulAgent]:
    with ConsulAgent(acl=True) as agent:
        yield agent


@pytest.fixture(scope="session")
def shared_acl_fake() -> Iterator[FakeAgent]:
    with FakeAgent(real_version(), acl=True) as fake:
        yield fake


@pytest.fixture
def consul(wire: str, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """An agent that allows everything, without services at the beginning and at the end."""
    agent: Wire = request.getfixturevalue("shared_agent" if wire == "real" else "shared_fake")
    agent.clear()
    yield agent
    agent.clear()


@pytest.fixture
def acl_consul(wire: str, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """An agent that denies whatever is not allowed."""
    agent: Wire = request.getfixturevalue("shared_acl_agent" if wire == "real" else "shared_acl_fake")
    agent.clear()
    yield agent
    agent.clear()


@pytest.fixture
def agents(wire: str) -> Iterator[Callable[..., Wire]]:
    """Makes further agents for a single test."""
    with contextlib.ExitStack() as stack:
        if wire == "real":
            yield lambda **kwargs: stack.enter_context(ConsulAgent(**kwargs))
        else:
            yield lambda **kwargs: stack.enter_context(FakeAgent(real_version(), **kwargs))
