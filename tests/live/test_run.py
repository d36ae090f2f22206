"""`consul-access run`: real programs, real signals, a real agent and a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support import waiting
from tests.support.agents import listens
from tests.support.commands import PROGRAM, consul_access

eventually = partial(waiting.eventually, within=60)
"""Two interpreters have to start before a port is open; beside busy neighbours that took more than 10 s."""
SERVER = """
import http.server, os, signal, sys, threading, time

def note(text):
    with open("notes", "a") as notes:
        notes.write(f"{time.monotonic()} {text}\\n")

port, *options = sys.argv[1:]

def told(number, _):
    note(signal.Signals(number).name)
    if number == signal.SIGUSR2:
        threading.Thread(target=server.shutdown).start()
    if number in (signal.SIGTERM, signal.SIGINT) and "stubborn" not in options:
        os._exit(7)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, told)

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

note("begun")
if "mute" in options:
    while True:
        signal.pause()
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Quiet)
server.serve_forever()
server.server_close()
note("closed")
while True:
    signal.pause()
"""


def command(*options, port, program, **settings):
    """The command line for a service named orders."""
    named = {"name": "orders", "port": port, "id": "orders-1", "drain": 0} | settings
    given = [text for key, value in named.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    return [PROGRAM, "run", *given, *options, "--", *program]


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def server(port, *options):
    return [sys.executable, "server.py", str(port), *options]


def notes():
    """What the program noted, without the times."""
    path = Path("notes")
    return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []


def noted_at(text):
    return next(float(line.split()[0]) for line in Path("notes").read_text().splitlines() if line.endswith(text))


@contextlib.contextmanager
def running(command, agent, **options):
    """The command in a process, ended at the latest with the block, the program it runs included."""
    environ = os.environ | {"CONSUL_HTTP_ADDR": agent} | options.pop("environ", {})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    process = subprocess.Popen(
        command, env=environ, text=True, start_new_session="preexec_fn" not in options, **streams
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process, within=60):
    """Exit code and what was written to stderr."""
    _, errors = process.communicate(timeout=within)
    return process.returncode, errors


def passing(agent):
    return [entry["Service"]["ID"] for entry in agent.read("/v1/health/service/orders?passing")]


def registered(agent):
    return "orders-1" in agent.read("/v1/agent/services")


def get(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/notes")
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_it_is_registered_as_the_options_say_once_its_port_is_open(home, consul, free_port):
    options = ("--tag", "a", "--tag", "b", "--meta", "version=2", "--meta", "empty=", "--check-http", "/health")
    line = command(*options, "--environment-meta", port=free_port, program=server(free_port))
    with running(line, consul.address, environ={"NODE_NAME": "n1"}):
        eventually(lambda: registered(consul))
        assert listens(free_port)
        held = consul.read("/v1/agent/service/orders-1")
        (check,) = consul.read("/v1/agent/checks").values()
    assert (held["Port"], held["Tags"], held["Meta"]) == (
        free_port,
        ["a", "b"],
        {"version": "2", "empty": "", "node_name": "n1"},
    )
    assert (check["Type"], check["Definition"].get("Interval", "10s")) == ("http", "10s")


def test_sigterm_under_load_fails_no_call_and_reaches_the_program_last(home, consul, free_port, record_property):
    failed, calls, hidden = [], 0, []
    done = threading.Event()

    def callers():
        """Asks the registry and calls whoever it names, over and over."""
        nonlocal calls
        while not done.is_set():
            if not passing(consul):
                hidden.append(time.monotonic())
                continue
            try:
                calls += get(free_port) == 200
            except OSError as error:
                failed.append((time.monotonic(), error))

    with running(command(port=free_port, program=server(free_port), drain=1.5), consul.address) as process:
        eventually(lambda: passing(consul) == ["orders-1"])
        caller = threading.Thread(target=callers)
        caller.start()
        eventually(lambda: calls > 20)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        eventually(lambda: hidden)
        assert get(free_port) == 200  # it still serves those who have asked before
        returned, errors = ended(process)
        done.set()
        caller.join()
    record_property("seconds_until_hidden", hidden[0] - begun)
    assert (returned, errors, failed) == (7, "", [])
    assert 1.5 <= noted_at("SIGTERM") - begun < 8
    assert notes() == ["begun", "SIGTERM"]
    assert not registered(consul)


def test_a_second_sigterm_goes_straight_through(home, consul, free_port):
    with running(command(port=free_port, program=server(free_port), drain=60), consul.address) as process:
        eventually(lambda: passing(consul))
        process.send_signal(signal.SIGTERM)
        eventually(lambda: not passing(consul))
        assert notes() == ["begun"]
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (7, "")
    assert notes() == ["begun", "SIGTERM"]
    assert not registered(consul)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_another_process_is_sent_on_once(home, consul, free_port, number):
    with running(command(port=free_port, program=server(free_port)), consul.address) as process:
        eventually(lambda: passing(consul))
        process.send_signal(number)
        assert ended(process) == (7, "")
    assert notes() == ["begun", number.name]
    assert not registered(consul)


def test_other_signals_reach_the_program_at_once_and_it_stays_registered(home, consul, free_port):
    sent = [signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH]
    with running(command(port=free_port, program=server(free_port)), consul.address) as process:
        eventually(lambda: passing(consul))
        for number in sent:
            process.send_signal(number)
            eventually(lambda name=number.name: name in notes())
        assert passing(consul) == ["orders-1"]
    assert notes() == ["begun", *(number.name for number in sent)]


def test_a_signal_that_was_ignored_before_stays_ignored(home, consul, free_port):
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command(port=free_port, program=server(free_port))]
    with running(ignoring, consul.address) as process:
        eventually(lambda: passing(consul))
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        eventually(lambda: "SIGUSR1" in notes())
    assert notes() == ["begun", "SIGUSR1"]


@contextlib.contextmanager
def at_a_terminal(command, agent):
    """The command in the foreground of a terminal of its own; gives the process and the keyboard's end."""
    keyboard, terminal = pty.openpty()

    def sits_down():
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    try:
        with running(command, agent, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=sits_down) as process:
            yield process, keyboard
    finally:
        os.close(keyboard)
        os.close(terminal)


