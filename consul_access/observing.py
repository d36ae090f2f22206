"""Who is told what a client does in the background, and what can be seen of it; its exchanges are in `hooks`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from consul_access.models.address import Address
    from consul_access.models.instance import ServiceInstance
    from consul_access.rules.balancing import Pick
    from consul_access.rules.keeping import KeeperEvent

__all__ = ["EjectionHook", "EventHook", "Observers", "PickHook"]

R = TypeVar("R")
H = TypeVar("H", bound="Callable[..., object]")
log = logging.getLogger("consul_access")

EventHook: TypeAlias = "Callable[[str, KeeperEvent], object]"
"""Called with the service's name at each change in a kept registration's life; it should return at once."""
PickHook: TypeAlias = "Callable[[ServiceInstance], object]"
"""Called with every instance that a resolver has picked, in the thread or task that picks."""
EjectionHook: TypeAlias = "Callable[[str, Address], object]"
"""Called with the service's name and the address that is left out from now on, by whoever reports the failed call."""


class _Hooks(Generic[H]):
    """Functions that are called, one after the other; what they raise is logged."""

    __slots__ = ("_hooks", "_what")

    def __init__(self, what: str) -> None:
        self._hooks: tuple[H, ...] = ()
        self._what = what

    def add(self, hook: H) -> Callable[[], None]:
        """Adds one; returns what takes it away again."""
        self._hooks = (*self._hooks, hook)

        def remove() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not hook)

        return remove

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def tell(self, *told: object) -> None:
        """Calls them."""
        for hook in self._hooks:
            try:
                hook(*told)
            except Exception:
                log.exception("a hook failed; %s", self._what)


class Observers(Generic[R]):
    """The hooks of one client, and its resolvers while they follow a service."""

    __slots__ = ("ejections", "events", "picks", "resolvers")

    def __init__(self) -> None:
        self.events: _Hooks[EventHook] = _Hooks("the keeper goes on")
        self.picks: _Hooks[PickHook] = _Hooks("the pick stands")
        self.ejections: _Hooks[EjectionHook] = _Hooks("the instance is left out all the same")
        self.resolvers: set[R] = set()

    def keeping(
        self, service: str, on_event: Callable[[KeeperEvent], object] | None
    ) -> Callable[[KeeperEvent], object]:
        """What a keeper calls with each event: the hooks, and then the user's own function."""

        def tell(event: KeeperEvent) -> object:
            self.events.tell(service, event)
            return None if on_event is None else on_event(event)

        return tell

    def picking(self, pick: Pick) -> Pick:
        """The pick as it is; or, when there are hooks, one that tells them."""
        if not self.picks:
            return pick

        def picked(key: str | None = None) -> ServiceInstance:
            chosen = pick(key)
            self.picks.tell(chosen)
            return chosen

        return picked

    def leaving_out(self, service: str) -> Callable[[Address], object]:
        """What a balancer calls with an address that it leaves out."""
        return lambda address: self.ejections.tell(service, address)
