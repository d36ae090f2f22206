# Written by tools/faces.py from consul_access/_async/resolver.py; edit that one.
"""`resolver`: a local list of a service's instances, always fresh, from which one is picked without asking anybody."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self

from consul_access._pairs.threads import Bell, Worker, aside
from consul_access._sync.watching import Engine
from consul_access.errors import ClientClosed, ConsulAccessError, InvalidInput, NoInstances, StaleList, Unavailable
from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance
from consul_access.models.snapshot import ServiceSnapshot
from consul_access.rules.balancing import Balancer, FeedbackBalancer
from consul_access.rules.comparing import distinct
from consul_access.rules.ejecting import EjectingBalancer
from consul_access.rules.staleness import StalePolicy

if TYPE_CHECKING:
    from consul_access._live.reading import Snapping
    from consul_access.disk import Shelf
    from consul_access.observing import Observers
    from consul_access.rules.balancing import Pick

__all__ = ["Resolver"]

FIRST_ANSWER = 10.0
"""Seconds that `start` waits for one; an agent without servers takes 7 to say so."""
FIRST_ANSWER_OR_DISK = 2.0
SAVED_EVERY = 5.0


class Resolver:
    """Whom to call, from memory; made by `ConsulAccess.resolver`.

    A context manager; or `start` and `stop`. From then on it follows every change in the background, by the client's
    one engine. `pick`, `instances` and `snapshot` wait for nothing and ask nobody.
    """

    def __init__(
        self,
        engine: Engine,
        reading: Snapping[ServiceSnapshot],
        *,
        balancer: Balancer,
        stale: StalePolicy,
        shelf: Shelf | None,
        observers: Observers[Resolver],
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._balancer = balancer
        self._feedback = balancer if isinstance(balancer, FeedbackBalancer) else None
        self._stale = stale
        self._shelf = shelf
        self._observers = observers
        if isinstance(balancer, EjectingBalancer):
            balancer.on_ejection = observers.leaving_out(reading.blank.service)
        self._keeping: Worker | None = None
        self._kept: tuple[ServiceInstance, ...] | None = None
        self._name = reading.blank.service
        self._snapshot = reading.blank
        self._error: ConsulAccessError | None = None
        self._instances: tuple[ServiceInstance, ...] = ()
        self._good_until = math.inf
        self._choose: Pick = self._not_started
        self._prepared: Pick = self._nobody
        self._bell = Bell()
        self._end: Callable[[], None] | None = None
        self._answered = False
        self._over = False

    # --- its life -----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begins to follow the service, and waits for the first answer; if the registry gives none, it goes on.

        Raises:
            ClientClosed: the client is closed.
        """
        if self._end is not None:
            return self
        self._over = self._answered = False
        self._snapshot, self._instances = self._reading.blank, ()
        self._choose = self._prepared = self._nobody
        rung = self._bell.rung
        self._end = self._engine.listen(self._reading, self._tell, self._ended)
        self._observers.resolvers.add(self)
        try:
            self._bell.wait(rung, FIRST_ANSWER if self._shelf is None else FIRST_ANSWER_OR_DISK)
            if self._shelf is not None:
                self._use(self._shelf)
        except BaseException:  # cancelled or interrupted: nobody calls stop() then
            self._end()
            self._end = None
            self._observers.resolvers.discard(self)
            raise
        if self._shelf is not None:
            self._keeping = Worker(self._keep, f"consul-access keeping {self._name}")
        return self

    def stop(self) -> None:
        """Ends it; there is nothing to pick any more."""
        end, self._end = self._end, None
        if end is not None:
            end()
        self._ended()
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.join(1.0)

    def close(self) -> None:
        """The same as `stop`."""
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what it is for -----------------------------------------------------------------------------------

    def pick(self, key: str | None = None) -> ServiceInstance:
        """One instance to call; its `address` is where.

        Args:
            key: what the call is about, for a balancer that sends equal keys to the same instance.

        Raises:
            NoInstances: there is none now.
            StaleList: the list could not be confirmed for longer than the `StalePolicy` allows.
            Unavailable: nothing is known yet, because the registry has not answered.
            ClientClosed: the resolver or its client was ended.
        """
        return self._choose(key)

    def instances(self) -> tuple[ServiceInstance, ...]:
        """Those that `pick` chooses from: the ones that have an address and a port, each of these once."""
        return self._instances

    @property
    def balancer(self) -> Balancer:
        """What chooses."""
        return self._balancer

    def snapshot(self) -> ServiceSnapshot:
        """What is known now, with its age."""
        return self._snapshot.at(time.monotonic())

    def started(self, address: Address | ServiceInstance) -> None:
        """Tells the balancer that a call begins; one that does not care ignores it.

        Args:
            address: who is called. `report` has to follow, once.
        """
        if self._feedback is not None:
            self._feedback.started(_address(address))

    def report(self, address: Address | ServiceInstance, ok: bool | None, elapsed: float) -> None:
        """Tells the balancer how a call went; one that does not care ignores it.

        Args:
            address: who was called.
            ok: whether the instance did its part; None when the caller gave up before that was known.
            elapsed: after how many seconds.
        """
        if self._feedback is not None:
            self._feedback.report(_address(address), ok, elapsed)

    def wait_ready(self, timeout: float = 30.0, *, at_least: int = 1) -> tuple[ServiceInstance, ...]:
        """Waits until there is somebody to call.

        Args:
            timeout: seconds to wait at most.
            at_least: how many instances there have to be.

        Returns:
            Those that `pick` chooses from.

        Raises:
            NoInstances: the registry has answered, and there are not so many.
            Unavailable: it has not answered.
            ClientClosed: the resolver or its client was ended.
        """
        if self._end is None:
            self._not_started()
        deadline = time.monotonic() + timeout
        while True:
            rung = self._bell.rung
            if self._over:
                self._gone()
            if len(self._instances) >= at_least:
                return self._instances
            if not self._bell.wait(rung, max(0.0, deadline - time.monotonic())):
                break
        raise self._reason(f"within {timeout:g} s there were {len(self._instances)} of {at_least}: ") from self._error

    # --- what the engine tells it -------------------------------------------------------------------------

    def _tell(self, snapshot: Any, error: ConsulAccessError | None) -> None:
        """Takes the newest snapshot."""
        if self._over:  # it was on its way when the end came
            return
        if snapshot.source == "nothing" and self._snapshot.source == "disk":
            snapshot = replace(self._snapshot, reason=snapshot.reason)
        if snapshot.instances is not self._snapshot.instances:
            instances = distinct(snapshot.instances)
            self._prepared = self._observers.picking(self._balancer.prepare(instances)) if instances else self._nobody
            self._instances = instances
        self._snapshot, self._error, self._answered = snapshot, error, True
        self._good_until = self._stale.until(snapshot.stale_at)
        # While the list is confirmed, and for a policy that keeps it for ever, a pick need not look at the clock.
        self._choose = self._prepared if self._good_until == math.inf else self._while_good
        self._bell.ring()

    def _ended(self) -> None:
        """There is nothing to follow any more."""
        self._over = True
        self._observers.resolvers.discard(self)
        self._choose = self._gone
        self._bell.ring()

    # --- what survives it ---------------------------------------------------------------------------------

    def _use(self, shelf: Shelf) -> None:
        """Goes on with what an earlier process knew, if the registry has told nothing."""
        if self._snapshot.source != "nothing":
            return
        found = aside(shelf.load)
        if found is not None and self._snapshot.source == "nothing" and not self._over:
            self._kept = found.instances
            self._tell(replace(found, reason=self._snapshot.reason or "no answer has come"), self._error)

    def _keep(self) -> None:
        """Writes what is new, and not more often than every few seconds."""
        rung = -1
        while not self._over:
            self._bell.wait(rung, math.inf)
            rung = self._bell.rung
            self._save()
            pause = time.monotonic() + SAVED_EVERY
            while not self._over and time.monotonic() < pause:
                self._bell.wait(self._bell.rung, pause - time.monotonic())
        self._save()

    def _save(self) -> None:
        snapshot, shelf = self._snapshot, self._shelf
        if shelf is None or snapshot.source != "live" or snapshot.instances is self._kept:
            return
        self._kept = snapshot.instances
        aside(partial(shelf.save, snapshot))

    def __repr__(self) -> str:
        known = f"{len(self._instances)} instances" if self._answered else "nothing known"
        return f"<{type(self).__name__} {self._name!r} {known}{', stale' if self._snapshot.is_stale else ''}>"

    # --- how it chooses -----------------------------------------------------------------------------------

    def _while_good(self, key: str | None = None) -> ServiceInstance:
        """A pick from a list that is stale, and good enough for a while."""
        if time.monotonic() >= self._good_until:
            self._too_old()
        return self._prepared(key)

    def _too_old(self) -> NoReturn:
        raise StaleList(
            f"the list of {self._name!r} is {self.snapshot().age:.0f} s old and cannot be confirmed "
            f"({self._snapshot.reason}); the policy is to {self._stale}"
        ) from self._error

    def _nobody(self, key: str | None = None) -> NoReturn:  # noqa: ARG002 - a pick as any other
        raise self._reason() from self._error

    def _reason(self, begin: str = "") -> ConsulAccessError:
        """Why there is nobody to call."""
        snapshot = self._snapshot
        if snapshot.source == "nothing":
            return Unavailable(
                f"{begin}nothing is known of {self._name!r} yet ({snapshot.reason or 'no answer has come'})"
            )
        if snapshot.instances:
            said = f"none of the {len(snapshot.instances)} instances of {self._name!r} has an address and a port"
        else:
            said = f"there is no instance of {self._name!r} that fits"
        return NoInstances(f"{begin}{said}{f' ({snapshot.reason})' if snapshot.reason else ''}")

    def _not_started(self, key: str | None = None) -> NoReturn:  # noqa: ARG002 - a pick as any other
        raise InvalidInput("the resolver was not started: use it as a context manager, or call start()")

    def _gone(self, key: str | None = None) -> NoReturn:  # noqa: ARG002 - a pick as any other
        raise ClientClosed(f"the resolver of {self._name!r} was ended")


def _address(called: Address | ServiceInstance) -> Address:
    return called.address if isinstance(called, ServiceInstance) else called
