"""Assertions about services, and about what becomes true in a while."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from consul_access.models.instance import ServiceInstance
    from consul_access.models.status import CheckStatus
    from consul_access.registry import Registry

__all__ = ["eventually", "eventually_async", "registered"]

T = TypeVar("T")
PAUSE: Final = 0.01


def registered(
    access: Registry, name: str, *, at: str | None = None, status: CheckStatus | str | None = None
) -> list[ServiceInstance]:
    """The instances of a service, of which there must be one at least.

    Args:
        access: whom to ask, such as a `MemoryRegistry` or an `EtcdRegistry`.
        name: the service.
        at: only those at this address, as `10.0.0.5:8080`.
        status: only those that stand so; all by default, healthy or not.

    Raises:
        AssertionError: there is none; the text says what is registered instead.
    """
    every = access.instances(name, policy="any")
    found = [one for one in every if at in {None, _place(one)} and status in {None, one.status}]
    if found:
        return found
    wanted = "".join([f" at {at}" if at else "", f" that is {status}" if status else ""])
    seen = ", ".join(f"{one.id} at {_place(one)} ({one.status})" for one in every)
    others = ", ".join(sorted(set(access.services()) - {"consul"})) or "nothing"
    raise AssertionError(
        f"there is no {name!r}{wanted}, only {seen}" if seen else f"there is no {name!r}{wanted}; there is {others}"
    )


def _place(instance: ServiceInstance) -> str:
    return str(instance.address) if instance.is_callable else "no callable address"


def eventually(condition: Callable[[], T], *, within: float = 10.0, what: str = "") -> T:
    """What the condition returns as soon as that is true; it is asked again and again, a hundred times a second.

    Args:
        condition: a function; an `AssertionError` that it raises means "not yet".
        within: seconds.
        what: for the error: what should have become true.

    Raises:
        AssertionError: it has not become true in time.
    """
    course = _Course(within, what or repr(condition))
    while True:
        try:
            found = condition()
        except AssertionError as error:
            course.go_on(error)
        else:
            if found:
                return found
            course.go_on(None)
        time.sleep(PAUSE)


async def eventually_async(condition: Callable[[], T | Awaitable[T]], *, within: float = 10.0, what: str = "") -> T:
    """The same for tests that are tasks, under asyncio and trio: `await eventually_async(...)`.

    Args:
        condition: a function, which may be async.
        within: seconds.
        what: for the error: what should have become true.

    Raises:
        AssertionError: it has not become true in time.
    """
    import anyio

    course = _Course(within, what or repr(condition))
    while True:
        try:
            asked = condition()
            found = await asked if inspect.isawaitable(asked) else asked
        except AssertionError as error:
            course.go_on(error)
        else:
            if found:
                return found  # pyright: ignore[reportReturnType] - it is no awaitable
            course.go_on(None)
        await anyio.sleep(PAUSE)


class _Course:
    def __init__(self, within: float, what: str) -> None:
        self._within = within
        self._what = what
        self._deadline = time.monotonic() + within

    def go_on(self, error: AssertionError | None) -> None:
        """Fails when the time is up."""
        if time.monotonic() > self._deadline:
            last = f"; the last time: {error}" if error is not None else ""
            raise AssertionError(f"within {self._within:g} s it did not come true: {self._what}{last}") from error
