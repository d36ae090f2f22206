"""From a server's start to its end, for threads: registered, and gone before a signal ends it."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from consul_access._sync.consul import ConsulAccess
from consul_access.integrations._leaving import SIGNALS, Leaving
from consul_access.integrations._registration import RegistrationOptions, checked, reported

if TYPE_CHECKING:
    from consul_access._sync.health import HealthChecks
    from consul_access._sync.keeper import Keeper
    from consul_access.models.listening import Listening

__all__ = ["Serving"]


class Serving:
    """One registration while something is served, any number of times.

    Args:
        name: the service.
        address: where it can be reached.
        port: its port, or what to read it from.
        access: the client; by default one of its own each time.
        health: what TTL checks are reported with.
        drain: seconds of grace.
        options: the further arguments of `ConsulAccess.registered`.
        hurried: signals that leave the grace out.
    """

    def __init__(
        self,
        *,
        name: str,
        address: str | None,
        port: int | Listening | None,
        access: ConsulAccess | None,
        health: HealthChecks | None,
        drain: float,
        options: RegistrationOptions,
        hurried: Collection[int] = (),
    ) -> None:
        self._given = access
        self._port = port
        self._hurried = hurried
        self._access: ConsulAccess | None = None
        self._leaving: Leaving | None = None
        self.keeper: Keeper | None = None
        options = checked(options)
        self._registered = partial(
            ConsulAccess.registered,
            name=name,
            address=address,
            health=reported(health, options),
            drain=drain,
            shared=True,
            **options,
        )

    def start(self, port: int | Listening | None = None) -> None:
        """Registers it, and answers signals from now on."""
        if self.keeper is not None:
            return
        access = self._given or ConsulAccess()
        keeper = self._registered(access, port=self._port if port is None else port)
        signals = {*SIGNALS, *self._hurried}
        leaving = Leaving(lambda hurry: keeper.stop(hurry=hurry), hurried=self._hurried, signals=signals)
        try:
            keeper.start()
        except BaseException:
            leaving.end()
            if self._given is None:
                access.close()
            raise
        self._access, self.keeper, self._leaving = access, keeper, leaving

    def stop(self) -> None:
        """Drains and deregisters it, unless a signal has done so."""
        keeper, self.keeper = self.keeper, None
        if keeper is not None:
            keeper.stop()
        if self._leaving is not None:
            self._leaving.end()
        if self._access is not None and self._given is None:
            self._access.close()
