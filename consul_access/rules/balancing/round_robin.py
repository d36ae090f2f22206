"""One after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.protocol import Dice, Pick, eligible, identity

__all__ = ["RoundRobinBalancer"]


class RoundRobinBalancer:
    """One after the other; it begins anywhere, so that many clients do not begin at the same one.

    Args:
        dice: where chance comes from, such as `random.Random()`; without them it begins at the first.

    A new list goes on where the old one was: whoever was next stays next, and newcomers have their turn after that.
    """

    __slots__ = ("_dice", "_round")

    def __init__(self, dice: Dice | None = None) -> None:
        self._dice = dice
        self._round: tuple[tuple[ServiceInstance, ...], Iterator[ServiceInstance]] = (), iter(())

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        ring = self._going_on(eligible(instances))
        turns = cycle(ring)
        self._round = ring, turns
        turn = turns.__next__  # one step in C, which no other thread can come between

        def pick(key: str | None = None) -> ServiceInstance:
            return turn()

        return pick

    def _going_on(self, found: tuple[ServiceInstance, ...]) -> tuple[ServiceInstance, ...]:
        if len(found) < 2:
            return found
        ring, turns = self._round
        if not ring:
            start = int(self._dice.random() * len(found)) if self._dice else 0
            return found[start:] + found[:start]
        place = {identity(instance): number for number, instance in enumerate(islice(turns, len(ring)))}
        return tuple(sorted(found, key=lambda instance: place.get(identity(instance), len(place))))
