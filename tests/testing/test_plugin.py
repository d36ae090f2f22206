"""The pytest plugin, as the test suites of others use it: each test here runs a suite in a process of its own."""

from __future__ import annotations

import pytest

from tools import servers

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester, monkeypatch):
    """Runs a suite made of this text; gives its result."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "")

    def run(text, *options, ini="", tasks=False, **environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        pytester.makeini(f"[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n{ini}")
        pytester.makepyfile(text)
        without = [] if tasks else ["-p", "no:asyncio"]
        return pytester.runpytest_subprocess("-rs", *without, *options, timeout=120)

    return run


def test_nothing_is_loaded_before_a_test_asks_for_it(suite):
    done = suite(
        """
        import sys

        def test_it():
            loaded = {name for name in sys.modules if name.startswith("consul_access.")}
            assert loaded <= {"consul_access._version", "consul_access.testing", "consul_access.testing.plugin"}
            assert not {"httpx", "pydantic", "tenacity"} & set(sys.modules)
        """,
        *("-p", "no:anyio", "-p", "no:pytest_httpx", "-p", "no:hypothesispytest", "-p", "no:respx"),  # they load httpx
    )
    done.assert_outcomes(passed=1)


def test_a_registry_is_the_test_s_own_and_has_its_services(suite):
    done = suite(
        """
        import pytest
        from consul_access import NoInstances

        pytestmark = pytest.mark.services(stock="10.0.0.9:80")

        @pytest.mark.services({"my-orders": ["10.0.0.5:8080", "[2001:db8::5]:8080"]}, orders="10.0.0.5:8081")
        def test_they_are_there(registry, registered):
            assert {one.host for one in registry.instances("my-orders")} == {"10.0.0.5", "2001:db8::5"}
            assert registry.resolve("orders") == ("10.0.0.5", 8081)
            assert registry.resolve("stock") == ("10.0.0.9", 80)
            (found,) = registered("orders", at="10.0.0.5:8081", status="passing")
            registry.set_status(found.id, "critical")
            assert registered("orders", status="critical")
            with pytest.raises(AssertionError, match="no 'orders' that is passing, only orders-10.0.0.5-8081 at"):
                registered("orders", status="passing")
            with pytest.raises(AssertionError, match="no 'payments'; there is my-orders, orders, stock"):
                registered("payments")

        def test_they_are_gone(registry):
            with pytest.raises(NoInstances):
                registry.resolve("orders")
        """
    )
    done.assert_outcomes(passed=2)


def test_a_marker_that_nobody_follows_fails_the_test(suite):
    done = suite(
        """
        import pytest

        @pytest.mark.services(orders="10.0.0.5:8080")
        def test_without_a_registry():
            pass

        @pytest.mark.services(orders="10.0.0.5")
        def test_without_a_port(registry):
            pass
        """
    )
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines_random(
        [
            "*the marker `services` needs one of the fixtures consul_agent, etcd_server, fake_consul, fake_etcd, reg*",
            "*services(orders='10.0.0.5') cannot be read: write HOST:PORT*",
        ]
    )


SCOPE = "asyncio_default_fixture_loop_scope = function"


@pytest.mark.parametrize(
    ("ini", "mark", "options"),
    [
        (f"asyncio_mode = auto\n{SCOPE}", "", ["-p", "no:anyio"]),
        (SCOPE, "@pytest.mark.asyncio", []),
        ("", "@pytest.mark.anyio", ["-p", "no:asyncio", "-n", "2"]),
    ],
    ids=["pytest-asyncio in auto mode", "pytest-asyncio", "anyio and trio, under xdist"],
)
def test_tasks_have_registries_too(suite, ini, mark, options):
    trio = "anyio" in mark
    done = suite(
        f"""
        import pytest
        from consul_access import AsyncConsulAccess, AsyncEtcdRegistry
        from consul_access.testing import eventually_async

        {"@pytest.fixture(params=['asyncio', 'trio'])" if trio else "@pytest.fixture"}
        def anyio_backend({"request" if trio else ""}):
            return {"request.param" if trio else "'asyncio'"}

        {mark}
        @pytest.mark.services(orders="10.0.0.5:8080")
        async def test_in_memory(async_registry, registry, registered):
            assert await async_registry.resolve("orders") == ("10.0.0.5", 8080)
            async with async_registry.resolver("orders") as resolver:
                await resolver.wait_ready()
                registry.set_status(registered("orders")[0].id, "critical")
                await eventually_async(lambda: not resolver.instances())
            async with async_registry.registered("payments", "10.0.0.6", 80, drain=0):
                assert registered("payments")

        {mark}
        @pytest.mark.services(orders="10.0.0.5:8080")
        async def test_on_a_port(fake_consul, registered):
            async with AsyncConsulAccess() as access:
                assert await access.resolve("orders") == ("10.0.0.5", 8080)
                async with access.registered("payments", "10.0.0.6", 80, drain=0):
                    await eventually_async(lambda: registered("payments", status="passing"))

        {mark}
        @pytest.mark.fake_etcd(version="3.4")
        @pytest.mark.services(orders="10.0.0.5:8080")
        async def test_at_etcd(fake_etcd, registered):
            assert fake_etcd.version == "3.4.23"
            async with AsyncEtcdRegistry() as etcd:
                assert await etcd.resolve("orders") == ("10.0.0.5", 8080)
                async with etcd.registered("payments", "10.0.0.6", 80, drain=0):
                    assert registered("payments", at="10.0.0.6:80")
        """,
        *options,
        ini=ini,
        tasks=True,
    )
    done.assert_outcomes(passed=6 if trio else 3)


def test_a_fake_consul_is_where_the_environment_says(suite):
    done = suite(
        """
        import os, subprocess, sys
        import pytest
        from consul_access import ConsulAccess

        REGISTER = "from consul_access import *; ConsulAccess().register_service('child', '10.0.0.7', 80)"

        @pytest.mark.services(orders="10.0.0.5:8080")
        def test_a_program_of_its_own_finds_it(fake_consul, registry, registered):
            with ConsulAccess() as access:
                assert access.resolve("orders") == ("10.0.0.5", 8080)
            subprocess.run([sys.executable, "-c", REGISTER], check=True)
            assert registered("child", status="passing")
            assert registry.resolve("child") == ("10.0.0.7", 80)

        @pytest.mark.fake_consul(version="1.21", acl=True)
        @pytest.mark.services(orders="10.0.0.5:8080")
        def test_it_is_made_as_the_marker_says(fake_consul, registered):
            assert fake_consul.version == "1.21.4"
            assert "CONSUL_HTTP_TOKEN" not in os.environ
            assert registered("orders")

        def test_a_threads_leftover():
            import threading
            assert [one.name for one in threading.enumerate()] == ["MainThread"]
        """,
        CONSUL_HTTP_TOKEN="of another agent",
    )
    done.assert_outcomes(passed=3)


REAL = """
    import pytest
    from consul_access import ConsulAccess, EtcdRegistry
    from consul_access.consul import catalog
    from consul_access.models.external import CatalogRegistration

    @pytest.mark.parametrize("time", [1, 2, 3])
    @pytest.mark.services(orders="10.0.0.5:8080")
    def test_consul(time, consul_agent, registered):
        with ConsulAccess() as access:
            assert access.services() == {"consul": [], "orders": []}
            assert [one.name for one in access.send(catalog.nodes())] == [consul_agent.node]
            assert registered("orders", status="passing")
            access.register_service("left", "127.0.0.1", 1)
            access.node_maintenance(True)
            access.send(catalog.register(CatalogRegistration(node="left", address="10.0.0.9")))
        assert consul_agent.version

    @pytest.mark.parametrize("time", [1, 2, 3])
    @pytest.mark.services(orders="10.0.0.5:8080")
    def test_etcd(time, etcd_server, registered):
        with EtcdRegistry() as etcd:
            assert etcd.services() == {"orders": []}
            assert registered("orders", at="10.0.0.5:8080", status="passing")
            assert etcd_server.leases() == []
            etcd.put("left", "x", etcd.lease(600))
        assert etcd_server.version.startswith("3.")
    """


def test_real_servers_are_each_workers_own_and_clean_in_every_test(suite):
    done = suite(REAL, "-n", "2", CONSUL_BIN=str(servers.consul()), ETCD_BIN=str(servers.etcd()))
    done.assert_outcomes(passed=6)


def test_without_real_servers_tests_are_skipped_and_say_why(suite):
    done = suite(REAL, CONSUL_BIN="/nowhere/consul", ETCD_BIN="/nowhere/etcd")
    done.assert_outcomes(skipped=6)
    done.stdout.fnmatch_lines_random(
        ["*CONSUL_BIN=/nowhere/consul is not a program*", "*ETCD_BIN=/nowhere/etcd is not a program*"]
    )


def test_without_real_servers_tests_fail_where_they_are_required(suite, monkeypatch, tmp_path):
    for name in ("CONSUL_BIN", "ETCD_BIN"):
        monkeypatch.delenv(name, raising=False)
    done = suite(REAL, "--require-servers", PATH="/nowhere", XDG_CACHE_HOME=str(tmp_path))
    done.assert_outcomes(errors=6)
    done.stdout.fnmatch_lines_random(
        [
            "*--require-servers: there is no consul on PATH: install it, or set CONSUL_BIN*",
            "*--require-servers: there is no etcd on PATH: install it, or set ETCD_BIN*",
        ]
    )
