"""What every client lets others see of what it does in the background, for metrics and tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from consul_access.observing import EjectionHook, EventHook, Observers, PickHook

if TYPE_CHECKING:
    from consul_access._async.keeper import AsyncKeeper
    from consul_access._async.resolver import AsyncResolver

__all__ = ["AsyncObserved"]


class AsyncObserved:
    """A client that can be observed."""

    def __init__(self) -> None:
        self._kept: set[AsyncKeeper] = set()
        self._observers: Observers[AsyncResolver] = Observers()

    @property
    def keepers(self) -> tuple[AsyncKeeper, ...]:
        """What it keeps registered now."""
        return tuple(self._kept)

    @property
    def resolvers(self) -> tuple[AsyncResolver, ...]:
        """Its resolvers that follow a service now, those of a `DiscoveryTransport` included."""
        return tuple(self._observers.resolvers)

    def on_keeper_event(self, hook: EventHook) -> Callable[[], None]:
        """Has `hook` called with a service's name and a `KeeperEvent` at each change in a kept registration's life.

        Args:
            hook: called in the thread or task of the keeper. If it raises, the log says so.

        Returns:
            A function that takes the hook away again.
        """
        return self._observers.events.add(hook)

    def on_pick(self, hook: PickHook) -> Callable[[], None]:
        """Has `hook` called with every instance that a resolver picks.

        Resolvers ask for hooks when they get a list; without any, picking costs what it costs without this. So add the
        hook before the resolvers are started.

        Args:
            hook: called in the thread or task that picks. If it raises, the log says so.

        Returns:
            A function that takes the hook away again.
        """
        return self._observers.picks.add(hook)

    def on_ejection(self, hook: EjectionHook) -> Callable[[], None]:
        """Has `hook` called with a service's name and an address whenever an `EjectingBalancer` leaves it out.

        Args:
            hook: called in the thread or task that reports the failed call. If it raises, the log says so.

        Returns:
            A function that takes the hook away again.
        """
        return self._observers.ejections.add(hook)
