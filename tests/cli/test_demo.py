"""`demo` and `dev`, as users run them: without a server, and the same story at a real agent."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from consul_access import ConsulAccess, EtcdRegistry, HttpCheck, TtlCheck
from consul_access.testing import FakeConsul
from consul_access.testing.demo.service import SHOP
from consul_access.testing.demo.story import _Story
from tests.support.commands import PROGRAM, consul_access
from tests.support.instance_servers import Serving
from tests.support.waiting import eventually

STORY = """\
1. Two services start, each a process of its own, and register themselves.
...
2. The agent asks GET /health every second, and now everybody finds them.
   SERVICE  ID  ADDRESS  STATUS
   demo-shop  demo-shop-PLACE  127.0.0.1:PORT  passing
   demo-stock  demo-stock-PLACE  127.0.0.1:PORT  passing

3. demo-shop is looked up by its name and called; it looks up demo-stock.
   http://127.0.0.1:PORT/ says: '3 apples, says demo-stock at 127.0.0.1:PORT'

4. demo-stock is killed (SIGKILL) and says no goodbye. Its check fails; nobody is sent there any more.
   SERVICE  ID  ADDRESS  STATUS
   demo-shop  demo-shop-PLACE  127.0.0.1:PORT  passing
   demo-stock  demo-stock-PLACE  127.0.0.1:PORT  critical
   http://127.0.0.1:PORT/ says: 'sold out: nobody keeps the stock'

5. demo-stock comes back, under the same id.
   SERVICE  ID  ADDRESS  STATUS
   demo-shop  demo-shop-PLACE  127.0.0.1:PORT  passing
   demo-stock  demo-stock-PLACE  127.0.0.1:PORT  passing
   http://127.0.0.1:PORT/ says: '3 apples, says demo-stock at 127.0.0.1:PORT'

6. demo-stock is asked to end (SIGTERM): first it leaves every look-up, then it serves on for a second,
   then it deregisters, and only then it stops.
   Out of the look-ups, and whoever has its address is still told: '3 apples'
   SERVICE  ID  ADDRESS  STATUS
   demo-shop  -  -  not registered
   demo-stock  -  -  not registered

That was register, check, resolve, call, drop out, come back, drain.
"""


def story(printed):
    """What was told from the first step on, with places that differ from run to run as PLACE and PORT."""
    told = printed[printed.index("1. Two") :]
    told = re.sub(r"(?<=register themselves\.\n).*?\n(?=2\. )", "...\n", told, flags=re.DOTALL)
    told = re.sub(r"(demo-(?:shop|stock))-\S+-\d+(?= )", r"\1-PLACE", told)
    told = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", told)
    return re.sub(r"(?<=\S)  +", "  ", told)


@pytest.mark.parametrize("command", [[PROGRAM, "demo"], [sys.executable, "-m", "consul_access.testing.demo"]])
def test_the_story_needs_no_server(command):
    environ = os.environ | {"CONSUL_HTTP_ADDR": "127.0.0.1:1", "CONSUL_HTTP_TOKEN": "of another agent"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"A Consul agent made of memory \(it answers as 1.8.7\) listens at 127.0.0.1:\d+.\n", done.stdout)
    assert story(done.stdout) == STORY


def test_the_story_as_json_has_the_same_steps():
    done = consul_access("demo", "--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted({each["step"] for each in told}) == list(range(7))
    assert told[-1]["text"] == "That was register, check, resolve, call, drop out, come back, drain."


def test_the_story_is_the_same_at_a_real_agent(consul):
    done = consul_access("demo", "--address", consul.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"A Consul agent is asked at {consul.address}.\n")
    assert story(done.stdout) == STORY
    with ConsulAccess(url=consul.url) as access:
        assert access.services() == {"consul": []}


def test_the_story_goes_on_when_a_busy_machine_has_let_a_check_fail():
    said = []
    with FakeConsul().serve() as agent, ConsulAccess(url=agent.url) as access, Serving("here") as shop:
        access.register_service(SHOP, *shop.address, id="shop", check=TtlCheck(60))
        later = threading.Timer(0.3, access.pass_check, ["service:shop"])
        later.start()
        _Story(access, {}, said.append)._call()
        later.join()
    assert said == [f"   http://127.0.0.1:{shop.port}/ says: 'here'\n"]


def test_the_story_says_in_one_line_that_there_is_no_agent(free_port):
    done = consul_access("demo", "--address", f"127.0.0.1:{free_port}")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert f"127.0.0.1:{free_port}" in done.stderr


def test_interrupted_it_leaves_nothing_at_a_real_agent(consul):
    with subprocess.Popen([PROGRAM, "demo", "--address", consul.address], stdout=subprocess.PIPE, text=True) as process:
        with ConsulAccess(url=consul.url) as access:
            eventually(lambda: len(access.services()) == 3, within=30)
            ports = [access.instances(f"demo-{name}", policy="any")[0].port for name in ("shop", "stock")]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            assert process.returncode == 130
            assert access.services() == {"consul": []}
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_dev_serves_an_agent_that_makes_its_checks(free_port, end):
    command = [PROGRAM, "dev", "--port", str(free_port), "--consul", "1.21"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == f"export CONSUL_HTTP_ADDR=127.0.0.1:{free_port}\n"
            with ConsulAccess(port=free_port) as access:
                access.register_service(
                    "self", "127.0.0.1", free_port, check=HttpCheck(path="/v1/status/leader", interval="1s")
                )
                assert len(access.wait_for("self", timeout=30)) == 1
        finally:
            process.send_signal(end)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == "consul-access: an agent made of memory, which answers as Consul 1.21.4, is there until Ctrl-C\n"


def test_dev_serves_an_etcd_as_well(free_port):
    command = [PROGRAM, "dev", "--etcd", "--port", str(free_port), "--etcd-version", "3.4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == f"export ETCDCTL_ENDPOINTS=127.0.0.1:{free_port}\n"
            with EtcdRegistry(port=free_port) as etcd:
                with etcd.registered("orders", "10.0.0.5", 8080, drain=0), etcd.watch_key("a") as watch:
                    assert etcd.resolve("orders") == ("10.0.0.5", 8080)
                    etcd.put("a", "1")
                    assert next(watch).value == b"1"
                assert etcd.status().version == "3.4.23"
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == "consul-access: an etcd made of memory, which answers as etcd 3.4.23, is there until Ctrl-C\n"


@pytest.mark.parametrize(("options", "version"), [((), "1.8.7"), (("--etcd",), "3.5.16")], ids=["consul", "etcd"])
def test_dev_tells_its_address_as_json(free_port, options, version):
    command = [PROGRAM, "dev", "--json", "--port", str(free_port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert json.loads(process.stdout.readline()) == {"address": f"127.0.0.1:{free_port}", "version": version}
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0


def test_dev_says_what_it_cannot_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = consul_access("dev", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("(Address already in use); --port takes another one\n")
    for options in (("--consul", "0.1"), ("--etcd", "--etcd-version", "2"), ("--etcd", "--consul", "1.8")):
        assert consul_access("dev", "--port", "0", *options).returncode == 2
