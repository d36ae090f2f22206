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
            "*the marker `services` needs one of the fixtures consul_agent, fake_consul, registry*",
            "*services(orders='10.0.0.5') cannot be read: write HOST:PORT*",
        ]
    )


SCOPE = "asyncio_default_fixture_loop_scope = function"


@pytest.mark.parametrize(
    ("ini", "mark", "options"),
    [
        (f"asyncio_mode = auto\n{SCOPE}", "", ["-p", "no:anyio"]),
        (SCOPE, "@pytest.mark.asyncio", []),
        ("", "@pytest.mark.anyio", ["-p", "no:asyncio"]),
    ],
    ids=["pytest-asyncio in auto mode", "pytest-asyncio", "anyio and trio"],
)
def test_tasks_have_a_registry_too(suite, ini, mark, options):
    trio = "anyio" in mark
    done = suite(
        f"""
        import pytest
        from consul_access.testing import eventually_async

        {"@pytest.fixture(params=['asyncio', 'trio'])" if trio else "@pytest.fixture"}
        def anyio_backend({"request" if trio else ""}):
            return {"request.param" if trio else "'asyncio'"}

        {mark}
        @pytest.mark.services(orders="10.0.0.5:8080")
        async def test_it(async_registry, registry, registered):
            assert await async_registry.resolve("orders") == ("10.0.0.5", 8080)
            async with async_registry.resolver("orders") as resolver:
                await resolver.wait_ready()
                registry.set_status(registered("orders")[0].id, "critical")
                await eventually_async(lambda: not resolver.instances())
            async with async_registry.registered("payments", "10.0.0.6", 80, drain=0):
                assert registered("payments")
        """,
        *options,
        ini=ini,
        tasks=True,
    )
    done.assert_outcomes(passed=2 if trio else 1)


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
    from consul_access import ConsulAccess

    @pytest.mark.parametrize("time", [1, 2])
    @pytest.mark.services(orders="10.0.0.5:8080")
    def test_it(time, consul_agent, registered):
        with ConsulAccess() as access:
            assert access.services() == {"consul": [], "orders": []}
            assert registered("orders", status="passing")
            access.register_service("left", "127.0.0.1", 1)
            access.node_maintenance(True)
        assert consul_agent.version
    """


def test_a_real_agent_is_clean_in_every_test(suite):
    suite(REAL, "--require-servers", CONSUL_BIN=str(servers.consul())).assert_outcomes(passed=2)


def test_every_worker_of_xdist_has_its_own(suite):
    suite(REAL, "-n", "2", CONSUL_BIN=str(servers.consul())).assert_outcomes(passed=2)


def test_without_a_real_agent_tests_are_skipped_and_say_why(suite):
    done = suite(REAL, CONSUL_BIN="/nowhere/consul")
    done.assert_outcomes(skipped=2)
    done.stdout.fnmatch_lines(["*CONSUL_BIN=/nowhere/consul is not a program*"])


def test_without_a_real_agent_tests_fail_where_servers_are_required(suite, monkeypatch):
    monkeypatch.delenv("CONSUL_BIN", raising=False)
    done = suite(REAL, "--require-servers", PATH="/nowhere")
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["*--require-servers: there is no consul on PATH: install it, or set CONSUL_BIN*"])
