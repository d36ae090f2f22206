"""What is wrong between a client and its servers: the judgement over any facts, and over missing ones."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import Address, Node, Target, errors
from consul_access.models.catalog import AgentInfo
from consul_access.rules.diagnosing import (
    ConsulFacts,
    EtcdFacts,
    MemberState,
    clock_difference,
    consul_modes,
    consul_remarks,
    decisive,
    etcd_modes,
    etcd_remarks,
    may_be_another,
    rights_asked,
    what_answers,
)
from consul_access.rules.remarks import RemarkCode

LOCAL = Target(Address("127.0.0.1", 8500))
REMOTE = Target(Address("10.0.0.1", 8500))
AGENT = AgentInfo(version="1.8.7", node_name="n1", node_id="id-1", datacenter="dc1")
DOWN = errors.ConnectFailed("no connection", operation="status.leader", address="10.0.0.1:8500")
DENIED = errors.PermissionDenied("the token may not do this", operation="agent.self")
UNKNOWN = errors.TokenUnknown("the agent does not know the token", operation="acl.authorize")
NO_ADDRESS = errors.InvalidInput("cannot be told")
ASKED = rights_asked("orders", "n1")


def facts(**other):
    """An agent on this machine that is well and controls nothing."""
    usual = {
        "target": LOCAL,
        "ips": ("127.0.0.1",),
        "leader": "10.0.0.1:8300",
        "peers": ("10.0.0.9:8300",),
        "agent": AGENT,
        "acls": False,
        "clock": 0.0,
        "own_catalog_address": "10.0.0.5",
    }
    return ConsulFacts(**{**usual, **other})


def granted(*refused):
    return {right: f"{right.resource}:{right.access}" not in refused for right in ASKED}


def codes(of):
    return [remark.code for remark in consul_remarks(of)]


def modes(of):
    return {verdict.mode: verdict for verdict in consul_modes(of)}


def test_where_all_is_well_nothing_is_said_and_everything_works():
    assert codes(facts()) == []
    assert {mode: verdict.works for mode, verdict in modes(facts()).items()} == {
        "agent": True,
        "catalog": True,
        "resolve": True,
    }


def test_who_does_not_answer_is_told_once_and_nothing_works():
    away = facts(leader=DOWN, peers=DOWN, agent=DOWN, acls=DOWN, rights=DOWN, clock=None)
    (remark,) = consul_remarks(away)
    assert (remark.code, remark.severity) == (RemarkCode.NOT_REACHED, "error")
    assert "10.0.0.1:8500: no connection" in remark.text
    assert remark.remedy == DOWN.advice
    assert [verdict.works for verdict in consul_modes(away)] == [False] * 3


@pytest.mark.parametrize("stranger", ["an etcd", "a web server", "a server that speaks https"])
def test_whoever_else_answers_is_named(stranger):
    odd = facts(leader=errors.BadAnswer("not JSON"), stranger=stranger)
    (remark,) = consul_remarks(odd)
    assert remark.code is RemarkCode.SOMETHING_ELSE
    assert stranger in remark.text
    assert ("https://" in remark.remedy) is ("https" in stranger)


def test_without_a_leader_an_agent_takes_registrations_and_nothing_else_works():
    leaderless = facts(leader="")
    assert codes(leaderless) == [RemarkCode.NO_LEADER]
    assert [verdict.works for verdict in consul_modes(leaderless)] == [True, False, False]


@pytest.mark.parametrize(
    ("refused", "works"),
    [
        ((), [True, True, True]),
        (("service:write",), [False, False, True]),
        (("node:write",), [True, False, True]),
        (("service:read",), [True, True, False]),
        (("node:read",), [True, True, False]),
        (("agent:read",), [True, True, True]),
    ],
)
def test_each_missing_right_takes_away_what_needs_it(refused, works):
    limited = facts(acls=True, has_token=True, rights=granted(*refused))
    assert [verdict.works for verdict in consul_modes(limited)] == works
    for verdict in consul_modes(limited):
        assert verdict.works or (any(right in verdict.because for right in refused) and verdict.remedy)


def test_a_node_that_is_there_needs_not_be_made():
    limited = facts(acls=True, has_token=True, rights=granted("node:write"), catalog_node=Node(id="", name="n"))
    assert modes(limited)["catalog"].works


def test_rights_that_nobody_tells_are_not_taken_for_missing():
    unknown = facts(acls=True, has_token=True, rights=None)
    assert codes(unknown) == [RemarkCode.RIGHTS_NOT_TOLD]
    assert all(verdict.works for verdict in consul_modes(unknown))


def test_a_token_that_is_not_known_is_said_once_and_nothing_works():
    refused = facts(has_token=True, acls=True, rights=UNKNOWN, agent=UNKNOWN)
    assert codes(refused) == [RemarkCode.TOKEN_REFUSED]
    assert [verdict.works for verdict in consul_modes(refused)] == [False] * 3


def test_no_token_where_access_is_controlled_is_a_warning():
    anonymous = facts(acls=True, agent=DENIED, rights=granted())
    assert codes(anonymous) == [RemarkCode.VERSION_NOT_TOLD, RemarkCode.NO_TOKEN]


@pytest.mark.parametrize(("peers", "warned"), [(("10.0.0.1:8300",), False), (("10.0.0.1:8300", "10.0.0.2:8300"), True)])
def test_one_of_several_servers_is_told_apart_from_an_agent(peers, warned):
    verdict = modes(facts(target=REMOTE, ips=("10.0.0.1",), peers=peers, own_address="10.0.0.5"))["agent"]
    assert verdict.works
    assert ("pinned" in verdict.because) is warned
    elsewhere = modes(facts(target=REMOTE, ips=("10.0.0.7",), peers=("10.0.0.2:1", "10.0.0.3:1")))["agent"]
    assert "pinned" not in elsewhere.because


def test_a_name_with_several_addresses_is_told():
    assert codes(facts(target=REMOTE, ips=("10.0.0.1", "10.0.0.2"))) == [RemarkCode.SEVERAL_ADDRESSES]
    assert codes(facts(ips=("127.0.0.1", "::1"))) == []


def test_without_an_address_of_its_own_nobody_could_call_it():
    assert [verdict.works for verdict in consul_modes(facts(own_address=NO_ADDRESS))] == [False, True, True]
    assert [verdict.works for verdict in consul_modes(facts(own_catalog_address=NO_ADDRESS))] == [True, False, True]


def test_a_token_in_clear_text_matters_beyond_this_machine_only():
    assert codes(facts(has_token=True)) == []
    assert codes(facts(has_token=True, target=REMOTE)) == [RemarkCode.TOKEN_IN_CLEAR]
    secure = Target(Address("10.0.0.1", 8501), tls=True)
    assert codes(facts(has_token=True, target=secure)) == []
    assert codes(facts(has_token=True, target=secure, verify=False)) == [RemarkCode.CERTIFICATE_NOT_CHECKED]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.8.0", []),
        ("1.22.1+ent", []),
        ("1.7.9", [RemarkCode.VERSION_UNTESTED]),
        ("new", [RemarkCode.VERSION_NOT_TOLD]),
    ],
)
def test_versions(version, expected):
    assert codes(facts(agent=AgentInfo(version=version))) == expected


@pytest.mark.parametrize(("clock", "told"), [(0.0, False), (2.9, False), (-2.9, False), (3.1, True), (-60.0, True)])
def test_clocks(clock, told):
    assert (codes(facts(clock=clock)) == [RemarkCode.CLOCKS_DIFFER]) is told


@given(
    now=st.floats(1e9, 2e9),
    took=st.floats(0, 5),
    share=st.floats(0, 1),
    ahead=st.floats(-1e5, 1e5),
)
def test_a_difference_of_clocks_is_never_more_than_it_is_and_hardly_less(now, took, share, ahead):
    date = formatdate(int(now + took * share + ahead), usegmt=True)
    found = clock_difference(date, now, now + took)
    assert found is not None
    assert abs(found) <= abs(ahead) + 1e-3
    assert found * ahead >= 0
    assert abs(ahead) - abs(found) <= took + 1 + 1e-3


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Foo 2026 00:00:00 GMT"])
def test_no_date_is_no_difference(date):
    assert clock_difference(date, 0, 1) is None


@pytest.mark.parametrize(
    ("status", "text", "server", "expected"),
    [
        (200, '{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}', "", "an etcd"),
        (200, "  <!DOCTYPE html><title>x</title>", "nginx", "a web server (nginx)"),
        (404, "<html>", "", "a web server"),
        (404, "nothing here", "nginx", "a web server (nginx)"),
        (400, "Client sent an HTTP request to an HTTPS server.\n", "", "a server that speaks https"),
        (200, '{"major": "1", "gitVersion": "v1.28.2"}', "", "a Kubernetes API server"),
        (200, '"127.0.0.1:8300"\n', "", "a Consul agent"),
        (200, '""', "", "a Consul agent"),
        (404, "404 page not found", "", ""),
        (200, "hello", "", ""),
    ],
)
def test_what_answers(status, text, server, expected):
    assert what_answers(status, text, server) == expected


@given(st.integers(100, 599), st.text(), st.text())
def test_what_answers_has_an_opinion_on_everything(status, text, server):
    assert isinstance(what_answers(status, text, server), str)


def test_only_who_answered_oddly_is_asked_what_it_is():
    assert may_be_another(errors.BadAnswer("no JSON"))
    assert may_be_another(errors.NotFound("no such call", status=404))
    assert may_be_another(errors.InvalidRequest("malformed", status=400))
    assert not may_be_another(DOWN)
    assert not may_be_another(DENIED)
    assert not may_be_another("127.0.0.1:8300")


def test_the_failure_that_decides_is_one_that_later_does_not_mend():
    assert decisive() is None
    assert decisive("fine", None, DOWN) is DOWN
    assert decisive(DOWN, UNKNOWN) is UNKNOWN


# --- etcd


def member(address="10.0.0.1:2379", **other):
    return MemberState(**{"address": address, "version": "3.5.16", "cluster": 7, "leader": 1, "clock": 0.0, **other})


def at_etcd(*members, **other):
    usual = {"members": members or (member(),), "prefix": "/services/", "own_address": "10.0.0.5"}
    return EtcdFacts(**{**usual, **other})


def etcd_codes(of):
    return [remark.code for remark in etcd_remarks(of)]


def test_a_cluster_that_is_well():
    assert etcd_codes(at_etcd()) == []
    assert [verdict.works for verdict in etcd_modes(at_etcd())] == [True]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"leader": None}, [RemarkCode.NO_LEADER]),
        ({"complaints": ("NOSPACE",)}, [RemarkCode.MEMBER_COMPLAINS]),
        ({"clock": 10.0}, [RemarkCode.CLOCKS_DIFFER]),
        ({"version": "3.3.10"}, [RemarkCode.VERSION_UNTESTED]),
        ({"failure": DOWN}, [RemarkCode.NOT_REACHED]),
        ({"failure": errors.NotFound("no"), "stranger": "a Consul agent"}, [RemarkCode.SOMETHING_ELSE]),
    ],
)
def test_what_is_said_of_a_member(other, expected):
    assert etcd_codes(at_etcd(member(**other))) == expected


def test_members_of_two_clusters_are_not_one():
    assert etcd_codes(at_etcd(member(), member("10.0.0.2:2379", cluster=8))) == [RemarkCode.DIFFERENT_CLUSTERS]


def test_one_member_that_is_away_does_not_keep_the_others_from_working():
    both = at_etcd(member(failure=DOWN), member("10.0.0.2:2379"))
    assert etcd_codes(both) == [RemarkCode.NOT_REACHED]
    assert [verdict.works for verdict in etcd_modes(both)] == [True]
    assert [verdict.works for verdict in etcd_modes(at_etcd(member(failure=DOWN)))] == [False]


def test_keys_that_cannot_be_read_and_an_address_that_cannot_be_told():
    assert etcd_codes(at_etcd(reading=DENIED)) == [RemarkCode.KEYS_REFUSED]
    assert not etcd_modes(at_etcd(reading=DENIED))[0].works
    (verdict,) = etcd_modes(at_etcd(own_address=NO_ADDRESS))
    assert not verdict.works
    assert "look-ups work" in verdict.because
