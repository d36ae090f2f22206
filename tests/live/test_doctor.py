"""`consul-access doctor`, as users run it: at a real agent, at real etcd servers, and where something else listens."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest

from tests.support.agents import MASTER_TOKEN
from tests.support.commands import consul_access
from tests.support.scripted import ScriptedServer, answer

UNKNOWN_TOKEN = "11111111-2222-3333-4444-555555555555"


def diagnosed(*arguments, code, **environ):
    """What it says as JSON; the same is there for people, with the same exit code, and no secret in either."""
    people = consul_access("doctor", *arguments, **environ)
    found = consul_access("doctor", "--json", *arguments, **environ)
    for done in (people, found):
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stderr == ""
        for secret in (MASTER_TOKEN, UNKNOWN_TOKEN, "annpw"):
            assert secret not in done.stdout
    told = json.loads(found.stdout)
    for remark in told["remarks"]:
        assert f"{remark['severity']}: {remark['text']}\n" in people.stdout
        assert f"-> {remark['remedy']}\n" in people.stdout or not remark["remedy"]
    assert ("no fault was found" in people.stdout) is (not told["remarks"])
    return told


def codes(told):
    return [remark["code"] for remark in told["remarks"]]


def works(told):
    return {verdict["mode"]: verdict["works"] for verdict in told["modes"]}


def origin(told, name, setting):
    (found,) = (one for one in told["settings"][name] if one["setting"] == setting)
    return found["value"], found["source"]


def test_at_an_agent_that_is_well(consul):
    told = diagnosed(code=0, agent=consul.address, CONSUL_ACCESS_ADVERTISE="10.0.0.5")
    assert codes(told) == []
    (server,) = told["servers"]
    version = consul.read("/v1/agent/self")["Config"]["Version"]
    assert (server["version"], server["node"], server["access_controlled"]) == (version, consul.node, False)
    assert server["clock_difference"] == 0
    assert works(told) == {"agent": True, "catalog": True, "resolve": True}
    assert origin(told, "consul", "address") == (consul.address, "CONSUL_HTTP_ADDR")
    assert origin(told, "consul", "own address") == ("10.0.0.5", "CONSUL_ACCESS_ADVERTISE")


def test_options_are_told_as_such(consul):
    told = diagnosed("--http-addr", consul.address, code=0, agent="")
    assert origin(told, "consul", "address") == (consul.address, "--http-addr")


def test_catalog_mode_needs_an_address_that_others_can_call(consul):
    told = diagnosed(code=0, agent=consul.address)
    assert works(told) == {"agent": True, "catalog": False, "resolve": True}


def test_what_a_token_may_do_is_asked_and_never_tried(acl_consul):
    told = diagnosed("--service", "orders", code=0, agent=acl_consul.address, CONSUL_HTTP_TOKEN=acl_consul.token)
    assert set(told["rights"].values()) == {True}
    assert told["rights"]["service:write of 'orders'"] is True
    assert origin(told, "consul", "token") == ("**********", "CONSUL_HTTP_TOKEN")
    assert "orders" not in acl_consul.request("GET", "/v1/catalog/services")[1]


def test_a_service_s_own_token(acl_consul):
    body = {"ServiceIdentities": [{"ServiceName": "orders"}]}
    _, text = acl_consul.request("PUT", "/v1/acl/token", body)
    token = json.loads(text)["SecretID"]
    for name, may in (("orders", True), ("payments", False)):
        environ = {"agent": acl_consul.address, "CONSUL_HTTP_TOKEN": token, "CONSUL_ACCESS_ADVERTISE": "10.0.0.5"}
        told = diagnosed("--service", name, code=0, **environ)
        assert told["rights"][f"service:write of {name!r}"] is may
        assert works(told) == {"agent": may, "catalog": False, "resolve": True}
        assert codes(told) == ["version_not_told"]
    acl_consul.request("DELETE", f"/v1/acl/token/{json.loads(text)['AccessorID']}")


def test_no_token_where_one_is_needed(acl_consul):
    told = diagnosed(code=0, agent=acl_consul.address)
    assert codes(told) == ["version_not_told", "no_token"]
    assert not any(works(told).values())


def test_a_token_that_nobody_knows_is_code_4(acl_consul):
    told = diagnosed(code=4, agent=acl_consul.address, CONSUL_HTTP_TOKEN=UNKNOWN_TOKEN)
    assert codes(told) == ["token_refused"]
    assert not any(works(told).values())


def test_a_closed_port_is_code_3(free_port):
    told = diagnosed(code=3, agent=f"127.0.0.1:{free_port}")
    assert codes(told) == ["not_reached"]
    assert told["servers"][0]["answers"] is False
    assert not any(works(told).values())


def test_etcd_s_port_is_told_apart_from_consul_s(etcd):
    told = diagnosed(code=4, agent=etcd.address)
    assert codes(told) == ["something_else"]
    assert "an etcd answers at" in told["remarks"][0]["text"]


def test_a_page_is_told_apart_from_consul():
    page = answer(200, b"<!DOCTYPE html><title>router</title>", {"Content-Type": "text/html", "Server": "nginx"})
    with ScriptedServer([page]) as server:
        told = diagnosed(code=4, agent=server.address)
    assert codes(told) == ["something_else"]
    assert "a web server (nginx) answers at" in told["remarks"][0]["text"]


def test_consul_s_https_port_is_told_apart_from_its_other_one(consul):
    told = diagnosed(code=4, agent=f"127.0.0.1:{consul.https_port}")
    assert codes(told) == ["something_else"]
    assert told["remarks"][0]["remedy"].startswith("Write https://")


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_clock_that_is_wrong(ahead):
    def date(connection):
        headers = {"Date": formatdate(time.time() + ahead, usegmt=True), "Content-Type": "application/json"}
        return answer(200, b'"10.0.0.1:8300"', headers)(connection)

    with ScriptedServer([date, answer(404, b"")]) as server:
        done = consul_access("doctor", "--json", agent=server.address)
    told = json.loads(done.stdout)
    assert done.returncode == 0, "a wrong clock stands in nobody's way"
    assert codes(told)[0] == "clocks_differ"
    assert ahead - 60 <= told["servers"][0]["clock_difference"] <= ahead + 60


def test_servers_without_a_leader_are_code_1():
    with ScriptedServer([answer(200, b'""', {"Content-Type": "application/json"}), answer(404, b"")]) as server:
        done = consul_access("doctor", "--json", agent=server.address)
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert codes(told)[0] == "no_leader"
    assert works(told) == {"agent": True, "catalog": False, "resolve": False}


def test_settings_that_cannot_be_used_are_code_2():
    told = diagnosed(code=2, agent="ftp://consul")
    assert codes(told) == ["settings_unusable"]
    assert told["servers"] == []


def test_variables_of_others_are_named(consul):
    told = diagnosed(code=0, agent=consul.address, CONSUL_TOKEN="x", CONSUL_HTTP_SSL="perhaps")
    assert codes(told) == ["flag_ignored", "variable_not_read"]


def test_etcd_alone_when_only_its_settings_are_there(etcd):
    told = diagnosed(code=0, agent="", ETCDCTL_ENDPOINTS=etcd.address, CONSUL_ACCESS_ADVERTISE="10.0.0.5")
    assert list(told["settings"]) == ["etcd"]
    assert codes(told) == []
    assert works(told) == {"etcd": True}
    assert told["servers"][0]["version"].startswith(f"{etcd.release}.")


def test_both_when_both_are_there_and_a_member_that_is_none(consul, any_etcd):
    told = diagnosed(code=4, agent=consul.address, ETCDCTL_ENDPOINTS=f"{any_etcd.address},{consul.address}")
    assert list(told["settings"]) == ["consul", "etcd"]
    assert codes(told) == ["something_else"]
    assert "a Consul agent answers at" in told["remarks"][0]["text"]


def test_a_user_who_may_not_read_the_registry(etcd_with_users):
    told = diagnosed(code=4, agent="", ETCDCTL_ENDPOINTS=etcd_with_users.address, ETCDCTL_USER="ann:annpw")
    assert codes(told) == ["keys_refused"]
    assert works(told) == {"etcd": False}
    assert origin(told, "etcd", "user") == ("ann:**********", "ETCDCTL_USER")
