"""The better of two."""

from __future__ import annotations

from collections import deque
from typing import Final

from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.outstanding import Outstanding
from consul_access.rules.balancing.protocol import Dice, Pick, eligible

__all__ = ["PowerOfTwoBalancer"]

NEWEST_COUNTS: Final = 0.3
"""The share that the newest call has in the average."""
FAILURE_SECONDS: Final = 1.0
"""A failed call counts as at least so slow: a refusal is quick, and still no reason to come back."""
FORGETTING: Final = 0.995
"""What is left of an average each time its instance is passed over, so that a slow one is tried again some time."""
_ALMOST_NOTHING: Final = 1e-9


class _Load:
    __slots__ = ("calls", "latency")

    def __init__(self, calls: deque[None]) -> None:
        self.calls = calls
        self.latency = 0.0


class PowerOfTwoBalancer:
    """Of two chosen by chance the one that promises to answer sooner.

    Args:
        dice: where chance comes from, such as `random.Random()`.

    What counts is the average time of the latest calls (each new one has 0.3 of it), times the calls under way, by the
    instance's weight. It needs to be told of every call (`started`, `report`), as `DiscoveryTransport` does. One that
    is not known yet is preferred to those that are, but no more than two in n picks look at it. An average fades by
    half a per cent each time its instance is passed over: one that is twice as slow is tried once in 140 times, and
    soon found again when it has recovered. Unlike "the fastest", all clients together do not rush to the same one.
    """

    __slots__ = ("_dice", "_loads", "_outstanding")

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._outstanding = Outstanding()
        self._loads: dict[Address, _Load] = {}

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        addresses = {instance.address for instance in instances}
        self._outstanding.keep(addresses)
        self._loads = {
            address: self._loads.get(address) or _Load(self._outstanding.of(address)) for address in addresses
        }
        chance, found = self._dice.random, eligible(instances)
        number = len(found)
        known = [(self._loads[instance.address], max(instance.weight, 0) or 1, instance) for instance in found]
        only = found[0]

        def single(key: str | None = None) -> ServiceInstance:
            return only

        def pick(key: str | None = None) -> ServiceInstance:
            one = int(chance() * number)
            load, weight, instance = known[one]
            other_load, other_weight, other = known[one - 1 - int(chance() * (number - 1))]
            cost = (load.latency + _ALMOST_NOTHING) * (len(load.calls) + 1) * other_weight
            if cost <= (other_load.latency + _ALMOST_NOTHING) * (len(other_load.calls) + 1) * weight:
                other_load.latency *= FORGETTING
                return instance
            load.latency *= FORGETTING
            return other

        return pick if number > 1 else single

    def started(self, address: Address) -> None:
        """A call to this address begins."""
        self._outstanding.started(address)

    def report(self, address: Address, ok: bool | None, elapsed: float) -> None:
        """A call has ended. One that the caller gave up counts when it was slow already."""
        self._outstanding.ended(address)
        load = self._loads.get(address)
        if load is None or (ok is None and elapsed < load.latency):
            return
        took = max(elapsed, FAILURE_SECONDS) if ok is False else elapsed
        load.latency += (took - load.latency) * (NEWEST_COUNTS if load.latency else 1.0)
