"""The pytest plugin: registries in memory, fakes and real servers as fixtures, and services there before a test begins.

pytest finds it by itself. Nothing of the library is loaded before a test asks for a fixture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from consul_access import ConsulAccess, EtcdRegistry, ServiceInstance
    from consul_access.testing import (
        AsyncMemoryRegistry,
        ConsulAgent,
        EtcdServer,
        FakeConsul,
        FakeEtcd,
        MemoryRegistry,
    )
    from consul_access.testing.real.binaries import Package

__all__: list[str] = []

pytest.register_assert_rewrite("consul_access.testing.conformance")

REGISTRIES = ("consul_agent", "etcd_server", "fake_consul", "fake_etcd", "registry")
"""The fixtures that know services, the nearest to reality first."""
MARKERS = (
    'services(orders="10.0.0.5:8080"): registered when the test begins; a list for several, a dict for any names',
    'fake_consul(run_checks=True, version="1.21"): how the FakeConsul of the fixture fake_consul is made',
    'fake_etcd(version="3.4"): how the FakeEtcd of the fixture fake_etcd is made',
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option `--require-servers`."""
    parser.getgroup("consul-access").addoption(
        "--require-servers",
        action="store_true",
        help="tests that need a real Consul agent or etcd fail when there is none, instead of being skipped; where "
        "Debian has a package, that is fetched into a cache folder",
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
def fake_etcd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEtcd]:
    """A `FakeEtcd` of the test's own, served at a free port that ETCDCTL_ENDPOINTS names."""
    from consul_access import EtcdRegistry
    from consul_access.testing import FakeEtcd

    marker = request.node.get_closest_marker("fake_etcd")
    with FakeEtcd(**(marker.kwargs if marker else {})) as fake, fake.serve() as server:
        _point_etcd_at(server.address, monkeypatch)
        with EtcdRegistry(transport=fake.transport()) as etcd:
            _write(request, etcd)
        yield fake


@pytest.fixture(scope="session")
def consul_agent_process(request: pytest.FixtureRequest) -> Iterator[ConsulAgent]:
    """The real agent of a session, or of each of its workers; use `consul_agent`, which is clean."""
    from consul_access.testing import ConsulAgent
    from consul_access.testing.real.binaries import CONSUL

    with ConsulAgent(_binary(request, CONSUL)) as agent:
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


@pytest.fixture(scope="session")
def etcd_server_process(request: pytest.FixtureRequest) -> Iterator[EtcdServer]:
    """The real etcd of a session, or of each of its workers; use `etcd_server`, which is clean."""
    from consul_access.testing import EtcdServer
    from consul_access.testing.real.binaries import ETCD

    with EtcdServer(_binary(request, ETCD)) as server:
        yield server


@pytest.fixture
def etcd_server(
    request: pytest.FixtureRequest, etcd_server_process: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EtcdServer]:
    """A real etcd without keys and leases at the beginning and the end, which ETCDCTL_ENDPOINTS names.

    It is what ETCD_BIN names, or `etcd` on PATH. Without one the test is skipped, or fails with `--require-servers`.
    """
    etcd_server_process.clear()
    _point_etcd_at(etcd_server_process.address, monkeypatch)
    with etcd_server_process.registry() as etcd:
        _write(request, etcd)
    yield etcd_server_process
    etcd_server_process.clear()


@pytest.fixture
def registered(request: pytest.FixtureRequest) -> Iterator[Callable[..., list[ServiceInstance]]]:
    """The assertion `registered(name, at=..., status=...)`, about the test's registry; it returns the instances."""
    from functools import partial

    from consul_access.testing import asserting

    used = next((name for name in REGISTRIES if name in request.fixturenames), "registry")
    source = request.getfixturevalue(used)
    if used == "registry":
        yield partial(asserting.registered, source)
        return
    with _client_of(source) as client:
        yield partial(asserting.registered, client)


def _client_of(source: ConsulAgent | EtcdServer | FakeConsul | FakeEtcd) -> ConsulAccess | EtcdRegistry:
    """A client of a server, real or not, that the environment has nothing to say about."""
    from consul_access import ConsulAccess, EtcdRegistry
    from consul_access.testing import ConsulAgent, EtcdServer, FakeConsul

    if isinstance(source, ConsulAgent):
        return source.access()
    if isinstance(source, EtcdServer):
        return source.registry()
    if isinstance(source, FakeConsul):
        return ConsulAccess(transport=source.transport(), token=source.master_token)
    return EtcdRegistry(transport=source.transport())


def _binary(request: pytest.FixtureRequest, package: Package) -> Path:
    """The server's binary; without one the test is skipped, or fails."""
    from consul_access.testing.real.binaries import ServerMissing, find

    required = bool(request.config.getoption("--require-servers"))
    try:
        return find(package, fetch=required)
    except ServerMissing as error:
        if required:
            pytest.fail(f"--require-servers: {error}", pytrace=False)
        pytest.skip(str(error))


def _point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes a client without arguments has one of this agent, also in processes that the test starts."""
    _clean("CONSUL_", monkeypatch)
    monkeypatch.setenv("CONSUL_HTTP_ADDR", address)


def _point_etcd_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for clients of etcd."""
    _clean("ETCDCTL_", monkeypatch)
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", address)


def _clean(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(prefix) and not name.endswith("_BIN")]:
        monkeypatch.delenv(name)


def _announce(request: pytest.FixtureRequest, access: ConsulAccess) -> None:
    """Registers what the marker `services` names."""
    for name, host, port, service_id in _named(request):
        access.register_service(name, host, port, id=service_id, check=None)


def _write(request: pytest.FixtureRequest, etcd: EtcdRegistry) -> None:
    """The same at etcd: as keys that nobody keeps, so that they stay away when a test deletes them."""
    from consul_access import CheckStatus
    from consul_access.etcd.codecs import DEFAULT_PREFIX, Native
    from consul_access.models.definition import ServiceDefinition

    codec = Native()
    for name, host, port, service_id in _named(request):
        definition = ServiceDefinition(name=name, id=service_id, address=host, port=port)
        value = codec.encode(definition, CheckStatus.PASSING, "", "")
        etcd.put(codec.key(DEFAULT_PREFIX, name, service_id), value or b"")


def _named(request: pytest.FixtureRequest) -> Iterator[tuple[str, str, int, str]]:
    """Name, host, port and id of what the marker names: in the order of the module, the class, and last the test."""
    for marker in reversed(list(request.node.iter_markers("services"))):
        wanted: Mapping[str, str | Iterable[str]] = {**(marker.args[0] if marker.args else {}), **marker.kwargs}
        for name, addresses in wanted.items():
            for address in [addresses] if isinstance(addresses, str) else addresses:
                host, port = _place(name, address)
                yield name, host, port, f"{name}-{host}-{port}".replace(":", "-")


def _place(name: str, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        pytest.fail(f"the marker services({name}={address!r}) cannot be read: write HOST:PORT", pytrace=False)
    return host.strip("[]"), int(port)
