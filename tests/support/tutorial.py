"""Does what the tutorial says, as a reader would: saves its files, types its commands into terminals, presses Ctrl-C.

Only ports are others than on the page, for somebody else may use those. What stands above a block says what to do with
it: "Save this as `NAME`", or "in the second terminal"; without a word about terminals it goes on in the last one.
"""

from __future__ import annotations

import doctest
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from markdown_it import MarkdownIt

PATIENCE = 60.0
"""Seconds that a command may take: pip installs a package, and others want the processors, too."""
INTERRUPT = "^C"
_SAVE = re.compile(r"[Ss]ave this as `([\w.]+)`")
_TERMINAL = re.compile(r"(first|second|third) terminal")
_PROMPT = re.compile(r"\[prompt (\d+)\] ")
_KILLED = re.compile(r"^\[\d+\]\S* +Killed.*\n", re.MULTILINE)
"""What bash says about a job some time after it was killed."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TEXT = doctest.OutputChecker()
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Step:
    """One block of the page.

    Attributes:
        line: where its fence is, from 1.
        source: what is in it.
        file: the name that it is saved by.
        terminal: the terminal that it is typed into.
        insist: whether a command is given again until it prints what it should.
    """

    line: int
    source: str
    file: str | None = None
    terminal: str | None = None
    insist: bool = False


def steps_of(page: str) -> list[Step]:
    """What there is to do; a block that nothing is said about is an error."""
    tokens = MarkdownIt("commonmark").parse(page)
    terminal = ""
    steps = []
    for number, token in enumerate(tokens):
        if token.type != "fence":
            continue
        line = (token.map or [0])[0] + 1
        told = tokens[number - 2].content if number > 1 and tokens[number - 1].type == "paragraph_close" else ""
        if token.info == "console":
            terminal = (_TERMINAL.findall(told) or [terminal])[-1]
            assert terminal, f"line {line}: in which terminal?"
            steps.append(Step(line, token.content, terminal=terminal, insist="again" in told))
        else:
            name = _SAVE.search(told)
            assert name, f"line {line}: what is to be done with this?"
            steps.append(Step(line, token.content, file=name[1]))
    return steps


def commands_of(session: str) -> Iterator[tuple[str, str]]:
    """Commands, or `^C`, and what they should print."""
    parts = re.split(r"^(\$ .*|\^C)\n", session, flags=re.MULTILINE)
    assert not parts[0], f"this is printed by nobody: {parts[0]!r}"
    for command, printed in zip(parts[1::2], parts[2::2], strict=True):
        yield command.removeprefix("$ "), printed


class Terminal:
    """One terminal, with bash in it.

    Args:
        folder: where it begins.
        environ: the whole environment.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.master, slave = pty.openpty()
        mode = termios.tcgetattr(slave)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        # Whoever leads a session and opens a terminal has it for Ctrl-C and jobs.
        self.bash = subprocess.Popen(
            ["sh", "-c", 'exec bash --norc --noprofile --noediting -i <"$0" >"$0" 2>&1', os.ttyname(slave)],
            cwd=folder,
            env={**environ, "PS1": "[prompt $?] "},
            start_new_session=True,
        )
        self.text = ""
        self.goes_on = True
        self.settle("")
        os.close(slave)

    def do(self, command: str, printed: str, *, stays: bool, insist: bool) -> None:
        """Gives a command; it should print this, and succeed.

        Args:
            command: what is typed.
            printed: what it should print, with `...` for anything.
            stays: it may be one that does not end, when it has printed all that it should.
            insist: gives it again when it printed something else.
        """
        self.settle(command)
        until = time.monotonic() + PATIENCE
        while True:
            self.type("\x03" if command == INTERRUPT else f"{command}\n")
            code = self.read_until_ended(printed if stays and command != INTERRUPT else None)
            if command.endswith("&"):
                self.read_until(lambda: _prints(printed, _seen(self.text)))
            text, self.text = _seen(self.text), ""
            if code in ((0, 130) if command == INTERRUPT else (None, 0)) and _prints(printed, text):
                self.goes_on = code is None
                return
            if not insist or time.monotonic() > until:
                raise AssertionError(f"$ {command}\nshould print\n{printed}\nand printed (code {code})\n{text}")

    def settle(self, command: str) -> None:
        """The last command may have printed all that it should and go on: only Ctrl-C does not wait for its end."""
        if self.goes_on and command != INTERRUPT:
            assert self.read_until_ended() == 0, f"what went on has failed:\n{self.text}"
            self.text, self.goes_on = "", False

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until_ended(self, enough: str | None = None) -> int | None:
        """Reads until the prompt is back, and tells the command's exit code; or until this has been printed: None."""
        self.read_until(lambda: _PROMPT.search(self.text) or (enough and _prints(enough, _seen(self.text))))
        prompt = _PROMPT.search(self.text)
        if prompt is None:
            return None
        self.text = _KILLED.sub("", self.text[: prompt.start()] + self.text[prompt.end() :])
        return int(prompt[1])

    def read_until(self, condition: Callable[[], object]) -> None:
        """Reads what is printed until the condition is true."""
        until = time.monotonic() + PATIENCE
        while not condition():
            if not select.select([self.master], [], [], max(0.0, until - time.monotonic()))[0]:
                raise AssertionError(f"nothing else is printed but\n{self.text}")
            self.text += os.read(self.master, 65536).decode("utf-8", "replace").replace("\r\n", "\n")

    def close(self) -> None:
        """Hangs up, as a window does that is closed: bash passes it on to all that it has started."""
        os.killpg(self.bash.pid, signal.SIGHUP)
        self.bash.wait(PATIENCE)
        os.close(self.master)


class Reader:
    """Somebody who has an empty folder, and does what a page says.

    Args:
        folder: the empty folder.
        environ: what the terminals' environment is.
        ports: which ports stand in for those of the page.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], ports: Mapping[int, int]) -> None:
        self.folder = folder
        self.environ = environ
        self.ports = {str(theirs): str(ours) for theirs, ours in ports.items()}
        self.terminals: dict[str, Terminal] = {}

    def follow(self, step: Step) -> None:
        """Does one step."""
        source = re.sub("|".join(self.ports), lambda port: self.ports[port[0]], step.source)
        if step.file:
            (self.folder / "greetings" / step.file).write_text(source)
            return
        assert step.terminal is not None
        if step.terminal not in self.terminals:
            self.terminals[step.terminal] = Terminal(self.folder, self.environ)
        commands = list(commands_of(source))
        for number, (command, printed) in enumerate(commands, 1):
            last = number == len(commands)
            self.terminals[step.terminal].do(command, printed, stays=last, insist=step.insist)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for terminal in self.terminals.values():
            terminal.close()


def _seen(text: str) -> str:
    """What is left on a screen: a line that goes back to its beginning is written over."""
    lines = _CONTROL.sub("", text).split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _prints(wanted: str, got: str) -> bool:
    return _TEXT.check_output(wanted, got, _FLAGS)
