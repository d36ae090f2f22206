"""The Consul HTTP API: one file a section, functions that return a `Call`.

A section is loaded when it is first used: a program that only looks services up never pays for the others.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import ModuleType

    from consul_access.consul import acl as acl
    from consul_access.consul import agent as agent
    from consul_access.consul import catalog as catalog
    from consul_access.consul import health as health
    from consul_access.consul import plain as plain
    from consul_access.consul import status as status
    from consul_access.consul import txn as txn

__all__ = ["acl", "agent", "catalog", "health", "plain", "status", "txn"]


def __getattr__(name: str) -> ModuleType:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
