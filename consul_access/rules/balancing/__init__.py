"""Which one of several instances is called. A new way to choose is one class with one method.

All of them hold to one rule: an instance whose weight in its present state is 0 gets no calls while there is another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from consul_access.errors import InvalidInput
from consul_access.rules.balancing.by_chance import RandomBalancer
from consul_access.rules.balancing.nearest import NearestBalancer
from consul_access.rules.balancing.outstanding import LeastOutstandingBalancer
from consul_access.rules.balancing.preferring import PreferringBalancer
from consul_access.rules.balancing.protocol import Balancer, Dice, FeedbackBalancer, Pick
from consul_access.rules.balancing.round_robin import RoundRobinBalancer
from consul_access.rules.balancing.sticky import StickyBalancer
from consul_access.rules.balancing.two_choices import PowerOfTwoBalancer
from consul_access.rules.balancing.weighted import WeightedBalancer

__all__ = [
    "Balancer",
    "Dice",
    "FeedbackBalancer",
    "LeastOutstandingBalancer",
    "NearestBalancer",
    "Pick",
    "PowerOfTwoBalancer",
    "PreferringBalancer",
    "RandomBalancer",
    "RoundRobinBalancer",
    "StickyBalancer",
    "WeightedBalancer",
    "balancer_named",
]

_NAMED: Final[dict[str, Callable[[Dice], Balancer]]] = {
    "random": RandomBalancer,
    "round_robin": RoundRobinBalancer,
    "weighted": WeightedBalancer,
    "least_outstanding": LeastOutstandingBalancer,
    "power_of_two": PowerOfTwoBalancer,
    "sticky": StickyBalancer,
    "nearest": lambda _: NearestBalancer(),
}


def balancer_named(name: str, dice: Dice) -> Balancer:
    """A new balancer of that name.

    Args:
        name: `random`, `round_robin`, `weighted`, `least_outstanding`, `power_of_two`, `sticky` or `nearest`.
        dice: where chance comes from, such as `random.Random()`.

    Raises:
        InvalidInput: there is none.
    """
    make = _NAMED.get(name)
    if make is None:
        raise InvalidInput(
            f"balancer={name!r} is unknown: write one of {', '.join(map(repr, _NAMED))}, or pass a Balancer"
        )
    return make(dice)
