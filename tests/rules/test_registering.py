"""What `register_service` fills in."""

from __future__ import annotations

import pytest

from consul_access import HttpCheck, InvalidInput, TtlCheck
from consul_access.rules.addressing import host_label, instance_id, own_address
from consul_access.rules.registering import definition


def test_name_address_and_port_are_complete():
    complete = definition("hello", "10.0.0.5", 8080, host="box")
    assert complete.id == "hello-box-8080"
    assert complete.payload()["Check"] == {"HTTP": "http://10.0.0.5:8080/health", "Interval": "10s", "Timeout": "5s"}


def test_one_several_or_no_checks():
    assert definition("w", port=1, check=None).checks == ()
    assert definition("w", port=1, check=TtlCheck("5s")).checks == (TtlCheck("5s"),)
    assert len(definition("w", port=1, checks=iter([TtlCheck("5s"), HttpCheck()])).checks) == 2
    assert definition("w", port=1, checks=[]).checks == ()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"check": TtlCheck("5s"), "checks": []}, "put all of them"),
        ({"port": None}, "check=None"),
        ({"tags": "abc"}, "list"),
        ({"name": ""}, "empty"),
        ({"name": "consul"}, "another"),
        ({"check": "http"}, "no check"),
    ],
)
def test_contradictions_and_gaps_are_refused(arguments, text):
    with pytest.raises(InvalidInput, match=text):
        definition(**({"name": "w", "port": 1} | arguments))


def test_a_given_id_stays_as_it_is():
    assert definition("w", port=1, id="my/id").id == "my/id"


@pytest.mark.parametrize(
    ("name", "host", "port", "made"),
    [
        ("web", "box", 80, "web-box-80"),
        ("web", "box", None, "web-box"),
        ("web", "", 80, "web-80"),
        ("web", "my box/ü%", 80, "web-my-box-80"),
        ("web", "pod-7.ns", 80, "web-pod-7.ns-80"),
    ],
)
def test_an_id_is_made_of_name_host_and_port_and_always_legal(name, host, port, made):
    assert instance_id(name, host, port) == made


def test_the_pods_name_goes_before_the_machines():
    assert host_label({"POD_NAME": "pod", "HOSTNAME": "box"}, "x") == "pod"
    assert host_label({"HOSTNAME": "box"}, "x") == "box"
    assert host_label({}, "x") == "x"


class TestOwnAddress:
    def own(self, given=None, *, environ=None, local=False, source="10.0.0.9"):
        return own_address(given, environ=environ or {}, agent_is_local=local, route_source=source)

    def test_the_order(self):
        everything = {"CONSUL_ACCESS_ADVERTISE": "10.0.0.1", "POD_IP": "10.0.0.2"}
        assert self.own("10.0.0.3", environ=everything) == "10.0.0.3"
        assert self.own(environ=everything) == "10.0.0.1"
        assert self.own(environ={"POD_IP": "10.0.0.2"}, local=True) == "10.0.0.2"
        assert self.own(local=True) is None
        assert self.own() == "10.0.0.9"

    @pytest.mark.parametrize("source", [None, "127.0.0.1", "::1"])
    def test_what_others_cannot_call_is_refused(self, source):
        with pytest.raises(InvalidInput, match="CONSUL_ACCESS_ADVERTISE"):
            self.own(source=source)

    @pytest.mark.parametrize("wrong", [{"given": "0.0.0.0"}, {"given": ""}, {"environ": {"POD_IP": "http://x"}}])
    def test_what_is_given_must_be_an_address(self, wrong):
        with pytest.raises(InvalidInput):
            self.own(**wrong)
