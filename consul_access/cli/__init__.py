"""The command `consul-access`: one file a command, what they share in `output` and `connection`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """What the command `consul-access` runs; ends the process with an exit code of `output.ExitCode`."""
    try:
        import typer  # noqa: F401 - whether it is there
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.stderr.write("consul-access: the command line is an extra: pip install consul-access[cli]\n")
        sys.exit(2)
    from consul_access.cli.app import run_app

    sys.exit(run_app())
