# Written by tools/faces.py from consul_access/_async/sending.py; edit that one.
"""What every part of a client has: its settings, and the way to send a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from consul_access._sync.observed import Observed
from consul_access._sync.transport import Transport
from consul_access.call import Call
from consul_access.models.address import Target

if TYPE_CHECKING:
    from consul_access.hooks import Hook
    from consul_access.settings import ConsulSettings

__all__ = ["Sending"]

T = TypeVar("T")


class Sending(Observed):
    """Sends calls.

    Args:
        transport: what they travel through.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self._transport = transport

    @property
    def settings(self) -> ConsulSettings:
        """What this client was set up with; secrets are masked when it is printed."""
        return self._transport.consul_settings

    def send(self, call: Call[T], *, target: Target | None = None, within: float | None = None) -> T:
        """Sends any call, with this client's token, limits and retries.

        Args:
            call: one of `consul_access.consul`, or your own.
            target: the server that must answer; any of the client's by default.
            within: seconds for all of it, when that is less than the settings allow.
        """
        return self._transport.send(call, target=target, within=within)

    def on_exchange(self, hook: Hook) -> Callable[[], None]:
        """Has `hook` called with an `Exchange` after every request, for metrics and tracing.

        Args:
            hook: called in the thread or task that made the request. If it raises, the log says so.

        Returns:
            A function that takes the hook away again.
        """
        return self._transport.add_hook(hook)
