"""Runs the examples of the README and of the documentation, each page beside a real agent of its own.

Blocks of `python` are run as they are. Blocks of `console` are run by bash, a block at a time: what follows a `$ ` is a command,
the rest is what it prints, with `...` for anything. What a block has started in the background is ended with it.
"""

from __future__ import annotations

import contextlib
import doctest
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.support.agents import ConsulAgent
from tools.ports import free_ports


def begin(namespace: dict[str, Any]) -> None:
    """An agent that CONSUL_HTTP_ADDR names, and an empty folder to be in."""
    stack = namespace["_page"] = contextlib.ExitStack()
    agent = stack.enter_context(ConsulAgent())
    stack.enter_context(mock.patch.dict(os.environ, {"CONSUL_HTTP_ADDR": agent.address}))
    stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))


def end(namespace: dict[str, Any]) -> None:
    namespace["_page"].close()


BLOCK_ENDS = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n"
PAGES_PORT = "8080"
"""The port that pages write; the example runs with one that is free."""


def run_console(example: Example) -> str | None:
    """Runs the commands of a block; says what they print otherwise than the page."""
    port = str(free_ports(1)[0])
    steps: list[tuple[str, str]] = []
    for line in example.parsed.replace(PAGES_PORT, port).splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        elif line.startswith("> "):
            steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", "")
        else:
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}{line}\n")
    mark = "--- end of a command ---"
    script = BLOCK_ENDS + "".join(f"{command}\necho '{mark}'\n" for command, _ in steps)
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(["bash", "-c", script], env=environ, start_new_session=True, **streams) as bash:
        try:
            output, _ = bash.communicate(timeout=60)
        except BaseException:
            os.killpg(bash.pid, signal.SIGKILL)
            raise
    printed = output.split(f"{mark}\n")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for (command, wanted), got in zip(steps, printed, strict=False):
        if not doctest.OutputChecker().check_output(wanted, got, flags):
            return f"$ {command}\nshould print\n{wanted}\nand printed\n{got}"
    return None if len(printed) > len(steps) else f"the block ended early:\n{output}"


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_console), SkipParser()],
    patterns=["*.md"],
    setup=begin,
    teardown=end,
).pytest()
