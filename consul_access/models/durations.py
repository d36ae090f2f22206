"""Lengths of time as Go writes them, which is how Consul reads them: `10s`, `1m30s`, `500ms`.

Consul takes a bare number for nanoseconds, so what is sent is always text with a unit.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

from consul_access.errors import InvalidInput

__all__ = ["Duration", "go_duration", "seconds"]

Duration = str | float | timedelta
"""Seconds as a number, a `timedelta`, or a Go duration such as `1m30s`."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|μs|ns)")
_WHOLE = re.compile(rf"\+?(?:{_PART.pattern})+")
_LONGEST = 290 * 365 * 86400.0
"""Go counts nanoseconds in 64 bits: about 292 years."""


def seconds(value: Duration, *, what: str) -> float:
    """The length in seconds.

    Args:
        value: seconds, a `timedelta` or a Go duration.
        what: the argument's name, for the error.

    Raises:
        InvalidInput: it is negative, not finite, too long, or a text without a unit.
    """
    if isinstance(value, timedelta):
        length = value.total_seconds()
    elif isinstance(value, str):
        length = _parse(value, what)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        length = float(value) if value <= _LONGEST else math.inf  # a float cannot hold every int
    else:
        raise InvalidInput(f"{what}={value!r} is no duration: write seconds, '1m30s' or a timedelta")
    if not math.isfinite(length) or length < 0 or length > _LONGEST:
        raise InvalidInput(f"{what}={value!r} is no length of time that can be waited for: write 0 or more seconds")
    return length


def go_duration(value: Duration, *, what: str) -> str:
    """The length as a Go duration, such as `1m30s`; a text that already is one stays as it is.

    Args:
        value: seconds, a `timedelta` or a Go duration.
        what: the argument's name, for the error.

    Raises:
        InvalidInput: as `seconds` does.
    """
    length = seconds(value, what=what)
    return value if isinstance(value, str) else _written(length)


def _parse(text: str, what: str) -> float:
    if text == "0":
        return 0.0
    if not _WHOLE.fullmatch(text):
        raise InvalidInput(f"{what}={text!r} is no duration: write a number and a unit, such as '10s' or '1m30s'")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _written(length: float) -> str:
    nanoseconds = round(length * 1e9)
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")
    whole, fraction = divmod(rest, 10**9)
    if fraction:
        return f"{text}{_small(whole, fraction)}"
    return f"{text}{whole}s" if whole or not text else text


def _small(whole: int, fraction: int) -> str:
    if not whole and fraction % 10**6 == 0:
        return f"{fraction // 10**6}ms"
    return f"{whole}.{fraction:09d}".rstrip("0") + "s"
