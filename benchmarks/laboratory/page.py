"""The tables of docs/reliability.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults.comparing import Met, is_ahead
from tests.faults.scenarios import ALONE, SCENARIOS, SERIES

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, RESULTS = DOCS / "reliability.md", DOCS / "reliability.json"
MARK = "<!-- measured -->"


def verdict(result: dict[str, Any]) -> str:
    """Of all rounds."""
    rounds = result["rounds"]
    failed, passed = [len(one["failed"]) for one in rounds], [one["passed"] for one in rounds]
    if not any(passed + failed):
        return "not run"
    if any(failed):
        return f"**{' and '.join(map(str, failed))} failed**, {' and '.join(map(str, passed))} held"
    times = f"{len(rounds)} x " if len(rounds) > 1 else ""
    return f"holds ({times}{min(passed)})"


def recovery(result: dict[str, Any]) -> str:
    """What was measured, the slowest of each."""
    parts = []
    for what, values in result["measured"].items():
        seconds = [float(value.removesuffix(" s")) for value in values if value.endswith(" s")]
        if seconds and "after" in what:
            parts.append(f"{what} {max(seconds):.1f} s")
        elif what == "seconds":
            parts.append(f"{max(map(float, values)):.1f} s")
    return "; ".join(parts[:3])


def beside(name: str, peers: dict[str, dict[str, Any]]) -> list[str]:
    """What was said of ours and of the other client; or in a word why nobody else was there."""
    if name not in peers:
        return ["", f"*{ALONE[name]}*" if name in ALONE else "not run"]
    ours = Met.of(peers[name]["ours"])
    client, other = next((client, Met.of(one)) for client, one in peers[name].items() if client != "ours")
    return [ours.said, f"{client}{' **ahead**' if is_ahead(other, ours) else ''}: {other.said}"]


def tables(found: dict[str, Any]) -> str:
    """Everything that was found, for the page."""
    results, peers, others = found["ours"], found["peers"], found["beside"]
    titles = ["scenario", "what must hold", "our tests", "their recovery", "reference", "ours meets it", "another does"]
    lines = [f"With {', '.join([*found['servers'], *(f'{release} beside' for release in others)])}.", ""]
    for series, title in SERIES.items():
        lines += [f"## {title}", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        for name, one in SCENARIOS.items():
            if name.startswith(series):
                result = results.get(name, {"rounds": [], "measured": {}})
                held = [
                    verdict(result),
                    *(f"{release}: {verdict(of[name])}" for release, of in others.items() if name in of),
                ]
                cells = [f"{name} {one.what}", one.bar, "; ".join(held), recovery(result), one.reference]
                lines.append(f"| {' | '.join([*cells, *beside(name, peers)])} |")
        lines.append("")
    return "\n".join(lines)
