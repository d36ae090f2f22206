"""Builds what is published, and installs it as its users do: into an environment of its own, with uv."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
"""Where the programs of the group `package` are."""

_AS_UV_SAYS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}


def build(folder: Path, *options: str, environ: Mapping[str, str] | None = None, umask: int = -1) -> list[Path]:
    """The sdist and, out of that, the wheel; with options of `python -m build` something else.

    Args:
        folder: where they are put.
        options: `--wheel`, `--sdist`: from this folder alone.
        environ: variables besides this process's own.
        umask: of the files that are written meanwhile.
    """
    # Not isolated: what it is built with is in the environment already, and not fetched for every build.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), *options, str(ROOT)]
    _run(command, os.environ | (environ or {}), umask=umask)
    return sorted(folder.iterdir())


def install(folder: Path, *requirements: str) -> Path:
    """An environment with these requirements and nothing else.

    Args:
        folder: where it is made, anew.
        requirements: as pip takes them.

    Returns:
        Its Python.
    """
    uv, environ, python = str(TOOLS / "uv"), os.environ | index(), folder / "bin" / "python"
    _run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)], environ)
    _run([uv, "pip", "install", "-q", "--python", str(python), *requirements], environ)
    return python


def index() -> dict[str, str]:
    """Where packages come from on this machine: pip's settings as variables of uv, as far as those are not set."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        variable = _AS_UV_SAYS.get(name.rpartition(".")[2])
        if variable is not None and variable not in os.environ:
            found[variable] = ast.literal_eval(value)
    return found


def _run(command: Sequence[str], environ: Mapping[str, str], *, umask: int = -1) -> None:
    done = subprocess.run(command, env=environ, umask=umask, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
