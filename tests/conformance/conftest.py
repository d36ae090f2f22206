"""Each test here is run against a real agent and against a fake of the same version."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from consul_access import UnsupportedByAgent
from consul_access.rules import versions
from tests.support.agents import ConsulAgent
from tests.support.fakes import FakeAgent
from tests.support.waiting import eventually
from tools import servers

Wire = ConsulAgent | FakeAgent
SCRIPTS = {"enable_script_checks": True}


@cache
def real_version() -> str:
    """Which version the real agent has; the fake answers as the same."""
    told = subprocess.run([servers.consul(), "version"], capture_output=True, text=True, check=True).stdout
    return told.split()[1].removeprefix("v").split("+")[0]


def since(*numbers: int) -> bool:
    """Whether what is put to the test is as new as that."""
    return tuple(int(number) for number in real_version().split(".")) >= numbers


def takes(payload: Mapping[str, Any]) -> bool:
    """Whether the library's table of versions says that what is put to the test knows all fields of a registration."""
    with contextlib.suppress(UnsupportedByAgent):
        versions.check(payload, real_version())
        return True
    return False


class Slowly:
    """Watches an agent from the beginning of the session, and notes after how many seconds things happened."""

    def __init__(self, agent: Wire) -> None:
        self.agent = agent
        reaped = {"TTL": "1s", "Status": "passing", "DeregisterCriticalServiceAfter": "10s"}
        agent.register("reaped", check=reaped)
        agent.register("never", check={"TTL": "1h", "DeregisterCriticalServiceAfter": "10s"})
        agent.register("without", check={"TTL": "1s", "Status": "passing"})
        other = {"TTL": "1s", "Status": "passing"}
        agent.register("by another", checks=[reaped | {"TTL": "1h"}, other])
        agent.register("maintained", check=reaped | {"TTL": "1h"})
        agent.request("PUT", "/v1/agent/service/maintenance/maintained?enable=true")
        agent.register("restored")
        eventually(lambda: len(agent.read("/v1/health/service/restored")) == 1)
        agent.request("PUT", "/v1/catalog/deregister", {"Node": agent.node, "ServiceID": "restored"})
        assert agent.read("/v1/health/service/restored") == []
        self._begun = time.monotonic()
        self._seen: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while len(self._seen) < 2 and not self._ended.wait(0.5):
            now = time.monotonic() - self._begun
            if self.agent.read("/v1/health/service/reaped") == []:
                self._seen.setdefault("reaped", now)
            if len(self.agent.read("/v1/health/service/restored")) == 1:
                self._seen.setdefault("restored", now)

    def took(self, what: str, longest: float) -> float:
        return eventually(lambda: self._seen.get(what), within=longest, what=what) or 0.0

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture(scope="session", autouse=True)
def in_time(request: pytest.FixtureRequest) -> Iterator[dict[str, Slowly]]:
    """What takes minutes, begun with the session; nothing unless it is going to be looked at."""
    if not any(item.path.name == "test_in_time.py" for item in request.session.items):
        yield {}
        return
    with ConsulAgent() as real, FakeAgent(real_version()) as fake:
        both = {"real": Slowly(real), "fake": Slowly(fake)}
        yield both
        for one in both.values():
            one.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes is looked at in the end."""
    items.sort(key=lambda item: item.path.name == "test_in_time.py")


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
