"""What whoever follows a service sees of an agent that freezes, over any kind of connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.agents import ConsulAgent
from tests.support.faces import Face

__all__ = ["sees_it_frozen"]


async def sees_it_frozen(
    face: Face, access: Any, agent: ConsulAgent, told: Callable[[str, float], None], *, longer: float = 0.0
) -> None:
    """It is noticed, the list stays meanwhile, and is fresh and followed again afterwards.

    Args:
        face: tells the story.
        access: a client of the agent.
        agent: holds `orders-1` of the service `orders`.
        told: hears how long it took.
        longer: seconds for which it stays frozen after that was noticed.
    """
    async with access.resolver("orders") as orders:
        agent.pause()
        try:
            _, after = await face.eventually(lambda: orders.snapshot().is_stale, within=20)
            told("noticed after", after)
            assert orders.pick().id == "orders-1"
            await face.sleep(longer)
        finally:
            agent.resume()
        _, after = await face.eventually(lambda: not orders.snapshot().is_stale, within=5)
        told("confirmed after", after)
        agent.register("orders", id="orders-2", port=8002)
        await face.eventually(lambda: len(orders.instances()) == 2, within=5)
