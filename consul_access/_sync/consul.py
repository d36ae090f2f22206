# Written by tools/faces.py from consul_access/_async/consul.py; edit that one.
"""The Consul client for threads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from consul_access._sync.announcing import Announcing
from consul_access._sync.finding import Finding
from consul_access._sync.transport import Transport
from consul_access.consul import texts
from consul_access.errors import InvalidInput
from consul_access.models.address import Address
from consul_access.settings import ConsulSettings, RetryPolicy, Timeouts
from consul_access.tokens import FunctionToken, LoginToken

if TYPE_CHECKING:
    import ssl

    import httpx

    from consul_access._sync.login import Login
    from consul_access.tokens import TokenArgument

__all__ = ["ConsulAccess"]


class ConsulAccess(Finding, Announcing):
    """Registers services at Consul and finds them.

    Args:
        host: the agent's host name or IP address; `127.0.0.1` by default.
        port: its HTTP port; 8500 by default.
        url: instead of host and port, `http(s)://host[:port][/prefix]` or `unix:///path`.
        addresses: instead of host and port, several agents or servers: the first that answers is asked.
        token: a token; a path to a file that holds one and is read again when it changes; or a function that
            returns one and is asked again when the agent no longer knows it; or a `LoginToken`, to log in for one.
        datacenter: asked instead of the agent's own.
        namespace: Consul Enterprise.
        partition: Consul Enterprise.
        ssl_context: instead of the TLS settings.
        timeout: seconds for a whole call, 10 by default, or `Timeouts` for its parts.
        retry: how often and how patiently a call is repeated; 3 attempts by default.
        transport: an httpx transport to send with (a mock, a proxy) instead of connections of our own.
        settings: everything at once, instead of the arguments above.

    What is not given is taken from the CONSUL_* environment variables, with the meaning they have for Consul's own
    tools (https://developer.hashicorp.com/consul/commands#environment-variables). Nothing is sent before the first
    call. One client serves any number of threads or tasks; close it, or use it as a context manager.

    Raises:
        InvalidSettings: the arguments or variables cannot be used.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        url: str | None = None,
        addresses: Iterable[str | Address | tuple[str, int]] | None = None,
        token: TokenArgument | None = None,
        datacenter: str | None = None,
        namespace: str | None = None,
        partition: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float | Timeouts | None = None,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        settings: ConsulSettings | None = None,
    ) -> None:
        chosen = _settings(
            settings,
            host=host,
            port=port,
            url=url,
            addresses=addresses,
            token=token,
            datacenter=datacenter,
            namespace=namespace,
            partition=partition,
            ssl_context=ssl_context,
            timeout=timeout,
            retry=retry,
        )
        self._login: Login | None = None
        if isinstance(chosen.token, LoginToken):
            from consul_access._sync.login import Login

            self._login = Login(chosen, chosen.token, meaning=texts.meaning, transport=transport)
            chosen = replace(chosen, token=FunctionToken(self._login.log_in))
        super().__init__(Transport(chosen, meaning=texts.meaning, transport=transport))

    def close(self) -> None:
        """Ends what it keeps registered, watches and resolvers, and closes every connection.

        Calls under way end with `ClientClosed`.
        """
        for keeper in tuple(self._kept):
            keeper.stop()
        if self._pulse is not None:
            self._pulse.end()
        if self._engine is not None:
            self._engine.close()
        if self._login is not None:
            self._login.log_out()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(map(str, self.settings.targets))}>"


def _settings(settings: ConsulSettings | None, **given: object) -> ConsulSettings:
    if settings is None:
        return ConsulSettings.load(**given, environ=os.environ)  # type: ignore[arg-type]
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise InvalidInput(f"settings= holds everything already; leave out {', '.join(named)}")
    return settings
