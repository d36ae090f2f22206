"""The least busy one."""

from __future__ import annotations

from collections import deque

from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.protocol import Dice, Pick, eligible

__all__ = ["LeastOutstandingBalancer", "Outstanding"]


class Outstanding:
    """How many calls to each address have begun and not ended.

    The count is the length of a deque, which any thread may lengthen and shorten without a lock.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[Address, deque[None]] = {}

    def of(self, address: Address) -> deque[None]:
        """The calls to this address; their number is the length."""
        return self._calls.get(address) or self._calls.setdefault(address, deque())

    def started(self, address: Address) -> None:
        self.of(address).append(None)

    def ended(self, address: Address) -> None:
        try:
            self.of(address).pop()
        except IndexError:  # it was reported without having been started
            return

    def keep(self, addresses: set[Address]) -> None:
        """Forgets all others that have no call under way."""
        for address in [*self._calls]:
            if address not in addresses and not self._calls[address]:
                self._calls.pop(address, None)


class LeastOutstandingBalancer:
    """The one with the fewest calls under way; among equals any.

    Args:
        dice: where chance comes from, such as `random.Random()`.

    It needs to be told of every call (`started`, `report`), as `DiscoveryTransport` does. A pick looks at the instances
    from a random one on, and takes the first that has nothing to do; so it is quick unless all are busy.
    """

    __slots__ = ("_dice", "_outstanding")

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._outstanding = Outstanding()

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        self._outstanding.keep({instance.address for instance in instances})
        chance, found = self._dice.random, eligible(instances)
        number = len(found)
        calls = [self._outstanding.of(instance.address) for instance in found]
        twice = [*zip(calls, found, strict=True)] * 2

        def pick(key: str | None = None) -> ServiceInstance:
            start = int(chance() * number)
            fewest, best = len(calls[start]), found[start]
            for under_way, instance in twice[start : start + number] if fewest else ():
                if len(under_way) < fewest:
                    fewest, best = len(under_way), instance
                    if not fewest:
                        break
            return best

        return pick

    def started(self, address: Address) -> None:
        """A call to this address begins."""
        self._outstanding.started(address)

    def report(self, address: Address, ok: bool | None, elapsed: float) -> None:
        """A call has ended."""
        self._outstanding.ended(address)
