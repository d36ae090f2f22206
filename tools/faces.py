"""Writes `consul_access/_sync`, the face for threads, from `consul_access/_async`, the one for tasks.

    python tools/faces.py            writes the twins
    python tools/faces.py --check    says what would change, and fails if anything would

Only names are exchanged, by the table below. A rule that nothing uses any more fails, too. What makes sense for tasks
only stands between the lines `# --- tasks only` and `# --- end tasks only`.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "consul_access" / "_async"
TWIN = ROOT / "consul_access" / "_sync"

RULES: dict[str, str] = {
    r"async def": "def",
    r"async for": "for",
    r"await ": "",
    r"\bAsyncByteStream\b": "SyncByteStream",
    r"\bAsync(?=[A-Z])": "",
    r"\b_Async(?=[A-Z])": "_",
    r"\b_async\b": "_sync",
    r"\b_pairs\.tasks\b": "_pairs.threads",
    r"\b__aenter__\b": "__enter__",
    r"\b__aexit__\b": "__exit__",
    r"\b__aiter__\b": "__iter__",
    r"\b__anext__\b": "__next__",
    r"\baiter\b": "iter",
    r"\banext\b": "next",
    r"\bStopAsyncIteration\b": "StopIteration",
    r"\baclose\b": "close",
    r"\baread\b": "read",
    r"\bhandle_async_request\b": "handle_request",
    r"client for tasks. Its twin for threads is generated: the same methods, not awaited": "client for threads",
    r"; `consul_access/_sync` is its twin for threads \(tools/faces\.py\)": "; this is the twin for threads",
}
TASKS_ONLY = re.compile(r"^ *# --- tasks only\n.*?^ *# --- end tasks only\n", re.MULTILINE | re.DOTALL)


def twin_of(text: str, name: str, used: set[str]) -> str:
    """The twin of a module's text. Adds the rules that it needed to `used`."""
    text = TASKS_ONLY.sub("", text)
    for pattern, replacement in RULES.items():
        text, count = re.subn(pattern, replacement, text)
        if count:
            used.add(pattern)
    header = f"# Written by tools/faces.py from consul_access/_async/{name}; edit that one.\n"
    return _formatted(header + text, name)


def _formatted(text: str, name: str) -> str:
    """As the rest of the code is formatted: shorter names break lines and sort imports differently."""
    place = ["--stdin-filename", str(TWIN / name), "-"]
    for command in (["check", "--quiet", "--fix-only", "--select", "I"], ["format", "--quiet"]):
        done = subprocess.run(
            [_python_with_ruff(), "-m", "ruff", *command, *place],
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = done.stdout
    return text


@cache
def _python_with_ruff() -> str:
    """This Python, or that of the development environment when it is called with another one."""
    if importlib.util.find_spec("ruff") is not None:
        return sys.executable
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        sys.exit("ruff formats the twins, and is not installed: make .venv/dev")
    return str(python)


def twins(source: Path) -> tuple[dict[str, str], set[str]]:
    """All twins by file name, and the rules that nothing used."""
    used: set[str] = set()
    texts = {path.name: twin_of(path.read_text(), path.name, used) for path in sorted(source.glob("*.py"))}
    return texts, RULES.keys() - used


def differences(texts: dict[str, str], folder: Path) -> list[str]:
    """What would change in the folder, as a unified diff; files that have no source any more included."""
    present = {path.name: path.read_text() for path in folder.glob("*.py")}
    lines: list[str] = []
    for name in sorted(texts.keys() | present.keys()):
        old, new = present.get(name, "").splitlines(), texts.get(name, "").splitlines()
        lines += difflib.unified_diff(old, new, f"{folder.name}/{name}", f"{folder.name}/{name} (new)", lineterm="")
    return lines


def main(check: bool) -> int:
    texts, unused = twins(SOURCE)
    changes = differences(texts, TWIN)
    for pattern in sorted(unused):
        print(f"nothing uses the rule {pattern!r}: remove it")
    if check:
        print("\n".join(changes))
    else:
        TWIN.mkdir(exist_ok=True)
        for path in TWIN.glob("*.py"):
            if path.name not in texts:
                path.unlink()
        for name, text in texts.items():
            (TWIN / name).write_text(text)
    return 1 if unused or (check and changes) else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
