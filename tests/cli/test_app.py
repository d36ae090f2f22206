"""The command line itself: what it costs to start, what it says about itself, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from consul_access import NoInstances, PermissionDenied, Unavailable, __version__
from consul_access.cli import supervising
from consul_access.cli.output import ExitCode, code_of, duration, table, visible
from consul_access.errors import BadAnswer, InvalidSettings, TlsError
from consul_access.rules import running
from tests.support.commands import consul_access

COMMANDS = ("services", "instances", "resolve", "explain", "wait", "watch", "run", "sync", "doctor")
WITHOUT_AN_AGENT = ("demo", "dev")
AT_ETCD = (
    "etcd get",
    "etcd put",
    "etcd ls",
    "etcd watch",
    "etcd status",
    "k8s services",
    "k8s instances",
    "sync",
    "doctor",
)


def test_help_names_every_command_and_loads_no_client():
    code = (
        "import sys, json\n"
        "from consul_access.cli import main\n"
        "sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "except SystemExit as error: sys.stderr.write(json.dumps([error.code, list(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    returned, modules = json.loads(done.stderr)
    assert returned == 0
    assert not {"httpx", "httpcore", "pydantic", "anyio", "asyncio", "tenacity", "rich", "ssl"} & set(modules)
    for name in (*COMMANDS, *WITHOUT_AN_AGENT, "etcd", "k8s"):
        assert re.search(rf"^  {name} +[A-Z].*\.$", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_options_that_all_have(name):
    found = consul_access(name, "--help")
    assert (found.returncode, found.stderr) == (0, "")
    wanted = {"--http-addr", "--token-file", "--json"}
    assert wanted <= set(re.findall(r"--[a-z-]+", found.stdout))
    assert "--token " not in found.stdout


@pytest.mark.parametrize("name", AT_ETCD)
def test_every_command_that_asks_etcd_has_help_and_the_options_that_all_have(name):
    found = consul_access(*name.split(), "--help")
    assert (found.returncode, found.stderr) == (0, "")
    assert {"--endpoints", "--cacert", "--cert", "--key", "--json"} <= set(re.findall(r"--[a-z-]+", found.stdout))
    assert "--password" not in found.stdout


@pytest.mark.parametrize("name", WITHOUT_AN_AGENT)
def test_commands_that_need_no_agent_print_json_too(name):
    assert "--json" in consul_access(name, "--help").stdout


def test_what_run_says_is_json_when_that_is_wanted(tmp_path):
    line = ["run", "--json", "--name", "job", "--port", "1", "--", str(tmp_path / "nothing")]
    done = consul_access(*line)
    assert (done.returncode, done.stdout) == (127, "")
    assert json.loads(done.stderr.splitlines()[-1])["message"].endswith("there is no such program")


def test_version():
    assert consul_access("--version").stdout == f"consul-access {__version__}\n"


def test_without_the_extra_it_says_how_to_have_it():
    code = "import sys; sys.modules['typer'] = None; from consul_access.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "consul-access: the command line is an extra: pip install consul-access[cli]\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoInstances("none"), ExitCode.NO),
        (InvalidSettings("bad"), ExitCode.USAGE),
        (Unavailable("away"), ExitCode.UNAVAILABLE),
        (TlsError("handshake"), ExitCode.REFUSED),
        (PermissionDenied("no"), ExitCode.REFUSED),
        (BadAnswer("what?"), ExitCode.REFUSED),
    ],
)
def test_an_error_s_code_says_whether_later_can_help(error, code):
    assert code_of(error) is code
    assert (code is ExitCode.UNAVAILABLE) == (error.retryable and not isinstance(error, NoInstances))


def test_the_rule_and_the_table_agree_about_what_run_itself_could_not_do():
    assert running.FAILED == ExitCode.FAILED


def test_what_a_terminal_would_obey_is_written_out():
    assert visible("orders\x1b[2J\r\n\x9b5m\u202e ö 服") == r"orders\x1b[2J\r\n\x9b5m\u202e ö 服"


def test_columns_are_as_wide_as_what_is_in_them():
    assert str(table(("A", "B"), [("服务", "x"), ("", "yy")])) == "A     B\n服务  x\n-     yy"


def test_a_number_is_a_number_of_seconds():
    assert (duration("1.5"), duration("1m30s")) == (1.5, "1m30s")


def test_a_signal_that_does_nothing_ends_process_1_with_its_shell_code(monkeypatch):
    sent = []
    monkeypatch.setattr(supervising.os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(supervising.resource, "setrlimit", lambda *_: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert supervising.end_as(-signal.SIGTERM) == 143
        assert supervising.end_as(-signal.SIGKILL) == 137
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sent == [(os.getpid(), signal.SIGTERM), (os.getpid(), signal.SIGKILL)]
    assert supervising.end_as(3) == 3
