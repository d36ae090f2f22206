"""From what a caller of `register_service` writes, and what this machine knows of itself, to a definition."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from consul_access._pairs.sockets import route_source
from consul_access.models.listening import listening_at
from consul_access.rules import addressing, registering

if TYPE_CHECKING:
    from consul_access.models.address import Target
    from consul_access.models.definition import ServiceDefinition
    from consul_access.models.listening import Listening

__all__ = ["defined"]


def defined(
    target: Target,
    name: str,
    address: str | None,
    port: int | Listening | None,
    *,
    meta: Mapping[str, str] | None,
    environment_meta: bool,
    at_agent: bool = True,
    **given: Any,
) -> ServiceDefinition:
    """The definition.

    Args:
        target: the server that is asked; the way to it tells the machine's own address.
        name: the service.
        address: where it can be reached.
        port: its port, or what listens there.
        meta: pairs of texts.
        environment_meta: whether to add what the pod's environment tells.
        at_agent: whether the server is an agent, which has an address of its own for services on its machine.
        given: the other arguments of `rules.registering.definition`.

    Raises:
        InvalidInput: something cannot be right.
    """
    bound = None
    if port is not None and not isinstance(port, int | float | str):
        bound, port = listening_at(port)
    if environment_meta:
        meta = addressing.environment_meta(os.environ) | dict(meta or {})
    local = at_agent and target.is_local
    source = None if local else route_source(target.ip or target.address.host, target.address.port)
    own = addressing.own_address(address, environ=os.environ, agent_is_local=local, route_source=source, bound=bound)
    label = addressing.host_label(os.environ, socket.gethostname())
    return registering.definition(name, own, port, host=label, meta=meta, **given)