@pytest.mark.parametrize("kind", ["told by the kernel who sends", "not told"])
def test_ctrl_c_and_a_resized_window_reach_the_program_once(home, consul, free_port, kind):
    line = command(port=free_port, program=server(free_port), drain=60)
    if kind == "not told":  # as on macOS
        line = without_sigtimedwait(line)
    with at_a_terminal(line, consul.address) as (process, keyboard):
        eventually(lambda: passing(consul))
        fcntl.ioctl(keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        eventually(lambda: "SIGWINCH" in notes())
        os.write(keyboard, b"\x03")
        assert process.wait(20) == 7
    assert notes().count("SIGINT") == 1
    assert notes().count("SIGWINCH") == 1 or kind == "not told"
    assert not registered(consul)


def test_a_signal_from_another_process_is_sent_on_at_a_terminal_too(home, consul, free_port):
    with at_a_terminal(command(port=free_port, program=server(free_port)), consul.address) as (process, _):
        eventually(lambda: passing(consul))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 7
    assert notes() == ["begun", "SIGINT"]


def without_sigtimedwait(line):
    code = "import signal; del signal.sigtimedwait, signal.sigwaitinfo; from consul_access.cli import main; main()"
    return [sys.executable, "-c", code, *line[1:]]


def test_where_senders_are_not_told_signals_are_sent_on_as_well(home, consul, free_port):
    line = without_sigtimedwait(command(port=free_port, program=server(free_port), drain=0.5, ready_timeout=30))
    with running(line, consul.address) as process:
        eventually(lambda: passing(consul))
        process.send_signal(signal.SIGUSR1)
        eventually(lambda: "SIGUSR1" in notes())
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (7, "")
    assert notes() == ["begun", "SIGUSR1", "SIGTERM"]
    assert not registered(consul)


def test_where_senders_are_not_told_time_passes_as_well(home, consul, free_port):
    line = without_sigtimedwait(command(port=free_port, program=server(free_port, "mute"), ready_timeout=0.5))
    with running(line, consul.address) as process:
        assert ended(process)[0] == 125


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
        ("os.abort()", -signal.SIGABRT),
    ],
)
def test_when_the_program_ends_by_itself_it_is_deregistered_and_we_end_as_it_did(
    consul, free_port, tmp_path, ending, code
):
    program = f"""
import os, signal, socket, sys, time
with socket.create_server(("127.0.0.1", {free_port})):
    while not os.path.exists({str(tmp_path / "end")!r}):
        time.sleep(0.01)
{ending}
"""
    line = command(port=free_port, program=[sys.executable, "-c", program], drain=60)
    with running(line, consul.address) as process:
        eventually(lambda: passing(consul))
        (tmp_path / "end").touch()
        assert ended(process) == (code, "")
    assert not registered(consul)


