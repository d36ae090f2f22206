"""Sends a `Call`: chooses the server, keeps the time, repeats what may be repeated, and judges after the last attempt.

The first attempt is made directly; only when it fails does tenacity drive the repeats. The reply is read once, outside
of the loop, so that a traceback shows the caller, the method, the sending and the reason, and no machinery.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from consul_access._async.carrier import AsyncCarrier
from consul_access._pairs.tasks import resolve, settled, sleep
from consul_access._version import __version__
from consul_access.call import Call, Repeat, Reply
from consul_access.errors import (
    BadAnswer,
    ConnectFailed,
    ConsulAccessError,
    DeadlineExceeded,
    PoolExhausted,
    TokenUnknown,
)
from consul_access.models.address import Target
from consul_access.rules.failover import Failover
from consul_access.rules.retrying import Failed, Meaning, conclude, pause, refusal, worth_repeating
from consul_access.settings import ClientSettings, ssl_context
from consul_access.tokens import is_at_hand
from consul_access.wire import Broken, Limits, Request, RequestHeaders, WireAnswer, unpack

if TYPE_CHECKING:
    import ssl

    import httpx
    from tenacity import RetryCallState

    from consul_access._async.bridge import AsyncForeignCarrier
    from consul_access.hooks import Exchange, Hook
    from consul_access.settings import ConsulSettings

__all__ = ["AsyncTransport"]

T = TypeVar("T")
log = logging.getLogger("consul_access")

FRESH_TOKEN_PAUSE = 0.5
"""Servers that lag behind refuse a token made a moment ago (seen for up to 0.4 s); it gets one more chance."""
REMEMBERED_HEADERS = 64
OWN_HEADERS = (("User-Agent", f"consul-access/{__version__}"), ("Accept", "application/json"))


class AsyncTransport:
    """Sends calls to one registry.

    Args:
        settings: whom to ask, with which token, and how patiently.
        meaning: what a refusing status and text stand for at this kind of registry.
        transport: an httpx transport to send with, instead of connections of our own.

    Safe for threads, and after `os.fork`.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        meaning: Callable[[int, str], Meaning],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = settings
        self.given = transport
        self._meaning = meaning
        self._own = self._kind_of_carrier()(
            max_connections=settings.max_connections,
            max_bytes=settings.max_answer_bytes,
            tls=self._make_tls,
            server_name=settings.tls_server_name,
        )
        self._foreign = None if transport is None else self._bridged(transport)
        self._stock: dict[bool, AsyncForeignCarrier] = {}
        self._failover = Failover(settings.targets)
        self._hooks: tuple[Hook, ...] = ()
        self._scope = settings.scope()
        self._headers: dict[tuple[Target, bool], RequestHeaders] = {}
        self._trusted = hash(None)
        self._to_prepare = False

    async def send(
        self, call: Call[T], *, target: Target | None = None, within: float | None = None, once: bool = False
    ) -> T:
        """Sends the call and returns its result.

        Args:
            call: the request.
            target: the server that must answer; any of the settings' servers by default.
            within: seconds for all of it, when that is less than the settings allow.
            once: leaves it to the caller to ask again, who has a pace of his own and may want to ask differently; only
                a renewed token is tried here.

        Raises:
            ConsulAccessError: by meaning; see `consul_access.errors`.
        """
        reply = await self.reply(call, target=target, within=within, once=once)
        try:
            return call.read(reply)
        except ConsulAccessError as error:
            error.operation, error.address, error.attempts = call.name, reply.address, reply.attempts
            raise

    async def reply(
        self,
        call: Call[Any],
        *,
        target: Target | None = None,
        within: float | None = None,
        once: bool = False,
        arrived: Callable[[WireAnswer], None] | None = None,
    ) -> Reply:
        """Sends the call and returns the reply, unread; its status is one of the call's.

        Args:
            call: the request.
            target: the server that must answer; any of the settings' servers by default.
            within: seconds for all of it, when that is less than the settings allow.
            once: as for `send`.
            arrived: is told of an answer, unjudged, as soon as its last byte is there; not by every carrier.
        """
        if self._to_prepare:
            await self._prepare()
        allowed = self.settings.timeouts.total + call.patience
        course = _Course(call, target, allowed if within is None else min(allowed, within))
        course.arrived = arrived
        outcome = await self._attempt(course)
        if isinstance(outcome, Failed) and (outcome.again or not once):
            outcome = await self._repeat(course, outcome)
        if isinstance(outcome, Reply):
            return outcome
        elapsed = time.monotonic() - course.started
        raise conclude(call, course.telling(outcome), attempts=course.attempts, elapsed=elapsed, applied=course.applied)

    async def _prepare(self) -> None:
        """Does what has to be done before the first call."""

    @property
    def trusted(self) -> int:
        """A number for the token that was accepted last; another one for another token."""
        return self._trusted

    async def pin(self) -> Target:
        """A server that takes connections, at one IP address, so that later calls reach the same agent."""
        failure = Broken(ConnectFailed("there is no address to ask"), sent=False)
        for target in self._failover.order(time.monotonic()):
            if self._is_at_one_place(target):
                return target
            try:
                return await self._carrier(target).pin(
                    target, self._limits(time.monotonic() + self.settings.timeouts.total)
                )
            except Broken as broken:
                self._failover.failed(target, time.monotonic())
                broken.error.address = str(target)
                failure = broken
        raise failure.error from failure.__cause__

    @property
    def consul_settings(self) -> ConsulSettings:
        """The settings, for whoever knows that the registry is Consul."""
        return cast("ConsulSettings", self.settings)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The servers in use."""
        return self._failover.targets

    @property
    def may_be_elsewhere(self) -> bool:
        """Whether `places` can give more than one."""
        first, *others = self._failover.targets
        return bool(others) or not self._is_at_one_place(first)

    async def places(self) -> list[Target]:
        """All servers that the client knows, each at one IP address; a name that cannot be looked up has none."""
        found: list[Target] = []
        for target in self._failover.targets:
            found += [target] if self._is_at_one_place(target) else await self._looked_up(target)
        return list(dict.fromkeys(found))

    def _is_at_one_place(self, target: Target) -> bool:
        is_ours = self._carrier(target) is self._own  # whom a foreign transport connects to is its own affair
        return not is_ours or target.ip is not None or target.unix_path is not None or _is_literal(target)

    async def _looked_up(self, target: Target) -> list[Target]:
        deadline = time.monotonic() + self.settings.timeouts.connect
        try:
            addresses = await resolve(target.address.host, target.address.port, deadline)
        except OSError as error:  # TimeoutError is one
            log.debug("%s cannot be looked up: %s", target, error)
            return []
        return [target.pinned(str(where[0])) for _, where in addresses]

    def add_hook(self, hook: Hook) -> Callable[[], None]:
        """Has the hook called after every exchange; returns what takes it away again."""
        self._hooks = (*self._hooks, hook)

        def remove() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not hook)

        return remove

    async def aclose(self, *, lent: bool = False) -> None:
        """Closes every connection; calls under way end with `ClientClosed`.

        Args:
            lent: the transport that was given belongs to somebody else and stays open.
        """
        self._own.close()
        for carrier in (None if lent else self._foreign, *self._stock.values()):
            if carrier is not None:
                await carrier.aclose()

    def tell(self, exchange: Exchange) -> None:
        """Calls the hooks."""
        for hook in self._hooks:
            try:
                hook(exchange)
            except Exception:
                log.exception("a hook failed; the call goes on")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(map(str, self._failover.targets))} {self._own!r}>"

    # --- one attempt --------------------------------------------------------------------------------------

    async def _attempt(self, course: _Course) -> Reply | Failed:
        course.attempts += 1
        begun = course.started if course.attempts == 1 else time.monotonic()
        target = course.target or _next(course, self._failover.order(begun))
        read = self.settings.token.read()
        token = read if is_at_hand(read) else await settled(read)
        outcome = await self._exchange(course, target, token)
        if isinstance(outcome, Reply):
            self._failover.worked(target)
            self._trusted = hash(token)
        else:
            course.applied |= outcome.applied
            if outcome.error.status is not None:
                course.answered = outcome
            if outcome.error.retryable and not isinstance(outcome.error, PoolExhausted):
                course.failed.append(target)
                self._failover.failed(target, time.monotonic())
            elif isinstance(outcome.error, TokenUnknown):
                outcome = await self._with_new_token(course, outcome, token)
        if self._hooks or log.isEnabledFor(logging.DEBUG):
            self._report(course, target, outcome, time.monotonic() - begun)
        return outcome

    async def _exchange(self, course: _Course, target: Target, token: str | None) -> Reply | Failed:
        call = course.call
        try:
            request = self._request(course, target, token)
            answer = await self._carrier(target).exchange(request, self._limits(course.deadline, call.patience))
            reply = self._reply(course, target, answer)
        except Broken as broken:
            return self._broken(course, target, broken)
        except ConsulAccessError as error:
            error.operation, error.address = call.name, str(target)
            if not isinstance(error, BadAnswer):
                raise
            return Failed(error, applied=True)
        if reply.status in call.statuses:
            return reply
        return refusal(call, reply, self._meaning, retry_after_cap=self.settings.retry.retry_after_cap)

    def _request(self, course: _Course, target: Target, token: str | None) -> Request:
        call = course.call
        has_body = call.body is not None
        wanted = (target, has_body)  # and no token: what is printed of this object must not hold one
        headers = self._headers.get(wanted)
        if headers is None or headers.token != token:
            headers = RequestHeaders(target, self._pairs(target, token, has_body), token)
            self._remember(wanted, headers)
        repeated = call.repeat is Repeat.READ and self.settings.retry.attempts > 1
        path, arrived = self._scoped(call), course.arrived
        return Request(call.method, target, path, headers, call.body, repeated, arrived, call.takes_message)

    def _remember(self, wanted: tuple[Target, bool], headers: RequestHeaders) -> None:
        if len(self._headers) >= REMEMBERED_HEADERS:  # servers come and go
            self._headers.clear()
        self._headers[wanted] = headers

    def _pairs(self, target: Target, token: str | None, has_body: bool) -> tuple[tuple[str, str], ...]:
        pairs = (*OWN_HEADERS, *self.settings.fixed_headers())
        if has_body:
            pairs = (*pairs, ("Content-Type", "application/json"))
        if token:
            pairs = (*pairs, *self.settings.token_headers(token))
        if self.settings.compress or (self.settings.compress is None and not target.is_local):
            pairs = (*pairs, ("Accept-Encoding", "gzip"))
        return pairs

    def _scoped(self, call: Call[Any]) -> str:
        """Path and query, with the settings' datacenter, namespace and partition where the call names none."""
        if not self._scope and not call.query:
            return call.path
        path = call.target_path
        if not self._scope:
            return path
        named = {name for name, _ in call.query}
        extra = "&".join(pair for name, pair in self._scope if name not in named)
        return f"{path}{'&' if call.query else '?'}{extra}" if extra else path

    def _limits(self, deadline: float, patience: float = 0.0) -> Limits:
        limit = self.settings.timeouts
        return Limits(limit.connect, limit.read + patience, limit.write, limit.pool, deadline)

    def _reply(self, course: _Course, target: Target, answer: WireAnswer) -> Reply:
        return Reply(
            answer.status,
            answer.headers,
            unpack(answer, self.settings.max_answer_bytes),
            time.monotonic() - course.started,
            target.text,
            answer.remote_ip,
            course.attempts,
            answer.message,
        )

    def _broken(self, course: _Course, target: Target, broken: Broken) -> Failed:
        error = broken.error
        error.operation, error.address = course.call.name, str(target)
        error.__cause__ = broken.__cause__
        elsewhere = len(self._failover.targets) > 1 and course.target is None
        at_once = course.attempts == 1 and (broken.stale or elsewhere)
        return Failed(error, applied=broken.sent, wait=0.0 if at_once else None)

    async def _with_new_token(self, course: _Course, failed: Failed, token: str | None) -> Failed:
        """Decides, once a call, whether a token that the server does not know deserves another attempt."""
        if course.token_tried:
            return failed
        course.token_tried = True
        renewed = await self._renewed(token)
        if renewed and renewed != token:
            return Failed(failed.error, applied=False, wait=0.0, again=True)
        if token and hash(token) != self._trusted:
            return Failed(failed.error, applied=False, wait=FRESH_TOKEN_PAUSE, again=True)
        return failed

    async def _renewed(self, _refused: str | None) -> str | None:
        """The token from its origin, after this one was refused."""
        return await settled(self.settings.token.refresh())

    # --- and further ones ---------------------------------------------------------------------------------

    async def _repeat(self, course: _Course, first: Failed) -> Reply | Failed:
        """Lets tenacity repeat the exchange; the attempt already made is the first one it sees."""
        from tenacity import AsyncRetrying

        outcomes: list[Reply | Failed] = [first]

        async def attempt() -> Reply | Failed:
            return outcomes.pop() if outcomes else await self._attempt(course)

        retrying = AsyncRetrying(
            sleep=sleep,
            stop=lambda state: self._enough(course, state),
            wait=self._pause,
            retry=lambda state: _worth_repeating(course.call, state),
            retry_error_callback=_last,
        )
        outcome: Reply | Failed = await retrying(attempt)
        return outcome

    def _pause(self, state: RetryCallState) -> float:
        from random import uniform

        return pause(self.settings.retry, state.attempt_number, _last(state), uniform)

    def _enough(self, course: _Course, state: RetryCallState) -> bool:
        """Whether to stop: the attempts are used up, or the time would be before the next one."""
        allowed = self.settings.retry.attempts + (1 if course.token_tried else 0)
        return course.attempts >= allowed or time.monotonic() + state.upcoming_sleep >= course.deadline

    # --- whom with, and who is told -----------------------------------------------------------------------

    def _kind_of_carrier(self) -> type[AsyncCarrier]:
        return AsyncCarrier

    def _carrier(self, target: Target) -> AsyncCarrier | AsyncForeignCarrier:
        if self._foreign is not None:
            return self._foreign
        loaded = sys.modules
        if ("httpx" in loaded and _is_patched("httpx", "AsyncHTTPTransport")) or (
            "httpcore" in loaded and _is_patched("httpcore", "AsyncConnectionPool")
        ):
            return self._stock_carrier(target)
        return self._own

    def _stock_carrier(self, target: Target) -> AsyncForeignCarrier:
        from consul_access._async.bridge import stock_transport

        if target.tls not in self._stock:
            self._stock[target.tls] = self._bridged(stock_transport(self._make_tls, target))
        return self._stock[target.tls]

    def _bridged(self, transport: httpx.AsyncBaseTransport) -> AsyncForeignCarrier:
        from consul_access._async.bridge import AsyncForeignCarrier

        return AsyncForeignCarrier(transport, max_bytes=self.settings.max_answer_bytes)

    def _make_tls(self) -> ssl.SSLContext:
        return self.settings.ssl_context or ssl_context(self.settings)

    def _report(self, course: _Course, target: Target, outcome: Reply | Failed, elapsed: float) -> None:
        from consul_access.hooks import Exchange, masked  # nobody listens to most programs' first call

        call = course.call
        error = outcome.error if isinstance(outcome, Failed) else None
        status = outcome.status if isinstance(outcome, Reply) else outcome.error.status
        exchange = Exchange(
            call.name,
            call.method,
            masked(self._scoped(call)),
            str(target),
            status,
            elapsed,
            course.attempts,
            error,
            server=target.url,
            blocking=call.is_blocking,
        )
        log.debug(
            "%s %s %s at %s: %s in %.1f ms, attempt %d",
            call.name,
            call.method,
            exchange.path,
            exchange.address,
            status or type(error).__name__,
            elapsed * 1000,
            course.attempts,
        )
        self.tell(exchange)


