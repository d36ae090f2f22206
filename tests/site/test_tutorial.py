"""The tutorial, followed word by word in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.agents import ConsulAgent
from tests.support.pages import ROOT
from tests.support.tutorial import Reader, Step, Terminal, commands_of, steps_of
from tools.ports import free_ports

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
STEPS = steps_of(PAGE)
OURS = ("consul_access-", "_consul_access", "__editable__", "pip", "setuptools")


def environment(folder: Path, agent: int) -> dict[str, str]:
    """A reader's environment: a home of his own, no index of packages, and an agent at another port than the page's."""
    return {
        "PATH": f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TERM": "dumb",
        "COLUMNS": "120",
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "CONSUL_HTTP_ADDR": f"127.0.0.1:{agent}",
    }


def packages_on_this_machine(folder: Path) -> dict[str, str]:
    """Where pip finds what it would fetch: a wheel made from this source, and the packages that the tests run with."""
    shelf, packages = folder / "shelf", folder / "packages"
    packages.mkdir()
    for entry in (Path(entry) for entry in sys.path if entry.endswith("site-packages")):
        for package in entry.iterdir():
            if not package.name.startswith(OURS):
                (packages / package.name).symlink_to(package)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", shelf], cwd=ROOT, check=True)
    return {"PYTHONPATH": str(packages), "PIP_FIND_LINKS": str(shelf)}


def test_who_does_what_the_tutorial_says_sees_what_it_says(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    ports = dict(zip((8080, 8081, 8500), sorted(free_ports(3)), strict=True))
    environ = environment(tmp_path, ports[8500]) | packages_on_this_machine(tmp_path)
    with Reader(folder, environ, ports) as reader:
        for step in STEPS:
            reader.follow(step)


def is_done_already(step: Step) -> bool:
    """Whether it is about installing or testing, where the other test says all, or about an agent made of memory."""
    return (
        "pytest" in step.source
        or "pip install" in step.source
        or "$ consul-access dev" in step.source
        or step == STEPS[-1]
    )


def test_a_real_agent_does_as_well(tmp_path):
    (tmp_path / "greetings").mkdir()
    (tmp_path / "greetings" / ".venv").symlink_to(sys.prefix)
    ports = dict(zip((8080, 8081), sorted(free_ports(2)), strict=True))
    with ConsulAgent() as consul, Reader(tmp_path, environment(tmp_path, consul.port), ports) as reader:
        for step in STEPS:
            if not is_done_already(step):
                reader.follow(step)


def test_the_page_installs_starts_the_agent_and_ends_it():
    assert [step.terminal for step in STEPS if is_done_already(step)] == ["first", "first", None, "third", "first"]
    assert STEPS[-1].source == "^C\n"


@pytest.fixture
def terminal(tmp_path):
    terminal = Terminal(tmp_path, {"PATH": os.environ["PATH"]})
    yield terminal
    terminal.close()


def test_a_command_that_prints_something_else_is_found(terminal):
    with pytest.raises(AssertionError, match=r"should print\nhello\n\nand printed \(code 0\)\ngoodbye"):
        terminal.do("echo goodbye", "hello\n", stays=False, insist=False)


def test_a_command_that_fails_is_found(terminal):
    with pytest.raises(AssertionError, match="code 3"):
        terminal.do("(exit 3)", "", stays=True, insist=False)


def test_a_command_goes_on_until_it_is_interrupted(terminal):
    terminal.do("bash -c 'echo begun; exec sleep 1000'", "begun\n", stays=True, insist=False)
    terminal.do("^C", "", stays=True, insist=False)
    terminal.do("echo awake", "awake\n", stays=False, insist=False)


def test_a_command_is_given_again_only_where_the_page_says_so(terminal):
    terminal.do("n=0", "", stays=False, insist=False)
    terminal.do("n=$((n+1)); echo $n", "3\n", stays=False, insist=True)


def test_a_block_about_which_nothing_is_said_is_found():
    with pytest.raises(AssertionError, match="line 3: what is to be done"):
        steps_of("text\n\n```python\n1\n```\n")
    with pytest.raises(AssertionError, match="line 3: in which terminal"):
        steps_of("text\n\n```console\n$ true\n```\n")


def test_a_session_is_taken_apart():
    assert list(commands_of("$ a\n1\n2\n$ b\n^C\n3\n")) == [("a", "1\n2\n"), ("b", ""), ("^C", "3\n")]
    with pytest.raises(AssertionError, match="printed by nobody"):
        list(commands_of("1\n$ a\n"))
