"""Filter expressions, parsed as go-bexpr 0.1 parses them: a grammar of alternatives, with its texts for mistakes.

The parser goes where the original goes, alternative by alternative, and remembers the farthest place at which it was
stuck and what it would have taken there. So it says word for word what a real agent says
(github.com/hashicorp/go-bexpr, grammar/grammar.peg).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

__all__ = ["And", "Expression", "Match", "Not", "Or", "SyntaxFault", "parse"]


class SyntaxFault(Exception):
    """The expression cannot be parsed; the text is go-bexpr's."""


@dataclass(frozen=True, slots=True)
class Match:
    """A selector, an operator, and for most operators a value."""

    selector: tuple[str, ...]
    operator: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class And:
    """Both."""

    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Or:
    """One of both, or both."""

    left: Expression
    right: Expression


Expression: TypeAlias = "Match | Not | And | Or"

_SPACES: Final = "[ \\t\\r\\n]"
_LETTER: Final = re.compile(r"[a-zA-Z]")
_WORD: Final = re.compile(r"[a-zA-Z0-9_]")
_DIGIT: Final = re.compile(r"[0-9]")
_FIRST_DIGIT: Final = re.compile(r"[1-9]")
_SPACE: Final = re.compile(r"[ \t\r\n]")
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))"
)
_PLAIN_ESCAPES: Final = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))


def parse(text: str) -> Expression:
    """The expression that a text tells.

    Raises:
        SyntaxFault: it tells none.
    """
    return _Parser(text).whole()


