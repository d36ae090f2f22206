"""Shell sessions of the documentation, run as they are written."""

from __future__ import annotations

import doctest
import os
import signal
import subprocess
import sys
from pathlib import Path

from tools.ports import free_ports

PATIENCE = 300.0
"""Seconds that a block may take; it is meant to end, and others want the processors, too."""
PAGES_PORT = "8080"
"""The port that pages write; a session is run with one that is free."""
END = "--- end of a command ---"


def differences(session: str) -> str | None:
    """Runs the commands of a session in one bash; tells the first that prints otherwise than the session says.

    What follows a `$ ` is a command, and a `> ` goes on with it; the rest is what it prints, errors included, with
    `...` for anything. What was started in the background is ended at the end, and waited for.
    """
    steps = _steps(session.replace(PAGES_PORT, str(free_ports(1)[0])))
    output = _run("".join(f"{command}\necho '{END}'\n" for command, _ in steps))
    printed = output.split(f"{END}\n")
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for (command, wanted), got in zip(steps, printed, strict=False):
        if not checker.check_output(wanted, got, flags):
            return f"$ {command}\nshould print\n{wanted}\nand printed\n{got}"
    return None if len(printed) > len(steps) else f"it ended early:\n{output}"


def _steps(session: str) -> list[tuple[str, str]]:
    """Commands, and what they should print."""
    steps: list[tuple[str, str]] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
            continue
        command, wanted = steps.pop()
        steps.append((f"{command}\n{line[2:]}", "") if line.startswith("> ") else (command, f"{wanted}{line}\n"))
    return steps


def _run(script: str) -> str:
    """What bash prints; the commands of this environment go before all others."""
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-c", f"trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n{script}"]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as bash:
        try:
            return bash.communicate(timeout=PATIENCE)[0]
        except BaseException:
            os.killpg(bash.pid, signal.SIGKILL)  # and all that it has started
            raise


def failure(script: str) -> str | None:
    """Runs a block of `sh` in one bash that stops at the first error; tells what it printed, if there was one."""
    script = script.replace(PAGES_PORT, str(free_ports(1)[0]))
    output = _run(f"set -euo pipefail\n{script}\necho '{END}'\n")
    return None if output.endswith(f"{END}\n") else f"it failed:\n{output}"
