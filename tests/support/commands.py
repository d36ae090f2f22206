"""The command line as users run it: the installed program, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("consul-access"))


def consul_access(*arguments: str, agent: str = "127.0.0.1:1", **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end.

    Args:
        arguments: of the command line.
        agent: what CONSUL_HTTP_ADDR says.
        environ: further variables.
    """
    variables = os.environ | {"CONSUL_HTTP_ADDR": agent} | environ
    line = [PROGRAM, *arguments]
    return subprocess.run(line, env=variables, capture_output=True, text=True, timeout=60, check=False)
