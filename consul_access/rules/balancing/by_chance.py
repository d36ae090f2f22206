"""Any of them."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate

from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.protocol import Dice, Pick, eligible

__all__ = ["RandomBalancer"]


class RandomBalancer:
    """Any of them, each as likely as its weight says.

    Args:
        dice: where chance comes from, such as `random.Random()`.

    The weight is the one for the instance's state, as Consul's DNS tells it in SRV records; when all are 0 they count
    as equal.
    """

    __slots__ = ("_dice",)

    def __init__(self, dice: Dice) -> None:
        self._dice = dice

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        chance, found = self._dice.random, eligible(instances)
        number, only, bounds = len(found), found[0], list(accumulate(max(instance.weight, 0) for instance in found))

        def single(key: str | None = None) -> ServiceInstance:
            return only

        def equal(key: str | None = None) -> ServiceInstance:
            return found[int(chance() * number)]

        def weighted(key: str | None = None) -> ServiceInstance:
            return found[bisect(bounds, int(chance() * total))]

        total = bounds[-1]
        if number == 1:
            return single
        return equal if len({instance.weight for instance in found}) == 1 or not total else weighted
