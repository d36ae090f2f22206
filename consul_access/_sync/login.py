# Written by tools/faces.py from consul_access/_async/login.py; edit that one.
"""Logging in at Consul for a token, and out again at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from consul_access import consul
from consul_access._pairs.threads import Slots
from consul_access._sync.transport import Transport
from consul_access.errors import ConsulAccessError, OutcomeUnknown, PermissionDenied
from consul_access.rules.retrying import Meaning
from consul_access.settings import ConsulSettings
from consul_access.tokens import LoginToken, NoToken, StaticToken

if TYPE_CHECKING:
    import httpx
    from pydantic import SecretStr

__all__ = ["Login"]

log = logging.getLogger("consul_access")

JUST_NOW = 1.0
"""Seconds for which a token is too young to be the one that was refused: several callers ask for a new one at once."""


class Login:
    """Gets tokens by logging in, over connections of its own that carry none.

    Args:
        settings: those of the client.
        token: how to log in.
        meaning: what a refusal stands for.
        transport: the httpx transport of the client, if it was given one.
    """

    def __init__(
        self,
        settings: ConsulSettings,
        token: LoginToken,
        *,
        meaning: Callable[[int, str], Meaning],
        transport: httpx.BaseTransport | None,
    ) -> None:
        self._settings = settings
        self._token = token
        self._meaning = meaning
        self._carried = transport
        self._one_at_a_time = Slots(1)
        self._made: list[SecretStr] = []
        self._made_at = 0.0

    def log_in(self) -> SecretStr:
        """A new token, or the one that somebody else got a moment ago.

        Raises:
            InvalidSettings: the bearer token's file cannot be read.
        PermissionDenied: the auth method does not accept the bearer token.
            ConsulAccessError: the servers refuse it, or do not answer.
        """
        self._one_at_a_time.acquire(time.monotonic() + self._settings.timeouts.total)
        try:
            if self._made and time.monotonic() - self._made_at < JUST_NOW:
                return self._made[-1]
            call = consul.acl.login(self._token.method, self._token.bearer(), meta=self._token.meta)
            transport = self._transport(NoToken())
            try:
                answer = transport.send(call)
            except OutcomeUnknown as error:
                raise _refused(self._token.method, error) from None
            finally:
                self._done_with(transport)
            self._made.append(answer.secret_id)
            self._made_at = time.monotonic()
            log.debug("logged in by auth method %s as %s", self._token.method, answer.accessor_id)
            return answer.secret_id
        finally:
            self._one_at_a_time.release()

    def log_out(self) -> None:
        """Gives back every token it got; what cannot be given back ends by the auth method's own limit in time."""
        while self._made:
            transport = self._transport(StaticToken(self._made.pop()))
            try:
                transport.send(consul.acl.logout())
            except ConsulAccessError as error:
                log.debug("a token could not be given back: %s", error)
            finally:
                self._done_with(transport)

    def _transport(self, token: NoToken | StaticToken) -> Transport:
        return Transport(replace(self._settings, token=token), meaning=self._meaning, transport=self._carried)

    def _done_with(self, transport: Transport) -> None:
        if self._carried is None:  # a transport that was given belongs to the client
            transport.close()


def _refused(method: str, error: OutcomeUnknown) -> ConsulAccessError:
    """What a login that got no token means: agents answer 500, too, to a bearer that is no good (observed, 1.8)."""
    if error.status != 500:
        return error
    return PermissionDenied(
        f"auth method {method!r} does not accept the bearer token, or failed: see bearer_file, the method's "
        "configuration and its binding rules",
        operation=error.operation,
        status=error.status,
        address=error.address,
        excerpt=error.excerpt,
    )
