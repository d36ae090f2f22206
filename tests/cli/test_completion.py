"""Completion in shells, as their scripts ask for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import PROGRAM, consul_access


def completed(*words, agent="127.0.0.1:1"):
    """What bash would offer for the last of these words."""
    environ = {
        "_CONSUL_ACCESS_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["consul-access", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [PROGRAM],
        env=os.environ | {"CONSUL_HTTP_ADDR": agent} | environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_and_options_are_completed():
    assert completed("res") == ["resolve"]
    assert completed("etcd", "st") == ["status"]
    assert completed("resolve", "--token") == ["--token-file"]
    assert completed("resolve", "--policy", "passing_") == ["passing_or_warning"]


@pytest.mark.parametrize("command", ["resolve", "instances", "explain", "wait", "watch"])
def test_services_are_completed_from_the_agent(consul, command):
    consul.register("orders", port=80)
    consul.register("payments", port=80)
    assert completed(command, "or", agent=consul.address) == ["orders"]


def test_an_agent_that_is_away_offers_nothing_and_says_nothing():
    assert completed("resolve", "or") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell):
    shown = subprocess.run(
        [PROGRAM],
        env=os.environ | {"_CONSUL_ACCESS_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"complete_{shell}" in shown.stdout


def test_bash_takes_the_script():
    script = 'eval "$(_CONSUL_ACCESS_COMPLETE=source_bash consul-access)"; complete -p consul-access'
    environ = os.environ | {"PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("complete ")
    assert done.stdout.rstrip().endswith("consul-access")


def test_help_tells_of_it():
    assert "--install-completion" in consul_access("--help").stdout