class _Parser:
    """Each method is a rule of the grammar: it moves on and gives what it found, or goes back and gives None."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.farthest = 0
        self.wanted: set[str] = set()
        self.inverted = False
        self.faults: list[str] = []

    def whole(self) -> Expression:
        found = self._input()
        if self.faults:
            raise SyntaxFault("\n".join(dict.fromkeys(self.faults)))
        if found is None:
            raise SyntaxFault(f"{self._place(self.farthest)}: no match found, expected: {self._expectations()}")
        return found

    # --- places and mistakes ------------------------------------------------------------------------------

    def _place(self, at: int) -> str:
        before = self.text[:at]
        line = self.text[: at + 1].count("\n") + 1
        column = 0 if self.text[at : at + 1] == "\n" else at - before.rfind("\n")
        return f"{line}:{column} ({len(before.encode())})"

    def _expectations(self) -> str:
        wanted = sorted(self.wanted - {"!."}) + (["EOF"] if "!." in self.wanted else [])
        return wanted[0] if len(wanted) == 1 else f"{', '.join(wanted[:-1])} or {wanted[-1]}"

    def _stuck(self, failed: bool, at: int, want: str) -> None:
        if failed is self.inverted or at < self.farthest:
            return
        if at > self.farthest:
            self.farthest, self.wanted = at, set()
        self.wanted.add(f"!{want}" if self.inverted else want)

    def _fault(self, at: int, rule: str, message: str) -> None:
        self.faults.append(f'{self._place(at)}: rule "{rule}": {message}')

    # --- the smallest pieces ------------------------------------------------------------------------------

    def _literal(self, word: str) -> bool:
        start = self.at
        fits = self.text.startswith(word, start)
        self._stuck(not fits, start, f'"{word}"' if word != '"' else '"\\""')
        self.at = start + len(word) if fits else start
        return fits

    def _char(self, pattern: re.Pattern[str], shown: str) -> str | None:
        start = self.at
        found = pattern.match(self.text, start)
        self._stuck(found is None, start, shown)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def _any(self) -> bool:
        start = self.at
        if start >= len(self.text):
            self._stuck(True, start, ".")
            return False
        self.at = start + 1
        self._stuck(False, start, ".")
        return True

    def _ahead(self, rule: Callable[[], object]) -> bool:
        """Whether the rule would succeed here; nothing is consumed."""
        start = self.at
        found = rule()
        self.at = start
        return found is not None and found is not False

    def _not_ahead(self, rule: Callable[[], object]) -> bool:
        self.inverted = not self.inverted
        found = self._ahead(rule)
        self.inverted = not self.inverted
        return not found

    def _end(self) -> bool:
        return self._not_ahead(self._any)

    def _space(self) -> bool:
        found = self._char(_SPACE, _SPACES)
        if found is None:
            return False
        while self._char(_SPACE, _SPACES) is not None:
            pass
        return True

    def _maybe_space(self) -> bool:
        self._space()
        return True

    def _sequence(self, *steps: Callable[[], object]) -> list[object] | None:
        """All steps in order, or none of them."""
        start = self.at
        found: list[object] = []
        for step in steps:
            result = step()
            if result is None or result is False:
                self.at = start
                return None
            found.append(result)
        return found

    def _word(self, word: str) -> Callable[[], bool]:
        return lambda: self._literal(word)

    # --- the whole and its connectives --------------------------------------------------------------------

    def _input(self) -> Expression | None:
        found = self._sequence(
            self._maybe_space, self._word("("), self._maybe_space, self._or, self._maybe_space, self._word(")"),
            self._maybe_space, self._end,
        )  # fmt: skip
        if found is not None:
            return _expression(found[3])
        found = self._sequence(self._maybe_space, self._or, self._maybe_space, self._end)
        return None if found is None else _expression(found[1])

    def _or(self) -> Expression | None:
        found = self._sequence(self._and, self._space, self._word("or"), self._space, self._or)
        if found is not None:
            return Or(_expression(found[0]), _expression(found[4]))
        return self._and()

    def _and(self) -> Expression | None:
        found = self._sequence(self._not, self._space, self._word("and"), self._space, self._and)
        if found is not None:
            return And(_expression(found[0]), _expression(found[4]))
        return self._not()

    def _not(self) -> Expression | None:
        found = self._sequence(self._word("not"), self._space, self._not)
        if found is None:
            return self._grouping()
        operand = _expression(found[2])
        return operand.operand if isinstance(operand, Not) else Not(operand)

    def _grouping(self) -> Expression | None:
        found = self._sequence(self._word("("), self._maybe_space, self._or, self._maybe_space, self._word(")"))
        if found is not None:
            return _expression(found[2])
        match = self._match()
        if match is not None:
            return match
        start = self.at
        if self._sequence(
            self._word("("), self._maybe_space, self._or, self._maybe_space, lambda: self._not_ahead(self._word(")"))
        ):
            self._fault(self.at, "grouping", "Unmatched parentheses")
        self.at = start
        return None

    # --- matches ------------------------------------------------------------------------------------------

    def _match(self) -> Expression | None:
        return self._selector_op_value() or self._selector_op() or self._value_op_selector()

    def _selector_op_value(self) -> Match | None:
        found = self._sequence(
            self._selector,
            lambda: (
                self._sign("==") or self._sign("!=") or self._operator("contains") or self._operator("not", "contains")
                or self._operator("matches") or self._operator("not", "matches")
            ),
            self._value,
        )  # fmt: skip
        if found is None:
            return None
        return Match(_path(found[0]), str(found[1]), _text(found[2]))

    def _selector_op(self) -> Match | None:
        found = self._sequence(
            self._selector,
            lambda: self._operator("is", "empty", end=False) or self._operator("is", "not", "empty", end=False),
        )
        if found is None:
            return None
        return Match(_path(found[0]), str(found[1]))

    def _value_op_selector(self) -> Match | None:
        def inside() -> str | None:
            return self._operator("in") or self._operator("not", "in")

        found = self._sequence(self._value, inside, self._selector)
        if found is not None:
            return Match(_path(found[2]), str(found[1]), _text(found[0]))
        start = self.at
        if self._sequence(self._value, inside, lambda: self._not_ahead(self._selector)):
            self._fault(self.at, "match", "Invalid selector")
        self.at = start
        return None

    def _sign(self, sign: str) -> str | None:
        return sign if self._sequence(self._maybe_space, self._word(sign), self._maybe_space) else None

    def _operator(self, *words: str, end: bool = True) -> str | None:
        steps: list[Callable[[], object]] = []
        for word in words:
            steps += [self._space, self._word(word)]
        if end:
            steps.append(self._space)
        return " ".join(words) if self._sequence(*steps) else None

    # --- selectors and values -----------------------------------------------------------------------------

    def _selector(self) -> tuple[str, ...] | None:
        first = self._identifier()
        if first is None:
            return None
        path = [first]
        while (step := self._step()) is not None:
            path.append(step)
        return tuple(path)

    def _identifier(self) -> str | None:
        first = self._char(_LETTER, "[a-zA-Z]")
        if first is None:
            return None
        rest = [first]
        while (char := self._char(_WORD, "[a-zA-Z0-9_]")) is not None:
            rest.append(char)
        return "".join(rest)

    def _step(self) -> str | None:
        found = self._sequence(self._word("."), self._identifier)
        return str(found[1]) if found is not None else self._index()

    def _index(self) -> str | None:
        found = self._sequence(self._word("["), self._maybe_space, self._string, self._maybe_space, self._word("]"))
        if found is not None:
            return _text(found[2])
        start = self.at
        if self._sequence(self._word("["), self._maybe_space, lambda: self._not_ahead(self._string)):
            self._fault(self.at, "index", "Invalid index")
        self.at = start
        unclosed = (self._maybe_space, lambda: self._not_ahead(self._word("]")))
        if self._sequence(self._word("["), self._maybe_space, self._string, *unclosed):
            self._fault(self.at, "index", "Unclosed index expression")
        self.at = start
        return None

    def _value(self) -> _Value | None:
        selector = self._selector()
        if selector is not None:
            return _Value(".".join(selector))
        return self._number() or self._string()

    def _number(self) -> _Value | None:
        start = self.at
        if self._sequence(lambda: self._literal("-") or True, self._digits, lambda: self._ahead(self._after_number)):
            return _Value(self.text[start : self.at])
        if self._sequence(
            lambda: self._literal("-") or True, self._digits, lambda: self._not_ahead(self._after_number)
        ):
            self._fault(self.at, "number", "Invalid number literal")
        self.at = start
        return None

    def _after_number(self) -> bool:
        return self._ahead(lambda: self._space() or self._end() or self._literal(")"))

    def _digits(self) -> bool:
        if not self._literal("0"):
            if self._char(_FIRST_DIGIT, "[1-9]") is None:
                return False
            while self._char(_DIGIT, "[0-9]") is not None:
                pass
        start = self.at
        if self._literal(".") and self._char(_DIGIT, "[0-9]") is not None:
            while self._char(_DIGIT, "[0-9]") is not None:
                pass
        else:
            self.at = start
        return True

    def _string(self) -> _Value | None:
        start = self.at
        for mark in ("`", '"'):
            if self._literal(mark):
                self._until(mark)
                if self._literal(mark):
                    return self._unquoted(start)
                self.at = start
        for mark in ("`", '"'):
            if self._literal(mark):
                self._until(mark)
                if self._end():
                    self._fault(self.at, "string", "Unterminated string literal")
                self.at = start
                break
        return None

    def _until(self, mark: str) -> None:
        while self._not_ahead(self._word(mark)) and self._any():
            pass

    def _unquoted(self, start: int) -> _Value:
        raw = self.text[start : self.at]
        try:
            return _Value(raw[1:-1].replace("\r", "") if raw[0] == "`" else _unescaped(raw[1:-1]))
        except ValueError:
            self._fault(start, "string", "invalid syntax")
            return _Value("")


@dataclass(frozen=True, slots=True)
class _Value:
    text: str


# What a sequence found is known by its place in the grammar; a type checker cannot know.


def _expression(found: object) -> Expression:
    return cast("Expression", found)


def _path(found: object) -> tuple[str, ...]:
    return cast("tuple[str, ...]", found)


def _text(found: object) -> str:
    return cast("_Value", found).text


def _unescaped(raw: str) -> str:
    if "\n" in raw:
        raise ValueError
    made: list[str] = []
    at = 0
    while at < len(raw):
        if raw[at] != "\\":
            made.append(raw[at])
            at += 1
            continue
        found = _ESCAPE.match(raw, at)
        if found is None:
            raise ValueError
        made.append(_PLAIN_ESCAPES.get(found[1], "") or _by_code(found))
        at = found.end()
    # A byte written by its code is one byte of UTF-8, not a character.
    return "".join(made).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _by_code(found: re.Match[str]) -> str:
    byte = int(found[2], 16) if found[2] else int(found[5], 8) if found[5] else None
    if byte is not None:
        return chr(byte) if byte < 128 else bytes((byte,)).decode("utf-8", "surrogateescape")
    code = int(found[3] or found[4], 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError
    return chr(code)
