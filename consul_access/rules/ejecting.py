"""Leaving out instances that keep failing, for a while, without waiting for the registry to notice.

A health check notices within seconds and tells everybody; whoever calls notices at once and tells nobody. `Ejection` is
the rule, `EjectingBalancer` applies it in front of any balancer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from consul_access.errors import InvalidInput
from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.protocol import Balancer, FeedbackBalancer, Pick

__all__ = ["EjectingBalancer", "Ejection", "EjectionPolicy"]


@dataclass(frozen=True, slots=True)
class EjectionPolicy:
    """When an instance is left out, and for how long.

    Args:
        failures: so many calls in a row have failed; 5 by default. A connection that cannot be made is enough at once.
        first: seconds for which it is left out the first time; 1 by default. Each further time is twice as long.
        longest: the most seconds; 30 by default.

    Afterwards it is on probation: one failure, and it is left out again, for twice as long; after `failures` good calls
    all is forgotten. Never is more than half of the list left out.

    Raises:
        InvalidInput: fewer than 1 failure, no time at all, or `longest` is less than `first`.
    """

    failures: int = 5
    first: float = 1.0
    longest: float = 30.0

    def __post_init__(self) -> None:
        if self.failures < 1 or not 0 < self.first <= self.longest:
            raise InvalidInput(f"{self} cannot be kept: failures must be 1 or more, and 0 < first <= longest")


class _Record:
    __slots__ = ("failures", "length", "successes", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.successes = 0
        self.length = 0.0
        """Seconds it was left out the last time; 0 when that was never, or is forgotten."""
        self.until = float("-inf")


class Ejection:
    """Which addresses are left out now.

    Args:
        policy: when, and for how long.
    """

    __slots__ = ("_addresses", "_policy", "_records")

    def __init__(self, policy: EjectionPolicy) -> None:
        self._policy = policy
        self._addresses: frozenset[Address] = frozenset()
        self._records: dict[Address, _Record] = {}

    def use(self, addresses: Iterable[Address], now: float) -> None:
        """From now on these are all; what is known of others is forgotten.

        When more than half of them would be left out, those are let in again whose time would be up first.
        """
        self._addresses = frozenset(addresses)
        for gone in self._records.keys() - self._addresses:
            self._records.pop(gone, None)
        out = self.out(now)
        for _, address in sorted((until, address) for address, until in out.items())[: len(out) - self._most()]:
            self._records[address].until = now

    def out(self, now: float) -> dict[Address, float]:
        """Those left out, and until when."""
        return {address: record.until for address, record in [*self._records.items()] if record.until > now}

    def report(self, address: Address, ok: bool | None, now: float, *, connected: bool = True) -> bool:
        """Takes notice of a call that has ended.

        Args:
            address: whom it went to.
            ok: whether it went well; None when nobody knows.
            now: the monotonic time.
            connected: whether there was a connection at all.

        Returns:
            Whether it is left out from now on.
        """
        if ok is None or address not in self._addresses or (ok and address not in self._records):
            return False
        record = self._records.setdefault(address, _Record())
        if now < record.until:  # a call that had begun before
            return False
        if ok:
            self._succeeded(address, record)
            return False
        record.failures += 1
        record.successes = 0
        enough = not connected or record.length > 0 or record.failures >= self._policy.failures
        if not enough or len(self.out(now)) >= self._most():
            return False
        record.length = min(record.length * 2 or self._policy.first, self._policy.longest)
        record.until = now + record.length
        record.failures = 0
        return True

    def _succeeded(self, address: Address, record: _Record) -> None:
        record.failures = 0
        record.successes += 1
        if not record.length or record.successes >= self._policy.failures:
            self._records.pop(address, None)

    def _most(self) -> int:
        return len(self._addresses) // 2


class EjectingBalancer:
    """Leaves out instances that keep failing, and has another balancer choose among the rest.

    Args:
        inner: the other balancer.
        clock: the monotonic time, `time.monotonic`.
        policy: when an instance is left out, and for how long.

    It needs to be told how calls went (`report`). While all is well a pick is the inner balancer's own; the clock is
    looked at only while somebody is left out.
    """

    __slots__ = ("_choose", "_clock", "_ejection", "_feedback", "_inner", "_instances", "on_ejection")

    def __init__(self, inner: Balancer, clock: Callable[[], float], policy: EjectionPolicy | None = None) -> None:
        self._inner = inner
        self._feedback = inner if isinstance(inner, FeedbackBalancer) else None
        self._clock = clock
        self._ejection = Ejection(policy or EjectionPolicy())
        self._instances: tuple[ServiceInstance, ...] = ()
        self._choose: Pick
        self.on_ejection: Callable[[Address], object] | None = None
        """Called with an address that is left out from now on. The resolver that uses it sets it, for the hooks of its
        client."""

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        self._instances = instances
        self._ejection.use((instance.address for instance in instances), self._clock())
        self._choose_anew()

        def pick(key: str | None = None) -> ServiceInstance:
            return self._choose(key)

        return pick

    @property
    def ejected(self) -> frozenset[Address]:
        """Who is left out now."""
        return frozenset(self._ejection.out(self._clock()))

    def started(self, address: Address) -> None:
        """A call to this address begins."""
        if self._feedback is not None:
            self._feedback.started(address)

    def report(self, address: Address, ok: bool | None, elapsed: float, *, connected: bool = True) -> None:
        """A call has ended.

        Args:
            address: whom it went to.
            ok: whether the instance did its part; None when the caller gave up before that was known.
            elapsed: seconds it took.
            connected: False when not even a connection could be made, which is enough to leave it out.
        """
        if self._feedback is not None:
            self._feedback.report(address, ok, elapsed)
        if self._ejection.report(address, ok, self._clock(), connected=connected):
            self._choose_anew()
            if self.on_ejection is not None:
                self.on_ejection(address)

    def _choose_anew(self) -> None:
        while True:
            instances = self._instances
            self._choose = self._chosen(instances)
            if instances is self._instances:  # otherwise another thread has brought a new list meanwhile
                return

    def _chosen(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        out = self._ejection.out(self._clock())
        admitted = tuple(instance for instance in instances if instance.address not in out)
        inner = self._inner.prepare(admitted or instances)
        if not out:
            return inner
        until, clock = min(out.values()), self._clock

        def while_somebody_is_out(key: str | None = None) -> ServiceInstance:
            if clock() < until:
                return inner(key)
            self._choose_anew()
            return self._choose(key)

        return while_somebody_is_out
