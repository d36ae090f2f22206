"""What every backend can do, whatever it is: write against these and the registry can be exchanged, or faked.

Names that only one backend has (Consul's datacenters, etcd's leases) are not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance

__all__ = ["AsyncRegistrationHandle", "AsyncRegistry", "RegistrationHandle", "Registry"]


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
