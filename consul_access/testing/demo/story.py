"""What happens in the demo, in order, and how it is told."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self

from consul_access import ConsulAccess, ConsulSettings, ServiceInstance
from consul_access.testing.consul.fake import FakeConsul
from consul_access.testing.demo.service import SHOP, STOCK

__all__ = ["DemoFailed", "tell"]

PATIENCE: Final = 30.0
STEP: Final = "1s"
COLUMNS: Final = ("SERVICE", "ID", "ADDRESS", "STATUS")


class DemoFailed(Exception):
    """The story did not go on; the text says where."""


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def tell(address: str | None = None, *, write: Callable[[str], object] = _print) -> None:
    """Two services start, are found and called; one is killed, drops out, comes back, and drains.

    Args:
        address: a real agent, as `HOST:PORT` or a URL; by default one is made of memory, on a free port.
        write: takes the text.

    Raises:
        DemoFailed: something did not happen within 30 s.
        ConsulAccessError: the agent cannot be used.
    """
    with contextlib.ExitStack() as stack:
        if address is None:
            fake = stack.enter_context(FakeConsul(run_checks=True))
            address = stack.enter_context(fake.serve()).address
            environ = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
            write(f"A Consul agent made of memory (it answers as {fake.version}) listens at {address}.\n")
        else:
            environ = dict(os.environ)
            write(f"A Consul agent is asked at {address}.\n")
        settings = ConsulSettings.load(addresses=[address], environ=environ)
        access = stack.enter_context(ConsulAccess(settings=settings))
        access.services()  # an agent that cannot be used is told before anything is started
        story = stack.enter_context(_Story(access, environ | {"CONSUL_HTTP_ADDR": address}, write))
        story.tell()


class _Story:
    def __init__(self, access: ConsulAccess, environ: dict[str, str], write: Callable[[str], object]) -> None:
        self._access = access
        self._environ = environ
        self._write = write
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ids: set[str] = set()
        self._step = 0

    def tell(self) -> None:
        """All of it."""
        self._say("Two services start, each a process of its own, and register themselves.")
        self._start(STOCK, 0)
        self._start(SHOP, 0)
        stock, _ = self._until_there(STOCK, policy="any"), self._until_there(SHOP, policy="any")
        self._table()

        self._say("The agent asks GET /health every second, and now everybody finds them.")
        for name in (STOCK, SHOP):
            self._until_there(name)
        self._table()

        self._say(f"{SHOP} is looked up by its name and called; it looks up {STOCK}.")
        self._call()

        self._say(f"{STOCK} is killed (SIGKILL) and says no goodbye. Its check fails; nobody is sent there any more.")
        self._kill(STOCK)
        self._until_gone(STOCK)
        self._until_there(SHOP)  # whose check a busy machine may let fail for a moment
        self._table()
        self._call()

        self._say(f"{STOCK} comes back, under the same id.")
        self._start(STOCK, stock.port)
        for name in (STOCK, SHOP):
            self._until_there(name)
        self._table()
        self._call()

        self._say(f"{STOCK} is asked to end (SIGTERM): first it leaves every look-up, then it serves on for a second,")
        self._more("then it deregisters, and only then it stops.")
        self._processes[STOCK].send_signal(signal.SIGTERM)
        self._until_gone(STOCK)
        with urllib.request.urlopen(f"http://{stock.address}/", timeout=5) as answer:
            self._more(f"Out of the look-ups, and whoever has its address is still told: {_said(answer.read())!r}")
        self._end(STOCK)
        self._end(SHOP)
        self._table()
        self._write("\nThat was register, check, resolve, call, drop out, come back, drain.\n")

    # --- what is done -------------------------------------------------------------------------------------

    def _start(self, name: str, port: int) -> None:
        command = [sys.executable, "-m", "consul_access.testing.demo.service", name, str(port)]
        process = subprocess.Popen(command, env=self._environ, stdin=subprocess.PIPE)  # noqa: S603 - our own module
        self._processes[name] = process

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        _wait(process)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.terminate()
        if _wait(process):
            raise DemoFailed(f"{name} ended with code {process.returncode}")

    def _call(self) -> None:
        address = self._until_there(SHOP).address
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
            self._more(f"http://{address}/ says: {_said(answer.read())!r}")

    def _until_there(self, name: str, *, policy: str = "passing") -> ServiceInstance:
        return self._until(name, policy, is_there=True)[0]

    def _until_gone(self, name: str) -> None:
        self._until(name, "passing", is_there=False)

    def _until(self, name: str, policy: str, *, is_there: bool) -> Sequence[ServiceInstance]:
        deadline = time.monotonic() + PATIENCE
        found = self._access.instances(name, policy=policy)
        while bool(found) != is_there:
            if name in self._processes and (code := self._processes[name].poll()) is not None:
                raise DemoFailed(f"{name} ended with code {code}; what it wrote is above")
            if time.monotonic() > deadline:
                raise DemoFailed(f"within {PATIENCE:g} s {name} did not {'appear' if is_there else 'drop out'}")
            found = self._access.instances(name, policy=policy, index=found.meta.index or 0, wait=STEP)
        self._ids.update(instance.id for instance in found)
        return found

    # --- how it is told -----------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._step += 1
        self._write(f"\n{self._step}. {text}\n")

    def _more(self, text: str) -> None:
        self._write(f"   {text}\n")

    def _table(self) -> None:
        for line in _lines([COLUMNS, *self._rows()]):
            self._more(line)

    def _rows(self) -> Iterator[Sequence[str]]:
        for name in (SHOP, STOCK):
            found = self._access.instances(name, policy="any")
            for instance in found:
                yield name, instance.id, str(instance.address), instance.status
            if not found:
                yield name, "-", "-", "not registered"

    # --- the end ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            _wait(process)
        for service_id in self._ids:  # one that was killed cannot do it itself
            self._access.deregister_service(service_id)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Its exit code, once it has ended; it is killed if it does not end by itself."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _said(body: bytes) -> str:
    return body.decode().strip()


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
