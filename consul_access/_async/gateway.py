"""Sends calls to etcd's gateway: logs in, opens streams, and gets to know further members of the cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from consul_access._async.transport import AsyncTransport
from consul_access._pairs.tasks import Later, Slots
from consul_access.call import Call, Reply
from consul_access.errors import ConsulAccessError, DeadlineExceeded, InvalidSettings, TokenUnknown
from consul_access.etcd import auth, cluster, texts
from consul_access.etcd.settings import GATEWAY, EtcdSettings
from consul_access.etcd.watch import LineDecoder
from consul_access.models.address import Target
from consul_access.rules.discovering import candidates
from consul_access.rules.key_watching import WatchLine
from consul_access.rules.retrying import Failed, refusal
from consul_access.settings import ssl_context
from consul_access.tokens import NoToken
from consul_access.wire import Broken, Request, RequestHeaders

if TYPE_CHECKING:
    import ssl

    import httpx
    from pydantic import SecretStr

    from consul_access._async.bridge import AsyncForeignStream
    from consul_access._async.carrier import AsyncCarrier, AsyncStream

__all__ = ["AsyncGateway", "AsyncOpened"]

log = logging.getLogger("consul_access")

AnyStream: TypeAlias = "AsyncStream | AsyncForeignStream"

HEADERS_SECONDS = 5.0
"""How long a stream's headers may take; etcd answers some malformed requests never."""
PROBE_SECONDS = 3.0
"""How long a member may take to say how it is."""
MAX_REFUSAL_BYTES = 64 * 1024
CONVICTED_AFTER = 2
"""So often no headers may come for a stream while its member answers; the first time it may just have been frozen."""
_REQUIRE_LEADER = ("Grpc-Metadata-hasleader", "true")
"""Ends a stream when its member loses the leader; without it, it stays open in silence (observed, 3.4 and 3.5)."""


