"""The commands together, and what becomes of an error: one line, and an exit code."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from consul_access.cli import (
    demo,
    dev,
    doctor,
    etcd,
    explain,
    instances,
    k8s,
    resolve,
    run,
    services,
    sync,
    wait,
    watch,
)
from consul_access.cli.output import ExitCode, code_of, say
from consul_access.errors import ConsulAccessError

__all__ = ["app", "run_app"]

app = typer.Typer(
    name="consul-access",
    help="Finds services at Consul and in Kubernetes' etcd, and runs programs as registered services.",
    epilog="Where Consul is, and the token, come from the CONSUL_* environment, as for Consul's own command.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("services")(services.services)
app.command("instances")(instances.instances)
app.command("resolve")(resolve.resolve)
app.command("explain")(explain.explain)
app.command("doctor")(doctor.doctor)
app.command("wait")(wait.wait)
app.command("watch")(watch.watch)
app.command("sync")(sync.sync)
app.add_typer(etcd.etcd)
app.add_typer(k8s.k8s)
app.command("run", context_settings={"allow_interspersed_args": False})(run.run)
app.command("demo")(demo.demo)
app.command("dev")(dev.dev)


def _version(asked: bool) -> None:
    if asked:
        from consul_access import __version__

        typer.echo(f"consul-access {__version__}")
        raise typer.Exit


@app.callback()
def everything(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Prints the version.")
    ] = False,
) -> None:
    """Options that go before every command."""


def run_app() -> int:
    """Runs the command line; gives the exit code.

    Standard output that nobody reads any more (`| head`) is no error.
    """
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # it would be flushed once more
        return ExitCode.DONE
    return code


def _run() -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal's encoding is no reason to fail
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        say(f"{error.format_message()} ({context.command_path if context else 'consul-access'} --help)")
        return ExitCode.USAGE
    except ConsulAccessError as error:
        say(str(error))
        return code_of(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except SystemExit as error:  # which here is typer's word for a broken pipe
        raise BrokenPipeError from error
    return code if isinstance(code, int) else ExitCode.DONE
