"""Every exit code of every command, at real servers, and that `--json` prints nothing but JSON in all of these cases.

Commands that end by themselves run in this process, by the function that the program runs; the others are processes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consul_access.cli.app import run_app
from tests.support.commands import PROGRAM, consul_access

ROOT = Path(__file__).parents[2]
UNKNOWN_TOKEN = "11111111-2222-3333-4444-555555555555"
ASKING = {
    "services": "",
    "instances": "orders",
    "resolve": "orders",
    "explain": "orders",
    "doctor": "",
    "watch": "orders",
    "sync": "--dry-run",
}
"""What asks Consul and ends, or ends when Consul cannot be asked; and with which arguments."""
AT_ETCD = {
    "etcd get": "name",
    "etcd put": "name value",
    "etcd ls": "",
    "etcd watch": "name",
    "etcd status": "",
    "k8s services": "",
    "k8s instances": "web",
}
WELL = [
    ("services", "", 0),
    ("instances", "orders", 0),
    ("instances", "nobody", 0),
    ("resolve", "orders", 0),
    ("resolve", "nobody", 1),
    ("explain", "orders", 0),
    ("explain", "nobody", 1),
    ("wait", "orders", 0),
    ("wait", "nobody --timeout 0.1", 1),
    ("doctor", "", 0),
    ("sync", "--dry-run", 0),
    ("etcd get", "there", 0),
    ("etcd get", "nobody", 1),
    ("etcd get", "nobody --prefix", 0),
    ("etcd put", "new value", 0),
    ("etcd ls", "", 0),
    ("etcd status", "", 0),
    ("k8s services", "", 0),
    ("k8s instances", "web", 0),
]
UNUSABLE = [
    *((command, f"{arguments} --http-addr ftp://x") for command, arguments in ASKING.items()),
    *((command, f"{arguments} --endpoints ftp://x") for command, arguments in AT_ETCD.items()),
    ("wait", "orders --timeout soon"),
    ("sync", "--dry-run --may-vanish 2"),
    ("etcd put", "/registry/services/specs/shop/web x"),
    ("k8s instances", "web --readiness perhaps"),
    ("demo", "--address ftp://x"),
    ("dev", "--port 70000"),
    ("run", "--name a --port 1 --mode perhaps -- true"),
]
PROGRAMS = [
    ("exit 7", "", 7),
    ("kill -TERM $$", "", -signal.SIGTERM),
    ("exec sleep 60", "--ready-timeout 0.1", 125),
    ("exit 0", "--require-registration", 125),
]
"""What `run` runs, how, and the code it ends with, at an agent that is away."""
UNTIL_INTERRUPTED = {
    "wait": "nobody",
    "watch": "orders",
    "etcd watch": "there",
    "sync": "--interval 60",
}
ELSEWHERE = {
    ("doctor", 1): "tests/live/test_doctor.py::test_servers_without_a_leader_are_code_1",
    ("demo", 0): "tests/cli/test_demo.py::test_the_story_as_json_has_the_same_steps",
    ("demo", 130): "tests/cli/test_demo.py::test_interrupted_it_leaves_nothing_at_a_real_agent",
    ("dev", 0): "tests/cli/test_demo.py::test_dev_tells_its_address_as_json",
}
"""What has a test of its own, since it takes seconds or a server that is not well."""


@pytest.fixture(autouse=True)
def as_it_was():
    """What commands change about logging ends with them."""
    log = logging.getLogger("consul_access")
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = handlers, level, propagate


@pytest.fixture
def ends(monkeypatch, capsys):
    """Runs a command line in this process, as it is and with `--json`; gives the exit code of both."""

    def run(command, arguments):
        codes = []
        for more in ((), ("--json",)):
            monkeypatch.setattr(sys, "argv", ["consul-access", *command.split(), *more, *arguments.split()])
            codes.append(int(run_app()))
            said = capsys.readouterr()
            assert "Traceback" not in said.err
            if more:
                assert_json(said.out)
        assert codes[0] == codes[1]
        return codes[0]

    return run


def assert_json(text):
    """One document, or one in each line, or nothing."""
    try:
        json.loads(text or "null")
    except json.JSONDecodeError:
        for line in text.splitlines():
            json.loads(line)


@pytest.fixture
def servers(consul, any_etcd, monkeypatch):
    """A Consul with `orders` and an etcd with the key `there`, which the environment names."""
    consul.register("orders", address="10.0.0.5", port=8080)
    any_etcd.put("there", b"value")
    monkeypatch.setenv("CONSUL_HTTP_ADDR", consul.address)
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", any_etcd.address)
    monkeypatch.setenv("CONSUL_ACCESS_ADVERTISE", "10.0.0.5")


@pytest.fixture
def nobody(free_port, monkeypatch):
    """The environment names servers that are not there."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", f"127.0.0.1:{free_port}")
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", f"127.0.0.1:{free_port}")


