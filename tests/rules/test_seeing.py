"""What is seen of a service, in words: what answers, empty answers, checks and failures say."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import F, HealthPolicy, InvalidInput, ProgressKind, errors
from consul_access.rules.filtering import admits
from consul_access.rules.seeing import (
    Surroundings,
    Wanted,
    failed,
    seen,
    similar_names,
    troubles,
    wanted_of,
    wants_outputs,
    with_outputs,
    words,
)
from tests.support.entries import check, entries, entry

POLICIES = st.sampled_from(HealthPolicy)
SURROUNDINGS = st.builds(
    Surroundings,
    registered=st.integers(0, 3),
    names=st.none() | st.frozensets(st.sampled_from(["web", "webs", "other"])),
    acls=st.none() | st.booleans(),
    default_policy=st.sampled_from([None, "allow", "deny"]),
    filtered=st.none() | st.booleans(),
)


# --- what an answer says ----------------------------------------------------------------------------------


@given(entries(), POLICIES, st.integers(1, 4))
def test_ready_means_that_the_policy_admits_as_many_as_are_wanted(found, policy, at_least):
    progress = seen(Wanted("web", at_least, policy), found)
    admitted = sum(admits(policy, one.standing) for one in found)
    assert progress.is_ready == (admitted >= at_least)
    assert progress.found == admitted
    assert progress.registered == len(found)


@given(entries(), POLICIES, st.integers(1, 4), SURROUNDINGS)
def test_whatever_is_not_ready_says_why_on_one_line_that_is_not_endless(found, policy, at_least, around):
    progress = seen(Wanted("web", at_least, policy, "tags='a'"), found, around)
    text = str(progress)
    assert text.startswith("web: ")
    assert text.isprintable()
    assert len(text) < 1000
    refused = any(not admits(policy, one.standing) for one in found)
    if progress.kind is ProgressKind.TOO_FEW:
        assert bool(progress.reasons) == refused
    assert pickle.loads(pickle.dumps(progress)) == progress


@given(entries(), POLICIES)
def test_an_instance_has_troubles_exactly_when_the_policy_leaves_it_out(found, policy):
    for one in found:
        assert bool(troubles(one, policy)) == (not admits(policy, one.standing))


@given(SURROUNDINGS)
def test_an_empty_answer_is_called_unknown_only_when_nothing_speaks_for_another_reason(around):
    progress = seen(Wanted("web"), [], around)
    assert not progress.is_ready
    if progress.kind is ProgressKind.UNKNOWN_SERVICE:
        assert not around.registered
        assert not around.filtered
        assert around.default_policy != "deny"
        assert not around.acls or around.default_policy == "allow"
    if progress.kind in {ProgressKind.HIDDEN, ProgressKind.MAYBE_HIDDEN}:
        assert around.acls or around.filtered or around.default_policy == "deny"
    if progress.kind is ProgressKind.HIDDEN:
        assert around.filtered or "web" in (around.names or ())


@pytest.mark.parametrize(
    ("around", "kind", "part"),
    [
        (None, ProgressKind.UNKNOWN_SERVICE, "unknown service"),
        (Surroundings(names=frozenset({"Web", "we", "db"})), ProgressKind.UNKNOWN_SERVICE, "there is 'Web' and 'we'"),
        (Surroundings(acls=False), ProgressKind.UNKNOWN_SERVICE, "unknown service"),
        (
            Surroundings(acls=True, names=frozenset({"webs"})),
            ProgressKind.MAYBE_HIDDEN,
            "token sees no such service (service:read, node:read); there is 'webs'",
        ),
        (Surroundings(default_policy="deny"), ProgressKind.MAYBE_HIDDEN, "or hidden by ACL"),
        (Surroundings(acls=True, default_policy="allow"), ProgressKind.UNKNOWN_SERVICE, "unknown service"),
        (Surroundings(acls=True, names=frozenset({"web"})), ProgressKind.HIDDEN, "node:read"),
        (Surroundings(names=frozenset({"web"})), ProgressKind.UNKNOWN_SERVICE, "unknown service"),
        (Surroundings(filtered=True, default_policy="allow"), ProgressKind.HIDDEN, "left out instances"),
        (Surroundings(registered=2, acls=True), ProgressKind.NO_MATCH, "registered, 0 of 2 as asked for: nothing fits"),
    ],
)
def test_an_empty_answer_is_explained_by_what_is_around_it(around, kind, part):
    progress = seen(Wanted("web", narrowed="tags='a'"), [], around)
    assert progress.kind is kind
    assert part in progress.text


def test_the_worst_check_is_told_first_and_the_others_are_counted():
    found = [
        entry(
            f"web-{number}",
            checks=[
                check("warning", of=f"web-{number}"),
                check("critical", name="ping", of=f"web-{number}", output="no\nway"),
            ],
        )
        for number in range(3)
    ]
    progress = seen(Wanted("web", 2), found)
    assert progress.text == (
        "registered, 0 of 3 passing, 2 wanted: check 'ping' of web-0 is critical: no way; "
        "check 'own check' of web-0 is warning: it has said nothing yet; "
        "check 'ping' of web-1 is critical: no way; and 3 more"
    )


def test_maintenance_and_nodes_are_called_by_their_names():
    service = entry(checks=[check("maintenance")])
    node = entry(checks=[check("maintenance", own=False)])
    failed_node = entry(serf="critical")
    assert troubles(service, HealthPolicy.PASSING) == ["web-1 is in maintenance: new disk"]
    assert troubles(node, HealthPolicy.SERVICE_CHECKS_ONLY) == ["node n1 is in maintenance: new disk"]
    (only,) = troubles(failed_node, HealthPolicy.PASSING_OR_WARNING)
    assert only == "check 'serfHealth' of node n1 is critical: Agent not live or unreachable"


def test_a_warning_is_no_trouble_where_it_is_tolerated_and_a_node_check_where_nodes_do_not_count():
    one = entry(checks=[check("warning"), check("critical", own=False)])
    assert len(troubles(one, HealthPolicy.PASSING)) == 2
    assert len(troubles(one, HealthPolicy.PASSING_OR_WARNING)) == 1
    assert troubles(one, HealthPolicy.SERVICE_CHECKS_ONLY) == ["check 'own check' of web-1 is warning: " + NOT_RUN]
    assert troubles(one, HealthPolicy.ANY) == []


def test_outputs_that_only_the_agent_knows_are_told():
    one = entry(checks=[check("critical"), check("critical", own=False, output="old")])
    known = [
        check("critical", output="refused").model_copy(update={"node": "n1"}),
        check("critical", own=False, output="other").model_copy(update={"node": "n2"}),
    ]
    assert wants_outputs(Wanted("web"), [one])
    (judged,) = with_outputs([one], known)
    assert [each.output for each in judged.checks[1:]] == ["refused", "old"]
    assert judged.standing == one.standing
    assert "refused" in seen(Wanted("web"), [judged]).text
    assert not wants_outputs(Wanted("web"), [judged])
    assert not wants_outputs(Wanted("web"), [one, entry("web-2")])
    assert not wants_outputs(Wanted("web", policy=HealthPolicy.ANY), [one])


NOT_RUN = "it has said nothing yet"


# --- what a failure says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (errors.ConnectFailed, "agent unreachable"),
        (errors.ConnectionLost, "agent unreachable"),
        (errors.DeadlineExceeded, "agent unreachable"),
        (errors.NoLeader, "no leader"),
        (errors.TokenUnknown, "token unknown"),
        (errors.PermissionDenied, "permission denied"),
        (errors.RateLimited, "too busy"),
        (errors.ConnectionLimit, "too busy"),
        (errors.PoolExhausted, "too busy"),
        (errors.ServerError, "no usable answer"),
        (errors.BadAnswer, "no usable answer"),
        (errors.UnknownDatacenter, "no usable answer"),
    ],
)
def test_a_failure_is_told_by_its_meaning(kind, told):
    progress = failed(Wanted("web"), kind("it broke", address="10.0.0.1:8500", status=500, excerpt="some\ntext"))
    assert progress.text == f"{told}: 10.0.0.1:8500: it broke (some text)"


def test_how_many_were_registered_is_remembered_through_a_failure():
    before = seen(Wanted("web", 2), [entry()])
    assert failed(Wanted("web", 2), errors.NoLeader("none"), before).registered == 1


# --- what is waited for -----------------------------------------------------------------------------------


def test_names_and_numbers_become_what_is_wanted():
    assert wanted_of(["a", "b"], {}) == (Wanted("a"), Wanted("b"))
    query = {"policy": "any", "tags": ["x"], "filter": F.service.tags.contains("y"), "near": "_agent"}
    assert wanted_of({"a": 2}, query) == (Wanted("a", 2, HealthPolicy.ANY, "tags=['x'], filter=\"y\" in Service.Tags"),)


@pytest.mark.parametrize(
    ("services", "query", "part"),
    [
        ([], {}, "nothing to wait for"),
        ({}, {}, "nothing to wait for"),
        ("web", {}, "list of names"),
        ({"web": 0}, {}, "at_least=0"),
        ({"web": True}, {}, "at_least=True"),
        ({"web": 1.5}, {}, "at_least=1.5"),
        (["web"], {"index": 7}, "index="),
        (["web"], {"wait": "10s"}, "wait="),
        (["web"], {"policy": "nice"}, "policy='nice'"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(services, query, part):
    with pytest.raises(InvalidInput, match=part):
        wanted_of(services, query)


def test_options_that_leave_nothing_out_are_no_reason():
    assert words({"near": "_agent", "datacenter": "dc2", "tags": [], "consistency": "stale"}) == ""


def test_similar_names_are_found_whatever_the_case():
    assert similar_names("orders", ["Orders", "order", "payments", "orders"]) == ["Orders", "order"]
    assert similar_names("orders", []) == []
