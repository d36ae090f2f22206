"""What every backend can do, whatever it is: write against these and the registry can be exchanged, or faked.

Names that only one backend has (Consul's datacenters, etcd's leases) are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance
from consul_access.models.progress import Progress
from consul_access.models.snapshot import ServiceSnapshot, ServicesSnapshot
from consul_access.models.status import HealthPolicy
from consul_access.rules.balancing import Balancer
from consul_access.rules.keeping import KeeperEvent, KeeperState
from consul_access.rules.staleness import StalePolicy

if TYPE_CHECKING:
    from consul_access.models.explanation import Explanation
    from consul_access.models.sync import SyncList, SyncRules

__all__ = [
    "AsyncKeeperHandle",
    "AsyncRegistrationHandle",
    "AsyncRegistry",
    "AsyncResolverHandle",
    "AsyncServicesWatchHandle",
    "AsyncSyncListing",
    "AsyncSyncSource",
    "AsyncWatchHandle",
    "KeeperHandle",
    "RegistrationHandle",
    "Registry",
    "ResolverHandle",
    "ServicesWatchHandle",
    "SyncListing",
    "SyncSource",
    "WatchHandle",
]


@runtime_checkable
class RegistrationHandle(Protocol):
    """One registration: knows its id and how to end."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    def deregister(self) -> bool: ...


@runtime_checkable
class KeeperHandle(RegistrationHandle, Protocol):
    """One registration that is kept true until its block ends."""

    @property
    def state(self) -> KeeperState: ...

    @property
    def re_registrations(self) -> int: ...

    def start(self) -> Self: ...

    def stop(self, *, hurry: bool = False) -> bool: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@runtime_checkable
class WatchHandle(Protocol):
    """Snapshots of a service, one whenever something has changed."""

    def __iter__(self) -> Self: ...

    def __next__(self) -> ServiceSnapshot: ...

    def close(self) -> None: ...


@runtime_checkable
class ServicesWatchHandle(Protocol):
    """Snapshots of the names of all services, one whenever something has changed."""

    def __iter__(self) -> Self: ...

    def __next__(self) -> ServicesSnapshot: ...

    def close(self) -> None: ...


@runtime_checkable
class ResolverHandle(Protocol):
    """A local list of a service's instances that follows every change."""

    def pick(self, key: str | None = None) -> ServiceInstance: ...

    def instances(self) -> Sequence[ServiceInstance]: ...

    def snapshot(self) -> ServiceSnapshot: ...

    def wait_ready(self, timeout: float = 30.0, *, at_least: int = 1) -> Sequence[ServiceInstance]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@runtime_checkable
