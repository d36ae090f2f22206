# Written by tools/faces.py from consul_access/_async/farewell.py; edit that one.
"""Deregisters when the process ends otherwise than by the block's end: by a client for threads of its own.

Nothing else may still run then, an event loop least of all, so this is the same code on both faces.
"""

from __future__ import annotations

import codecs
import logging
from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from consul_access.errors import ConsulAccessError, NotFound, RequestRefused
from consul_access.settings import ConsulSettings

if TYPE_CHECKING:
    from consul_access._sync.place import Place
    from consul_access.settings import ClientSettings

__all__ = ["prepare", "say"]

log = logging.getLogger("consul_access")

_NEEDED = {True: ("consul.agent", "consul.catalog", "_sync.consul"), False: ("etcd.leases", "_sync.etcd")}
"""By whether the registry is Consul."""


def prepare(settings: ClientSettings) -> None:
    """Loads what is needed: a signal may come in the middle of an import, and then that would be half done."""
    for module in (*_NEEDED[isinstance(settings, ConsulSettings)], "rules.versions"):
        import_module(f"consul_access.{module}")
    import_module("tenacity")
    codecs.lookup("idna")  # as the first look-up of any address does


def say(place: Place, settings: ClientSettings, transport: object, within: float, *, certain: bool) -> None:
    """Deregisters; what cannot be done is logged.

    Args:
        place: where it is registered.
        settings: the client's.
        transport: the httpx transport that the client was given, or None.
        within: seconds.
        certain: the place has taken the registration; else it may still be on its way.
    """
    name = place.definition.id
    carried = cast("Any", transport)  # some httpx transports serve both faces
    if carried is not None and not hasattr(carried, "handle_request"):
        log.warning("%s is left registered: its transport works in an event loop only", name)
        return
    try:
        with _client(settings, carried) as access:
            place.farewell(access.send, within, certain=certain)
    except (NotFound, RequestRefused):
        return
    except ConsulAccessError as error:
        log.warning("%s could not be deregistered: %s; %s", name, error, place.consequence())


def _client(settings: ClientSettings, carried: Any) -> AbstractContextManager[Any]:
    """A client for threads, to say farewell with."""
    if isinstance(settings, ConsulSettings):
        from consul_access._sync.consul import ConsulAccess

        return ConsulAccess(settings=settings, transport=carried)
    from consul_access._sync.etcd import EtcdRegistry

    return EtcdRegistry(settings=cast("Any", settings), transport=carried)
