"""Filter expressions (go-bexpr) that are quoted right and mean what they say.

The trap this closes: `Checks.Status == "passing"` asks whether *any* check passes, and since every node has a passing
one, it keeps critical instances; `Checks.Status != "critical"` is such a question too. Here a question about checks
says which it is: `F.any_check(status="passing")` or `F.no_check(status="critical")`.

    F.service.meta["version"] == "2" & ~F.service.tags.contains("canary") & F.no_check(status="critical")

Source: https://developer.hashicorp.com/consul/api-docs/features/filtering
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from consul_access.errors import InvalidInput
from consul_access.models.status import CheckStatus

__all__ = ["F", "Field", "Filter", "Scope", "quoted"]

Scope: TypeAlias = Literal["health", "catalog", "checks", "nodes"]
"""Which answer is filtered: each calls the same fact by another name."""

_ESCAPES = {"\\": "\\\\"} | {chr(code): f"\\x{code:02x}" for code in (*range(32), ord('"'), 127)}

_ANSWERS: dict[Scope, str] = {
    "health": "health entries",
    "catalog": "catalog entries",
    "checks": "checks",
    "nodes": "nodes",
}
_SELECTORS: dict[str, dict[Scope, str]] = {
    "service.id": {"health": "Service.ID", "catalog": "ServiceID", "checks": "ServiceID"},
    "service.name": {"health": "Service.Service", "catalog": "ServiceName", "checks": "ServiceName"},
    "service.address": {"health": "Service.Address", "catalog": "ServiceAddress"},
    "service.port": {"health": "Service.Port", "catalog": "ServicePort"},
    "service.tags": {"health": "Service.Tags", "catalog": "ServiceTags", "checks": "ServiceTags"},
    "service.meta": {"health": "Service.Meta", "catalog": "ServiceMeta"},
    "node.name": {"health": "Node.Node", "catalog": "Node", "checks": "Node", "nodes": "Node"},
    "node.address": {"health": "Node.Address", "catalog": "Address", "nodes": "Address"},
    "node.datacenter": {"health": "Node.Datacenter", "catalog": "Datacenter", "nodes": "Datacenter"},
    "node.meta": {"health": "Node.Meta", "catalog": "NodeMeta", "nodes": "Meta"},
    "checks": {"health": "Checks"},
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A finished question. Combine with `&`, `|` and `~`; `str()` writes it for health look-ups.

    Args:
        parts: literal text, and selectors that are written when it is known which answer is filtered.
    """

    parts: tuple[str | _Selector, ...]

    def __and__(self, other: Filter) -> Filter:
        return _joined(self, "and", other)

    def __or__(self, other: Filter) -> Filter:
        return _joined(self, "or", other)

    def __invert__(self) -> Filter:
        return Filter(("not (", *self.parts, ")"))

    def __bool__(self) -> bool:
        raise InvalidInput("a filter has no truth value here: combine filters with & | ~ instead of and, or, not")

    def render(self, scope: Scope) -> str:
        """The expression as Consul reads it.

        Raises:
            InvalidInput: it asks for checks, and catalog entries have none.
        """
        return "".join(part if isinstance(part, str) else part.render(scope) for part in self.parts)

    def __str__(self) -> str:
        return self.render("health")


@dataclass(frozen=True, slots=True)
class _Selector:
    name: str
    key: str | None = None

    def render(self, scope: Scope) -> str:
        selector = _SELECTORS[self.name].get(scope)
        if selector is None:
            raise InvalidInput(f"{_ANSWERS[scope]} cannot be filtered by {self.name}")
        if self.key is None:
            return selector
        return f"{selector}[{quoted(self.key)}]"


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Something that can be asked about: `F.service.address`, `F.service.meta["version"]`."""

    _selector: _Selector

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return self._is("==", value)

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return self._is("!=", value)

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def matches(self, pattern: str) -> Filter:
        """Whether it matches a regular expression (Go's syntax) anywhere."""
        return self._is("matches", pattern)

    def _is(self, operator: str, value: object) -> Filter:
        return Filter((self._selector, f" {operator} {_literal(value)}"))


class Tags:
    """A list of texts: `F.service.tags`."""

    __slots__ = ("_selector",)

    def __init__(self, name: str) -> None:
        self._selector = _Selector(name)

    def contains(self, value: str) -> Filter:
        """Whether the value is one of them."""
        return Filter((f"{_literal(value)} in ", self._selector))

    @property
    def is_empty(self) -> Filter:
        """Whether there are none."""
        return Filter((self._selector, " is empty"))


class Meta:
    """Texts by name: `F.service.meta["version"]`."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, key: str) -> Field:
        if not isinstance(key, str):
            raise InvalidInput(f"meta[{key!r}] cannot be asked for: its keys are texts")
        return Field(_Selector(self._name, key))

    def contains(self, key: str) -> Filter:
        """Whether there is one of that name."""
        return Filter((f"{_literal(key)} in ", _Selector(self._name)))


class _Service:
    id = Field(_Selector("service.id"))
    name = Field(_Selector("service.name"))
    address = Field(_Selector("service.address"))
    port = Field(_Selector("service.port"))
    tags = Tags("service.tags")
    meta = Meta("service.meta")


class _Node:
    name = Field(_Selector("node.name"))
    address = Field(_Selector("node.address"))
    datacenter = Field(_Selector("node.datacenter"))
    meta = Meta("node.meta")


class F:
    """Where filters begin; see the module's text."""

    service: ClassVar[type[_Service]] = _Service
    node: ClassVar[type[_Node]] = _Node

    @staticmethod
    def any_check(
        *,
        status: CheckStatus | str | None = None,
        name: str | None = None,
        id: str | None = None,  # noqa: A002
    ) -> Filter:
        """Whether at least one check of the instance or its node has this property. Exactly one is given."""
        return Filter(_check(status, name, id))

    @staticmethod
    def no_check(
        *,
        status: CheckStatus | str | None = None,
        name: str | None = None,
        id: str | None = None,  # noqa: A002
    ) -> Filter:
        """Whether no check of the instance or its node has this property. Exactly one is given."""
        return Filter(("not (", *_check(status, name, id), ")"))


def _check(status: CheckStatus | str | None, name: str | None, check_id: str | None) -> tuple[str | _Selector, ...]:
    given = [
        (key, value) for key, value in (("Status", status), ("Name", name), ("CheckID", check_id)) if value is not None
    ]
    if len(given) != 1:
        # Two at once would each be answered by another check: go-bexpr has no way to speak of one and the same.
        raise InvalidInput("ask about one property of a check: status=, name= or id=")
    ((key, value),) = given
    if key == "Status" and value not in ("passing", "warning", "critical"):
        raise InvalidInput(
            f"status={str(value)!r} is none that a check can have: write 'passing', 'warning' or 'critical'"
        )
    return (_Selector("checks"), f".{key} == {_literal(str(value))}")


def _joined(left: Filter, word: str, right: Filter) -> Filter:
    return Filter(("(", *left.parts, f") {word} (", *right.parts, ")"))


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f'"{value}"'
    if isinstance(value, str):
        return quoted(value)
    raise InvalidInput(f"{value!r} cannot be compared in a filter: write a text, a whole number or True/False")


def quoted(text: str) -> str:
    """A literal that ends where it should.

    Between double quotes go-bexpr reads Go's escapes, but ends at the first quote even if it is escaped (observed on
    1.8.7): a quote inside is therefore written by its code.
    """
    return '"' + "".join(_ESCAPES.get(char, char) for char in text) + '"'