def test_a_program_that_crashes_before_its_port_opens_gives_its_code(consul, free_port):
    with running(command(port=free_port, program=["sh", "-c", "exit 9"]), consul.address) as process:
        assert ended(process) == (9, f"consul-access: it ended before port {free_port} took connections\n")
    assert not registered(consul)


def test_a_port_that_never_opens_ends_the_program(home, consul, free_port):
    line = command(port=free_port, program=server(free_port, "mute"), ready_timeout=1.5)
    with running(line, consul.address) as process:
        returned, errors = ended(process)
    assert returned == 125
    assert errors.startswith(f"consul-access: port {free_port} has taken no connection within 1.5 s")
    assert notes() == ["begun", "SIGTERM"]
    assert not registered(consul)


def test_a_program_that_ignores_sigterm_has_all_the_time_it_wants(home, consul, free_port):
    with running(command(port=free_port, program=server(free_port, "stubborn")), consul.address) as process:
        eventually(lambda: passing(consul))
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "SIGTERM" in notes())
        eventually(lambda: not registered(consul))  # a registration that was still under way is not waited for long
        process.send_signal(signal.SIGTERM)
        eventually(lambda: notes().count("SIGTERM") == 2)
        assert process.poll() is None
        assert get(free_port) == 200


def test_a_program_that_ignores_sigterm_is_killed_when_asked_for(home, consul, free_port):
    line = command(port=free_port, program=server(free_port, "stubborn"), kill_after=0.5)
    with running(line, consul.address) as process:
        eventually(lambda: passing(consul))
        process.send_signal(signal.SIGTERM)
        returned, errors = ended(process)
    assert returned == -signal.SIGKILL
    assert errors == "consul-access: the command has not ended in time and is killed\n"
    assert not listens(free_port)


def test_sigterm_at_every_moment_of_the_start_leaves_nothing_behind(home, consul, free_port):
    for moment in range(12):
        with running(command(port=free_port, program=server(free_port)), consul.address) as process:
            time.sleep(moment * 0.04)  # moments spread over the imports, the program's start and the registration
            process.send_signal(signal.SIGTERM)
            returned, errors = ended(process)
        assert returned in (7, -signal.SIGTERM), errors  # before it has a handler of its own, SIGTERM just ends it
        assert "Traceback" not in errors
        assert not registered(consul), moment
        eventually(lambda: not listens(free_port))


