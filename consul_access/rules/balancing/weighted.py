"""By weight, evenly spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import cycle, islice
from math import gcd
from typing import Final

from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.protocol import Dice, Pick, eligible, identity

__all__ = ["WeightedBalancer", "reduced", "smooth"]

LONGEST_ROUND: Final = 1024
"""Turns in a round, or 8 for each instance when those are more. Weights that need more are rounded."""


class WeightedBalancer:
    """By turns, as many as the weight says, and evenly spread: with weights 5 and 1 never six calls without the other.

    Args:
        dice: where chance comes from, such as `random.Random()`; without them it begins at the first.

    The weight is Consul's, the one for the instance's present state (`weights.passing`, `weights.warning`). At every
    moment each instance has had its share of the turns, rounded down or up. When only something else about the
    instances changes, a new list goes on where the old one was.
    """

    __slots__ = ("_dice", "_round")

    def __init__(self, dice: Dice | None = None) -> None:
        self._dice = dice
        self._round: tuple[tuple[ServiceInstance, ...], Iterator[ServiceInstance]] = (), iter(())

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        found = eligible(instances)
        weights = reduced([max(instance.weight, 0) or 1 for instance in found], max(LONGEST_ROUND, 8 * len(found)))
        ring = tuple(found[place] for place in smooth(weights))
        ring = self._going_on(ring) or self._begun_anywhere(ring)
        turns = cycle(ring)
        self._round = ring, turns
        turn = turns.__next__

        def pick(key: str | None = None) -> ServiceInstance:
            return turn()

        return pick

    def _going_on(self, ring: tuple[ServiceInstance, ...]) -> tuple[ServiceInstance, ...]:
        """The same turns, from where they were; none when they are not the same."""
        before, turns = self._round
        if Counter(map(identity, ring)) != Counter(map(identity, before)):
            return ()
        present = {identity(instance): instance for instance in ring}
        return tuple(present[identity(instance)] for instance in islice(turns, len(ring)))

    def _begun_anywhere(self, ring: tuple[ServiceInstance, ...]) -> tuple[ServiceInstance, ...]:
        start = int(self._dice.random() * len(ring)) if self._dice else 0
        return ring[start:] + ring[:start]


def smooth(weights: Sequence[int]) -> list[int]:
    """A round of turns: each place as often as its weight says, evenly spread.

    After any number of turns each place has had its exact share, rounded down or up. A place's k-th turn is possible
    from `k * total / weight` on and due before `(k + 1) * total / weight`; of those possible the one due first has its
    turn, which keeps every one of them in time (earliest deadline first).

    Args:
        weights: one a place, each at least 1.
    """
    total = sum(weights)
    coming = [(0, place) for place in range(len(weights))]  # a heap as it stands
    had = [0] * len(weights)
    possible: list[tuple[int, int]] = []
    turns: list[int] = []
    for now in range(total):
        while coming and coming[0][0] <= now:
            _, place = heappop(coming)
            heappush(possible, (-(-(had[place] + 1) * total // weights[place]), place))
        _, place = heappop(possible)
        turns.append(place)
        had[place] += 1
        if had[place] < weights[place]:
            heappush(coming, (had[place] * total // weights[place], place))
    return turns


def reduced(weights: Sequence[int], longest: int) -> list[int]:
    """The smallest whole numbers in the same proportion, or close to it when their sum would exceed `longest`.

    Args:
        weights: each at least 1.
        longest: the largest sum; at least twice as many as there are weights.
    """
    common = gcd(*weights)
    smallest = [weight // common for weight in weights]
    if sum(smallest) <= longest:
        return smallest
    share = (longest - len(weights)) / sum(smallest)
    return [max(1, round(weight * share)) for weight in smallest]
