"""What every backend can do, whatever it is: write against these and the registry can be exchanged, or faked.

Names that only one backend has (Consul's datacenters, etcd's leases) are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance

if TYPE_CHECKING:
    from consul_access.models.sync import SyncList, SyncRules

__all__ = [
    "AsyncRegistrationHandle",
    "AsyncRegistry",
    "AsyncSyncListing",
    "AsyncSyncSource",
    "RegistrationHandle",
    "Registry",
    "SyncListing",
    "SyncSource",
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

    def deregister_service(self, service_id: str) -> bool: ...

    def search_service(self, name: str) -> list[Address]: ...

    def resolve(self, name: str) -> Address: ...

    def instances(self, name: str) -> Sequence[ServiceInstance]: ...

    def services(self) -> Mapping[str, list[str]]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
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

    async def deregister_service(self, service_id: str) -> bool: ...

    async def search_service(self, name: str) -> list[Address]: ...

    async def resolve(self, name: str) -> Address: ...

    async def instances(self, name: str) -> Sequence[ServiceInstance]: ...

    async def services(self) -> Mapping[str, list[str]]: ...

    async def aclose(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
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
