"""What a filter expression means for one kind of answer: which selectors there are, and which entries it keeps.

The selectors are those of Consul 1.8's structures (agent/structs, fields with a `bexpr` tag).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from consul_access.testing.consul.bexpr import And, Expression, Match, Not, SyntaxFault, parse
from consul_access.testing.consul.golang import quoted, truth, whole_number

__all__ = ["CATALOG", "CHECKS", "HEALTH", "NODES", "SERVICES", "FilterFault", "Shape", "compiled"]


class FilterFault(Exception):
    """The expression does not fit; the text is the agent's, without its beginning.

    Args:
        text: the text.
        is_syntax: it is no expression at all.
    """

    def __init__(self, text: str, *, is_syntax: bool = False) -> None:
        super().__init__(text)
        self.is_syntax = is_syntax


@dataclass(frozen=True, slots=True)
class Text:
    """A text."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number."""


@dataclass(frozen=True, slots=True)
class Truth:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Many:
    """A list."""

    of: Shape


@dataclass(frozen=True, slots=True)
class Named:
    """Values by names that are not known beforehand."""

    of: Shape


@dataclass(frozen=True, slots=True)
class Record:
    """Values by names that are known."""

    fields: Mapping[str, Shape] = field(default_factory=dict)


Shape: TypeAlias = Text | Whole | Truth | Many | Named | Record
Keeps: TypeAlias = Callable[[Mapping[str, Any]], bool]

_TEXT, _WHOLE, _TRUTH = Text(), Whole(), Truth()
_PORTED: Final = Record({"Address": _TEXT, "Port": _WHOLE})
_WEIGHTS: Final = Record({"Passing": _WHOLE, "Warning": _WHOLE})
_CONNECT: Final = Record({"Native": _TRUTH})
_EXPOSED: Final = Record({"ListenerPort": _WHOLE, "Path": _TEXT, "LocalPathPort": _WHOLE, "Protocol": _TEXT})
_UPSTREAM: Final = Record(
    dict.fromkeys(
        ("DestinationType", "DestinationNamespace", "DestinationName", "Datacenter", "LocalBindAddress"), _TEXT
    )
    | {"LocalBindPort": _WHOLE, "MeshGateway": Record({"Mode": _TEXT})}
)
_PROXY: Final = Record(
    dict.fromkeys(("DestinationServiceName", "DestinationServiceID", "LocalServiceAddress"), _TEXT)
    | {
        "LocalServicePort": _WHOLE,
        "Upstreams": Many(_UPSTREAM),
        "MeshGateway": Record({"Mode": _TEXT}),
        "Expose": Record({"Checks": _TRUTH, "Paths": Many(_EXPOSED)}),
    }
)
_NODE: Final[dict[str, Shape]] = {
    **dict.fromkeys(("ID", "Node", "Address", "Datacenter"), _TEXT),
    "TaggedAddresses": Named(_TEXT),
    "Meta": Named(_TEXT),
}
_SERVICE: Final[dict[str, Shape]] = {
    **dict.fromkeys(("Kind", "ID", "Service", "Address"), _TEXT),
    "Tags": Many(_TEXT),
    "TaggedAddresses": Named(_PORTED),
    "Meta": Named(_TEXT),
    "Port": _WHOLE,
    "Weights": _WEIGHTS,
    "EnableTagOverride": _TRUTH,
    "Proxy": _PROXY,
    "Connect": _CONNECT,
}
_CHECK: Final[dict[str, Shape]] = {
    **dict.fromkeys(
        ("Node", "CheckID", "Name", "Status", "Notes", "Output", "ServiceID", "ServiceName", "Type"), _TEXT
    ),
    "ServiceTags": Many(_TEXT),
}

NODES: Final = Record(_NODE)
SERVICES: Final = Record(_SERVICE)
CHECKS: Final = Record(_CHECK)
HEALTH: Final = Record({"Node": NODES, "Service": SERVICES, "Checks": Many(CHECKS)})
_ENTRY: Final[dict[str, Shape]] = {
    **dict.fromkeys(("ID", "Node", "Address", "Datacenter", "ServiceName"), _TEXT),
    "TaggedAddresses": Named(_TEXT),
    "NodeMeta": Named(_TEXT),
    **{f"Service{name}": shape for name, shape in _SERVICE.items() if name != "Service"},
}
CATALOG: Final = Record(_ENTRY)

_NAMES: Final = {
    "==": "Equal", "!=": "Not Equal", "in": "In", "not in": "Not In", "contains": "In", "not contains": "Not In",
    "is empty": "Is Empty", "is not empty": "Is Not Empty", "matches": "Matches", "not matches": "Not Matches",
}  # fmt: skip
_ALLOWED: Final[dict[type, frozenset[str]]] = {
    Text: frozenset({"Equal", "Not Equal", "In", "Not In", "Matches", "Not Matches"}),
    Whole: frozenset({"Equal", "Not Equal"}),
    Truth: frozenset({"Equal", "Not Equal"}),
    Many: frozenset({"In", "Not In", "Is Empty", "Is Not Empty"}),
    Named: frozenset({"In", "Not In", "Is Empty", "Is Not Empty"}),
    Record: frozenset(),
}

_FALSE_IF_MISSING: Final = frozenset({"Equal", "In", "Is Not Empty"})
"""What is said about a name that is not there is false; anything else is true, "matches" too (observed on 1.8.7)."""