@pytest.fixture
def refusing(acl_consul, monkeypatch):
    """Consul knows nothing of the token; and where an etcd should be there is a Consul, too."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", acl_consul.address)
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", UNKNOWN_TOKEN)
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", acl_consul.address)


def answered(command, arguments):
    """What a case is called."""
    return f"{command} {arguments}".strip()


@pytest.mark.parametrize(("command", "arguments", "code"), WELL, ids=[answered(*case[:2]) for case in WELL])
def test_an_answer_is_0_and_a_no_is_1(servers, ends, command, arguments, code):
    assert ends(command, arguments) == code


@pytest.mark.parametrize(("command", "arguments"), [one for one in UNUSABLE if one[0] not in {"dev", "run"}])
def test_what_cannot_be_right_is_2(servers, ends, command, arguments):
    assert ends(command, arguments) == 2


@pytest.mark.parametrize(("command", "arguments"), [one for one in UNUSABLE if one[0] in {"dev", "run"}])
def test_what_cannot_be_right_is_2_where_signals_are_handled(command, arguments):
    assert consul_access(command, *arguments.split()).returncode == 2


@pytest.mark.parametrize(("command", "arguments"), [*ASKING.items(), *AT_ETCD.items(), ("demo", "--address {nobody}")])
def test_servers_that_are_away_are_3(nobody, ends, command, arguments):
    assert ends(command, arguments.format(nobody=os.environ["CONSUL_HTTP_ADDR"])) == 3


@pytest.mark.parametrize(("command", "arguments"), [*ASKING.items(), *AT_ETCD.items()])
def test_a_refusal_or_something_else_at_that_port_is_4(refusing, any_etcd, ends, command, arguments):
    well = f" --endpoints {any_etcd.address}" if command == "sync" else ""  # it asks etcd first
    assert ends(command, arguments + well) == 4


def test_what_may_yet_come_is_waited_for(nobody, ends):
    assert ends("wait", "orders --timeout 0.1") == 1


@pytest.mark.parametrize(("script", "options", "code"), PROGRAMS)
def test_run_ends_as_its_program_does_or_with_a_code_of_its_own(free_port, script, options, code):
    line = ["run", "--json", "--name", "job", "--port", str(free_port), *options.split(), "--", "sh", "-c", script]
    done = consul_access(*line)
    assert done.returncode == code
    assert_json(done.stderr)
    assert done.stdout == ""


def test_run_says_what_cannot_be_run_as_shells_do(free_port, tmp_path):
    (tmp_path / "text").write_text("no program")
    line = ["run", "--json", "--name", "job", "--port", str(free_port), "--"]
    for program, code in (("text", 126), ("absent", 127)):
        done = consul_access(*line, str(tmp_path / program))
        assert (done.returncode, done.stdout) == (code, "")
        assert_json(done.stderr)


@pytest.mark.parametrize("command", UNTIL_INTERRUPTED)
def test_ctrl_c_is_130(servers, any_etcd, command):
    line = [PROGRAM, *command.split(), "--json", *UNTIL_INTERRUPTED[command].split()]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        telling = process.stderr if command == "wait" else process.stdout
        try:
            begun = time.monotonic()
            while not select.select([telling], [], [], 0.2)[0]:
                any_etcd.put("there", b"again")  # of keys, changes alone are told
                assert time.monotonic() - begun < 60
            told = telling.readline()
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert_json(rest if command == "wait" else told + rest)


# --- the page ------------------------------------------------------------------------------------------------


def documented():
    """The table of the page: which command can end with which code."""
    page = (ROOT / "docs" / "cli.md").read_text().partition("Which command can end how:")[2].partition("\n\n`run`")[0]
    for names, codes in re.findall(r"^\| (`.*`) \| ([0-9, ]+) \|$", page, re.MULTILINE):
        for name in re.findall("`([^`]+)`", names):
            yield from ((name, int(code)) for code in codes.split(", "))


def test_the_page_has_the_codes_that_are_tested_here_and_no_others():
    tested = {
        *((command, code) for command, _, code in WELL),
        *((command, 2) for command, _ in UNUSABLE),
        *((command, code) for command in (*ASKING, *AT_ETCD) for code in (3, 4)),
        *(("run", code) for _, _, code in PROGRAMS if code >= 125),
        *((command, 130) for command in UNTIL_INTERRUPTED),
        *ELSEWHERE,
        ("demo", 3),
        ("run", 126),
        ("run", 127),
    }
    assert set(documented()) == tested


@pytest.mark.parametrize("place", ELSEWHERE.values())
def test_what_is_tested_elsewhere_is_there(place):
    path, _, name = place.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()
