"""httpx: call services by their names.

`httpx.Client(transport=DiscoveryTransport(access)).get("http://orders/v1/items")` goes to one healthy instance of
`orders`; `AsyncDiscoveryTransport` is the same for `httpx.AsyncClient`.
"""

from __future__ import annotations

from consul_access._async.discovery import AsyncDiscoveryTransport
from consul_access._sync.discovery import DiscoveryTransport
from consul_access.failures import InstancesFailed, InstancesTimedOut, InstancesUnreachable
from consul_access.rules.calling import FailedAttempt, How

__all__ = [
    "AsyncDiscoveryTransport",
    "DiscoveryTransport",
    "FailedAttempt",
    "How",
    "InstancesFailed",
    "InstancesTimedOut",
    "InstancesUnreachable",
]
