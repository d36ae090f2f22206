"""Waits for a program's port, registers it, and deregisters it when told, in a thread of its own."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from consul_access.cli.output import say
from consul_access.errors import ConsulAccessError

if TYPE_CHECKING:
    from consul_access import Keeper, KeeperEvent
    from consul_access.rules.running import Action, Running

__all__ = ["Announcement", "Event", "MakeKeeper", "accepts"]

MakeKeeper = Callable[[Callable[["KeeperEvent"], None]], "Keeper"]

Event = Callable[[float], "list[Action]"]
"""What happened, for the rule: called with the time by the thread that the rule belongs to."""

log = logging.getLogger("consul_access")

LOOK_EVERY = 0.05
"""Seconds between two tries to connect: a refusal on the same machine costs microseconds."""
CONNECT_WITHIN = 1.0


class Announcement:
    """One program's registration.

    Args:
        make: makes its keeper, given who is to hear of its events.
        hosts: where its port may open: a program can listen at one address of many.
        port: the port.
        rule: whose events these are.
        tell: hands an event over to the rule's thread.
    """

    def __init__(
        self, make: MakeKeeper, hosts: Iterable[str], port: int, *, rule: Running, tell: Callable[[Event], None]
    ) -> None:
        self._keeper = make(self._kept)
        self._hosts = tuple(hosts)
        self._port = port
        self._rule = rule
        self._tell = tell
        self._decided, self._leaving = threading.Event(), threading.Event()
        self._hurried = False
        self._thread = threading.Thread(target=self._run, name="consul-access run", daemon=True)

    def begin(self) -> None:
        """Begins to wait for the port."""
        self._thread.start()

    def announce(self) -> None:
        """Registers, now that the port is open."""
        self._decided.set()

    def leave(self, *, at_once: bool) -> None:
        """Deregisters, after the keeper's drain; `at_once` leaves that out or cuts it short."""
        self._hurried = self._hurried or at_once
        self._leaving.set()
        if at_once:  # from a thread of its own, since another one may be in the middle of the drain
            hurry = partial(self._keeper.stop, hurry=True)
            threading.Thread(target=hurry, name="consul-access run, hurry", daemon=True).start()

    def _run(self) -> None:
        try:
            self._lives()
        except ConsulAccessError as error:
            self._tell(partial(self._rule.refused, str(error)))
        except Exception as error:  # the other thread must hear of it, or it would wait for ever
            log.exception("keeping the program registered failed in a way that was not foreseen")
            self._tell(partial(self._rule.refused, repr(error)))

    def _lives(self) -> None:
        while not accepts(self._hosts, self._port):
            if self._leaving.wait(LOOK_EVERY):
                return
        self._tell(self._rule.port_opened)
        self._decided.wait()
        self._keeper.start()
        self._tell(self._rule.announced)
        self._leaving.wait()
        self._keeper.stop(hurry=self._hurried)

    def _kept(self, event: KeeperEvent) -> None:
        if event.kind in {"deregistered", "left_behind"}:  # by whichever thread was the first
            self._tell(self._rule.left)
        if event.kind == "missed" and event.state == "pending":
            say("the command runs all the same, and is registered as soon as Consul answers")


def accepts(hosts: Iterable[str], port: int) -> bool:
    """Whether the port takes connections at one of these addresses."""
    for host in hosts:
        try:
            socket.create_connection((host, port), timeout=CONNECT_WITHIN).close()
        except OSError:
            continue
        return True
    return False
