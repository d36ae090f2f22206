"""The same one for the same key."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from consul_access.models.instance import ServiceInstance
from consul_access.rules.balancing.protocol import Dice, Pick, eligible

__all__ = ["StickyBalancer"]

REMEMBERED: Final = 4096
"""Keys whose instance is remembered, so that it is worked out once."""
_WORD: Final = 2**64 - 1


class StickyBalancer:
    """The same instance for the same key: in every process, and for as long as it is there.

    Args:
        dice: where chance comes from, such as `random.Random()`.

    Rendezvous hashing: each instance has a score for the key, the highest is taken. So when one of n goes, only its own
    keys move, to all others evenly; when one comes, it takes 1/n of the keys from all others. Weights do not count,
    except that 0 means none. Without a key there is nothing to stick to, and it is any of them.
    """

    __slots__ = ("_dice",)

    def __init__(self, dice: Dice) -> None:
        self._dice = dice

    def prepare(self, instances: tuple[ServiceInstance, ...]) -> Pick:
        """How to choose from this list, from now on."""
        chance, found = self._dice.random, eligible(instances)
        number = len(found)
        seeds = [(_hashed(str(instance.address)), instance) for instance in found]
        remembered: dict[str, ServiceInstance] = {}

        def best(key: str) -> ServiceInstance:
            hashed = _hashed(key)
            return max(seeds, key=lambda seeded: _mixed(hashed ^ seeded[0]))[1]

        def pick(key: str | None = None) -> ServiceInstance:
            if key is None:
                return found[int(chance() * number)]
            instance = remembered.get(key)
            if instance is None:
                if len(remembered) >= REMEMBERED:
                    remembered.clear()
                instance = remembered[key] = best(key)
            return instance

        return pick


def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _mixed(word: int) -> int:
    """A word whose every bit depends on all of the given ones (the last step of MurmurHash3)."""
    word = (word ^ word >> 33) * 0xFF51AFD7ED558CCD & _WORD
    word = (word ^ word >> 33) * 0xC4CEB9FE1A85EC53 & _WORD
    return word ^ word >> 33
