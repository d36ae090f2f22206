"""Users, the tokens that they got by logging in, and the keys that each may use."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field
from typing import Final

from consul_access.testing.etcd.dialect import Refused

__all__ = ["ROOT", "Access"]

ROOT: Final = "root"
EMPTY: Final = "etcdserver: user name is empty"
INVALID: Final = "etcdserver: invalid auth token"
DENIED: Final = "etcdserver: permission denied"
DISABLED: Final = "etcdserver: authentication is not enabled"
FAILED: Final = "etcdserver: authentication failed, invalid user ID or password"


@dataclass(slots=True)
class _User:
    password: str
    ranges: list[tuple[bytes, bytes]] = field(default_factory=list)


class Access:
    """Who may do what; everybody may do everything until there is a user.

    Args:
        token_ttl: seconds after its last use that a token ends.
        dice: what tokens are made with.
    """

    def __init__(self, token_ttl: float, dice: random.Random) -> None:
        self._token_ttl = token_ttl
        self._dice = dice
        self._users: dict[str, _User] = {}
        self._tokens: dict[str, tuple[str, float]] = {}

    @property
    def enabled(self) -> bool:
        """Whether tokens are needed."""
        return bool(self._users)

    def add(self, name: str, password: str, ranges: list[tuple[bytes, bytes]]) -> None:
        """A user, with the ranges of keys that it may use; root may use all."""
        self._users[name] = _User(password, ranges)

    def forget_tokens(self) -> None:
        """Ends every token, as the restart of a member does."""
        self._tokens.clear()

    def log_in(self, name: str, password: str, now: float) -> str:
        """A token.

        Raises:
            Refused: there are no users, or none like that.
        """
        if not self.enabled:
            raise Refused(9, DISABLED)
        user = self._users.get(name)
        if user is None or user.password != password:
            raise Refused(3, FAILED)
        letters = "".join(self._dice.choices(string.ascii_letters, k=16))
        token = f"{letters}.{len(self._tokens) + 1}"
        self._tokens[token] = (name, now + self._token_ttl)
        return token

    def who(self, token: str, now: float) -> str:
        """The user that a token was given to.

        Raises:
            Refused: there is no token, or no such token.
        """
        if not token:
            raise Refused(3, EMPTY)
        name, until = self._tokens.get(token, ("", 0.0))
        if not name or until <= now:
            self._tokens.pop(token, None)
            raise Refused(16, INVALID)
        self._tokens[token] = (name, now + self._token_ttl)
        return name

    def expect(self, token: str, ranges: list[tuple[bytes, bytes]], now: float) -> None:
        """Lets pass who may use all of these ranges.

        Raises:
            Refused: it may not.
        """
        if not self.enabled:
            return
        name = self.who(token, now)
        if name == ROOT:
            return
        own = self._users[name].ranges
        if not all(any(_within(wanted, one) for one in own) for wanted in ranges):
            raise Refused(7, DENIED)

    def expect_root(self, token: str, now: float) -> None:
        """Lets pass who may do everything.

        Raises:
            Refused: it may not.
        """
        if self.enabled and self.who(token, now) != ROOT:
            raise Refused(7, DENIED)


def _within(wanted: tuple[bytes, bytes], allowed: tuple[bytes, bytes]) -> bool:
    key, end = wanted
    first, last = allowed
    if not first <= key < last:
        return False
    return not end or (end != b"\0" and end <= last)
