"""The pytest plugin: `registry`, `fake_consul`, `fake_etcd`, `consul_agent`, and services there before a test begins.

pytest finds it by itself. Nothing of the library is loaded before a test asks for a fixture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from consul_access import ConsulAccess, ServiceInstance
    from consul_access.testing import AsyncMemoryRegistry, ConsulAgent, FakeConsul, FakeEtcd, MemoryRegistry

__all__: list[str] = []

pytest.register_assert_rewrite("consul_access.testing.conformance")

REGISTRIES = ("consul_agent", "fake_consul", "registry")
"""The fixtures that know services, the nearest to reality first."""
MARKERS = (
    'services(orders="10.0.0.5:8080"): registered when the test begins; a list for several, a dict for any names',
    'fake_consul(run_checks=True, version="1.21"): how the FakeConsul of the fixture fake_consul is made',
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option `--require-servers`."""
    parser.getgroup("consul-access").addoption(
        "--require-servers",
        action="store_true",
        help="tests that need a real Consul agent fail when there is none, instead of being skipped",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Makes the markers known."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuses services that nobody would register."""
    used = set(getattr(item, "fixturenames", ()))
    if item.get_closest_marker("services") is not None and not used & set(REGISTRIES):
        pytest.fail(f"the marker `services` needs one of the fixtures {', '.join(REGISTRIES)}", pytrace=False)


@pytest.fixture
def registry(request: pytest.FixtureRequest) -> Iterator[MemoryRegistry]:
    """A `MemoryRegistry` of the test's own; with `fake_consul` in the same test, a client of that."""
    from consul_access.testing import MemoryRegistry

    fake = request.getfixturevalue("fake_consul") if "fake_consul" in request.fixturenames else None
    with MemoryRegistry(fake) as made:
        if fake is None:
            _announce(request, made)
        yield made


@pytest.fixture
def async_registry(registry: MemoryRegistry) -> AsyncMemoryRegistry:
    """An `AsyncMemoryRegistry` over the same memory as `registry`. What it keeps ends with the test's event loop."""
    from consul_access.testing import AsyncMemoryRegistry

    return AsyncMemoryRegistry(registry.fake)


@pytest.fixture
def fake_consul(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeConsul]:
    """A `FakeConsul` of the test's own, served at a free port that CONSUL_HTTP_ADDR names."""
    from consul_access import ConsulAccess
    from consul_access.testing import FakeConsul

    marker = request.node.get_closest_marker("fake_consul")
    arguments = dict(marker.kwargs) if marker else {}
    arguments.setdefault("checks_pass", not arguments.get("run_checks", False))
    with FakeConsul(**arguments) as fake, fake.serve() as server:
        _point_at(server.address, monkeypatch)
        with ConsulAccess(transport=fake.transport(), token=fake.master_token) as access:
            _announce(request, access)
        yield fake


@pytest.fixture
def fake_etcd(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEtcd]:
    """A `FakeEtcd` of the test's own, served at a free port that ETCDCTL_ENDPOINTS names."""
    from consul_access.testing import FakeEtcd

    with FakeEtcd() as fake, fake.serve() as server:
        for name in [name for name in os.environ if name.startswith("ETCDCTL_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("ETCDCTL_ENDPOINTS", server.address)
        yield fake


@pytest.fixture(scope="session")
def consul_agent_process(request: pytest.FixtureRequest) -> Iterator[ConsulAgent]:
    """The real agent of a session, or of each of its workers; use `consul_agent`, which is clean."""
    from consul_access.testing.agent import ConsulAgent, find_consul

    try:
        binary = find_consul()
    except FileNotFoundError as error:
        if request.config.getoption("--require-servers"):
            pytest.fail(f"--require-servers: {error}", pytrace=False)
        pytest.skip(str(error))
    with ConsulAgent(binary) as agent:
        yield agent


@pytest.fixture
def consul_agent(
    request: pytest.FixtureRequest, consul_agent_process: ConsulAgent, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ConsulAgent]:
    """A real Consul agent without services at the beginning and the end, which CONSUL_HTTP_ADDR names.

    It is what CONSUL_BIN names, or `consul` on PATH. Without one the test is skipped, or fails with
    `--require-servers`.
    """
    consul_agent_process.clear()
    _point_at(consul_agent_process.address, monkeypatch)
    with consul_agent_process.access() as access:
        _announce(request, access)
    yield consul_agent_process
    consul_agent_process.clear()


@pytest.fixture
def registered(request: pytest.FixtureRequest) -> Iterator[Callable[..., list[ServiceInstance]]]:
    """The assertion `registered(name, at=..., status=...)`, about the test's registry; it returns the instances."""
    from functools import partial

    from consul_access import ConsulAccess
    from consul_access.testing import asserting

    used = next((name for name in REGISTRIES if name in request.fixturenames), "registry")
    source = request.getfixturevalue(used)
    if used == "registry":
        yield partial(asserting.registered, source)
        return
    access: ConsulAccess
    if used == "consul_agent":
        access = source.access()
    else:
        access = ConsulAccess(transport=source.transport(), token=source.master_token)
    with access:
        yield partial(asserting.registered, access)


def _point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes a client without arguments has one of this agent, also in processes that the test starts."""
    for name in [name for name in os.environ if name.startswith("CONSUL_") and not name.endswith("_BIN")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CONSUL_HTTP_ADDR", address)


def _announce(request: pytest.FixtureRequest, access: ConsulAccess) -> None:
    """Registers what the marker `services` names: in the order of the class, the module, and last the test."""
    for marker in reversed(list(request.node.iter_markers("services"))):
        wanted: Mapping[str, str | Iterable[str]] = {**(marker.args[0] if marker.args else {}), **marker.kwargs}
        for name, addresses in wanted.items():
            for address in [addresses] if isinstance(addresses, str) else addresses:
                host, port = _place(name, address)
                access.register_service(name, host, port, id=f"{name}-{host}-{port}".replace(":", "-"), check=None)


def _place(name: str, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        pytest.fail(f"the marker services({name}={address!r}) cannot be read: write HOST:PORT", pytrace=False)
    return host.strip("[]"), int(port)
