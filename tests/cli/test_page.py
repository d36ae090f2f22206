"""What the page about the commands says beyond its examples, which are run as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from consul_access.cli.output import ExitCode
from tests.support.commands import consul_access

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def test_the_command_lines_in_containers_are_understood():
    lines = [json.loads(found) for found in re.findall(r'\["consul-access".*\]', PAGE)]
    assert [line[1] for line in lines] == ["run", "wait"]
    for _, command, *options in lines:
        found = consul_access(command, *(option for option in options if option != "--"), "--help")
        assert (found.returncode, found.stderr) == (0, "")


def test_the_table_has_every_exit_code():
    table = PAGE.partition("## Exit codes")[2].partition("`run` otherwise")[0]
    rows = re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE)
    assert [int(code) for row in rows for code in row.split(", ")] == [code.value for code in ExitCode]


def test_every_option_of_run_is_told():
    told = PAGE.partition("## Running a program")[2].partition("## Waiting")[0] + PAGE.partition("## Exit")[0]
    for option in re.findall(r"^  (?:-v, )?(--[a-z-]+)", consul_access("run", "--help").stdout, re.MULTILINE):
        if option != "--verbose":
            assert option in told, option
