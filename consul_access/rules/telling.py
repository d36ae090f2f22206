"""What explanations say alike, whatever the registry."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final, TypeVar

from consul_access.models.status import CheckStatus

__all__ = [
    "GIVE_ADDRESS",
    "GIVE_PORT",
    "NO_PORT",
    "OTHER_OPTIONS",
    "grouped",
    "is_loopback",
    "lacking",
    "leads_home",
    "some",
    "weightless",
]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

GIVE_ADDRESS: Final = "Register it with the address that callers can reach (address=)."
NO_PORT: Final = "has registered no port: instances() gives it, search_service() and resolve() do not"
GIVE_PORT: Final = "Register it with its port."
OTHER_OPTIONS: Final = "Ask without that option, or register the instance so that it fits."
SOME: Final = 5
"""So many names are listed at most."""


def is_loopback(host: str) -> bool:
    """Whether an address is the caller's own machine."""
    return host.startswith(("127.", "::1", "localhost"))


def leads_home(host: str) -> str:
    """Says of an instance that it has registered such an address."""
    return f"has registered {host}, which leads every caller to the caller's own machine"


def weightless(status: CheckStatus) -> str:
    """Says of an instance that it gets no calls although it could be called."""
    return f"is {status} with weight 0: balancers choose it only when all weights are 0"


def lacking(wanted: Iterable[str], tags: Iterable[str]) -> str:
    """Says which of the tags that are asked for an instance lacks; empty when it has them all.

    Args:
        wanted: the tags that are asked for.
        tags: the tags that it has.
    """
    has = tuple(tags)
    missing = [tag for tag in wanted if tag not in has]
    if not missing:
        return ""
    return f"it lacks the tag {', '.join(map(repr, missing))}; it has {', '.join(map(repr, has)) or 'none'}"


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by what a function says of each, in their order."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def some(texts: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    every = list(texts)
    return ", ".join(every[:SOME]) + (f" and {len(every) - SOME} more" if len(every) > SOME else "")