class Registry(Protocol):
    """Announces services and finds them, for threads."""

    def register_service(
        self,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        id: str | None = None,  # noqa: A002
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
    ) -> RegistrationHandle: ...

    def registered(
        self,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        drain: float = 0.0,
        stop_timeout: float = 5.0,
        on_event: Callable[[KeeperEvent], object] | None = None,
        fail_fast: bool = True,
        id: str | None = None,  # noqa: A002
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
    ) -> KeeperHandle: ...

    def deregister_service(self, service_id: str) -> bool: ...

    def search_service(
        self,
        name: str,
        *,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> list[Address]: ...

    def resolve(
        self,
        name: str,
        *,
        balancer: str | Balancer = "random",
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Address: ...

    def instances(
        self,
        name: str,
        *,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Sequence[ServiceInstance]: ...

    def services(self) -> Mapping[str, list[str]]: ...

    def wait_for(
        self,
        name: str,
        *,
        at_least: int = 1,
        timeout: float = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Sequence[ServiceInstance]: ...

    def wait_for_all(
        self,
        services: Mapping[str, int] | Iterable[str],
        *,
        timeout: float = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Mapping[str, Sequence[ServiceInstance]]: ...

    def explain(
        self,
        name_or_id: str,
        *,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Explanation: ...

    def watch(
        self,
        name: str,
        *,
        raise_errors: bool = False,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> WatchHandle: ...

    def watch_services(self, *, raise_errors: bool = False) -> ServicesWatchHandle: ...

    def resolver(
        self,
        name: str,
        *,
        balancer: str | Balancer = "round_robin",
        stale: StalePolicy | None = None,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> ResolverHandle: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@runtime_checkable
class AsyncRegistrationHandle(Protocol):
    """One registration: knows its id and how to end."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    async def deregister(self) -> bool: ...


@runtime_checkable
class AsyncKeeperHandle(AsyncRegistrationHandle, Protocol):
    """One registration that is kept true until its block ends."""

    @property
    def state(self) -> KeeperState: ...

    @property
    def re_registrations(self) -> int: ...

    async def start(self) -> Self: ...

    async def stop(self, *, hurry: bool = False) -> bool: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@runtime_checkable
class AsyncWatchHandle(Protocol):
    """Snapshots of a service, one whenever something has changed."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> ServiceSnapshot: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class AsyncServicesWatchHandle(Protocol):
    """Snapshots of the names of all services, one whenever something has changed."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> ServicesSnapshot: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class AsyncResolverHandle(Protocol):
    """A local list of a service's instances that follows every change."""

    def pick(self, key: str | None = None) -> ServiceInstance: ...

    def instances(self) -> Sequence[ServiceInstance]: ...

    def snapshot(self) -> ServiceSnapshot: ...

    async def wait_ready(self, timeout: float = 30.0, *, at_least: int = 1) -> Sequence[ServiceInstance]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@runtime_checkable
class AsyncRegistry(Protocol):
    """Announces services and finds them, for tasks."""

    async def register_service(
        self,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        id: str | None = None,  # noqa: A002
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
    ) -> AsyncRegistrationHandle: ...

    def registered(
        self,
        name: str,
        address: str | None = None,
        port: int | None = None,
        *,
        drain: float = 0.0,
        stop_timeout: float = 5.0,
        on_event: Callable[[KeeperEvent], object] | None = None,
        fail_fast: bool = True,
        id: str | None = None,  # noqa: A002
        tags: Iterable[str] = (),
        meta: Mapping[str, str] | None = None,
    ) -> AsyncKeeperHandle: ...

    async def deregister_service(self, service_id: str) -> bool: ...

    async def search_service(
        self,
        name: str,
        *,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> list[Address]: ...

    async def resolve(
        self,
        name: str,
        *,
        balancer: str | Balancer = "random",
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Address: ...

    async def instances(
        self,
        name: str,
        *,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Sequence[ServiceInstance]: ...

    async def services(self) -> Mapping[str, list[str]]: ...

    async def wait_for(
        self,
        name: str,
        *,
        at_least: int = 1,
        timeout: float = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Sequence[ServiceInstance]: ...

    async def wait_for_all(
        self,
        services: Mapping[str, int] | Iterable[str],
        *,
        timeout: float = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Mapping[str, Sequence[ServiceInstance]]: ...

    async def explain(
        self,
        name_or_id: str,
        *,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> Explanation: ...

    def watch(
        self,
        name: str,
        *,
        raise_errors: bool = False,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> AsyncWatchHandle: ...

    def watch_services(self, *, raise_errors: bool = False) -> AsyncServicesWatchHandle: ...

    def resolver(
        self,
        name: str,
        *,
        balancer: str | Balancer = "round_robin",
        stale: StalePolicy | None = None,
        policy: HealthPolicy | str = ...,
        tags: str | Iterable[str] = ...,
        meta: Mapping[str, str] = ...,
        consistency: Literal["default", "stale", "consistent"] = ...,
    ) -> AsyncResolverHandle: ...

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class SyncListing(Protocol):
    """Everything a source has: now, and again whenever it has changed."""

    def read(self) -> SyncList:
        """Reads all of it now, completely or not at all."""
        ...

    @property
    def stale_for(self) -> float:
        """Seconds for which changes could not be followed; 0 while they can."""
        ...

    def close(self) -> None:
        """Ends it, also from another thread; iteration ends."""
        ...

    def __iter__(self) -> Self: ...

    def __next__(self) -> SyncList:
        """The complete list, the first time at once, later when it has changed; never one that is empty by error."""
        ...


class SyncSource(Protocol):
    """What `CatalogSync` can sync from, for threads."""

    def listing(self, rules: SyncRules, *, on_state: Callable[[], None] | None = None) -> SyncListing:
        """A listing.

        Args:
            rules: which services are meant, and how they are named.
            on_state: called when `stale_for` begins or ends.
        """
        ...


class AsyncSyncListing(Protocol):
    """Everything a source has: now, and again whenever it has changed."""

    async def read(self) -> SyncList:
        """Reads all of it now, completely or not at all."""
        ...

    @property
    def stale_for(self) -> float:
        """Seconds for which changes could not be followed; 0 while they can."""
        ...

    async def aclose(self) -> None:
        """Ends it, also from another task; iteration ends."""
        ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> SyncList:
        """The complete list, the first time at once, later when it has changed; never one that is empty by error."""
        ...


class AsyncSyncSource(Protocol):
    """What `AsyncCatalogSync` can sync from, for tasks."""

    def listing(self, rules: SyncRules, *, on_state: Callable[[], None] | None = None) -> AsyncSyncListing:
        """A listing.

        Args:
            rules: which services are meant, and how they are named.
            on_state: called when `stale_for` begins or ends.
        """
        ...
