"""`MemoryRegistry`: the client itself, over an agent made of memory that nobody else can reach."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

from consul_access._async.consul import AsyncConsulAccess
from consul_access._async.transport import AsyncTransport
from consul_access._sync.consul import ConsulAccess
from consul_access._sync.transport import Transport
from consul_access.consul import texts
from consul_access.errors import ConnectFailed, ConsulAccessError, InvalidInput
from consul_access.settings import ConsulSettings, RetryPolicy
from consul_access.testing.common.clock import Clock, SimulatedClock
from consul_access.testing.consul.fake import FakeConsul

if TYPE_CHECKING:
    from consul_access.call import Call, Reply
    from consul_access.models.address import Target
    from consul_access.models.status import CheckStatus
    from consul_access.testing.consul.faults import Faults

__all__ = ["AsyncMemoryRegistry", "MemoryRegistry"]

ADDRESS = "http://127.0.0.1:8500"
"""What the errors name; nothing is ever sent there."""


class _Failing:
    """The errors that the next calls end with."""

    def __init__(self) -> None:
        self._waiting: list[tuple[ConsulAccessError, str]] = []
        self._lock = threading.Lock()

    def add(self, error: ConsulAccessError | type[ConsulAccessError] | None, times: int, only: str) -> None:
        made = error or ConnectFailed("connection refused, as the test asked for")
        if isinstance(made, type):
            made = made(f"{made.__name__}, as the test asked for")
        if times < 1:
            raise InvalidInput(f"times={times!r} is no number of calls: write 1 or more")
        with self._lock:
            self._waiting += [(made, only)] * times

    def meet(self, call: Call[Any]) -> None:
        """Ends the call if one waits for it."""
        error = self._taken(call.name) if self._waiting else None
        if error is not None:
            raised = copy.copy(error)
            raised.operation, raised.address = raised.operation or call.name, raised.address or ADDRESS[7:]
            raise raised

    def _taken(self, name: str) -> ConsulAccessError | None:
        with self._lock:
            for number, (error, only) in enumerate(self._waiting):
                if name.startswith(only):
                    del self._waiting[number]
                    return error
        return None


class _FailingTransport(Transport):
    failing: _Failing

    def reply(self, call: Call[Any], *, target: Target | None = None, **limits: Any) -> Reply:
        """The reply, unless the call is to fail."""
        self.failing.meet(call)
        return super().reply(call, target=target, **limits)


class _AsyncFailingTransport(AsyncTransport):
    failing: _Failing

    async def reply(self, call: Call[Any], *, target: Target | None = None, **limits: Any) -> Reply:
        """The reply, unless the call is to fail."""
        self.failing.meet(call)
        return await super().reply(call, target=target, **limits)


class _Memory:
    """What a test does to its registry; nothing here waits, so it is the same on both faces."""

    _fake: FakeConsul
    _failing: _Failing

    @property
    def fake(self) -> FakeConsul:
        """The agent behind it: for several agents, tokens, and clients of your own (`fake.transport()`)."""
        return self._fake

    @property
    def clock(self) -> Clock:
        """Its time, which passes when it is told to: `clock.advance(30)`."""
        return self._fake.shared.clock

    @property
    def faults(self) -> Faults:
        """What goes wrong, on switches: `faults.lose_leader(for_=2)`."""
        return self._fake.faults

    def advance(self, seconds: float) -> None:
        """Sets the clock forward: TTLs end, what is critical for too long is removed.

        Raises:
            InvalidInput: the fake it was given goes by the real time.
        """
        clock = self.clock
        if not isinstance(clock, SimulatedClock):
            raise InvalidInput("this registry goes by the real time: give its FakeConsul a SimulatedClock")
        clock.advance(seconds)

    def set_status(self, service_id: str, status: CheckStatus | str, output: str = "") -> None:
        """Makes an instance stand so: all of its checks, or one of its own if it has none.

        Args:
            service_id: the id that it is registered with.
            status: `passing`, `warning`, `critical` or `maintenance`; the others end the maintenance.
            output: what the checks say, or the reason for the maintenance.

        Raises:
            InvalidInput: there is no such service or status.
        """
        self._fake.set_status(service_id, str(status), output)

    def forget(self, service_id: str) -> None:
        """The agent loses a service, as when somebody else deregisters it: whoever keeps it registered restores it.

        Raises:
            InvalidInput: there is no such service.
        """
        self._fake.forget(service_id)

    def fail_next(
        self,
        error: ConsulAccessError | type[ConsulAccessError] | None = None,
        *,
        times: int = 1,
        only: str = "",
    ) -> None:
        """The next call ends with this error, and nothing is done. Calls fail in the order in which this was asked for.

        Watches and resolvers ask by themselves and are not concerned: use `faults` for them.

        Args:
            error: an error, or a class of errors; `ConnectFailed` by default.
            times: how many calls.
            only: the beginning of the operations that are concerned, such as `health.service` or `agent.`.

        Raises:
            InvalidInput: it is asked for less than one call.
        """
        self._failing.add(error, times, only)


def _settings(retry: RetryPolicy | None) -> ConsulSettings:
    return ConsulSettings.load(url=ADDRESS, retry=retry or RetryPolicy.none(), environ={})


def _made(fake: FakeConsul | None) -> FakeConsul:
    return fake or FakeConsul(clock=SimulatedClock(), checks_pass=True)


class MemoryRegistry(_Memory, ConsulAccess):
    """A registry in memory, for unit tests: all of `ConsulAccess`, without a server, a socket or a real clock.

    Services are announced, kept, found, watched, waited for and balanced by the same code as in production; it is a
    `FakeConsul` of its own that answers. Checks that an agent would make pass until `set_status` says otherwise; those
    with a TTL have to be reported, and end with the `clock`.

    Args:
        fake: an agent to be a client of, instead of one of its own whose clock stands still and whose checks pass.
        retry: how patiently calls are repeated; by default not at all, so that no test waits for a pause to end.
    """

    def __init__(self, fake: FakeConsul | None = None, *, retry: RetryPolicy | None = None) -> None:
        self._fake, self._failing = _made(fake), _Failing()
        settings = _settings(retry)
        super().__init__(settings=settings)
        self._transport = transport = _FailingTransport(
            settings, meaning=texts.meaning, transport=self._fake.transport()
        )
        transport.failing = self._failing


class AsyncMemoryRegistry(_Memory, AsyncConsulAccess):
    """A registry in memory, for unit tests: all of `AsyncConsulAccess`, without a server, a socket or a real clock.

    What a test does to it (`set_status`, `forget`, `fail_next`, `advance`) is not awaited. See `MemoryRegistry`.

    Args:
        fake: an agent to be a client of, instead of one of its own whose clock stands still and whose checks pass.
        retry: how patiently calls are repeated; by default not at all, so that no test waits for a pause to end.
    """

    def __init__(self, fake: FakeConsul | None = None, *, retry: RetryPolicy | None = None) -> None:
        self._fake, self._failing = _made(fake), _Failing()
        settings = _settings(retry)
        super().__init__(settings=settings)
        self._transport = transport = _AsyncFailingTransport(
            settings, meaning=texts.meaning, transport=self._fake.transport()
        )
        transport.failing = self._failing
