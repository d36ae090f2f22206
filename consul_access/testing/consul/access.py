"""Who may do what: tokens, policies, and the rules in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["ANONYMOUS", "MANAGEMENT", "Access", "Authorizer", "Policy", "RulesFault", "Token", "parse_rules"]

ANONYMOUS: Final = "anonymous"
MANAGEMENT: Final = "global-management"
_LEVELS: Final = {"deny": 0, "list": 1, "read": 1, "write": 2}
_RESOURCES: Final = frozenset(
    {"acl", "agent", "event", "key", "keyring", "node", "operator", "query", "service", "session"}
)
_WHOLE: Final = frozenset({"acl", "keyring", "operator"})
_TOKEN: Final = re.compile(r'\s+|(?://|\#)[^\n]*|(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z_][\w-]*)|(?P<mark>[{}=])')


class RulesFault(Exception):
    """Rules that cannot be parsed; the text is the servers'."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what may be done with one thing, or with all whose names begin so."""

    resource: str
    name: str
    is_prefix: bool
    level: int


def parse_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a policy, in HCL or JSON.

    Raises:
        RulesFault: they are neither.
    """
    if text.lstrip().startswith("{"):
        return tuple(_from_json(text))
    return tuple(_from_hcl(text))


def _from_json(text: str) -> Iterator[Rule]:
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise RulesFault(f"Failed to parse ACL rules: {error}") from None
    for kind, value in given.items():
        if isinstance(value, str):
            yield _rule(kind, "", value)
        else:
            for name, about in value.items():
                yield _rule(kind, name, about["policy"])


def _from_hcl(text: str) -> Iterator[Rule]:
    pieces = list(_pieces(text))
    at = 0

    def take(expected: str) -> str:
        nonlocal at
        piece = pieces[at] if at < len(pieces) else ("EOF", "EOF")
        if piece[0] != expected and piece[1] != expected:
            raise RulesFault(f"Failed to parse ACL rules: expected {expected} got: {piece[1]}")
        at += 1
        return piece[1]

    while at < len(pieces):
        kind = take("word")
        if pieces[at : at + 1] == [("mark", "=")]:
            take("=")
            yield _rule(kind, "", take("text"))
            continue
        name = take("text")
        take("{")
        settings: dict[str, str] = {}
        while pieces[at : at + 1] != [("mark", "}")]:
            key = take("word")
            take("=")
            settings[key] = take("text")
        take("}")
        yield _rule(kind, name, settings.get("policy", ""))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise RulesFault(f"Failed to parse ACL rules: illegal character {text[at]!r}")
        at = found.end()
        if found.lastgroup is not None:
            piece = found[0]
            yield found.lastgroup, json.loads(piece) if found.lastgroup == "text" else piece


def _rule(kind: str, name: str, level: str) -> Rule:
    resource, is_prefix = kind.removesuffix("_prefix"), kind.endswith("_prefix")
    if resource not in _RESOURCES or level not in _LEVELS:
        raise RulesFault(f"Failed to parse ACL rules: Invalid {resource} policy: {level!r}")
    return Rule(resource, name, is_prefix or resource in _WHOLE, _LEVELS[level])


@dataclass(slots=True)
class Policy:
    """Named rules."""

    id: str
    name: str
    text: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    created: int = 0
    modified: int = 0


@dataclass(slots=True)
class Token:
    """A secret, and what it is good for."""

    accessor: str
    secret: str
    policies: list[str] = field(default_factory=list)
    description: str = ""
    method: str = ""
    local: bool = False
    made_at: str = ""
    created: int = 0
    modified: int = 0


class Authorizer:
    """Answers whether something may be read or written.

    Args:
        rules: what is allowed and denied, or None: everything is allowed.
    """

    __slots__ = ("_rules", "allows_everything")

    def __init__(self, rules: tuple[Rule, ...] | None) -> None:
        self._rules = rules or ()
        self.allows_everything = rules is None

    def reads(self, resource: str, name: str = "") -> bool:
        """Whether it may be read."""
        return self._level(resource, name) >= _LEVELS["read"]

    def writes(self, resource: str, name: str = "") -> bool:
        """Whether it may be written."""
        return self._level(resource, name) >= _LEVELS["write"]

    def _level(self, resource: str, name: str) -> int:
        """An exact rule counts before a prefix, a longer prefix before a shorter one; of equal ones a denial counts."""
        if self.allows_everything:
            return _LEVELS["write"]
        fitting = [
            rule
            for rule in self._rules
            if rule.resource == resource and (name.startswith(rule.name) if rule.is_prefix else name == rule.name)
        ]
        if not fitting:
            return _LEVELS["deny"]
        closest = max((not rule.is_prefix, len(rule.name)) for rule in fitting)
        levels = [rule.level for rule in fitting if (not rule.is_prefix, len(rule.name)) == closest]
        return 0 if 0 in levels else max(levels)


_ALL: Final = Authorizer(None)


class Access:
    """The servers' tokens and policies.

    Args:
        enabled: without that, everybody may do everything and tokens are not looked at.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.tokens: dict[str, Token] = {}
        self.policies: dict[str, Policy] = {}
        self.logins: dict[tuple[str, str], str] = {}
        """The policy that a bearer token gets from an auth method."""

    def authorizer(self, secret: str) -> Authorizer | None:
        """What a secret allows; None if there is no such token."""
        if not self.enabled:
            return _ALL
        token = self.tokens.get(secret or ANONYMOUS)
        if token is None:
            return None
        if MANAGEMENT in token.policies:
            return _ALL
        policies = (self.policies.get(name) for name in token.policies)
        return Authorizer(tuple(rule for policy in policies if policy is not None for rule in policy.rules))

    def by_accessor(self, accessor: str) -> Token | None:
        """The token of that public name."""
        return next((token for token in self.tokens.values() if token.accessor == accessor), None)
