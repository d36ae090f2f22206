"""Those nearby, as long as there are any."""

from __future__ import annotations

from collections.abc import Mapping

from consul_access.errors import InvalidInput
from consul_access.models.address import Address
from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.protocol import Balancer, FeedbackBalancer, Pick, eligible

__all__ = ["PreferringBalancer"]


class PreferringBalancer:
    """Chooses among the instances in a certain place, and among all when there are too few of them.

    Args:
        inner: chooses among those.
        node: the node's name.
        datacenter: the node's datacenter.
        tag: a tag of the service.
        meta: what the service's meta holds, such as `{"zone": "eu-1a"}`; all of it.
        at_least: with fewer instances there, all are used; 1 by default.

    What is given must all be true of a preferred instance. For several steps (this node, else this zone, else anywhere)
    put one into the other.

    Raises:
        InvalidInput: no preference is given, or `at_least` is less than 1.
    """

    __slots__ = ("_at_least", "_feedback", "_inner", "_wanted")

    def __init__(
        self,
        inner: Balancer,
        *,
        node: str | None = None,
        datacenter: str | None = None,
        tag: str | None = None,
        meta: Mapping[str, str] | None = None,
        at_least: int = 1,
    ) -> None:
        if not (node or datacenter or tag or meta):
            raise InvalidInput("say what is preferred: node=, datacenter=, tag= or meta=")
        if at_least < 1:
            raise InvalidInput(f"at_least={at_least!r} must be 1 or more")
        self._inner = inner
        self._feedback = inner if isinstance(inner, FeedbackBalancer) else None
        self._wanted = (node, datacenter, tag, dict(meta or {}))
        self._at_least = at_least

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        preferred = tuple(instance for instance in eligible(instances) if self.prefers(instance))
        return self._inner.prepare(preferred if len(preferred) >= self._at_least else instances)

    def prefers(self, instance: ServiceInstance) -> bool:
        """Whether it is one of the preferred."""
        node, datacenter, tag, meta = self._wanted
        return (
            node in (None, instance.node)
            and datacenter in (None, instance.datacenter)
            and (tag is None or tag in instance.tags)
            and meta.items() <= instance.meta.items()
        )

    def started(self, address: Address) -> None:
        """A call to this address begins."""
        if self._feedback is not None:
            self._feedback.started(address)

    def report(self, address: Address, ok: bool | None, elapsed: float) -> None:
        """A call has ended."""
        if self._feedback is not None:
            self._feedback.report(address, ok, elapsed)
