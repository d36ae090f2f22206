"""The calls of `/v1/agent`: what is sent, and what is made of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.call import Call, Headers, Repeat, Reply
from consul_access.consul import agent
from consul_access.errors import BadAnswer, ConnectionLimit, ConsulAccessError, InvalidInput, NotFound, RateLimited
from consul_access.models.checks import TtlCheck
from consul_access.models.definition import ServiceDefinition
from consul_access.models.status import CheckStatus

WEB = ServiceDefinition(id="web/1", name="web", port=80, checks=(TtlCheck("30s"),))


def reply(body: object, status: int = 200) -> Reply:
    return Reply(status, Headers(), body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("call", "name", "method", "target", "repeat"),
    [
        (agent.about(), "agent.self", "GET", "/v1/agent/self", Repeat.READ),
        (
            agent.register(WEB),
            "agent.service.register",
            "PUT",
            "/v1/agent/service/register?replace-existing-checks=true",
            Repeat.IDEMPOTENT,
        ),
        (
            agent.register(WEB, replace_existing_checks=False),
            "agent.service.register",
            "PUT",
            "/v1/agent/service/register",
            Repeat.IDEMPOTENT,
        ),
        (
            agent.deregister("web/1"),
            "agent.service.deregister",
            "PUT",
            "/v1/agent/service/deregister/web%2F1",
            Repeat.IDEMPOTENT,
        ),
        (agent.service("a b"), "agent.service", "GET", "/v1/agent/service/a%20b", Repeat.READ),
        (agent.services(), "agent.services", "GET", "/v1/agent/services", Repeat.READ),
        (agent.checks(), "agent.checks", "GET", "/v1/agent/checks", Repeat.READ),
        (
            agent.update_check("service:web/1", "passing"),
            "agent.check.update",
            "PUT",
            "/v1/agent/check/update/service%3Aweb%2F1",
            Repeat.IDEMPOTENT,
        ),
        (
            agent.maintenance("web", True, "new disk & more"),
            "agent.service.maintenance",
            "PUT",
            "/v1/agent/service/maintenance/web?enable=true&reason=new%20disk%20%26%20more",
            Repeat.IDEMPOTENT,
        ),
        (
            agent.maintenance("web", False),
            "agent.service.maintenance",
            "PUT",
            "/v1/agent/service/maintenance/web?enable=false",
            Repeat.IDEMPOTENT,
        ),
        (
            agent.node_maintenance(True, "x"),
            "agent.maintenance",
            "PUT",
            "/v1/agent/maintenance?enable=true&reason=x",
            Repeat.IDEMPOTENT,
        ),
        (
            agent.service_health("a/b"),
            "agent.health.service.id",
            "GET",
            "/v1/agent/health/service/id/a%2Fb",
            Repeat.READ,
        ),
        (
            agent.service_health_by_name("a/b"),
            "agent.health.service.name",
            "GET",
            "/v1/agent/health/service/name/a%2Fb",
            Repeat.READ,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_call_is_sent_where_the_agent_answers_it(
    call: Call[Any], name: str, method: str, target: str, repeat: Repeat
) -> None:
    assert (call.name, call.method, call.target_path, call.repeat) == (name, method, target, repeat)


def test_a_registration_is_sent_as_it_is_written() -> None:
    call = agent.register(WEB)

    assert json.loads(call.body or b"") == WEB.payload()
    assert call.subject == "web/1"


@pytest.mark.parametrize(
    "call",
    [
        agent.register(WEB),
        agent.deregister("web"),
        agent.update_check("c", "passing"),
        agent.maintenance("web", True),
        agent.node_maintenance(False),
    ],
    ids=lambda call: call.name,
)
def test_a_write_answers_with_nothing(call: Call[Any]) -> None:
    assert call.read(reply(b"")) is None
    assert call.statuses == {200}


BY_ID: list[Callable[[str], Call[Any]]] = [
    agent.deregister,
    agent.service,
    agent.service_health,
    agent.service_health_by_name,
    lambda name: agent.update_check(name, "passing"),
    lambda name: agent.maintenance(name, True),
]


@pytest.mark.parametrize("call", BY_ID)
@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a//b", "a/../b", "a\nb", "\0", "\ud800"])
def test_an_id_that_would_lead_elsewhere_is_refused(call: Callable[[str], Call[Any]], name: str) -> None:
    with pytest.raises(InvalidInput):
        call(name)


class TestReports:
    @pytest.mark.parametrize("status", ["passing", "warning", "critical", CheckStatus.WARNING])
    def test_status_and_output_are_sent(self, status: str) -> None:
        body = agent.update_check("c", status, "all\nfine").body
        assert json.loads(body or b"") == {"Status": str(status), "Output": "all\nfine"}

    @pytest.mark.parametrize("status", ["maintenance", "ok", "", CheckStatus.MAINTENANCE])
    def test_other_statuses_are_refused(self, status: str) -> None:
        with pytest.raises(InvalidInput, match="'passing', 'warning' or 'critical'"):
            agent.update_check("c", status)

    @given(st.text(max_size=6000) | st.text("aé€😀", min_size=1000, max_size=6000) | st.just("\ud800"))
    def test_a_long_output_is_cut_between_characters(self, output: str) -> None:
        sent = json.loads(agent.update_check("c", "passing", output).body or b"")["Output"]
        whole = output.encode("utf-8", "replace").decode()
        assert whole.startswith(sent)
        assert len(sent.encode()) <= 4096
        assert sent == whole or len(sent.encode()) > 4096 - 4


class TestWaiting:
    def test_a_change_is_waited_for_with_patience(self) -> None:
        call = agent.service("web", wait="1m", content_hash="abc")
        assert call.target_path == "/v1/agent/service/web?hash=abc&wait=1m"
        assert call.patience > 60 * 17 / 16

    def test_some_time_is_waited_when_none_is_said(self) -> None:
        assert "wait=55s" in agent.service("web", content_hash="abc").target_path

    def test_without_waiting_there_is_no_patience(self) -> None:
        assert agent.service("web").patience == 0

    @pytest.mark.parametrize("wait", [0, "0s", "11m", -1, "10"])
    def test_a_wait_that_agents_cut_or_refuse_is_refused(self, wait: Any) -> None:
        with pytest.raises(InvalidInput, match="wait="):
            agent.service("web", wait=wait, content_hash="abc")

    def test_waiting_needs_something_that_is_known(self) -> None:
        with pytest.raises(InvalidInput, match="content_hash="):
            agent.service("web", wait="10s")


class TestAnswers:
    def test_the_agent_tells_about_itself_under_config(self) -> None:
        config = {"Version": "1.8.7", "NodeName": "n1", "Datacenter": "dc1", "Server": True, "Revision": ""}
        about = agent.about().read(reply({"Config": config, "DebugConfig": {"x": 1}}))
        assert (about.version, about.node_name, about.datacenter, about.server) == ("1.8.7", "n1", "dc1", True)

    @pytest.mark.parametrize("body", [{}, {"Config": {}}, {"Config": {"Version": ""}}, [], None, b"<html>", b""])
    def test_an_agent_without_a_version_is_none(self, body: Any) -> None:
        with pytest.raises(BadAnswer):
            agent.about().read(reply(body))

    @pytest.mark.parametrize("call", [agent.services, agent.checks])
    @pytest.mark.parametrize("body", [{}, None])
    def test_none_registered_is_an_empty_dict(self, call: Any, body: Any) -> None:
        assert call().read(reply(body)) == {}

    def test_services_come_by_id(self) -> None:
        found = agent.services().read(reply({"web-1": {"ID": "web-1", "Service": "web", "Tags": None, "Meta": None}}))
        assert (found["web-1"].name, found["web-1"].port, found["web-1"].meta) == ("web", 0, {})

    def test_checks_come_by_id(self) -> None:
        entry = {"CheckID": "c", "Status": "passing", "ServiceID": "web-1", "Type": "ttl"}
        found = agent.checks().read(reply({"c": entry}))
        assert (found["c"].status, found["c"].service_id, found["c"].type) == ("passing", "web-1", "ttl")

    def test_a_service_comes_with_its_hash(self) -> None:
        found = agent.service("w").read(reply({"ID": "w", "Service": "web", "ContentHash": "abc"}))
        assert found.content_hash == "abc"


class TestHealth:
    @pytest.mark.parametrize("call", [agent.service_health("w"), agent.service_health_by_name("w")])
    def test_the_status_code_is_no_error(self, call: Call[Any]) -> None:
        assert call.statuses == {200, 404, 429, 503}

    @pytest.mark.parametrize(
        ("code", "status"), [(200, "passing"), (429, "warning"), (503, "critical"), (503, "maintenance")]
    )
    def test_a_service_stands_as_the_body_says(self, code: int, status: str) -> None:
        outcome = {"AggregatedStatus": status, "Service": {"ID": "w", "Service": "web"}, "Checks": []}
        found = agent.service_health("w").read(reply(outcome, code))
        assert found.service is not None
        assert (found.status, found.service.id) == (status, "w")

    def test_an_unknown_service_is_critical_and_nothing(self) -> None:
        found = agent.service_health("w").read(reply({"AggregatedStatus": "critical", "Service": None}, 404))
        assert found == agent.AgentHealth(status=CheckStatus.CRITICAL, service=None)

    def test_an_unknown_name_is_an_empty_list(self) -> None:
        assert agent.service_health_by_name("w").read(reply([], 404)) == []

    @pytest.mark.parametrize(("code", "error"), [(404, NotFound), (429, ConnectionLimit), (503, RateLimited)])
    def test_a_code_that_is_not_about_the_service_keeps_its_meaning(
        self, code: int, error: type[ConsulAccessError]
    ) -> None:
        for call in (agent.service_health("w"), agent.service_health_by_name("w")):
            with pytest.raises(error):
                call.read(reply(b"Your IP is issuing too many concurrent connections", code))
