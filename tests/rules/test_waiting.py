"""Waiting for services: what answers and failures say, and what is asked when, over simulated time."""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from consul_access import F, HealthPolicy, InvalidInput, NotReady, Progress, ProgressKind, errors
from consul_access.rules.filtering import admits
from consul_access.rules.waiting import (
    LONGEST_PAUSE,
    TURN,
    WAIT,
    Surroundings,
    Waiting,
    Wanted,
    failed,
    is_hopeless,
    seen,
    similar_names,
    troubles,
    wanted_of,
    wants_outputs,
    with_outputs,
    words,
)
from tests.support.entries import check, entries, entry
from tests.test_errors import FAMILY

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
    assert not is_hopeless(kind("it broke"))


def test_how_many_were_registered_is_remembered_through_a_failure():
    before = seen(Wanted("web", 2), [entry()])
    assert failed(Wanted("web", 2), errors.NoLeader("none"), before).registered == 1


@pytest.mark.parametrize("kind", FAMILY)
def test_everything_that_may_pass_by_itself_is_waited_for(kind):
    error = kind("it broke")
    if error.retryable:
        assert not is_hopeless(error)
    if isinstance(error, (errors.InvalidInput, errors.FilterError, errors.InvalidRequest, errors.ClientClosed)):
        assert is_hopeless(error)


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


# --- what is asked when -----------------------------------------------------------------------------------


def wait_for(wanted, seed=0, timeout=30.0):
    return Waiting(wanted, spread=random.Random(seed).uniform, now=0.0, deadline=timeout)


def live(rule, server):
    """Asks whenever it is time. The server answers with what it did, how long it took and what came.

    Yields (when, service, ask); ends when all are ready or the time is up.
    """
    now = 0.0
    while (turn := rule.next(now)) is not None:
        now = max(now, turn.due)
        if now >= rule.deadline:
            return
        ask, within = rule.ask(turn.wanted, now)
        assert 0 < within <= rule.deadline - now
        yield now, turn.wanted.service, ask
        took, answer = server(turn.wanted.service, ask, now)
        cut = took >= within
        now += min(took, within)
        if cut:
            answer = errors.DeadlineExceeded("silence")
        if isinstance(answer, errors.ConsulAccessError):
            rule.failed(turn.wanted, answer, now)
        else:
            rule.answered(turn.wanted, answer, None, 7, now)


FAILURES = [
    errors.ConnectFailed("refused"),
    errors.NoLeader("none"),
    errors.TokenUnknown("who?"),
    errors.BadAnswer("?"),
]
OUTCOMES = st.lists(
    st.tuples(st.sampled_from([0.001, 0.5, 7.0, 60.0]), st.sampled_from([[], [entry()], *FAILURES])), max_size=60
)


@given(OUTCOMES, st.integers(0, 9), st.integers(1, 3))
def test_it_ends_in_time_with_the_truth_whatever_happens(outcomes, seed, services):
    names = [f"s{number}" for number in range(services)]
    rule = wait_for([Wanted(name) for name in names], seed)
    script = iter(outcomes)
    asked = list(live(rule, lambda service, ask, now: next(script, (0.001, []))))
    assert all(when < rule.deadline for when, _, _ in asked)
    ready = all(progress.is_ready for progress in rule.progress)
    assert (rule.next(rule.deadline) is None) == ready or ready
    if not ready:
        error = rule.over(rule.deadline)
        assert error.progress == rule.progress
        assert error.elapsed == 30.0
        for progress in rule.progress:
            assert progress.is_ready or progress.text in str(error)


@given(st.sampled_from([[], [entry(serf="critical")], *FAILURES]), st.integers(0, 99), st.integers(1, 3))
def test_f13_a_server_that_answers_at_once_is_never_asked_in_a_busy_loop(answer, seed, services):
    rule = wait_for([Wanted(f"s{number}") for number in range(services)], seed, timeout=60.0)
    asked = Counter(
        (service, int(when / 5)) for when, service, _ in live(rule, lambda service, ask, now: (0.001, answer))
    )
    most = max(asked.values())
    assert most <= (25 if isinstance(answer, errors.ConsulAccessError) else 4)


def test_a_failing_agent_is_asked_again_soon():
    rule = wait_for([Wanted("web")], timeout=600.0)
    times = [when for when, _, _ in live(rule, lambda service, ask, now: (0.001, errors.TokenUnknown("who?")))]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= LONGEST_PAUSE + 0.01


