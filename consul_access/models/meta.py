"""What comes with a list from the registry: how it was answered, and what in it could not be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

__all__ = ["Entries", "QueryMeta", "ServiceTags", "number"]

T = TypeVar("T")


def number(text: str) -> int | None:
    """A header's whole number; None when it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


class QueryMeta:
    """How an answer came about, as the agent tells it. Every fact is None when the agent did not tell.

    Agents report, they do not prove. From 1.10 on health look-ups with `index` or `cached` are answered from a streamed
    view: there `age` and `last_contact` are 0 through a whole outage, and `known_leader` is False all the time.

    Args:
        headers: the answer's headers, by name in lower case or in any.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = headers if headers is not None else {}

    @property
    def index(self) -> int | None:
        """What to give as `index=` in order to wait for the next change."""
        return self._number("x-consul-index")

    @property
    def content_hash(self) -> str | None:
        """What to give as `hash=` where an agent's own state is waited for."""
        return self._headers.get("x-consul-contenthash")

    @property
    def last_contact(self) -> float | None:
        """Seconds since the answering server last heard from the leader."""
        milliseconds = self._number("x-consul-lastcontact")
        return None if milliseconds is None else milliseconds / 1000

    @property
    def known_leader(self) -> bool | None:
        """Whether the answering server knew a leader."""
        return self._flag("x-consul-knownleader")

    @property
    def cache_hit(self) -> bool | None:
        """Whether the agent answered from its cache."""
        found = self._headers.get("x-cache")
        return None if found is None else found.upper() == "HIT"

    @property
    def age(self) -> float | None:
        """Seconds since the agent's cached answer was known to be fresh."""
        return self._number("age")

    @property
    def filtered_by_acls(self) -> bool | None:
        """Whether entries were left out because the token may not see them (told from 1.11 on, to valid tokens)."""
        return self._flag("x-consul-results-filtered-by-acls")

    @property
    def backend(self) -> str | None:
        """`blocking-query` or `streaming` (told from 1.10 on)."""
        return self._headers.get("x-consul-query-backend")

    @property
    def consistency(self) -> str | None:
        """The consistency the servers used."""
        return self._headers.get("x-consul-effective-consistency")

    @property
    def default_acl_policy(self) -> str | None:
        """`allow` or `deny` (told from 1.9 on). With `deny`, an empty list may mean that a token is missing."""
        return self._headers.get("x-consul-default-acl-policy")

    def _number(self, name: str) -> int | None:
        return number(self._headers.get(name, ""))

    def _flag(self, name: str) -> bool | None:
        return {"true": True, "false": False}.get(self._headers.get(name, "").lower())

    def __repr__(self) -> str:
        facts = ("index", "last_contact", "known_leader", "cache_hit", "age", "filtered_by_acls", "backend")
        told = (f"{name}={value!r}" for name in facts if (value := getattr(self, name)) is not None)
        return f"QueryMeta({', '.join(told)})"


class Entries(list[T]):
    """A list from the registry.

    Args:
        entries: what could be used.
        meta: how the answer came about.
        rejected: how many entries could not be used (an impossible port or address, a wrong type) and were left out.
    """

    __slots__ = ("meta", "rejected")

    def __init__(self, entries: Iterable[T] = (), *, meta: QueryMeta | None = None, rejected: int = 0) -> None:
        super().__init__(entries)
        self.meta = meta if meta is not None else QueryMeta()
        self.rejected = rejected


class ServiceTags(dict[str, list[str]]):
    """The tags in use, by service name.

    Args:
        tags: by service name.
        meta: how the answer came about.
    """

    __slots__ = ("meta",)

    def __init__(self, tags: dict[str, list[str]] | None = None, *, meta: QueryMeta | None = None) -> None:
        super().__init__(tags or {})
        self.meta = meta if meta is not None else QueryMeta()