def compiled(text: str, shape: Record) -> Keeps:
    """What decides whether an entry of that shape is kept.

    Raises:
        FilterFault: the expression is malformed or does not fit the shape.
    """
    if not text:
        return lambda _: True
    try:
        return _decider(parse(text), shape)
    except SyntaxFault as fault:
        raise FilterFault(str(fault), is_syntax=True) from None


def _decider(expression: Expression, shape: Record) -> Keeps:
    if isinstance(expression, Not):
        operand = _decider(expression.operand, shape)
        return lambda entry: not operand(entry)
    if isinstance(expression, Match):
        return _matcher(expression, shape)
    left, right = _decider(expression.left, shape), _decider(expression.right, shape)
    if isinstance(expression, And):
        return lambda entry: left(entry) and right(entry)
    return lambda entry: left(entry) or right(entry)


def _matcher(match: Match, shape: Record) -> Keeps:
    kind = _shape_at(match.selector, shape)
    operator = _NAMES[match.operator]
    selector = ".".join(match.selector)
    if operator not in _ALLOWED[type(kind)]:
        raise FilterFault(f'Invalid match operator "{operator}" for selector "{selector}"')
    test = _test(operator, kind, match, selector)
    return lambda entry: _asked(entry, match.selector, shape, test, if_missing=operator not in _FALSE_IF_MISSING)


def _shape_at(path: tuple[str, ...], shape: Shape) -> Shape:
    for position, step in enumerate(path):
        if isinstance(shape, Many) and isinstance(shape.of, Record):
            shape = shape.of
        if isinstance(shape, Named):
            shape = shape.of
        elif isinstance(shape, Record) and step in shape.fields:
            shape = shape.fields[step]
        else:
            raise FilterFault(f"Selector {quoted('.'.join(path[: position + 1]))} is not valid")
    return shape


def _test(operator: str, kind: Shape, match: Match, selector: str) -> Callable[[Any], bool]:
    negated = "Not" in operator
    wanted = match.value or ""
    if "Empty" in operator:
        return lambda value: bool(value) is negated
    if "Matches" in operator:
        pattern = _pattern(wanted)
        return lambda value: (pattern.search(value) is None) is negated
    if operator in {"In", "Not In"}:
        return lambda value: (wanted not in value) is negated
    coerced = _coerced(wanted, kind, selector)
    return lambda value: (value != coerced) is negated


def _coerced(text: str, kind: Shape, selector: str) -> str | int | bool:
    try:
        if isinstance(kind, Whole):
            return whole_number(text)
        return truth(text) if isinstance(kind, Truth) else text
    except ValueError as error:
        raise FilterFault(f"Failed to coerce value {quoted(text)} for selector {quoted(selector)}: {error}") from None


def _pattern(text: str) -> re.Pattern[str]:
    try:
        if (look := re.search(r"\(\?(=|!|<=|<!|>)", text)) is not None:
            raise FilterFault(_regex_fault(text, f"invalid or unsupported Perl syntax: `{look[0]}`"))
        return re.compile(text)
    except re.error as error:
        raise FilterFault(_regex_fault(text, _go_words(error, text))) from None


def _regex_fault(text: str, message: str) -> str:
    return f"Failed to compile regular expression {quoted(text)}: error parsing regexp: {message}"


_GO_WORDS: Final[tuple[tuple[str, Callable[[str, int], str]], ...]] = (
    ("missing ), unterminated", lambda text, _: f"missing closing ): `{text}`"),
    ("unbalanced parenthesis", lambda text, _: f"unexpected ): `{text}`"),
    ("unterminated character set", lambda text, at: f"missing closing ]: `{text[at:]}`"),
    ("nothing to repeat", lambda text, at: f"missing argument to repetition operator: `{text[at : at + 1]}`"),
    ("bad character range", lambda text, at: f"invalid character class range: `{text[at:].partition(']')[0]}`"),
    ("min repeat greater", lambda text, at: f"invalid repeat count: `{{{text[at : text.index('}', at) + 1]}`"),
)


def _go_words(error: re.error, text: str) -> str:
    at = error.pos or 0
    for beginning, words in _GO_WORDS:
        if error.msg.startswith(beginning):
            return words(text, at)
    return f"{error.msg}: `{text[at:]}`"


# --- going through an entry -----------------------------------------------------------------------------------


def _asked(value: Any, path: tuple[str, ...], shape: Shape, test: Callable[[Any], bool], *, if_missing: bool) -> bool:
    """Puts the question to what is at the selector. A list on the way is asked whether any of its elements fits."""
    if not path:
        return test(_zero(shape) if value is None else value)
    if isinstance(shape, Many):
        return any(_asked(element, path, shape.of, test, if_missing=if_missing) for element in value or ())
    found = value or {}
    if isinstance(shape, Named):
        if path[0] not in found:
            return if_missing
        return _asked(found[path[0]], path[1:], shape.of, test, if_missing=if_missing)
    if isinstance(shape, Record):
        return _asked(found.get(path[0]), path[1:], shape.fields[path[0]], test, if_missing=if_missing)
    raise FilterFault(f"Selector {quoted(path[0])} is not valid")


def _zero(shape: Shape) -> Any:
    """What a field that was left out stands for."""
    if isinstance(shape, Text):
        return ""
    return 0 if isinstance(shape, Whole) else False if isinstance(shape, Truth) else ()
