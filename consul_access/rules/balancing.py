"""Which one of several instances is called. A new way to choose is one class with one method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from consul_access.errors import InvalidInput
from consul_access.models.instance import ServiceInstance

__all__ = ["Balancer", "Dice", "RandomBalancer", "balancer_named"]


class Dice(Protocol):
    """A source of randomness, such as `random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """A whole number from 0 up to, not including, `stop`."""
        ...


class Balancer(Protocol):
    """Chooses one instance of at least one."""

    def pick(self, instances: Sequence[ServiceInstance]) -> ServiceInstance:
        """The instance to call. There is always at least one."""
        ...


class RandomBalancer:
    """Any of them, each as likely as its weight says.

    Args:
        dice: where chance comes from.

    The weight is the one for the instance's state, as Consul's DNS tells it in SRV records; when all are 0 they count
    as equal.
    """

    __slots__ = ("_dice",)

    def __init__(self, dice: Dice) -> None:
        self._dice = dice

    def pick(self, instances: Sequence[ServiceInstance]) -> ServiceInstance:
        """The instance to call."""
        if len(instances) == 1:
            return instances[0]
        weights = [max(instance.weight, 0) for instance in instances]
        total = sum(weights)
        if total == 0:
            return instances[self._dice.randrange(len(instances))]
        mark = self._dice.randrange(total)
        for instance, weight in zip(instances, weights, strict=True):
            mark -= weight
            if mark < 0:
                return instance
        raise AssertionError("a mark below the total lies within one of the weights")


def balancer_named(name: str, dice: Dice) -> Balancer:
    """The balancer of that name, for a single choice.

    Raises:
        InvalidInput: there is none.
    """
    if name != "random":
        raise InvalidInput(f"balancer={name!r} is unknown here: write 'random', or pass a Balancer")
    return RandomBalancer(dice)
