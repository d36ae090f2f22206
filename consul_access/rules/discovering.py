"""Which of the addresses that a cluster's members tell are worth a try."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consul_access.errors import InvalidSettings
from consul_access.models.address import Target
from consul_access.settings import parsed_target

__all__ = ["candidates"]

_NOWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - such an address is left out, not bound to


def candidates(urls: Iterable[str], known: Sequence[Target]) -> list[Target]:
    """The addresses to try, those known already left out.

    Args:
        urls: as the members tell them; some cannot be reached from here, or are no addresses at all.
        known: those in use. One that is spoken to in https is never joined by one in http: tokens would be read.
    """
    secure = any(target.tls for target in known)
    found: dict[Target, None] = {}
    for url in urls:
        try:
            target = parsed_target(url, "a member's client URL", tls=False, url_port=2379)
        except InvalidSettings:
            continue  # a member may tell what it likes; the configured ones stay
        if target.tls == secure and target not in known and target.address.host not in _NOWHERE:
            found[target] = None
    return list(found)
