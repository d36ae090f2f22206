"""The etcd client for tasks. Its twin for threads is generated: the same methods, not awaited."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from consul_access._async.etcd_services import AsyncEtcdServices
from consul_access._async.gateway import AsyncGateway
from consul_access._async.key_watching import AsyncKeyWatch
from consul_access._async.lease import AsyncLease
from consul_access.call import Call, Repeat
from consul_access.errors import InvalidInput
from consul_access.etcd import cluster, kv, leases
from consul_access.etcd.settings import EtcdSettings
from consul_access.etcd.watch import Range
from consul_access.hooks import Hook
from consul_access.models.address import Address, Target
from consul_access.models.keys import KeyValue, key_bytes
from consul_access.rules.write_guard import refuse_kubernetes
from consul_access.settings import RetryPolicy, Timeouts

if TYPE_CHECKING:
    import ssl

    import httpx
    from pydantic import SecretStr

    from consul_access._async.kubernetes import AsyncKubernetes
    from consul_access.rules.key_watching import KeyWatchState

__all__ = ["AsyncEtcdRegistry"]

T = TypeVar("T")


class AsyncEtcdRegistry(AsyncEtcdServices):
    """Registers services at etcd and finds them, and reads, writes and watches keys, by way of its JSON gateway.

    Args:
        host: a member's host name or IP address; `127.0.0.1` by default.
        port: its port for clients; 2379 by default.
        endpoints: instead of host and port, several members: the first that answers is asked.
        ca_cert: a file of certificates to trust; with it, what names no scheme is spoken to in https.
        cert_key: the file with this client's key.
        cert_cert: the file with this client's certificate.
        user: whom to log in as.
        password: with which password.
        ssl_context: instead of the TLS settings.
        timeout: seconds for a whole call, 10 by default, or `Timeouts` for its parts.
        retry: how often and how patiently a call is repeated; 3 attempts by default.
        discover: whether to use the cluster's other members as well; they are asked for before the first call.
        allow_kubernetes_writes: whether keys below `/registry/` may be written and deleted, past all of Kubernetes'
            own checks.
        prefix: what the keys of the registry's services begin with; it ends in a slash.
        ttl: whole seconds, 15 by default and 2 at least, after which a registration ends that is not kept alive. It is
            kept alive at a third of that.
        codec: the format of the registry's keys and values: `native`, `go_naming` (Go's gRPC resolver) or `kratos`.
        also_write: further formats that registrations are written in, in the same step, each with its prefix:
            `{"go_naming": "/grpc/"}`.
        protocol: what is spoken: `gateway` by default, etcd's JSON over HTTP/1.1, or `grpc`, for clusters whose gateway
            is off or which know users by their certificates, and for large ranges. It needs the extra `http2`.
        transport: an httpx transport to send with (a mock, a proxy) instead of connections of our own.
        settings: everything at once, instead of the arguments above.

    What is not given is taken from etcdctl's variables (ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY,
    ETCDCTL_USER, ETCDCTL_PASSWORD). Nothing is sent before the first call. One client serves any number of threads or
    tasks; close it, or use it as a context manager.

    Raises:
        InvalidSettings: the arguments or variables cannot be used.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        endpoints: str | Iterable[str | Address | tuple[str, int]] | None = None,
        ca_cert: str | os.PathLike[str] | None = None,
        cert_key: str | os.PathLike[str] | None = None,
        cert_cert: str | os.PathLike[str] | None = None,
        user: str | None = None,
        password: str | SecretStr | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float | Timeouts | None = None,
        retry: RetryPolicy | None = None,
        discover: bool | None = None,
        allow_kubernetes_writes: bool | None = None,
        prefix: str | None = None,
        ttl: int | None = None,
        codec: str | None = None,
        also_write: Mapping[str, str] | None = None,
        protocol: Literal["gateway", "grpc"] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        settings: EtcdSettings | None = None,
    ) -> None:
        chosen = _settings(
            settings,
            host=host,
            port=port,
            endpoints=endpoints,
            ca_cert=ca_cert,
            cert_key=cert_key,
            cert_cert=cert_cert,
            user=user,
            password=password,
            ssl_context=ssl_context,
            timeout=timeout,
            retry=retry,
            discover=discover,
            allow_kubernetes_writes=allow_kubernetes_writes,
            prefix=prefix,
            ttl=ttl,
            codec=codec,
            also_write=also_write,
            protocol=protocol,
        )
        super().__init__(AsyncGateway(chosen, transport=transport), chosen)

    # --- reading ------------------------------------------------------------------------------------------

    async def get(
        self, key: str | bytes, *, revision: int | None = None, serializable: bool = False
    ) -> KeyValue | tuple[None, None]:
        """The value of a key, and what etcd knows about the key.

        Args:
            key: the key.
            revision: as of this revision of the store, instead of now.
            serializable: whether any member may answer from what it has: faster, also without a quorum, but perhaps
                old.

        Returns:
            A pair of value and metadata; `(None, None)` when there is no such key.

        Raises:
            Compacted: that revision is no longer there.
        """
        as_it_is = not revision and not serializable
        call = kv.get_key(key) if as_it_is else kv.get(kv.Get(key, revision=revision or 0, serializable=serializable))
        page = await self._gateway.send(call)
        return page.items[0] if page.items else (None, None)

    async def get_prefix(
        self,
        prefix: str | bytes,
        *,
        revision: int | None = None,
        keys_only: bool = False,
        serializable: bool = False,
    ) -> list[KeyValue]:
        """The keys that begin with the prefix, in order, all as of one revision; they are read page by page.

        Args:
            prefix: what they begin with; nothing for all keys. Mind the last slash: `web` also begins `web2/`.
            revision: as of this revision of the store, instead of now.
            keys_only: whether to leave the values out.
            serializable: whether any member may answer from what it has, which may be old.

        Raises:
            Compacted: that revision is no longer there.
        """
        first, end = kv.prefix_range(prefix)
        wanted = kv.Get(first, end, revision=revision or 0, serializable=serializable, keys_only=keys_only)
        items, _ = await self._reader.read_all(wanted)
        return list(items)

    # --- writing ------------------------------------------------------------------------------------------

    async def put(
        self, key: str | bytes, value: str | bytes, lease: int | AsyncLease | None = None, *, idempotent: bool = False
    ) -> int:
        """Writes a key.

        Args:
            key: the key.
            value: the value; text is written in UTF-8.
            lease: a lease, or its id, with which the key ends.
            idempotent: whether writing it twice is harmless, since nobody else writes this key: then it is repeated
                when an answer is lost.

        Returns:
            The store's revision, which is now the key's `mod_revision`.

        Raises:
            OutcomeUnknown: it was sent and the answer was lost.
            UnknownLease: there is no such lease; nothing was written.
            ResourceExhausted: key and value are more than etcd takes (1.5 MiB), or its store is full.
            InvalidInput: the key belongs to Kubernetes; see `allow_kubernetes_writes`.
        """
        self._guard(key)
        operation = kv.Put(key, value, lease.id if isinstance(lease, AsyncLease) else lease)
        repeat = Repeat.IDEMPOTENT if idempotent else Repeat.NEVER
        return (await self._gateway.send(kv.put(operation, repeat=repeat))).revision

    async def delete(self, key: str | bytes) -> bool:
        """Deletes a key; whether it was there.

        Raises:
            OutcomeUnknown: it was sent and the answer was lost.
            InvalidInput: the key belongs to Kubernetes; see `allow_kubernetes_writes`.
        """
        self._guard(key)
        return (await self._gateway.send(kv.delete(kv.Delete(key)))).deleted > 0

    async def delete_prefix(self, prefix: str | bytes, *, everything: bool = False) -> int:
        """Deletes all keys that begin with the prefix.

        Args:
            prefix: what they begin with. Mind the last slash: `web` also begins `web2/`.
            everything: allows an empty prefix, which deletes all keys there are.

        Returns:
            How many keys are gone.

        Raises:
            OutcomeUnknown: it was sent and the answer was lost.
            InvalidInput: the prefix is empty, or keys of Kubernetes begin with it.
        """
        if not prefix and not everything:
            raise InvalidInput("an empty prefix deletes every key there is: if that is meant, say everything=True")
        first, end = kv.prefix_range(prefix)
        self._guard(first, end)
        return (await self._gateway.send(kv.delete(kv.Delete(first, end)))).deleted

    async def replace(self, key: str | bytes, old: str | bytes, new: str | bytes) -> bool:
        """Writes a key if it still holds what it is thought to hold; whether it did.

        Raises:
            OutcomeUnknown: it was sent and the answer was lost.
            InvalidInput: the key belongs to Kubernetes; see `allow_kubernetes_writes`.
        """
        answer = await self.txn([kv.Compare.value(key, "=", old)], [kv.Put(key, new)])
        return answer.succeeded

    async def txn(
        self, when: Sequence[kv.Compare], then: Sequence[kv.Operation], otherwise: Sequence[kv.Operation] = ()
    ) -> kv.TxnAnswer:
        """Several operations in one step: `then` if all conditions hold, else `otherwise`.

        Args:
            when: conditions, such as `Compare.missing(key)`.
            then: operations, such as `Put(key, value)`.
            otherwise: operations, such as `Get(key)`.

        Raises:
            OutcomeUnknown: it was sent and the answer was lost.
            InvalidInput: more than 128 operations, a key that is written twice, or one that belongs to Kubernetes.
        """
        for operation in (*then, *otherwise):
            if isinstance(operation, kv.Put):
                self._guard(operation.key)
            elif isinstance(operation, kv.Delete):
                self._guard(operation.key, operation.range_end)
        return await self._gateway.send(kv.txn(when, then, otherwise))

    async def lease(self, ttl: int) -> AsyncLease:
        """Grants a lease: keys put with it end when nobody has kept it alive for so long.

        Args:
            ttl: whole seconds; etcd raises what is less than 2.
        """
        granted = await self._gateway.send(leases.grant(ttl))
        return AsyncLease(self._gateway, granted.id, granted.ttl)

    # --- watching -----------------------------------------------------------------------------------------

    def watch_key(
        self,
        key: str | bytes,
        *,
        start_revision: int | None = None,
        previous: bool = False,
        on_state: Callable[[KeyWatchState], None] | None = None,
    ) -> AsyncKeyWatch:
        """What happens to a key; see `watch_prefix`."""
        return self._watch(Range(key_bytes(key)), start_revision, previous, on_state)

    def watch_prefix(
        self,
        prefix: str | bytes,
        *,
        start_revision: int | None = None,
        previous: bool = False,
        on_state: Callable[[KeyWatchState], None] | None = None,
    ) -> AsyncKeyWatch:
        """What happens to the keys that begin with the prefix, in a `with` block or a loop.

        Args:
            prefix: what they begin with; nothing for all keys.
            start_revision: the first revision of interest; whatever happens from the beginning on by default.
            previous: whether events tell what was there before.
            on_state: called with a `KeyWatchState` whenever the watch loses its member or finds another one, in the
                thread or task that iterates.

        Iterating raises `PermissionDenied` when the user may not read all of it; it waits out everything else.
        """
        return self._watch(Range(*kv.prefix_range(prefix)), start_revision, previous, on_state)

    def _watch(
        self,
        wanted: Range,
        start: int | None,
        previous: bool,
        on_state: Callable[[KeyWatchState], None] | None,
    ) -> AsyncKeyWatch:
        return AsyncKeyWatch(
            self._gateway, self._reader, [wanted], start=start or 0, previous=previous, on_state=on_state
        )

    # --- the cluster --------------------------------------------------------------------------------------

    async def status(self, *, target: Target | None = None) -> cluster.Status:
        """How a member is: version, leader, size, complaints.

        Args:
            target: the member; any by default.
        """
        return await self._gateway.send(cluster.status(), target=target)

    async def members(self) -> tuple[cluster.Member, ...]:
        """The members of the cluster."""
        return await self._gateway.send(cluster.members())

    async def discover(self) -> tuple[Target, ...]:
        """Asks for the cluster's members, and from now on uses those, too, that answer from here.

        What was configured stays in use and is preferred. A member is only taken up when its address serves the gateway
        of the same cluster, by the same scheme: what members tell is often not reachable from outside, or serves gRPC
        only.

        Returns:
            The addresses that were added.
        """
        return await self._gateway.discover()

    @property
    def endpoints(self) -> tuple[Target, ...]:
        """The members in use, those configured before those discovered."""
        return self._gateway.targets

    @property
    def kubernetes(self) -> AsyncKubernetes:
        """The services of the Kubernetes cluster whose etcd this is; read-only."""
        from consul_access._async.kubernetes import AsyncKubernetes

        return AsyncKubernetes(self._gateway, self._reader, self.settings.kubernetes_prefix)

    # --- everything else ----------------------------------------------------------------------------------

    async def send(self, call: Call[T], *, target: Target | None = None, within: float | None = None) -> T:
        """Sends any call, with this client's token, limits and retries, and without its guard.

        Args:
            call: one of `consul_access.etcd`, or your own.
            target: the member that must answer; any of the client's by default.
            within: seconds for all of it, when that is less than the settings allow.
        """
        return await self._gateway.send(call, target=target, within=within)

    def on_exchange(self, hook: Hook) -> Callable[[], None]:
        """Has `hook` called with an `Exchange` after every request, for metrics and tracing.

        Args:
            hook: called in the thread or task that made the request. If it raises, the log says so.

        Returns:
            A function that takes the hook away again.
        """
        return self._gateway.add_hook(hook)

    def _guard(self, key: str | bytes, end: bytes | None = None) -> None:
        if not self.settings.allow_kubernetes_writes:
            refuse_kubernetes(key_bytes(key), end, self.settings.kubernetes_prefix)

    async def aclose(self) -> None:
        """Ends what it keeps registered, watches and resolvers, and closes every connection.

        Calls under way end with `ClientClosed`.
        """
        await self._end_services()
        await self._gateway.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(map(str, self.endpoints))}>"


def _settings(settings: EtcdSettings | None, **given: object) -> EtcdSettings:
    named = {name: value for name, value in given.items() if value is not None}
    if settings is None:
        return EtcdSettings.load(**named, environ=os.environ)  # type: ignore[arg-type]
    if named:
        raise InvalidInput(f"settings= holds everything already; leave out {', '.join(named)}")
    return settings
