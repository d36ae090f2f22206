"""A server made of memory: a state that never waits, and the ways to reach it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from consul_access.testing.common.clock import Clock
from consul_access.testing.common.course import AgentDown, Course
from consul_access.testing.common.exchange import LOST, Answer, Pending, Request

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from consul_access.testing.common.faults import Switches
    from consul_access.testing.common.server import FakeServer
    from consul_access.testing.common.transport import FakeTransport

__all__ = ["Fake", "Shared", "State"]

CONNECTION_LIMIT = 200


class State(Protocol):
    """What a fake knows, with a time of its own."""

    now: float
    changes: int

    def advance(self, now: float) -> None:
        """Lets everything happen that is due by then."""
        ...

    def next_due(self) -> float | None:
        """When something happens of its own accord."""
        ...

    def changed(self) -> None:
        """Notes that something has changed."""
        ...


T = TypeVar("T", bound=State)


class Shared(Generic[T]):
    """What fakes of one state have in common besides the state: the clock, a lock, and who waits."""

    def __init__(self, state: T, clock: Clock) -> None:
        self.state = state
        self.clock = clock
        self.changed = threading.Condition(threading.RLock())
        self.wakers: set[Callable[[], None]] = set()
        self.fakes: list[Fake[T]] = []
        self.told = 0
        """The state that whoever waits has been woken for."""
        clock.listen(self.tick)

    def tick(self) -> None:
        """Lets everything happen that is due."""
        with self.changed:
            now, before = self.clock.now(), self.state.changes
            while (due := self.next_due()) is not None and due <= now:
                self.state.advance(due)
                for fake in self.fakes:
                    fake.faults.advance(due)
                self.state.changed()
            self.state.advance(now)
            if self.state.changes != before or not self.clock.passes_by_itself:
                self.notify()

    def next_due(self) -> float | None:
        """When something happens of its own accord."""
        dues = [self.state.next_due(), *(fake.faults.next_due() for fake in self.fakes)]
        return min((due for due in dues if due is not None), default=None)

    def pause(self) -> float | None:
        """Seconds until then."""
        due = self.next_due()
        return None if due is None else max(0.0, due - self.clock.now())

    def notify(self) -> None:
        """Wakes whoever waits."""
        self.changed.notify_all()
        for waker in tuple(self.wakers):
            waker()


class Fake(Generic[T]):
    """What every fake can do; what it answers is its own."""

    connection_limit = CONNECTION_LIMIT
    """How many connections one client may have."""

    def _share(self, shared: Shared[T]) -> None:
        self._shared = shared
        self._open = 0
        self._servers: list[FakeServer] = []
        shared.fakes.append(self)

    @property
    def faults(self) -> Switches:
        """What goes wrong, on switches."""
        raise NotImplementedError

    # --- what it answers ----------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        raise NotImplementedError

    def begin(self, request: Request) -> Answer | Pending:
        """Takes a request that has arrived."""
        raise NotImplementedError

    def resume(self, pending: Any) -> Answer | None:
        """Looks again at a request that waits; None if it goes on waiting."""
        raise NotImplementedError

    def interrupted(self, pending: Any) -> Answer:
        """What a request that waits gets when it ends."""
        del pending
        return LOST

    def turned_away(self) -> Answer:
        """What a client gets that has too many connections."""
        return LOST

    @property
    def stuck_until(self) -> float:
        """Until when it is too busy to answer."""
        return 0.0

    # --- how to reach it ----------------------------------------------------------------------------------

    def transport(self) -> FakeTransport:
        """An httpx transport that ends here; it serves clients for threads, asyncio and trio alike."""
        from consul_access.testing.common.transport import FakeTransport

        return FakeTransport(self)

    def serve(self, port: int = 0, *, host: str = "127.0.0.1") -> FakeServer:
        """A server on a port, for as long as its block lasts: `with fake.serve() as server: server.url`.

        Args:
            port: where; a free one by default.
            host: the interface; only this machine by default.
        """
        from consul_access.testing.common.server import FakeServer

        return FakeServer(self, host, port)

    def ask(self, request: Request, timeout: float | None = None) -> Answer:
        """Asks it something, past every client, in this thread.

        Args:
            request: the request.
            timeout: real seconds to wait at most.

        Raises:
            TimeoutError: there was no answer by then.
            ConnectionError: it is down, or a fault broke the connection.
        """
        with self.course(request) as course:
            answer = course.wait(timeout)
        if answer.lost:
            raise ConnectionResetError("the connection was reset")
        return answer

    @contextmanager
    def course(self, request: Request, *, admitted: bool = False) -> Iterator[Course]:
        """The course of one request, for whoever carries requests.

        Args:
            request: the request.
            admitted: its connection has been counted already.

        Raises:
            ConnectionRefusedError: it is down.
        """
        if not self.is_up:
            raise AgentDown("it is down")
        counted = not admitted
        is_over = counted and not self.admit()
        try:
            yield Course(self, request, too_many=is_over)
        finally:
            if counted and not is_over:
                self.dismiss()

    def admit(self) -> bool:
        """Counts a connection; False when there are too many already."""
        with self.locked():
            if self._open >= min([self.connection_limit, *self.faults.limits()]):
                return False
            self._open += 1
            return True

    def dismiss(self) -> None:
        """Takes a connection off the count."""
        with self.locked():
            self._open -= 1

    # --- inside -------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The time, as far as things have happened."""
        return self._shared.state.now

    @property
    def shared(self) -> Shared[T]:
        """The clock, the lock, and who waits."""
        return self._shared

    @property
    def servers(self) -> list[FakeServer]:
        """The servers that serve it now."""
        return self._servers

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nothing else happens meanwhile; everything that is due has."""
        with self._shared.changed:
            self._shared.tick()
            yield

    def notify(self) -> None:
        """Something has changed: wakes whoever waits."""
        self._shared.state.changed()
        self._shared.notify()

    def wake_others(self) -> None:
        """Wakes whoever waits if a request has changed something."""
        if self._shared.state.changes != self._shared.told:
            self._shared.told = self._shared.state.changes
            self._shared.notify()

    def close(self) -> None:
        """Ends what runs for it."""
        for server in tuple(self._servers):
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
