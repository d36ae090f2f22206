"""What a balancer is, and what all of them have in common."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance

__all__ = ["Balancer", "Dice", "FeedbackBalancer", "Pick", "eligible", "identity"]


class Dice(Protocol):
    """A source of randomness, such as `random.Random`."""

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""
        ...


class Pick(Protocol):
    """Gives the next instance to call; made once for a list, so that a pick does no work and takes no lock."""

    def __call__(self, key: str | None = None) -> ServiceInstance:
        """The instance to call.

        Args:
            key: whom or what the call is for; only a balancer that sticks to keys looks at it.
        """
        ...


@runtime_checkable
class Balancer(Protocol):
    """Chooses among the instances of one service.

    What it has to remember from one list to the next (whose turn it is, how fast they are) it keeps by address. So
    each service needs a balancer of its own.
    """

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on.

        Args:
            instances: at least one, each with an address that can be called.
        """
        ...


@runtime_checkable
class FeedbackBalancer(Balancer, Protocol):
    """A balancer that wants to know how the calls went."""

    def started(self, address: Address) -> None:
        """A call to this address begins. Each one is followed by one `report`."""
        ...

    def report(self, address: Address, ok: bool | None, elapsed: float) -> None:
        """A call has ended.

        Args:
            address: whom it went to.
            ok: whether the instance did its part; None when the caller gave up before that was known.
            elapsed: seconds it took.
        """
        ...


def eligible(instances: tuple[ServiceInstance, ...]) -> tuple[ServiceInstance, ...]:
    """Those that may get calls: the ones with a weight in their present state, or all when none has one."""
    if len(instances) == 1:
        return instances
    return tuple(instance for instance in instances if instance.weight > 0) or instances


def identity(instance: ServiceInstance) -> tuple[Address, str, str]:
    """What makes it the same instance in the next list."""
    return instance.address, instance.node, instance.id
