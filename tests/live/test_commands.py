"""The commands that look up, as users run them, against a real agent and in a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import threading

import pytest

from tests.support.commands import PROGRAM, consul_access
from tests.support.waiting import eventually

ONE_LINE = re.compile(r"consul-access: [^\n]*\n")


@pytest.fixture
def orders(consul):
    """A service with one instance that passes and one that does not."""
    passing = {"CheckID": "up", "TTL": "60s", "Status": "passing"}
    failing = {"CheckID": "down", "TTL": "60s", "Status": "critical", "Notes": "n"}
    consul.register(
        "orders", id="orders-1", address="10.0.0.5", port=8080, tags=["a", "b"], meta={"v": "1"}, check=passing
    )
    consul.register("orders", id="orders-2", address="2001:db8::6", port=8081, tags=["a"], check=failing)
    return consul


def put(agent, check, status, output=""):
    assert agent.request("PUT", f"/v1/agent/check/update/{check}", {"Status": status, "Output": output})[0] == 200


@contextlib.contextmanager
def beginning(*arguments, agent, **streams):
    """A command that goes on for as long as the block."""
    environ = os.environ | {"CONSUL_HTTP_ADDR": agent.address, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    process = subprocess.Popen([PROGRAM, *arguments], env=environ, text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_services(orders):
    found = consul_access("services", agent=orders.address)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "NAME    TAGS\nconsul  -\norders  a, b\n"
    as_json = consul_access("services", "--json", agent=orders.address)
    assert json.loads(as_json.stdout) == {"consul": [], "orders": ["a", "b"]}


def test_instances(orders):
    found = consul_access("instances", "orders", agent=orders.address)
    header, row = found.stdout.splitlines()
    assert header.split() == ["ID", "ADDRESS", "STATUS", "NODE", "CHECKS", "AGE"]
    assert re.split(r"  +", row) == ["orders-1", "10.0.0.5:8080", "passing", orders.node, "2 passing", "0s"]
    assert (found.returncode, found.stderr) == (0, "")


def test_instances_with_a_policy_and_tags(orders):
    found = consul_access("instances", "orders", "--policy", "any", agent=orders.address)
    _, first, second = found.stdout.splitlines()
    assert first.startswith("orders-1 ")
    assert re.split(r"  +", second)[1:5] == ["[2001:db8::6]:8081", "critical", orders.node, "1 critical, 1 passing"]
    tagged = consul_access("instances", "orders", "--policy", "any", "--tag", "a", "--tag", "b", agent=orders.address)
    assert [line.split()[0] for line in tagged.stdout.splitlines()] == ["ID", "orders-1"]


def test_instances_as_json(orders):
    put(orders, "down", "passing")
    put(orders, "down", "critical", "disk full")  # an agent is in no hurry with what only changes the output
    found = consul_access("instances", "orders", "--policy", "any", "--json", agent=orders.address)
    one, two = json.loads(found.stdout)
    assert one["id"] == "orders-1"
    assert one["tags"] == ["a", "b"]
    assert one["meta"] == {"v": "1"}
    assert (two["address"], two["host"], two["port"]) == ("[2001:db8::6]:8081", "2001:db8::6", 8081)
    assert two["status"] == "critical"
    (down,) = (check for check in two["checks"] if check["id"] == "down")
    assert (down["status"], down["output"]) == ("critical", "disk full")


def test_no_instance_is_an_empty_list_and_a_hint(orders):
    found = consul_access("instances", "nobody", "--json", agent=orders.address)
    assert (found.returncode, json.loads(found.stdout)) == (0, [])
    assert (
        found.stderr
        == "consul-access: no instance of 'nobody' with policy 'passing'; --policy any shows all that are registered\n"
    )


def test_a_cached_answer_says_how_old_it_is(orders):
    for _ in range(2):
        found = consul_access("instances", "orders", "--cached", "--json", agent=orders.address)
    assert isinstance(json.loads(found.stdout)[0]["age"], int | float)


def test_resolve(orders):
    found = consul_access("resolve", "orders", agent=orders.address)
    assert (found.returncode, found.stdout, found.stderr) == (0, "10.0.0.5:8080\n", "")
    as_json = consul_access("resolve", "orders", "--json", agent=orders.address)
    assert json.loads(as_json.stdout) == {"host": "10.0.0.5", "port": 8080}


def test_resolve_says_no_with_code_1(orders):
    found = consul_access("resolve", "orders", "--tag", "c", agent=orders.address)
    assert (found.returncode, found.stdout) == (1, "")
    assert ONE_LINE.fullmatch(found.stderr)
    assert "consul-access instances orders --policy any shows all" in found.stderr


def test_explain(orders):
    found = consul_access("explain", "orders-2", agent=orders.address)
    assert found.returncode == 1
    assert "orders-2: instance of 'orders', NOT discoverable" in found.stdout
    assert "critical" in found.stdout
    assert consul_access("explain", "orders-1", agent=orders.address).returncode == 0
    assert consul_access("explain", "orders", "--policy", "any", agent=orders.address).returncode == 0


def test_explain_as_json(orders):
    found = json.loads(consul_access("explain", "orders", "--json", agent=orders.address).stdout)
    assert found["is_discoverable"] is True
    assert [instance["id"] for instance in found["instances"]] == ["orders-1", "orders-2"]


def test_explain_without_an_agent_is_code_3():
    found = consul_access("explain", "orders")
    assert found.returncode == 3
    assert "127.0.0.1:1" in found.stdout


def test_wait_for_what_is_there(orders):
    found = consul_access("wait", "orders", agent=orders.address)
    assert (found.returncode, found.stdout) == (0, "")
    assert "consul-access: orders: ready, 1 of 2 passing\n" in found.stderr
    as_json = consul_access("wait", "orders", "--json", agent=orders.address)
    assert json.loads(as_json.stdout) == {"orders": ["10.0.0.5:8080"]}


def test_wait_until_it_is_there(orders):
    with beginning("wait", "orders", "payments", "--at-least", "2", "--timeout", "30s", agent=orders) as process:
        said = [process.stderr.readline() for _ in range(2)]
        assert any(line.startswith("consul-access: orders: registered, 1 of 2 passing: ") for line in said)
        assert any(line.startswith("consul-access: payments: unknown service") for line in said)
        put(orders, "down", "passing")
        for number in (1, 2):
            orders.register("payments", id=f"payments-{number}", port=80)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors.splitlines()[-1] == "consul-access: payments: ready, 2 of 2 passing"


def test_wait_gives_up_with_code_1_and_says_what_was_seen(orders):
    put(orders, "down", "passing")
    put(orders, "down", "critical", "disk full")
    found = consul_access("wait", "orders", "--at-least", "2", "--timeout", "0.5", agent=orders.address)
    assert (found.returncode, found.stdout) == (1, "")
    last = found.stderr.splitlines()[-1]
    assert "'orders' not ready after" in last
    assert "disk full" in last
    assert last.endswith("consul-access explain orders tells more")


def test_wait_bears_with_an_agent_that_is_not_there_yet(agents):
    agent = agents()
    agent.register("orders", port=80)
    agent.kill()
    with beginning("wait", "orders", "--timeout", "60", agent=agent) as process:
        assert "agent unreachable" in process.stderr.readline()
        agent.run()
        agent.register("orders", port=80)
        assert process.wait(30) == 0


def test_ctrl_c_ends_a_wait_with_130(orders):
    with beginning("wait", "nobody", agent=orders) as process:
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "")


def test_at_a_terminal_a_wait_is_one_line_that_changes(orders):
    ours, theirs = pty.openpty()
    with beginning("wait", "payments", agent=orders, stderr=theirs) as process:
        os.close(theirs)
        assert os.read(ours, 4096).decode().startswith("\r")
        orders.register("payments", port=80)
        assert process.wait(20) == 0
        seen = everything(ours)
    assert seen.endswith("\r\x1b[Kconsul-access: payments: ready, 1 of 1 passing\r\n")


def everything(terminal):
    """What was written until the other end was closed."""
    parts = []
    with contextlib.suppress(OSError):  # which is how a terminal tells
        while part := os.read(terminal, 4096):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


def test_watch_gives_a_line_for_each_change(orders):
    with beginning("watch", "orders", "--policy", "any", agent=orders) as process:
        first = sorted(process.stdout.readline() for _ in range(2))
        assert first == [
            f"+ orders orders-1 10.0.0.5:8080 passing {orders.node}\n",
            f"+ orders orders-2 [2001:db8::6]:8081 critical {orders.node}\n",
        ]
        put(orders, "down", "passing")
        assert process.stdout.readline() == f"~ orders orders-2 [2001:db8::6]:8081 passing {orders.node}\n"
        orders.request("PUT", "/v1/agent/service/deregister/orders-1")
        assert process.stdout.readline().startswith("- orders orders-1 ")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "")


def test_watch_as_json_lines(orders):
    with beginning("watch", "orders", "payments", "--json", agent=orders) as process:
        seen = {}
        while len(seen) < 2:
            snapshot = json.loads(process.stdout.readline())
            seen[snapshot["service"]] = snapshot
        assert [instance["address"] for instance in seen["orders"]["instances"]] == ["10.0.0.5:8080"]
        assert (seen["orders"]["added"], seen["orders"]["source"]) == (["orders-1"], "live")
        assert seen["payments"]["instances"] == []
        orders.register("payments", port=80)
        assert json.loads(process.stdout.readline())["added"] == ["payments"]


def test_watch_says_when_consul_cannot_confirm_the_list_and_when_it_can_again(agents):
    agent = agents(server=True)
    agent.register("orders", port=80)
    with beginning("watch", "orders", agent=agent) as process:
        assert process.stdout.readline().startswith("+ orders orders ")
        agent.kill()
        assert process.stdout.readline().startswith("! orders ")
        agent.run()
        assert process.stdout.readline() == "* orders\n"


def test_at_a_terminal_a_watch_is_a_table(orders):
    ours, theirs = pty.openpty()
    seen = []

    def read():
        with contextlib.suppress(OSError):
            while part := os.read(ours, 4096):
                seen.append(part.decode())

    with beginning("watch", "orders", agent=orders, stdout=theirs) as process:
        os.close(theirs)
        reader = threading.Thread(target=read)
        reader.start()
        eventually(lambda: "10.0.0.5:8080" in "".join(seen))
        orders.register("orders", id="orders-3", port=8083)
        eventually(lambda: "orders-3" in "".join(seen))
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    reader.join()
    os.close(ours)
    text = "".join(seen)
    assert re.search(r"SERVICE +ID +ADDRESS +STATUS +NODE +AGE", text)
    assert "\x1b[32mpassing" in text
    assert text.rstrip().endswith("\x1b[?25h"), "the cursor is back"


def test_watch_refuses_at_once_what_would_never_come():
    found = consul_access("watch", "orders")
    assert found.returncode == 3
    assert ONE_LINE.fullmatch(found.stderr)


def test_colours_only_at_a_terminal_and_not_when_they_are_unwanted(orders):
    assert "\x1b" not in consul_access("instances", "orders", agent=orders.address).stdout
    for unwanted, coloured in ((None, True), ("1", False)):
        ours, theirs = pty.openpty()
        environ = os.environ | {"CONSUL_HTTP_ADDR": orders.address, "TERM": "xterm"}
        environ |= {"NO_COLOR": unwanted} if unwanted else {}
        process = subprocess.Popen([PROGRAM, "instances", "orders"], env=environ, stdout=theirs)
        os.close(theirs)
        assert ("\x1b[32mpassing" in everything(ours)) is coloured
        process.wait(10)


def test_what_others_have_registered_cannot_speak_to_the_terminal(consul):
    consul.register("orders", id="orders-1", port=80, tags=["\x1b]0;owned\x07\nx"])
    found = consul_access("services", agent=consul.address)
    assert found.stdout.splitlines()[-1] == r"orders  \x1b]0;owned\x07\nx"


def test_a_token_is_read_from_a_file_and_never_from_the_command_line(acl_consul, tmp_path):
    acl_consul.register("hidden", port=80)
    (tmp_path / "token").write_text(acl_consul.token)
    found = consul_access("services", "--token-file", str(tmp_path / "token"), agent=acl_consul.address)
    assert "hidden" in found.stdout
    assert "hidden" not in consul_access("services", agent=acl_consul.address).stdout
    refused = consul_access("services", f"--token={acl_consul.token}", agent=acl_consul.address)
    assert refused.returncode == 2
    assert acl_consul.token not in refused.stdout + refused.stderr


@pytest.mark.parametrize("option", ["--http-addr", "--address"])
@pytest.mark.parametrize("form", ["{address}", "http://{address}"])
def test_the_address_is_an_option_too(orders, option, form):
    assert "orders" in consul_access("services", option, form.format(address=orders.address)).stdout


def test_nobody_listening_to_the_output_is_no_error(orders):
    for number in range(300):
        orders.register(f"service-{number:04}-with-a-long-name-that-fills-the-pipe" * 4, port=80)
    with beginning("services", "--json", agent=orders) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["services"], 3, "catalog.services at 127.0.0.1:1: no connection"),
        (["resolve", "orders"], 3, "health.service at 127.0.0.1:1: no connection"),
        (["services", "--http-addr", "ftp://x"], 2, "--http-addr begins with ftp://"),
        (["services", "--token-file", "/nowhere"], 2, "/nowhere"),
        (["resolve", "orders", "--policy", "good"], 2, "policy='good' is unknown"),
        (["wait", "orders", "--timeout", "soon"], 2, "timeout='soon' is no duration"),
        (["wait", "orders", "--at-least", "0"], 2, "at_least"),
        (["services", "--bogus"], 2, "No such option: --bogus (consul-access services --help)"),
        (["resolve"], 2, "NAME"),
        (["bogus"], 2, "bogus"),
        ([], 2, "Missing command"),
    ],
)
def test_an_error_is_one_line_and_a_code(arguments, code, told):
    found = consul_access(*arguments)
    assert (found.returncode, found.stdout) == (code, "")
    assert ONE_LINE.fullmatch(found.stderr), found.stderr
    assert told in found.stderr


def test_a_refusal_is_code_4(acl_consul):
    found = consul_access(
        "services", agent=acl_consul.address, CONSUL_HTTP_TOKEN="11111111-2222-3333-4444-555555555555"
    )
    assert found.returncode == 4
    assert ONE_LINE.fullmatch(found.stderr)
    assert "11111111" not in found.stderr
