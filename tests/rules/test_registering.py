"""From what a caller of `register_service` writes to a complete definition."""

from __future__ import annotations

from typing import Any

import pytest

from consul_access.errors import InvalidInput
from consul_access.models.checks import HttpCheck, TcpCheck, TtlCheck
from consul_access.models.default import DEFAULT
from consul_access.models.definition import ServiceDefinition
from consul_access.rules.registering import definition


def test_name_address_and_port_make_a_complete_registration() -> None:
    assert definition("hello", "10.0.0.5", 8080, host="box-7").payload() == {
        "ID": "hello-box-7-8080",
        "Name": "hello",
        "Address": "10.0.0.5",
        "Port": 8080,
        "Check": {"HTTP": "http://10.0.0.5:8080/health", "Interval": "10s", "Timeout": "5s"},
    }


def test_without_an_address_the_agent_asks_its_own_machine() -> None:
    written = definition("hello", None, 8080).payload()

    assert "Address" not in written
    assert written["Check"]["HTTP"] == "http://127.0.0.1:8080/health"


def test_an_ipv6_address_has_brackets_in_the_checks_url() -> None:
    assert definition("hello", "::1", 8080).payload()["Check"]["HTTP"] == "http://[::1]:8080/health"


def test_a_given_id_stays_as_it_is() -> None:
    assert definition("hello", "10.0.0.5", 8080, id="mine", host="box-7").id == "mine"


def test_an_empty_id_is_refused_and_not_replaced() -> None:
    with pytest.raises(InvalidInput, match="id is empty"):
        definition("hello", "10.0.0.5", 8080, id="")


def test_the_first_named_port_stands_for_the_port() -> None:
    found = definition("hello", "10.0.0.5", ports={"http": 80, "metrics": 9100}, host="box")

    assert found.id == "hello-box-80"
    assert found.payload()["Check"]["HTTP"] == "http://10.0.0.5:80/health"


@pytest.mark.parametrize(
    ("given", "checks"),
    [
        ({"check": None}, ()),
        ({"check": TtlCheck("30s")}, (TtlCheck("30s"),)),
        ({"checks": [TtlCheck("30s"), TcpCheck()]}, (TtlCheck("30s"), TcpCheck())),
        ({"checks": iter([TtlCheck("30s")])}, (TtlCheck("30s"),)),
        ({"checks": [], "check": DEFAULT}, ()),
        ({"checks": [TcpCheck()], "check": None}, (TcpCheck(),)),
        ({}, (HttpCheck(interval="10s", timeout="5s"),)),
        ({"check": DEFAULT, "checks": None}, (HttpCheck(interval="10s", timeout="5s"),)),
    ],
)
def test_checks_are_those_given_else_the_default_one(given: dict[str, Any], checks: tuple[Any, ...]) -> None:
    assert definition("hello", "10.0.0.5", 8080, **given).checks == checks


def test_check_and_checks_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match="put all of them into checks="):
        definition("hello", "10.0.0.5", 8080, check=TtlCheck(), checks=[TtlCheck()])


def test_the_default_check_needs_a_port_and_says_what_to_do() -> None:
    with pytest.raises(InvalidInput, match=r"give port=, another check=, or check=None"):
        definition("hello", "10.0.0.5")


@pytest.mark.parametrize("check", [None, TtlCheck("30s")])
def test_without_a_port_a_service_can_register_with_other_checks_or_none(check: Any) -> None:
    assert definition("hello", "10.0.0.5", check=check, host="box").id == "hello-box"


def test_one_check_as_checks_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"write \[TtlCheck\(\.\.\.\)\]"):
        definition("hello", "10.0.0.5", 8080, checks=TtlCheck())  # type: ignore[arg-type]


def test_a_list_as_check_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is no check"):
        definition("hello", "10.0.0.5", 8080, check=[TtlCheck()])  # type: ignore[arg-type]


def test_tags_may_come_from_anything_that_can_be_gone_through_but_a_text() -> None:
    assert definition("hello", "10.0.0.5", 8080, tags=(tag for tag in "ab")).tags == ("a", "b")
    with pytest.raises(InvalidInput, match="write a list"):
        definition("hello", "10.0.0.5", 8080, tags="ab")


def test_what_the_caller_changes_afterwards_does_not_change_the_definition() -> None:
    meta, ports = {"a": "b"}, {"http": 80}
    found = definition("hello", "10.0.0.5", meta=meta, ports=ports)
    meta["c"] = "d"
    ports["more"] = 81

    assert (found.meta, found.ports) == ({"a": "b"}, {"http": 80})


def test_what_was_checked_is_what_is_sent_whatever_becomes_of_what_it_was_made_of() -> None:
    meta = {"version": "1"}
    made = ServiceDefinition(id="web-1", name="web", meta=meta)
    meta["a key that no agent takes"] = "x"
    made.payload().clear()

    assert made.payload() == {"ID": "web-1", "Name": "web", "Meta": {"version": "1"}}