def test_what_others_leave_behind_is_cleared_away(home, consul, free_port):
    """As process 1 of a container has to: here as a subreaper, to which orphans fall in the same way (Linux)."""
    program = f"""
import os, socket, time
for _ in range(20):
    if os.fork() == 0:  # a parent that ends before its child does
        if os.fork() == 0:
            time.sleep(0.2)
            open(f"orphan-{{os.getpid()}}", "w").close()
        os._exit(0)
    os.wait()
with socket.create_server(("127.0.0.1", {free_port})):
    time.sleep(60)
"""
    adopting = "import ctypes, os, sys; assert not ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
    adopting += "os.execv(sys.argv[1], sys.argv[1:])"
    line = command(port=free_port, program=[sys.executable, "-c", program])
    with running([sys.executable, "-c", adopting, *line], consul.address) as process:
        eventually(lambda: passing(consul))
        eventually(lambda: len(list(home.glob("orphan-*"))) == 20)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(lambda: len(children.read_text().split()) == 1, what="only the program is left")
        assert passing(consul) == ["orders-1"]


def test_standard_input_and_output_are_the_programs_own(consul, free_port):
    line = command(port=free_port, program=["sh", "-c", "cat; echo wrong >&2"])
    data = "\x00\x1b[31mé\n" * 1000
    with running(line, consul.address, stdin=subprocess.PIPE) as process:
        output, errors = process.communicate(data, timeout=20)
    assert output == data
    assert errors == f"wrong\nconsul-access: it ended before port {free_port} took connections\n"


def test_heartbeats_say_whether_the_port_takes_connections(home, consul, free_port):
    line = command("--ttl", "3s", port=free_port, program=server(free_port))
    with running(line, consul.address) as process:
        eventually(lambda: passing(consul))
        beaten = time.monotonic() + 4.5
        while time.monotonic() < beaten:
            assert passing(consul) == ["orders-1"]
        process.send_signal(signal.SIGUSR2)
        eventually(lambda: "closed" in notes())
        check = eventually(
            lambda: next(
                (c for c in consul.read("/v1/agent/checks").values() if c["Status"] == "critical" and c["Output"]), None
            )
        )
        assert check["Output"] == "it takes no connections"
        assert process.poll() is None


def test_in_catalog_mode_it_is_shown_at_a_node_of_its_own_with_a_heartbeat(home, consul, free_port):
    line = command("--mode", "catalog", "--node", "no-agent", port=free_port, program=server(free_port))
    with running([*line[:2], "--address", "127.0.0.1", *line[2:]], consul.address) as process:
        eventually(lambda: passing(consul))
        (entry,) = consul.read("/v1/health/service/orders")
        assert entry["Node"]["Node"] == "no-agent"
        assert entry["Checks"][0]["Output"].startswith("heartbeat 20")
        assert consul.read("/v1/agent/services") == {}
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 7
    assert consul.read("/v1/catalog/service/orders") == []


def test_while_the_agent_is_down_the_program_runs_and_is_registered_as_soon_as_it_is_back(home, agents, free_port):
    agent = agents()
    agent.kill()
    with running(command(port=free_port, program=server(free_port)), agent.address) as process:
        eventually(lambda: listens(free_port))
        eventually(lambda: process.poll() is None and listens(free_port))
        first = process.stderr.readline()
        assert "no connection (Connection refused)" in first
        assert process.stderr.readline() == (
            "consul-access: the command runs all the same, and is registered as soon as Consul answers\n"
        )
        agent.run()
        eventually(lambda: passing(agent) == ["orders-1"], within=15)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (7, "")
    assert not registered(agent)


def test_an_agent_that_is_down_at_the_end_hardly_delays_it(home, agents, free_port, record_property):
    agent = agents()
    with (
        running(command(port=free_port, program=server(free_port), drain=30), agent.address) as process,
        socket.socket() as nobody,
    ):
        eventually(lambda: passing(agent))
        agent.kill()
        nobody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        nobody.bind(("127.0.0.1", agent.port))  # and does not listen; others who look for a port leave it alone
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        returned, errors = ended(process)
        took = time.monotonic() - begun
    record_property("seconds", took)  # 0.3 to 0.5; the bar is 2 s, on a machine that is not overloaded
    assert took < 5
    assert returned == 7
    assert "it stays registered" in errors
    assert "Traceback" not in errors