class _Course:
    """What one call has been through so far."""

    __slots__ = (
        "answered",
        "applied",
        "arrived",
        "attempts",
        "call",
        "deadline",
        "failed",
        "started",
        "target",
        "token_tried",
    )

    def __init__(self, call: Call[Any], target: Target | None, total: float) -> None:
        self.call = call
        self.target = target
        self.arrived: Callable[[WireAnswer], None] | None = None
        self.started = time.monotonic()
        self.deadline = self.started + total
        self.attempts = 0
        self.applied = False
        self.answered: Failed | None = None
        self.failed: list[Target] = []
        self.token_tried = False

    def telling(self, last: Failed) -> Failed:
        """What to raise: the last failure, or what a server said before when that one tells nothing about why.

        It tells nothing when the time ran out, or when another server than the one that answered was not reached.
        """
        if self.answered is None or last.error.status is not None:
            return last
        tells_nothing = isinstance(last.error, DeadlineExceeded) or len(set(self.failed)) > 1
        return self.answered if tells_nothing else last


def _next(course: _Course, order: Sequence[Target]) -> Target:
    """The server to ask next: as failover has it, but first those that this call has not met in vain."""
    if not course.failed:
        return order[0]
    return next((target for target in order if target not in course.failed), order[0])


def _worth_repeating(call: Call[Any], state: RetryCallState) -> bool:
    outcome = _last(state)
    return isinstance(outcome, Failed) and worth_repeating(call.repeat, outcome)


def _last(state: RetryCallState) -> Any:
    return None if state.outcome is None else state.outcome.result()  # tenacity asks only after an attempt


def _is_literal(target: Target) -> bool:
    host = target.address.host
    return ":" in host or host.replace(".", "").isdigit()


def _is_patched(module: str, name: str) -> bool:
    """Whether a test tool (respx, pytest-httpx) has replaced what httpx sends with, and so expects to be asked."""
    method = getattr(sys.modules[module], name).handle_async_request
    return not method.__module__.startswith(module)
