"""The agent's endpoints as calls: what is sent, what is read, what may be repeated."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import BadAnswer, InvalidInput, Repeat, Reply, ServiceDefinition
from consul_access.call import Headers
from consul_access.consul import agent


def reply(body: object, status: int = 200) -> Reply:
    return Reply(status, Headers(), body if isinstance(body, bytes) else json.dumps(body).encode())


def test_registering_replaces_checks_in_the_only_words_the_agent_understands():
    definition = ServiceDefinition(id="w", name="w", port=80)
    call = agent.register(definition)
    assert (call.method, call.target_path) == ("PUT", "/v1/agent/service/register?replace-existing-checks=true")
    assert json.loads(call.body) == definition.payload()
    assert call.repeat is Repeat.IDEMPOTENT
    assert call.read(reply(b"")) is None
    assert agent.register(definition, replace_existing_checks=False).target_path == "/v1/agent/service/register"


@given(st.text(min_size=1, max_size=20))
def test_any_id_is_asked_for_exactly_or_refused(service_id):
    for make in (agent.service, agent.deregister, agent.service_health, lambda one: agent.update_check(one, "passing")):
        try:
            target = make(service_id).target_path
        except InvalidInput:
            continue
        *before, last = target.split("/")
        assert before[:3] == ["", "v1", "agent"]
        assert unquote(last) == service_id
        assert not set(target) & set("?# \r\n")


def test_a_report_is_cut_where_the_agent_would_cut_it_and_never_inside_a_character():
    sent = json.loads(agent.update_check("c", "passing", "x" + "é" * 5000).body)
    assert sent["Status"] == "passing"
    assert len(sent["Output"].encode()) == 4095
    assert sent["Output"].endswith("é")


@pytest.mark.parametrize("status", ["maintenance", "bogus", ""])
def test_other_statuses_cannot_be_reported(status):
    with pytest.raises(InvalidInput, match="'critical'"):
        agent.update_check("c", status)


def test_maintenance_says_why():
    assert agent.maintenance("w", True, "new disk & more").target_path == (
        "/v1/agent/service/maintenance/w?enable=true&reason=new%20disk%20%26%20more"
    )
    assert agent.node_maintenance(False).target_path == "/v1/agent/maintenance?enable=false"


def test_waiting_for_a_change_gives_the_agent_time():
    call = agent.service("w", wait="1m", content_hash="abc")
    assert call.query == (("hash", "abc"), ("wait", "1m"))
    assert call.patience == 60 * 17 / 16 + 5
    with pytest.raises(InvalidInput, match="content_hash"):
        agent.service("w", wait="1m")
    for wrong in (0, "11m"):
        with pytest.raises(InvalidInput):
            agent.service("w", wait=wrong, content_hash="abc")


def test_the_status_code_is_data_of_the_health_calls():
    assert agent.service_health("w").statuses == {200, 404, 429, 503}
    answer = reply({"AggregatedStatus": "warning", "Service": {"ID": "w", "Service": "w"}, "Checks": []}, 429)
    assert agent.service_health("w").read(answer).status == "warning"
    assert agent.service_health("w").read(reply({"AggregatedStatus": "critical", "Service": None}, 404)).service is None
    assert agent.service_health_by_name("w").read(reply([], 404)) == []


def test_answers_are_read():
    known = {"w": {"ID": "w", "Service": "web", "Tags": None, "Meta": None, "Port": 80}}
    assert agent.services().read(reply(known))["w"].port == 80
    assert agent.services().read(reply(None)) == {}
    assert agent.checks().read(reply({"c": {"CheckID": "c", "Status": "passing"}}))["c"].status == "passing"
    about = agent.about().read(
        reply({"Config": {"Version": "1.8.7", "NodeName": "n", "Datacenter": "dc1", "Server": True}})
    )
    assert (about.version, about.node_name, about.datacenter, about.server) == ("1.8.7", "n", "dc1", True)
    for call in (agent.about(), agent.service("w"), agent.services(), agent.checks(), agent.service_health("w")):
        with pytest.raises(BadAnswer):
            call.read(reply(b"<html>"))
    with pytest.raises(BadAnswer):
        agent.about().read(reply({"Config": {"Version": ""}}))
