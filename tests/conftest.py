"""What all tests share: real agents, scripted servers, the two faces, and a clean environment."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from tests.faults.scenarios import scenarios_of
from tests.support.agents import ConsulAgent
from tests.support.black_hole import BlackHole
from tests.support.certificates import Authority
from tests.support.counting import Counting
from tests.support.etcd import OLDER, RELEASES, EtcdCluster, EtcdServer
from tests.support.faces import Face
from tests.support.hearing import hear_signals
from tests.support.scripted import ScriptedServer
from tests.support.secrets import Plugin
from tools.ports import free_ports

set_hypothesis_home_dir(Path(__file__).parent.parent / ".venv" / "hypothesis")  # beside all else that can be deleted
settings.register_profile(
    "tests", deadline=None, database=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    hear_signals()
    config.pluginmanager.register(Plugin(), "secrets of consul-access")
    config.addinivalue_line("markers", "scenario(NAME=True): belongs to this one of tests/faults/scenarios.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path, name = item.location[0], getattr(item, "originalname", item.name)
        if names := scenarios_of(path, name):
            item.add_marker(pytest.mark.scenario(**dict.fromkeys(names, True)))  # -m 'scenario(C04=True)'


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own Consul, etcd or pod reaches a test, except which binary to run."""
    for name in os.environ:
        if name.startswith(("CONSUL_", "ETCD", "POD_")) and not name.endswith("_BIN"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["threads", "asyncio", "trio"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def shared_agent(authority: trustme.CA) -> Iterator[ConsulAgent]:
    with ConsulAgent(authority=authority, config={"enable_script_checks": True}) as agent:
        yield agent


@pytest.fixture
def consul(shared_agent: ConsulAgent) -> Iterator[ConsulAgent]:
    """A real agent in dev mode, without services at the beginning and at the end."""
    shared_agent.clear()
    yield shared_agent
    shared_agent.clear()


@pytest.fixture
def counting(consul: ConsulAgent, record_property: Callable[[str, object], None]) -> Iterator[Counting]:
    """A way to the agent that counts the deregistrations, and takes down what else was measured."""
    proxy = Counting(consul)
    proxy.told = record_property
    thread = threading.Thread(target=proxy.server.serve_forever)
    thread.start()
    yield proxy
    proxy.server.shutdown()
    thread.join()
    proxy.server.server_close()


@pytest.fixture
def tls_consul(consul: ConsulAgent) -> ConsulAgent:
    """The same agent, which speaks https as well."""
    return consul


@pytest.fixture(scope="session")
def acl_consul() -> Iterator[ConsulAgent]:
    """A real agent that denies whatever is not allowed."""
    with ConsulAgent(acl=True) as agent:
        yield agent


@pytest.fixture
def agents() -> Iterator[Callable[..., ConsulAgent]]:
    """Makes further agents for a single test."""
    with contextlib.ExitStack() as stack:
        yield lambda **kwargs: stack.enter_context(ConsulAgent(**kwargs))


@pytest.fixture(scope="session")
def etcd_servers() -> Iterator[Callable[[str], EtcdServer]]:
    """Real etcd servers, one for each release, started when first needed."""
    with contextlib.ExitStack() as stack:
        started: dict[str, EtcdServer] = {}

        def server(release: str) -> EtcdServer:
            if release not in started:
                started[release] = stack.enter_context(EtcdServer(release))
            return started[release]

        yield server


@pytest.fixture(params=RELEASES)
def etcd(request: pytest.FixtureRequest, etcd_servers: Callable[[str], EtcdServer]) -> Iterator[EtcdServer]:
    """A real etcd without keys, once of each release: the two answer in different shapes."""
    server = etcd_servers(request.param)
    server.clear()
    yield server
    server.clear()


@pytest.fixture
def any_etcd(etcd_servers: Callable[[str], EtcdServer]) -> Iterator[EtcdServer]:
    """A real etcd without keys, where the release makes no difference."""
    server = etcd_servers(OLDER)
    server.clear()
    yield server
    server.clear()


@pytest.fixture
def etcd_server() -> Iterator[Callable[..., EtcdServer]]:
    """Makes further etcd servers for a single test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(EtcdServer(*args, **kwargs))


@pytest.fixture
def etcd_cluster() -> Iterator[Callable[..., EtcdCluster]]:
    """Makes clusters of three members."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(EtcdCluster(*args, **kwargs))


@pytest.fixture(params=RELEASES)
def etcd_with_users(request: pytest.FixtureRequest) -> Iterator[EtcdServer]:
    """A real etcd that knows `ann` (annpw), who may use what is below `ann/`; a login is good for 4 s."""
    with EtcdServer(request.param, token_ttl=4) as server:
        server.enable_users({"ann": ("annpw", "ann/")})
        yield server


@pytest.fixture(scope="session")
def certificates() -> Iterator[Authority]:
    """Issues certificates with and without a CommonName."""
    authority = Authority()
    yield authority
    authority.close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedServer]]:
    """Makes scripted servers."""
    with contextlib.ExitStack() as stack:

        def make(steps: Any, **kwargs: Any) -> ScriptedServer:
            return stack.enter_context(ScriptedServer(steps, **kwargs))

        yield make


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    return free_ports(1)[0]


@pytest.fixture
def black_hole() -> Iterator[BlackHole]:
    with contextlib.ExitStack() as stack:
        yield BlackHole(stack)


@pytest.fixture
def samples() -> Path:
    """Answers that real registries gave."""
    return Path(__file__).parent / "samples"
