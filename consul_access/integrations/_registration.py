"""What all frameworks have in common: the arguments of a registration, and when health is reported to a TTL check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, TypedDict, TypeVar

from consul_access.errors import InvalidInput
from consul_access.models.checks import TtlCheck

if TYPE_CHECKING:
    from consul_access.models.address import Address
    from consul_access.models.catalog import Weights
    from consul_access.models.checks import AnyCheck
    from consul_access.models.default import Default
    from consul_access.rules.keeping import KeeperEvent

__all__ = ["DRAIN", "RegistrationOptions", "checked", "reported"]

H = TypeVar("H")

DRAIN: Final = 2.0
"""Seconds between a service's disappearance from every look-up and its server's own end."""


class RegistrationOptions(TypedDict, total=False):
    """The further arguments of `ConsulAccess.registered`, with the same meaning."""

    mode: Literal["agent", "catalog"]
    node: str | None
    require_agent: bool
    stop_timeout: float
    on_event: Callable[[KeeperEvent], object] | None
    fail_fast: bool
    id: str | None
    tags: Iterable[str]
    meta: Mapping[str, str] | None
    environment_meta: bool
    check: AnyCheck | Default | None
    checks: Iterable[AnyCheck] | None
    ports: Mapping[str, int] | None
    weights: Weights | None
    tagged_addresses: Mapping[str, Address] | None
    enable_tag_override: bool
    namespace: str | None
    partition: str | None


def checked(options: RegistrationOptions) -> RegistrationOptions:
    """The same options, once all of them are known; what can be read only once is kept.

    Raises:
        InvalidInput: one is not known.
    """
    unknown = options.keys() - RegistrationOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(RegistrationOptions.__annotations__)
        raise InvalidInput(f"{min(unknown)!r} is no argument of a registration: write one of {known}")
    checks = options.get("checks")
    return options if checks is None else options | {"checks": tuple(checks)}


def reported(health: H, options: RegistrationOptions) -> H | None:
    """The health to report, which only TTL checks take; agents ask all others by themselves. In the catalog all are."""
    if options.get("mode") == "catalog":
        return health
    checks = (*(options.get("checks") or ()), options.get("check"))
    return health if any(isinstance(check, TtlCheck) for check in checks) else None
