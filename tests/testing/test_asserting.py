"""What becomes true in a while, what does not, and the real agent that users' tests start."""

from __future__ import annotations

import sys
import tempfile
import time

import anyio
import anyio.lowlevel
import pytest

from consul_access.testing import ConsulAgent, eventually, eventually_async
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
