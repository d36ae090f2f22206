"""`/v1/status`: who leads. Open without a token, and never answered from a cache, which makes it an honest probe.

https://developer.hashicorp.com/consul/api-docs/status
"""

from __future__ import annotations

from functools import partial

from consul_access.call import Call
from consul_access.decoding import decode

__all__ = ["leader", "peers"]


def leader() -> Call[str]:
    """The leader's address, or an empty text while there is none."""
    return Call(name="status.leader", method="GET", path="/v1/status/leader", read=partial(decode, str))


def peers() -> Call[list[str]]:
    """The addresses of the servers that take part in elections."""
    return Call(name="status.peers", method="GET", path="/v1/status/peers", read=partial(decode, list[str]))
