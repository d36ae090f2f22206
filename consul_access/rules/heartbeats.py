"""The heartbeat of an instance that no agent looks after: a time stamp in its check's output, and what it tells.

    heartbeat 2026-11-25T01:30:00.250Z, every 10 s

The stamp is by the clock of the service's own machine, and is compared with the clock of whoever reads it. Where the
reader's clock is ahead, instances look older by as much; where it is behind, younger. A stamp from the future is fresh.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from consul_access.models.catalog import Check

__all__ = ["Heartbeat", "Reaped", "heartbeat_of", "is_too_old", "reapable", "stamped"]

MISSED = 3
"""Heartbeats that an owner may miss before it counts as gone."""

_STAMP = re.compile(
    r"heartbeat (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z, every (\d{1,9}(?:\.\d{1,9})?) s(?:\n|\Z)", re.ASCII
)


class Heartbeat(NamedTuple):
    """What a stamp tells.

    Args:
        at: seconds since 1970, by the clock of the service's own machine.
        every: seconds between two of them.
    """

    at: float
    every: float


@dataclass(frozen=True, slots=True)
class Reaped:
    """An entry whose owner is gone.

    Args:
        id: the service id.
        service: the service's name.
        node: the node it was on.
        last_heartbeat: when its owner was last heard of, by the owner's clock.
        age: seconds since then, by the clock of whoever reaps.
    """

    id: str
    service: str
    node: str
    last_heartbeat: datetime
    age: float


def stamped(now: float, every: float, output: str = "") -> str:
    """A check's output with a stamp in front.

    Args:
        now: seconds since 1970.
        every: seconds until the next one.
        output: what the check says besides.
    """
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    line = f"heartbeat {when}Z, every {f'{every:.3f}'.rstrip('0').rstrip('.')} s"
    return f"{line}\n{output}" if output else line


def heartbeat_of(output: str) -> Heartbeat | None:
    """The stamp of a check's output; None when there is none, or none that can be read."""
    found = _STAMP.match(output)
    if found is None:
        return None
    try:
        when = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    except ValueError:  # the 31st of February
        return None
    return Heartbeat(when.timestamp(), float(found[2]))


def is_too_old(checks: Iterable[Check], now: float, max_age: float) -> bool:
    """Whether the instance of these checks has not been heard of for longer; one without any stamp never is.

    Args:
        checks: all its checks.
        now: seconds since 1970.
        max_age: seconds.
    """
    beats = [beat for check in checks if (beat := heartbeat_of(check.output)) is not None]
    return bool(beats) and now - max(beat.at for beat in beats) > max_age


def reapable(checks: Iterable[Check], now: float, older_than: float) -> list[Reaped]:
    """The services whose owners are gone.

    Args:
        checks: all checks of a node.
        now: seconds since 1970.
        older_than: seconds; nothing is gone before it has missed three heartbeats of its own.
    """
    latest: dict[str, tuple[Heartbeat, Check]] = {}
    for check in checks:
        beat = heartbeat_of(check.output)
        if beat is not None and check.service_id and beat >= latest.get(check.service_id, (beat, check))[0]:
            latest[check.service_id] = (beat, check)
    return [
        Reaped(check.service_id, check.service_name, check.node, datetime.fromtimestamp(beat.at, UTC), now - beat.at)
        for beat, check in latest.values()
        if now - beat.at > max(older_than, MISSED * beat.every)
    ]
