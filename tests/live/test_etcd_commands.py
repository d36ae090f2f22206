"""The commands about etcd, Kubernetes and the sync, as users run them, against real servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess

import pytest

from tests.live.test_etcd_kubernetes import fill
from tests.support.commands import PROGRAM, consul_access
from tests.support.waiting import eventually

BUSY = 30.0


@pytest.fixture
def ask(any_etcd, consul):
    """Runs a command that finds both servers."""
    yield lambda *arguments, **environ: consul_access(
        *arguments, agent=consul.address, ETCDCTL_ENDPOINTS=any_etcd.address, **environ
    )
    consul.request("PUT", "/v1/catalog/deregister", {"Node": "etcd-sync"})


@contextlib.contextmanager
def going_on(*arguments, etcd, agent="127.0.0.1:1"):
    """A command that goes on for as long as the block; gives the process."""
    environ = os.environ | {"ETCDCTL_ENDPOINTS": etcd.address, "CONSUL_HTTP_ADDR": agent}
    process = subprocess.Popen(
        [PROGRAM, *arguments], env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process):
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=BUSY)
    return process.returncode, out, err


def test_keys_are_written_read_and_listed(ask):
    put = ask("etcd", "put", "services/a", "10.0.0.5:1883")
    assert re.fullmatch(r"revision \d+\n", put.stdout)
    assert json.loads(ask("etcd", "put", "services/b", "x\x1b[2J", "--json").stdout)["revision"] > 1
    assert ask("etcd", "get", "services/a").stdout == "10.0.0.5:1883\n"
    assert ask("etcd", "get", "services/", "--prefix").stdout == ("services/a\n10.0.0.5:1883\nservices/b\nx\\x1b[2J\n")
    assert ask("etcd", "get", "services/b", "--raw").stdout == "x\x1b[2J"
    assert ask("etcd", "ls", "services/").stdout == "services/a\nservices/b\n"
    (one,) = json.loads(ask("etcd", "get", "services/a", "--json").stdout)
    assert (one["key"], one["value"], one["version"], one["lease"]) == ("services/a", "10.0.0.5:1883", 1, None)


def test_values_that_are_no_text_are_told_in_base64(ask, any_etcd):
    any_etcd.put("bytes", b"\xff\x00")
    (one,) = json.loads(ask("etcd", "get", "bytes", "--json").stdout)
    assert one["value_base64"] == "/wA="
    assert "value" not in one


def test_a_value_comes_from_standard_input(any_etcd):
    environ = os.environ | {"ETCDCTL_ENDPOINTS": any_etcd.address}
    line = [PROGRAM, "etcd", "put", "bytes"]
    done = subprocess.run(line, env=environ, input=b"\xff\n\x00", capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    line = [PROGRAM, "etcd", "get", "bytes", "--raw"]
    assert subprocess.run(line, env=environ, capture_output=True, check=True, timeout=60).stdout == b"\xff\n\x00"


def test_answers_that_are_no_and_refusals_have_their_codes(ask, free_port):
    absent = ask("etcd", "get", "nobody")
    assert (absent.returncode, absent.stdout) == (1, "")
    assert absent.stderr == "consul-access: there is no key 'nobody'\n"
    assert ask("etcd", "get", "nobody", "--prefix").returncode == 0
    refused = ask("etcd", "put", "/registry/services/specs/shop/web", "x")
    assert refused.returncode == 2
    assert "concerns keys of Kubernetes" in refused.stderr
    assert ask("etcd", "get", "a", "--raw", "--json").returncode == 2
    for command in (("etcd", "get", "a"), ("etcd", "watch", "a"), ("k8s", "services"), ("sync", "--dry-run")):
        away = ask(*command, "--endpoints", f"127.0.0.1:{free_port}")
        assert away.returncode == 3, command
        assert len(away.stderr.splitlines()) == 1
    assert ask("etcd", "ls", "--endpoints", "ann:secret@x:1").returncode == 2


def test_the_status_tells_each_member(ask, any_etcd, free_port):
    found = ask("etcd", "status")
    header, row = found.stdout.splitlines()
    assert header.split() == ["MEMBER", "VERSION", "LEADER", "REVISION", "SIZE", "ERRORS"]
    assert row.split()[:3] == [any_etcd.address, "3.4.23", "yes"]
    assert found.returncode == 0
    both = ask("etcd", "status", "--endpoints", f"127.0.0.1:{free_port},{any_etcd.address}", "--json")
    away, here = json.loads(both.stdout)
    assert "no connection" in away["error"]
    assert here["is_leader"] is True
    assert both.returncode == 3


def test_a_watch_prints_a_line_for_each_change(any_etcd):
    any_etcd.put("services/old", "1")
    with going_on("etcd", "watch", "services/", "--prefix", etcd=any_etcd) as process:
        written = []

        def put() -> bool:
            """Until one is told, since nobody says when the watch has begun."""
            any_etcd.put("services/old", str(len(written)))
            written.append(None)
            return bool(select.select([process.stdout], [], [], 0.1)[0])

        eventually(put, within=BUSY, what="the watch tells a change")
        any_etcd.put("services/new", "a b")
        any_etcd.delete("services/new")
        lines: list[str] = []
        while "- services/new\n" not in lines:
            lines.append(process.stdout.readline())
        assert set(lines[:-2]) <= {f"~ services/old {number}\n" for number in range(len(written))}
        assert lines[-2:] == ["+ services/new a b\n", "- services/new\n"]
        assert ended(process) == (130, "", "")


def test_kubernetes_services_and_instances(ask, any_etcd):
    fill(any_etcd, "protobuf")
    services = json.loads(ask("k8s", "services", "-A", "--json").stdout)
    assert {(one["namespace"], one["name"]) for one in services} >= {("shop", "web"), ("default", "iiip-redis-core")}
    (web,) = (one for one in services if one["name"] == "web")
    assert [(port["name"], port["port"], port["node_port"]) for port in web["ports"]] == [
        ("http", 80, 30080),
        ("metrics", 9090, 30451),
    ]
    table = ask("k8s", "services").stdout.splitlines()
    assert [line.split()[1] for line in table] == ["NAME", "iiip-redis-core", "kubernetes", "redis-headless"]
    found = json.loads(ask("k8s", "instances", "iiip-redis-core", "--json").stdout)
    assert [(one["address"], one["pod"], one["ports"]) for one in found] == [
        ("10.244.0.5:6379", "redis-0", {"redisport": 6379}),
        ("10.244.1.6:6379", "redis-1", {"redisport": 6379}),
    ]
    assert len(json.loads(ask("k8s", "instances", "iiip-redis-core", "--readiness", "any", "--json").stdout)) == 3
    nobody = ask("k8s", "instances", "nobody", "-n", "shop", "--json")
    assert (nobody.returncode, nobody.stdout) == (0, "[]\n")
    assert nobody.stderr == "consul-access: no ready instance of shop/nobody\n"
    assert ask("k8s", "instances", "web", "--readiness", "perhaps").returncode == 2


def test_a_dry_run_prints_the_plan_and_writes_nothing(ask, any_etcd, consul):
    fill(any_etcd, "protobuf")
    plan = json.loads(ask("sync", "--dry-run", "--json").stdout)
    assert len(plan["register"]) == 13
    assert consul.read("/v1/catalog/node/etcd-sync") is None
    done = ask("sync", "--once")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 13
    assert done.stderr == "consul-access: 13 registered, 0 removed, 0 were as they should be\n"
    any_etcd.clear()
    held = ask("sync", "--dry-run")
    assert {line[0] for line in held.stdout.splitlines()} == {"="}
    assert "13 of 13 instances would vanish" in held.stderr
    allowed = ask("sync", "--dry-run", "--may-vanish", "1")
    assert {line[0] for line in allowed.stdout.splitlines()} == {"-"}
    refused = ask("sync", "--dry-run", "--node", consul.node)
    assert refused.returncode == 2
    assert "the node of an agent" in refused.stderr


def test_a_sync_goes_on_until_it_is_ended_and_tells_its_events(any_etcd, consul):
    fill(any_etcd, "protobuf")
    try:
        with going_on("sync", "--json", etcd=any_etcd, agent=consul.address) as process:
            kinds = [json.loads(process.stdout.readline())["kind"] for _ in range(2)]
            assert kinds == ["listed", "written"]
            any_etcd.delete("/registry/services/specs/shop/manual")
            change = json.loads(process.stdout.readline())
            assert (change["kind"], change["state"], change["deregistered"]) == ("written", "synced", 4)
            code, out, err = ended(process)
            assert (code, json.loads(out.splitlines()[-1])["kind"], err) == (130, "stopped", "")
        assert consul.read("/v1/catalog/node/etcd-sync")["Services"]
    finally:
        consul.request("PUT", "/v1/catalog/deregister", {"Node": "etcd-sync"})
