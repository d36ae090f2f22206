"""Fakes on a port, with all that tests want of a real agent."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from consul_access.testing import Clock, FakeConsul, FakeEtcd, FakeServer
from tests.support.agents import MASTER_TOKEN
from tests.support.asking import Asking

_numbers = itertools.count(2)


class Served:
    """A fake on a port, within the block."""

    fake: FakeConsul | FakeEtcd
    served: FakeServer

    def pause(self) -> None:
        self.fake.faults.freeze()

    def resume(self) -> None:
        self.fake.faults.heal()

    def __enter__(self) -> Self:
        self.served.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.fake.close()


class FakeAgent(Served, Asking):
    """A fake, ready to be used when the block begins.

    Args:
        version: which it answers as.
        server: it keeps its data over a restart, instead of dev mode.
        join: an agent whose cluster it belongs to, as a client agent that keeps its data.
        acl: access is denied to whoever has no token; `MASTER_TOKEN` may do everything.
        config: of an agent's settings only `enable_script_checks` is understood.
        clock: whose time it goes by.
    """

    def __init__(
        self,
        version: str = "1.8",
        *,
        server: bool = False,
        join: FakeAgent | None = None,
        acl: bool = False,
        config: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        scripts = bool((config or {}).get("enable_script_checks"))
        token = MASTER_TOKEN if acl else False
        self.fake = (
            FakeConsul(version, acl=token, scripts=scripts, run_checks=True, clock=clock)
            if join is None
            else join.fake.join(f"node-{next(_numbers)}", scripts=scripts)
        )
        self.served = self.fake.serve()
        self.server = server or join is not None
        self.acl = acl
        self.node = self.fake.node

    @property
    def port(self) -> int:  # type: ignore[override]
        return self.served.port

    @property
    def token(self) -> str | None:  # type: ignore[override]
        return self.fake.master_token

    @property
    def process(self) -> FakeAgent:
        return self

    def poll(self) -> int | None:
        return None if self.fake.is_up else -9

    def run(self) -> None:
        self.fake.start(keep=self.server)

    def stop(self) -> None:
        self.fake.leave()

    def kill(self) -> None:
        self.fake.kill()

    def restart(self) -> None:
        self.fake.kill()
        self.fake.start(keep=self.server)

    def run_without_data(self) -> None:
        """Starts it, and it has forgotten what it held."""
        self.fake.start(keep=False)