def test_one_service_is_waited_for_in_long_blocking_queries():
    rule = wait_for([Wanted("web")], timeout=60.0)
    asks = [ask for _, _, ask in live(rule, lambda service, ask, now: (0.001 if ask.index is None else ask.wait, []))]
    assert asks[0].index is None
    assert {ask.index for ask in asks[1:]} == {7}
    assert len(asks) <= 9
    assert all(0.9 * WAIT <= ask.wait <= WAIT for ask in asks)


def test_what_may_be_hidden_is_asked_for_again_soon_since_new_rights_wake_nobody():
    rule = wait_for([wanted := Wanted("web")])
    rule.ask(wanted, 0.0)
    rule.answered(wanted, [], Surroundings(acls=True), 7, 0.1)
    ask, _ = rule.ask(wanted, 0.1)
    assert ask.index == 7
    assert ask.wait <= TURN


def test_several_are_all_asked_about_at_first_and_then_in_turn():
    rule = wait_for([Wanted("a"), Wanted("b"), Wanted("c")])
    asked = list(live(rule, lambda service, ask, now: (0.001 if ask.index is None else ask.wait, [])))
    assert [(service, ask.index) for _, service, ask in asked[:3]] == [("a", None), ("b", None), ("c", None)]
    assert [service for _, service, _ in asked[3:9]] == ["a", "b", "c"] * 2
    assert all(ask.wait <= TURN for _, _, ask in asked[3:])


def test_the_last_one_missing_is_waited_for_without_loss_of_time_and_the_others_are_confirmed():
    there = {"a": 0.0, "b": 5.0}
    gone = {"a": float("inf")}

    def server(service, ask, now):
        begins = there[service]
        took = 0.001
        if ask.index is not None and begins > now:
            took = min(ask.wait, begins - now)
        up = begins <= now + took < gone.get(service, float("inf"))
        return took, [entry(service=service)] if up else []

    rule = wait_for([Wanted("a"), Wanted("b")])
    asked = list(live(rule, server))
    assert rule.next(6.0) is None
    assert [service for _, service, _ in asked] == ["a", "b", "b", "a"]
    assert asked[-1][0] == pytest.approx(5.0, abs=0.01)

    gone["a"] = 3.0
    rule = wait_for([Wanted("a"), Wanted("b")])
    list(live(rule, server))
    assert [progress.kind for progress in rule.progress] == [ProgressKind.UNKNOWN_SERVICE, ProgressKind.READY]


def test_progress_is_told_once_and_again_when_it_changes():
    rule = wait_for([wanted := Wanted("web")])
    told = []
    for answer in ([], [], [entry(serf="critical")], [entry(serf="critical")], [entry()]):
        rule.ask(wanted, 1.0)
        told.append(rule.answered(wanted, answer, None, 7, 1.0))
    assert [progress and progress.kind for progress in told] == [
        ProgressKind.UNKNOWN_SERVICE,
        None,
        ProgressKind.TOO_FEW,
        None,
        ProgressKind.READY,
    ]


def test_an_answer_cut_short_by_the_end_of_the_wait_changes_nothing_unless_there_never_was_one():
    silence = errors.DeadlineExceeded("the time for the whole call ran out without an answer")
    rule = wait_for([wanted := Wanted("web")])
    rule.ask(wanted, 1.0)
    rule.answered(wanted, [], None, 7, 1.0)
    rule.ask(wanted, 25.0)
    assert rule.failed(wanted, silence, 30.0) is None
    assert "unknown service" in str(rule.over(30.0))
    assert rule.over(30.0).__cause__ is None

    rule = wait_for([wanted])
    rule.ask(wanted, 0.0)
    assert rule.failed(wanted, silence, 30.0).kind is ProgressKind.AGENT_UNREACHABLE
    assert rule.over(30.0).__cause__ is silence


def test_the_error_names_only_those_that_are_missing():
    rule = wait_for([first := Wanted("a"), Wanted("b"), Wanted("c")])
    rule.ask(first, 0.0)
    rule.answered(first, [entry()], None, 7, 0.1)
    error = rule.over(30.0)
    assert isinstance(error, NotReady)
    assert isinstance(error, TimeoutError)
    assert error.message == "'b', 'c' not ready after 30.0 s: b: no answer yet | c: no answer yet"
    assert error.progress[0] == Progress("a", ProgressKind.READY, 1, 1, 1)
    assert pickle.loads(pickle.dumps(error)).progress == error.progress


@given(st.integers(1, 3))
def test_whatever_is_asked_for_first_is_asked_at_once(services):
    rule = wait_for([Wanted(f"s{number}") for number in range(services)])
    turn = rule.next(0.0)
    assume(turn is not None)
    assert turn.due == 0.0
