"""Why a service at etcd is found, or is not: the judgement over any keys, and over none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import CheckStatus, FindingCode, HealthPolicy, Severity, errors
from consul_access.models.instance import ServiceInstance, Standing
from consul_access.rules.explaining_keys import HeldKey, KeyFacts, explain_keys
from consul_access.rules.selecting import Selection

DOWN = errors.ConnectFailed("no connection", operation="kv.range", address="10.0.0.1:2379")


def held(id: str = "web-1", service: str = "web", *, lease: int | None = 7, status="passing", **fields) -> HeldKey:  # noqa: A002
    standing = Standing(CheckStatus(status), CheckStatus(status))
    given_ = {"service_address": "10.0.0.5", "service_port": 80, **fields}
    instance = ServiceInstance(id=id, service=service, standing=standing, **given_)
    return HeldKey(f"/s/{service}/{id}", service, id, lease, instance)


def explained(*there: HeldKey, asked: str = "web", held_: object = None, **given_):
    return explain_keys(KeyFacts(asked=asked, prefix="/s/", held=there if held_ is None else held_, **given_))


def codes(explanation) -> list[str]:
    return [finding.code.value for finding in explanation.findings]


def test_what_is_well_is_found_and_there_is_nothing_to_say():
    found = explained(held(), held("db-1", "db"), address="10.0.0.1:2379", version="3.5.16")
    assert (found.service, found.is_discoverable, codes(found)) == ("web", True, [])
    page = str(found)
    assert page.startswith("web: discoverable, 1 of 1 instances would be found")
    assert "asked: member 10.0.0.1:2379, etcd 3.5.16" in page
    assert "web-1: 10.0.0.5:80, passing, found" in page
    assert "registered: /s/web/web-1" in page
    assert "db" not in page


@pytest.mark.parametrize(
    ("there", "query", "code", "words"),
    [
        (held(status="critical"), {}, "check_critical", "health function"),
        (held(status="warning"), {}, "check_warning", "passing_or_warning"),
        (held(status="maintenance"), {}, "service_maintenance", "drained"),
        (held(tags=("a",)), {"tags": "b"}, "excluded_by_query", "lacks the tag 'b'; it has 'a'"),
        (held(), {"tags": ["b"]}, "excluded_by_query", "it has none"),
        (held(), {"meta": {"zone": "a"}}, "excluded_by_query", "its meta has no 'zone'"),
        (held(meta={"zone": "b"}), {"meta": {"zone": "a"}}, "excluded_by_query", "'zone' is 'b', not 'a'"),
        (held(service_port=0), {}, "no_port", "no port"),
        (held(service_address=""), {}, "no_address", "no address"),
        (HeldKey("/s/web/x", "web", "x", 7, None, "no JSON"), {}, "unusable_entries", "no JSON"),
    ],
    ids=str,
)
def test_what_is_left_out_is_an_error_that_says_why(there, query, code, words):
    found = explained(there, query=query)
    assert not found.is_discoverable
    (finding,) = found.found(code)
    assert finding.severity is Severity.ERROR
    assert words in f"{finding.text} {finding.remedy}"
    assert finding.text in str(found).replace("\n   ", " ")


@pytest.mark.parametrize(
    ("there", "code"),
    [
        ([held(lease=None)], "no_lease"),
        ([held(service_address="127.0.0.1")], "loopback_address"),
        ([held(passing_weight=0)], "weight_zero"),
        ([held(), held("web-2")], "duplicate_address"),
    ],
)
def test_what_may_surprise_is_a_warning(there, code):
    found = explained(*there)
    assert found.is_discoverable
    (finding,) = found.found(code)
    assert finding.severity is Severity.WARNING


def test_a_name_that_is_not_there_is_told_with_its_likely_spelling():
    assert "There is 'web'" in explained(held(), asked="webb").found("unknown_service")[0].remedy
    assert "'web'" in explained(held(), asked="WEB").found("other_case")[0].text
    assert codes(explained(asked="web")) == ["unknown_service"]
    assert "no such service" in str(explained(asked="web"))


def test_an_id_is_told_with_its_services():
    found = explained(held("one", "a"), held("one", "b"), held("two", "a"), asked="one")
    assert (found.instance_id, found.service, len(found.instances)) == ("one", "a", 2)
    assert "'a' and 'b'" in found.found("is_an_id")[0].text
    assert found.is_discoverable


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DOWN, "agent_unreachable"),
        (errors.NoLeader("etcdserver: no leader"), "no_leader"),
        (errors.PermissionDenied("denied"), "permission_denied"),
        (errors.TokenUnknown("invalid auth token"), "token_unknown"),
        (errors.BadAnswer("no JSON"), "not_answered"),
    ],
)
def test_what_stood_in_the_way_is_the_only_finding(error, code):
    found = explained(held_=error)
    assert (codes(found), found.is_discoverable, found.service) == ([code], False, None)
    assert error.message in found.findings[0].text


def test_members_without_a_leader_are_told():
    assert codes(explained(held(), has_leader=False)) == ["no_leader"]


@given(
    st.lists(
        st.builds(
            held,
            st.sampled_from(["one", "two", "web"]),
            st.sampled_from(["web", "Web", "db"]),
            lease=st.sampled_from([None, 7]),
            status=st.sampled_from([str(status) for status in CheckStatus]),
            service_port=st.sampled_from([0, 80]),
            service_address=st.sampled_from(["", "h", "127.0.0.1"]),
            tags=st.sampled_from([(), ("a",)]),
        ),
        max_size=6,
    ),
    st.sampled_from(list(HealthPolicy)),
    st.sampled_from([(), "a"]),
    st.sampled_from(["web", "one", "nobody"]),
)
def test_whatever_is_left_out_has_a_reason_and_whatever_is_found_has_none(there, policy, tags, asked):
    query = {"policy": policy, "tags": tags}
    found = explained(*there, asked=asked, query=query)
    selection = Selection.of(query)
    for verdict in found.instances:
        assert verdict.is_discoverable != bool(verdict.excluded_by)
    chosen = [one.instance for one in there if asked == (one.id if found.instance_id else one.service)]
    assert found.is_discoverable == any(one.is_callable for one in selection.of_these(chosen))
    assert str(found)
    assert (
        found.is_discoverable
        or found.found("agent_unreachable")
        or any(finding.severity is Severity.ERROR for finding in found.findings)
    )
    assert {finding.code for finding in found.findings} <= set(FindingCode)
