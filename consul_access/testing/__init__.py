"""What helps to test programs that announce and find services.

Everything here is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from consul_access.testing.asserting import eventually as eventually
    from consul_access.testing.asserting import eventually_async as eventually_async
    from consul_access.testing.asserting import registered as registered
    from consul_access.testing.common.clock import Clock as Clock
    from consul_access.testing.common.clock import RealClock as RealClock
    from consul_access.testing.common.clock import SimulatedClock as SimulatedClock
    from consul_access.testing.common.exchange import Answer as Answer
    from consul_access.testing.common.server import FakeServer as FakeServer
    from consul_access.testing.common.transport import FakeTransport as FakeTransport
    from consul_access.testing.consul.fake import FakeConsul as FakeConsul
    from consul_access.testing.consul.faults import Faults as Faults
    from consul_access.testing.etcd.fake import FakeEtcd as FakeEtcd
    from consul_access.testing.etcd.faults import EtcdFaults as EtcdFaults
    from consul_access.testing.memory import AsyncMemoryRegistry as AsyncMemoryRegistry
    from consul_access.testing.memory import MemoryRegistry as MemoryRegistry
    from consul_access.testing.real.consul import ConsulAgent as ConsulAgent
    from consul_access.testing.real.etcd import EtcdServer as EtcdServer

_ROOMS = {
    "asserting": ("eventually", "eventually_async", "registered"),
    "common.clock": ("Clock", "RealClock", "SimulatedClock"),
    "common.exchange": ("Answer",),
    "common.server": ("FakeServer",),
    "common.transport": ("FakeTransport",),
    "consul.fake": ("FakeConsul",),
    "consul.faults": ("Faults",),
    "etcd.fake": ("FakeEtcd",),
    "etcd.faults": ("EtcdFaults",),
    "memory": ("AsyncMemoryRegistry", "MemoryRegistry"),
    "real.consul": ("ConsulAgent",),
    "real.etcd": ("EtcdServer",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [*_ROOM_OF]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'consul_access.testing' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"consul_access.testing.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
