"""How Go reads and writes what Consul's agents read and write: durations, truth values, quoted texts.

The texts of refusals are Go's own (1.15, which Consul 1.8.7 was built with).
"""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["NANOSECOND", "duration", "quoted", "seconds", "shown", "truth", "whole_number"]

NANOSECOND: Final = 1e-9
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = re.compile(r"(\d*)(\.\d*)?([^\d.]*)")
_TRUTHS: Final = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)


def duration(text: str) -> int:
    """The nanoseconds that a text such as `1m30s` tells.

    Raises:
        ValueError: it tells none; the text is what Go would say.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f"time: invalid duration {quoted(text)}")
    total = 0
    while rest:
        found = _PART.match(rest)
        whole, fraction, unit = (found[1], found[2] or "", found[3]) if found else ("", "", "")
        if not whole and len(fraction) < 2:
            raise ValueError(f"time: invalid duration {quoted(text)}")
        if not unit:
            raise ValueError(f"time: missing unit in duration {quoted(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quoted(unit)} in duration {quoted(text)}")
        total += int(whole or "0") * _UNITS[unit] + int(float(f"0{fraction}0") * _UNITS[unit])
        rest = rest[len(whole) + len(fraction) + len(unit) :]
    if total >= 1 << 63:
        raise ValueError(f"time: invalid duration {quoted(text)}")
    return sign * total


def seconds(nanoseconds: int) -> float:
    """The same length in seconds."""
    return nanoseconds / 1_000_000_000


def shown(nanoseconds: int) -> str:
    """A length as Go shows it: `1m30s`, `10s`, `1.5s`, `250ms`."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit in ("ns", "µs", "ms"):
        if left < _UNITS[unit] * 1000:
            return f"{sign}{_decimal(left, _UNITS[unit])}{unit}"
    hours, left = divmod(left, _UNITS["h"])
    minutes, left = divmod(left, _UNITS["m"])
    parts = f"{hours}h" if hours else ""
    parts += f"{minutes}m" if hours or minutes else ""
    return f"{sign}{parts}{_decimal(left, _UNITS['s'])}s"


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def truth(text: str) -> bool:
    """What `strconv.ParseBool` makes of a text.

    Raises:
        ValueError: nothing; the text is what Go would say.
    """
    if text not in _TRUTHS:
        raise ValueError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")
    return _TRUTHS[text]


def whole_number(text: str) -> int:
    """What `strconv.ParseInt` makes of a text whose base shows in its beginning.

    Raises:
        ValueError: nothing; the text is what Go would say.
    """
    bare = text.lstrip("+-") if text[:1] in {"+", "-"} else text
    base = 8 if re.fullmatch(r"0[0-7_]+", bare) else 0
    try:
        if not bare or bare[:1] in {"+", "-"} or text != text.strip():
            raise ValueError
        number = int(text, base)
    except ValueError:
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax") from None
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: value out of range")
    return number


def quoted(text: str) -> str:
    """A text between double quotes, as Go's %q writes it."""
    return "".join(
        char if char.isprintable() or char == " " else _escaped(char) for char in json.dumps(text, ensure_ascii=False)
    )


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 128 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"
