"""What commands print: results on standard output, for people or as JSON; all else in one line on standard error."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from consul_access.errors import ConsulAccessError, InvalidInput, NoInstances

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "ExitCode",
    "Json",
    "StatusLine",
    "code_of",
    "duration",
    "print_json",
    "print_line",
    "print_table",
    "say",
    "say_as_json",
    "say_what_is_logged",
    "table",
    "visible",
]

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Prints JSON.")]

_STYLES = {"passing": "green", "warning": "yellow", "critical": "red", "maintenance": "magenta"}


class ExitCode(IntEnum):
    """The exit codes of all commands. `run` ends as its program does, and has 125 to 127 for itself."""

    DONE = 0
    """The answer is there; it may be an empty list."""
    NO = 1
    """The answer is no: no such instance, not in time, not discoverable."""
    USAGE = 2
    """The command line, or the environment, cannot be right; nothing was sent."""
    UNAVAILABLE = 3
    """No usable answer from Consul; the same command may succeed later."""
    REFUSED = 4
    """Consul refused, or answered what cannot be believed; later will not help."""
    FAILED = 125
    """`run`: the program could not be made a service (port not open in time, registration refused)."""
    NOT_EXECUTABLE = 126
    """`run`: the program was found and cannot be run."""
    NOT_FOUND = 127
    """`run`: there is no such program."""
    INTERRUPTED = 130
    """Ctrl-C."""


def code_of(error: ConsulAccessError) -> ExitCode:
    """The exit code that an error stands for."""
    if isinstance(error, NoInstances):
        return ExitCode.NO
    if isinstance(error, InvalidInput):
        return ExitCode.USAGE
    return ExitCode.UNAVAILABLE if error.retryable else ExitCode.REFUSED


class _Voice:
    """How lines on standard error are written."""

    as_json = False


def say(text: str) -> None:
    """One line on standard error. Nobody reading it is no reason to stop."""
    line = json.dumps({"message": text}) if _Voice.as_json else f"consul-access: {visible(text)}"
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def say_as_json() -> None:
    """From here on, lines on standard error are JSON documents, for programs whose standard output is not ours."""
    _Voice.as_json = True


def say_what_is_logged(level: int) -> None:
    """From here on, what the library logs is said in single lines, from this level on."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    log = logging.getLogger("consul_access")
    log.addHandler(Lines())
    log.setLevel(level)
    log.propagate = False


def visible(text: str) -> str:
    """The text in one line, with whatever a terminal would obey written out: anybody may have registered it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_json(value: object, *, lines: bool = False) -> None:
    """A JSON document.

    Args:
        value: what `json` can write.
        lines: in one line, flushed: one of many.
    """
    sys.stdout.write(json.dumps(value, indent=None if lines else 2) + "\n")
    if lines:
        sys.stdout.flush()


def print_line(text: str, *, at_once: bool = False) -> None:
    """A line.

    Args:
        text: what it says.
        at_once: flushed: there is more to be done before the end.
    """
    sys.stdout.write(visible(text) + "\n")
    if at_once:
        sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Text:
    """Rows below their columns; statuses have a colour, and nothing is cut off."""
    from rich.cells import cell_len
    from rich.text import Text

    lines = [list(columns), *([visible(cell) or "-" for cell in row] for row in rows)]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(columns))]
    text = Text(no_wrap=True)
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        for cell, width in zip(line[:-1], widths, strict=False):
            text.append(cell, _STYLES.get(cell, "")).append(" " * (width - cell_len(cell) + 2))
        text.append(line[-1], _STYLES.get(line[-1], ""))
    return text


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table. It has colours on a terminal only, and none when NO_COLOR is set."""
    from rich.console import Console

    Console(highlight=False).print(table(columns, rows), soft_wrap=True)


class StatusLine:
    """What is going on, on standard error: one line that changes at a terminal, otherwise a line for each change."""

    def __init__(self) -> None:
        self._at_terminal = sys.stderr.isatty()

    def show(self, text: str, *, news: str) -> None:
        """Shows how things stand.

        Args:
            text: all of it, for the line that changes.
            news: what has changed, for lines that stay.
        """
        if not self._at_terminal:
            say(news)
            return
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{visible(text)[:width]}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Takes the line away."""
        if self._at_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def duration(text: str) -> str | float:
    """A length of time as it is written on a command line: a number stands for seconds."""
    try:
        return float(text)
    except ValueError:
        return text