class AsyncMemberTransport(AsyncTransport):
    """Sends calls to members of one etcd cluster, by the protocol of its settings; see `AsyncTransport`.

    Args:
        settings: whom to ask, with which token, and how patiently.
        transport: an httpx transport to send with, instead of connections of our own.
    """

    def __init__(self, settings: EtcdSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.etcd_settings = settings
        super().__init__(settings, meaning=texts.meaning, transport=transport)

    def _kind_of_carrier(self) -> type[AsyncCarrier]:
        if self.etcd_settings.protocol == GATEWAY:
            return super()._kind_of_carrier()
        from consul_access._async.grpc import AsyncGrpcCarrier  # which needs what an extra brings

        return AsyncGrpcCarrier

    def _make_tls(self) -> ssl.SSLContext:
        if self.settings.ssl_context is not None or self.etcd_settings.protocol == GATEWAY:
            return super()._make_tls()
        return ssl_context(self.settings, ("h2",))


class AsyncGateway(AsyncMemberTransport):
    """Sends calls to the members of one etcd cluster: logs in, opens streams, and gets to know further members.

    Args:
        settings: whom to ask, as which user, and how patiently.
        transport: an httpx transport to send with, instead of connections of our own.
    """

    def __init__(self, settings: EtcdSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._login: AsyncPasswordLogin | None = None
        if settings.user is not None and settings.password is not None:
            self._login = AsyncPasswordLogin(settings, settings.user, settings.password, transport=transport)
            settings = replace(settings, token=self._login)
        super().__init__(settings, transport=transport)
        self._heard: dict[Target, float] = {}
        self._to_prepare = settings.discover
        self._headless: int | None = 0

    # --- streams ------------------------------------------------------------------------------------------

    async def open(self, call: Call[Any]) -> AsyncOpened:
        """Begins a call that is answered with a stream, at the member to ask first; it is tried once.

        Raises:
            ConsulAccessError: by meaning.
        """
        if self._to_prepare:
            await self._prepare()
        if self._headless == CONVICTED_AFTER:
            raise InvalidSettings(
                "transport= gives an answer only when it is whole, and that of a watch never is: give a transport that "
                "hands bodies on as they come"
            )
        target = self._failover.order(time.monotonic())[0]
        token = await self._token()
        try:
            try:
                return await self._open(call, target, token)
            except TokenUnknown:
                renewed = await self._renewed(token)
                if renewed is None or renewed == token:
                    raise
                return await self._open(call, target, renewed)
        except ConsulAccessError as error:
            error.operation, error.address = call.name, str(target)
            if error.retryable:
                self.distrust(target)
            raise

    async def _open(self, call: Call[Any], target: Target, token: str | None) -> AsyncOpened:
        limits = self._limits(time.monotonic() + self.settings.timeouts.total)
        headers = RequestHeaders(target, (*self._pairs(target, token, has_body=True), _REQUIRE_LEADER), token)
        request = Request(call.method, target, self._scoped(call), headers, call.body)
        try:
            stream = await self._carrier(target).open_stream(request, limits._replace(read=HEADERS_SECONDS))
        except Broken as broken:
            self._advise(broken.error)
            await self._suspect(target, broken.error)
            raise broken.error from broken.__cause__
        if not stream.is_whole:
            self._headless = None
        if stream.status != 200:
            raise await self._refused(call, target, stream)
        self._failover.worked(target)
        return AsyncOpened(target, token, stream, self.settings.max_answer_bytes)

    async def _suspect(self, target: Target, error: ConsulAccessError) -> None:
        """Notes what speaks against a transport that was given, as long as it has not brought a stream yet."""
        if self.given is None or self._headless is None or not isinstance(error, DeadlineExceeded):
            return
        if await self.is_alive(target, 0.0):
            self._headless = min(self._headless + 1, CONVICTED_AFTER)

    async def _refused(self, call: Call[Any], target: Target, stream: AnyStream) -> ConsulAccessError:
        body = b""
        try:
            until = time.monotonic() + HEADERS_SECONDS
            while len(body) < MAX_REFUSAL_BYTES and (data := await stream.read(until)):
                body += data
        except (TimeoutError, Broken) as error:
            log.debug("the reason of status %d did not come: %s", stream.status, error)
        finally:
            await stream.aclose()
        reply = Reply(stream.status, stream.headers, body, address=str(target))
        return refusal(call, reply, texts.meaning, retry_after_cap=0.0).error

    async def is_alive(self, target: Target, within: float) -> bool:
        """Whether the member has said so in the last seconds, or says so now. Many watches ask once."""
        if time.monotonic() - self._heard.get(target, float("-inf")) < within:
            return True
        try:
            await self.send(cluster.status(), target=target, within=PROBE_SECONDS)
        except ConsulAccessError as error:
            log.info("etcd at %s no longer answers: %s", target, error)
            return False
        self._heard[target] = time.monotonic()
        return True

    def distrust(self, target: Target) -> None:
        """Notes that this member was no good, so that another one is asked first."""
        self._failover.failed(target, time.monotonic())
        self._heard.pop(target, None)

    # --- users --------------------------------------------------------------------------------------------

    async def renew(self, refused: str | None) -> str | None:
        """Another token than the refused one, if there is a user to log in as."""
        return await self._renewed(refused)

    async def _renewed(self, refused: str | None) -> str | None:
        return None if self._login is None else await self._login.renew(refused)

    async def _token(self) -> str | None:
        if self._login is None:
            return None
        return self._login.known or await self._login.renew(None)

    # --- members ------------------------------------------------------------------------------------------

    async def discover(self) -> tuple[Target, ...]:
        """Asks for the cluster's members, and takes up those that answer from here; see `EtcdRegistry.discover`."""
        members = await self.send(cluster.members())
        expected = (await self.send(cluster.status())).cluster_id
        known = self._failover.targets
        found = [target for target in candidates(members_urls(members), known) if await self._belongs(target, expected)]
        self._failover.add(found)
        return tuple(found)

    async def _prepare(self) -> None:
        """Discovers the members that are to be discovered before the first call."""
        self._to_prepare = False
        try:
            await self.discover()
        except ConsulAccessError as error:
            log.warning("the cluster's members could not be asked for; the next call tries again: %s", error)
            self._to_prepare = True

    async def _belongs(self, target: Target, cluster_id: int) -> bool:
        """Whether this address serves the gateway of this very cluster. What it is asked needs no token."""
        probe = AsyncMemberTransport(
            replace(self.etcd_settings, targets=(target,), token=NoToken()), transport=self.given
        )
        try:
            status = await probe.send(cluster.status(), within=PROBE_SECONDS)
        except ConsulAccessError as error:
            log.info("the member at %s is not used: %s", target.url, error)
            return False
        finally:
            if self.given is None:  # a transport that was given belongs to the client
                await probe.aclose()
        return status.cluster_id == cluster_id

    # --- errors that speak of etcd ------------------------------------------------------------------------

    def _broken(self, course: Any, target: Target, broken: Broken) -> Failed:
        self._advise(broken.error)
        return super()._broken(course, target, broken)

    def _advise(self, error: ConsulAccessError) -> None:
        error.advice = texts.ADVICE.get(type(error), error.advice)


def members_urls(members: tuple[cluster.Member, ...]) -> list[str]:
    """Where the members say that they are reached. Learners serve nobody yet."""
    return [url for member in members if not member.is_learner for url in member.client_urls]


class AsyncOpened:
    """A watch's stream that has begun.

    Args:
        target: the member at its other end.
        token: what it was opened with.
        stream: the bytes.
        limit: how many bytes a line or message may have.
    """

    __slots__ = ("_decode", "has_ended", "stream", "target", "token")

    def __init__(self, target: Target, token: str | None, stream: AnyStream, limit: int) -> None:
        self.target = target
        self.token = token
        self.stream = stream
        self.has_ended = False
        """Whether nothing more will come."""
        self._decode = _message_decoder(limit) if stream.holds_messages else LineDecoder(limit).feed

    async def read(self, deadline: float) -> list[WatchLine]:
        """What comes next.

        Raises:
            TimeoutError: nothing came until the deadline.
            Broken: the connection broke.
            BadAnswer: what came cannot be read.
        """
        data = await self.stream.read(deadline)
        self.has_ended = not data
        return self._decode(data)


def _message_decoder(limit: int) -> Callable[[bytes], list[WatchLine]]:
    from consul_access.etcd.message_watch import MessageDecoder  # nothing of gRPC is loaded before it is spoken

    return MessageDecoder(limit).feed


class AsyncPasswordLogin:
    """Gets tokens for a user and a password, over connections of its own; a `TokenSource`.

    etcd's tokens end 5 minutes after their last use, with a change of users, and with the member that made them
    (simple tokens). None of that can be foreseen, so a new one is made when one is refused.

    Args:
        settings: those of the client.
        user: whom to log in as.
        password: with which password.
        transport: the httpx transport of the client, if it was given one.
    """

    def __init__(
        self,
        settings: EtcdSettings,
        user: str,
        password: SecretStr,
        *,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._settings = settings
        self._user = user
        self._password = password
        self._carried = transport
        self._one_at_a_time = Slots(1)
        self._asked = False
        self._token: SecretStr | None = None

    @property
    def known(self) -> str | None:
        """The token of the last login."""
        return None if self._token is None else self._token.get_secret_value()

    def read(self) -> str | None | Later[str | None]:
        """The token of the last login, or of the first one, made now."""
        return self.known if self._asked else self.renew(None)

    def refresh(self) -> str | None | Later[str | None]:
        """Another token than the present one."""
        return self.renew(self.known)

    async def renew(self, refused: str | None) -> str | None:
        """Another token than the refused one: somebody else's, made meanwhile, or a new one.

        Raises:
            AuthenticationFailed: etcd does not accept the user and password.
            ConsulAccessError: no member answers.
        """
        try:
            await self._one_at_a_time.acquire(time.monotonic() + self._settings.timeouts.total)
        except TimeoutError as error:
            raise DeadlineExceeded("no login came to its end in time") from error
        try:
            if not self._asked or self.known == refused:
                self._token = await self._log_in()
                self._asked = True
            return self.known
        finally:
            self._one_at_a_time.release()

    async def _log_in(self) -> SecretStr | None:
        transport = AsyncMemberTransport(replace(self._settings, token=NoToken()), transport=self._carried)
        try:
            token = await transport.send(auth.authenticate(self._user, self._password))
        finally:
            if self._carried is None:  # a transport that was given belongs to the client
                await transport.aclose()
        if token is not None and not (token.get_secret_value().isascii() and token.get_secret_value().isprintable()):
            raise InvalidSettings("etcd's token holds characters that no header can carry")
        log.debug("logged in at etcd as %s%s", self._user, "" if token else "; it knows no users and needs no token")
        return token

    def __repr__(self) -> str:
        return f"token by logging in as {self._user!r}"