def test_a_frozen_agent_delays_the_end_by_a_few_seconds_and_the_code_stays(home, agents, free_port, record_property):
    agent = agents()
    with running(command(port=free_port, program=server(free_port), drain=30), agent.address) as process:
        eventually(lambda: passing(agent))
        agent.pause()
        try:
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            returned, errors = ended(process)
        finally:
            agent.resume()
    record_property("seconds", time.monotonic() - begun)
    assert time.monotonic() - begun < 10
    assert returned == 7
    assert "Traceback" not in errors


def test_require_registration_does_not_run_it_without_an_agent(home, free_port):
    line = command("--require-registration", port=free_port, program=server(free_port))
    with running(line, "127.0.0.1:1") as process:
        returned, errors = ended(process)
    assert returned == 125
    assert errors.count("\n") == 1
    assert "The command is not run (--require-registration)" in errors
    assert notes() == []


def test_a_refused_registration_ends_the_program(home, acl_consul, free_port):
    with running(command(port=free_port, program=server(free_port)), acl_consul.address) as process:
        returned, errors = ended(process)
    assert returned == 125
    assert errors.count("\n") == 1
    assert "403" in errors
    assert notes() == ["begun", "SIGTERM"]


def test_a_token_file_is_used(home, acl_consul, free_port):
    (home / "token").write_text(acl_consul.token)
    options = ("--token-file", "token", "--http-addr", acl_consul.address)
    with running(command(*options, port=free_port, program=server(free_port)), "127.0.0.1:1") as process:
        eventually(lambda: registered(acl_consul))
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (7, "")
    assert not registered(acl_consul)


def test_somebody_else_at_the_port_is_told(home, consul, free_port):
    with running(server(free_port), consul.address):
        eventually(lambda: listens(free_port))
        with running(command(port=free_port, program=["sh", "-c", "sleep 1; exit 5"]), consul.address) as process:
            returned, errors = ended(process)
    assert returned == 5
    assert f"port {free_port} takes connections already" in errors
    assert not registered(consul)


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        (["there-is-no-such-program"], 127, "there-is-no-such-program: there is no such program"),
        (["/etc/hostname"], 126, "/etc/hostname cannot be run: "),
    ],
)
def test_what_cannot_be_run_has_the_usual_codes(free_port, program, code, told):
    found = consul_access("run", "--name", "orders", "--port", str(free_port), "--", *program)
    assert (found.returncode, found.stdout) == (code, "")
    assert found.stderr.startswith(f"consul-access: {told}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--meta", "x"], "--meta 'x' has no '='"),
        (["--meta", "a b=c"], "the meta key 'a b' is illegal"),
        (["--ttl", "15 s"], "write a number and a unit"),
        (["--ttl", "15s", "--no-check"], "exclude each other"),
        (["--mode", "magic"], "write agent or catalog"),
        (["--mode", "catalog", "--check-tcp"], "has no agent that would run a check"),
        (["--mode", "catalog", "--require-agent"], "any server will do"),
        (["--node", "n"], "is for mode='catalog'"),
        (["--check-http", "health"], "must begin with '/'"),
        (["--drain", "-1"], "0 or more"),
        (["--kill-after", "soon"], "--kill-after='soon' is no duration"),
        (["--drain", "nan"], "0 or more"),
        (["--address", "http://10.0.0.5"], "is a URL"),
        (["--deregister-after", "5s"], "agents wait a minute"),
        (["--http-addr", "ftp://x"], "--http-addr begins with ftp://"),
        (["--port", "70000"], "from 1 to 65535"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_runs(home, free_port, options, told):
    line = [*options, "--", *server(free_port)]
    found = consul_access("run", "--name", "orders", "--port", str(free_port), *line)
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"consul-access: [^\n]*\n", found.stderr)
    assert told in found.stderr
    assert notes() == []
