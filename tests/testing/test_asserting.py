"""What becomes true in a while, what does not, and the real agent that users' tests start."""

from __future__ import annotations

import sys
import tempfile
import time

import anyio
import anyio.lowlevel
import pytest

from consul_access.testing import ConsulAgent, MemoryRegistry, eventually, eventually_async, registered
from tools import servers


def answers(*given):
    """A condition that answers so, one after the other; exceptions are raised."""
    left = list(given)

    def condition():
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return condition


def test_what_becomes_true_is_returned():
    assert eventually(answers(0, AssertionError("not yet"), [], "there")) == "there"


def test_what_does_not_fails_in_time_and_says_what():
    begun = time.monotonic()
    with pytest.raises(AssertionError, match="orders are there; the last time: no"):
        eventually(answers(AssertionError("no")), within=0.05, what="orders are there")
    assert time.monotonic() - begun >= 0.05


def test_other_errors_are_not_waited_for():
    with pytest.raises(KeyError):
        eventually(answers(KeyError("x"), True))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_wait_as_well(backend):
    plain = answers(0, AssertionError("not yet"), 7)

    async def condition():
        await anyio.lowlevel.checkpoint()
        return plain()

    async def story():
        assert await eventually_async(condition) == 7
        assert await eventually_async(answers(None, 8)) == 8
        with pytest.raises(AssertionError, match=r"within 0\.05 s"):
            await eventually_async(answers(False), within=0.05)

    anyio.run(story, backend=backend)


def test_a_real_agent_comes_and_goes_without_a_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ConsulAgent(servers.consul()) as agent:
        assert agent.version.startswith("1.")
        with agent.access() as access:
            access.register_service("orders", "10.0.0.5", 8080)
            agent.clear()
            assert access.services() == {"consul": []}
    assert list(tmp_path.iterdir()) == []
    with agent.access() as access, pytest.raises(Exception, match="refused"):
        access.services()


def test_what_is_no_agent_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match=f"{sys.executable} did not start"):
        ConsulAgent(sys.executable).start()
    with pytest.raises(FileNotFoundError):
        ConsulAgent(tmp_path / "nothing").start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("version", "is_told"), [("Consul v1.21.4\nRevision x", True), ("Consul v1.13.9", False)])
def test_an_agent_since_1_14_has_one_port_more_that_is_not_used(tmp_path, version, is_told):
    binary, told = tmp_path / "consul", tmp_path / "told"
    binary.write_text(
        f"#!/bin/sh\n[ \"$1\" = version ] && printf '{version}' && exit\ncp ${{3#-config-file=}} {told}\nexit 1\n"
    )
    binary.chmod(0o755)
    with pytest.raises(RuntimeError, match="did not start"):
        ConsulAgent(binary).start()
    assert ("grpc_tls" in told.read_text()) == is_told


def test_an_instance_without_a_port_is_registered_as_well():
    with MemoryRegistry() as registry:
        registry.register_service("worker", "10.0.0.5", check=None)
        assert len(registered(registry, "worker")) == 1
        with pytest.raises(AssertionError, match="at no callable address"):
            registered(registry, "worker", at="10.0.0.5:80")
