"""Why a service is found, or is not: the judgement over any facts, and over missing ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import (
    Address,
    AgentService,
    CheckStatus,
    Entries,
    Explanation,
    FindingCode,
    HealthPolicy,
    QueryMeta,
    Severity,
    Weights,
    errors,
)
from consul_access.models.catalog import AgentInfo, Node, PortEntry, Service, TaggedAddress
from consul_access.models.explanation import AddressOrigin, PortOrigin
from consul_access.rules.explaining import Facts, explain, identify, is_away, likely_names, servers_are_silent
from consul_access.rules.filtering import admits
from tests.support.entries import check, entries, entry

AGENT = AgentInfo(version="1.8.7", node_name="n1", node_id="id-1", datacenter="dc1")
DOWN = errors.ConnectFailed("no connection", operation="health.service", address="10.0.0.1:8500")
DENIED = errors.PermissionDenied("the token may not do this", operation="agent.self", excerpt="Permission denied")


def facts(there=(), /, **other):
    """An agent that is well, and these instances, which it holds itself; a look-up gives those that pass."""
    listed = there if isinstance(there, errors.ConsulAccessError) else Entries(there, meta=QueryMeta({}))
    known = [] if isinstance(there, errors.ConsulAccessError) else list(there)
    policy = HealthPolicy(other.get("query", {}).get("policy", "passing"))
    given_ = {
        "asked": "web",
        "address": "127.0.0.1:8500",
        "agent": AGENT,
        "local": {one.service.id: held(one.service) for one in known if one.node.name == AGENT.node_name},
        "local_checks": {},
        "leader": "127.0.0.1:8300",
        "names": frozenset({"consul", "web"} if known else {"consul"}),
        "acls": False,
        "service": "web" if known else None,
        "entries": listed,
        "found": Entries(one.instance for one in known if admits(policy, one.standing)),
        "node": Node(id="id-1", name="n1"),
    }
    return Facts(**{**given_, **other})


def held(service: Service) -> AgentService:
    return AgentService(**{name: getattr(service, name) for name in Service.model_fields})


def codes(explanation: Explanation, severity: Severity | None = None) -> set[FindingCode]:
    return {finding.code for finding in explanation.findings if severity in {None, finding.severity}}


def text(explanation: Explanation, code: FindingCode) -> str:
    (finding,) = explanation.found(code)
    return finding.text


# --- whatever the facts -----------------------------------------------------------------------------------

ERRORS = st.sampled_from([
    DOWN,
    DENIED,
    errors.NoLeader("no leader", operation="catalog.services"),
    errors.TokenUnknown("who?", operation="agent.self"),
    errors.BadAnswer("?", operation="agent.services"),
    errors.FilterError("?", operation="health.service"),
    errors.UnknownDatacenter("?", operation="health.service"),
])  # fmt: skip
FACTS = st.sampled_from(
    ["agent", "local", "local_checks", "leader", "names", "acls", "entries", "fitting", "found", "node"]
)


@given(entries(), st.dictionaries(FACTS, ERRORS, max_size=10), st.sampled_from(HealthPolicy), st.booleans())
def test_any_facts_and_any_missing_ones_make_a_page(found, missing, policy, by_id):
    asked = {"asked": "web-0", "service": "web", "instance_id": "web-0"} if by_id and found else {}
    explanation = explain(facts(found, query={"policy": policy}, **asked, **missing))
    page = str(explanation)
    assert page.startswith(explanation.asked)
    assert all(len(line) <= 120 for line in page.splitlines())
    for finding in explanation.findings:
        assert finding.text.isprintable()
    assert Explanation.model_validate_json(explanation.model_dump_json()) == explanation
    assert json.loads(explanation.model_dump_json())["is_discoverable"] == explanation.is_discoverable
    severities = [list(Severity).index(finding.severity) for finding in explanation.findings]
    assert severities == sorted(severities)
    assert len(set(explanation.findings)) == len(explanation.findings)
    for error in missing.values():
        assert any(finding.severity is not Severity.INFO for finding in explanation.findings), error


@given(entries(), st.sampled_from(HealthPolicy))
def test_an_instance_is_left_out_exactly_when_there_is_a_reason(found, policy):
    explanation = explain(facts(found, query={"policy": policy}))
    assert [one.id for one in explanation.instances] == [one.service.id for one in found]
    for one, instance in zip(found, explanation.instances, strict=True):
        assert instance.is_discoverable == (not instance.excluded_by) == admits(policy, one.standing)
        assert (policy in instance.admitted_by) == instance.is_discoverable
        if not instance.is_discoverable:
            about = {finding.instance for finding in explanation.findings if finding.severity is Severity.ERROR}
            assert about & {instance.id, ""}
    assert explanation.is_discoverable == any(instance.is_discoverable for instance in explanation.instances)


@given(entries())
def test_a_service_that_is_well_has_no_errors(found):
    well = [one for one in found if admits(HealthPolicy.PASSING, one.standing)]
    explanation = explain(facts(well)) if well else None
    if explanation is not None:
        assert codes(explanation, Severity.ERROR) == set()
        assert explanation.is_discoverable


# --- the way there ----------------------------------------------------------------------------------------


def test_an_agent_that_is_away_is_one_finding_however_many_facts_are_missing():
    names = ["agent", "local", "local_checks", "leader", "names", "acls", "found", "node"]
    explanation = explain(facts(DOWN, **dict.fromkeys(names, DOWN)))
    assert codes(explanation) == {FindingCode.AGENT_UNREACHABLE}
    assert "10.0.0.1:8500: no connection" in text(explanation, FindingCode.AGENT_UNREACHABLE)
    assert "NOT discoverable, and nothing of it is seen" in str(explanation)


@pytest.mark.parametrize(
    ("error", "code", "severity"),
    [
        (errors.NoLeader("none"), FindingCode.NO_LEADER, Severity.ERROR),
        (errors.TokenUnknown("who?"), FindingCode.TOKEN_UNKNOWN, Severity.ERROR),
        (errors.UnknownDatacenter("?"), FindingCode.UNKNOWN_DATACENTER, Severity.ERROR),
        (errors.FilterError("?"), FindingCode.FILTER_REFUSED, Severity.ERROR),
        (errors.BadAnswer("?"), FindingCode.NOT_ANSWERED, Severity.ERROR),
        (DENIED, FindingCode.PERMISSION_DENIED, Severity.ERROR),
    ],
)
def test_a_look_up_that_fails_is_an_error_by_its_meaning(error, code, severity):
    explanation = explain(facts([entry()], found=error))
    assert codes(explanation, severity) == {code}
    assert not explanation.is_discoverable


def test_a_fact_that_may_not_be_read_is_a_warning_that_names_the_call():
    explanation = explain(facts([entry()], agent=DENIED, local=DENIED))
    assert codes(explanation, Severity.WARNING) == {FindingCode.PERMISSION_DENIED}
    assert text(explanation, FindingCode.PERMISSION_DENIED) == (
        "the token may not read agent.self: the token may not do this (Permission denied)"
    )
    assert explanation.is_discoverable
    assert explanation.instances[0].at_agent is None


def test_servers_without_a_leader_are_told_even_if_nothing_failed_yet():
    assert codes(explain(facts([entry()], leader="")), Severity.ERROR) == {FindingCode.NO_LEADER}


def test_what_makes_further_questions_a_waste_of_time():
    assert is_away(DOWN)
    assert not is_away(DENIED)
    assert servers_are_silent(errors.NoLeader("none"))
    assert servers_are_silent(errors.DeadlineExceeded("silence"))
    assert not servers_are_silent(DOWN)
    assert not servers_are_silent(DENIED)


def test_servers_that_say_nothing_are_told_from_an_agent_that_says_nothing():
    silence = errors.DeadlineExceeded("silence", operation="health.service")
    explanation = explain(facts(silence, found=silence))
    assert codes(explanation) == {FindingCode.NOT_ANSWERED}
    assert "the agent answers, and the servers" in text(explanation, FindingCode.NOT_ANSWERED)
    everything = dict.fromkeys(["agent", "local", "local_checks", "leader", "names", "acls", "found", "node"], silence)
    assert codes(explain(facts(silence, **everything))) == {FindingCode.AGENT_UNREACHABLE}


# --- whether it is there ----------------------------------------------------------------------------------


def test_an_unknown_service_is_told_with_similar_names_or_with_some():
    explanation = explain(facts(names=frozenset({"consul", "webs", "payments"})))
    assert codes(explanation) == {FindingCode.UNKNOWN_SERVICE}
    (finding,) = explanation.findings
    assert finding.remedy.startswith("There is 'webs'. ")
    assert "there is no such service" in str(explanation)
    (finding,) = explain(facts(asked="zzz", names=frozenset(map(str, range(9))), searched=9)).findings
    assert finding.text == "the catalog shows no service 'zzz', and in 9 services no instance of that id"
    assert finding.remedy.startswith("There are 0, 1, 2, 3, 4 and 4 more. ")


FILTERED = Entries(meta=QueryMeta({"x-consul-results-filtered-by-acls": "true"}))
DENYING = Entries(meta=QueryMeta({"x-consul-default-acl-policy": "deny"}))


@pytest.mark.parametrize(
    ("other", "part", "certain"),
    [
        ({"acls": True, "names": frozenset({"web"}), "service": "web"}, "not the nodes it runs on", True),
        ({"entries": FILTERED}, "the agent left out instances", True),
        ({"acls": True}, "access is controlled here", False),
        ({"entries": DENYING}, "access is controlled here", False),
    ],
)
def test_what_is_or_may_be_hidden_is_told(other, part, certain):
    explanation = explain(facts(**other))
    (finding,) = explanation.found("hidden_by_acl")
    assert part in finding.text
    assert finding.severity is (Severity.ERROR if certain else Severity.WARNING)
    assert bool(explanation.found("unknown_service")) != certain


def test_what_the_agent_holds_and_the_catalog_does_not_is_an_error():
    service = AgentService(id="web-1", name="web", address="10.0.0.5", port=80)
    explanation = explain(facts(local={"web-1": service}, service="web", local_checks={"c": check(of="web-1")}))
    assert codes(explanation) == {FindingCode.NOT_IN_CATALOG}
    (instance,) = explanation.instances
    assert (instance.in_catalog, instance.at_agent, instance.status) == (False, True, None)
    assert [one.id for one in instance.checks] == ["service:web-1"]
    assert "not in the catalog" in str(explanation)

    reserved = explain(facts(local={"web-1": service}, service="web", node=Node(id="id-2", name="n1")))
    assert codes(reserved) == {FindingCode.NOT_IN_CATALOG, FindingCode.NODE_NAME_RESERVED}
    assert "id-2" in text(reserved, FindingCode.NODE_NAME_RESERVED)

    visible = explain(facts(local={"web-1": service}, service="web", acls=True))
    assert codes(visible) == {FindingCode.NOT_IN_CATALOG}
    hidden = explain(facts(local={"web-1": service}, service="web", acls=True, names=frozenset({"web"})))
    assert codes(hidden) == {FindingCode.HIDDEN_BY_ACL}

    elsewhere = explain(facts(local={"web-1": service}, elsewhere=True))
    assert codes(elsewhere) == {FindingCode.UNKNOWN_SERVICE}
    assert elsewhere.instances == ()


def test_what_the_catalog_lists_at_an_agent_that_does_not_hold_it_is_a_warning():
    explanation = explain(facts([entry(), entry("web-2", node="n2")], local={}))
    (finding,) = explanation.found("not_at_agent")
    assert finding.instance == "web-1"
    assert [one.at_agent for one in explanation.instances] == [False, None]


def test_what_agent_and_catalog_hold_differently_is_told():
    service = AgentService(id="web-1", name="web", address="10.0.0.5", port=81, tags=("new",), meta={"a": "b"})
    explanation = explain(facts([entry()], local={"web-1": service}))
    assert [finding.text for finding in explanation.found("differs")] == [
        "web-1: port is 80 in the catalog and 81 at its agent",
        "web-1: tags is [] in the catalog and ['new'] at its agent",
        "web-1: meta is {} in the catalog and {'a': 'b'} at its agent",
    ]


def test_an_id_is_explained_as_one_instance_and_an_id_that_is_a_name_too_is_mentioned():
    both = [entry("web-1"), entry("web-2", checks=[check("critical")], address="10.0.0.6")]
    explanation = explain(facts(both, asked="web-2", service="web", instance_id="web-2"))
    assert [one.id for one in explanation.instances] == ["web-2"]
    assert not explanation.is_discoverable
    assert "instance of 'web', NOT discoverable, 0 of 1" in str(explanation)
    assert text(explanation, FindingCode.IS_AN_ID) == "'web-2' is the id of an instance; its service is 'web'"
    other = {"web": AgentService(id="web", name="shop")}
    assert FindingCode.ALSO_AN_ID in codes(explain(facts(both, local=other)))


def test_entries_that_cannot_be_used_are_counted():
    explanation = explain(facts(entries=Entries([entry()], rejected=2), service="web"))
    assert text(explanation, FindingCode.UNUSABLE_ENTRIES).startswith("2 further instances cannot be used")


LOCAL = {"web-1": AgentService(id="web-1", name="web"), "db": AgentService(id="db", name="shop")}


@pytest.mark.parametrize(
    ("asked", "names", "local", "expected"),
    [
        ("web", frozenset({"web"}), {}, ("web", None)),
        ("web", frozenset(), LOCAL, ("web", None)),
        ("web-1", frozenset({"web"}), LOCAL, ("web", "web-1")),
        ("db", frozenset({"db"}), LOCAL, ("db", None)),
        ("db", frozenset(), LOCAL, ("shop", "db")),
        ("WEB", frozenset({"web"}), {}, ("web", None)),
        ("x", frozenset({"web"}), LOCAL, (None, None)),
        ("x", DENIED, DENIED, (None, None)),
        ("web-1", DENIED, LOCAL, ("web", "web-1")),
    ],
)
def test_a_name_goes_before_an_id_and_both_before_another_case(asked, names, local, expected):
    assert identify(asked, names, local) == expected


def test_the_service_of_an_id_is_looked_for_in_the_likeliest_places_first():
    assert likely_names("web-shop-1", ["a", "web", "web-shop", "zoo"]) == ["web-shop", "web", "a", "zoo"]


# --- its health -------------------------------------------------------------------------------------------

HEALTH = [
    (
        check("critical", output="refused"),
        FindingCode.CHECK_CRITICAL,
        "check 'own check' of web-1 is critical: refused",
    ),
    (check("critical"), FindingCode.NEVER_CHECKED, "has probably not run yet"),
    (check("critical", output="TTL expired"), FindingCode.TTL_EXPIRED, "has not been reported in time"),
    (check("critical", output="TTL expired (last output before timeout follows)"), FindingCode.TTL_EXPIRED, "in time"),
    (check("warning", output="slow"), FindingCode.CHECK_WARNING, "check 'own check' of web-1 is warning: slow"),
    (check("maintenance"), FindingCode.SERVICE_MAINTENANCE, "web-1 is in maintenance: new disk"),
    (check("maintenance", own=False), FindingCode.NODE_MAINTENANCE, "node n1 is in maintenance: new disk"),
    (check("critical", own=False, output="full"), FindingCode.CHECK_CRITICAL, "check 'disk check' of node n1 is"),
    (check("critical", own=False, name="serfHealth", output="gone"), FindingCode.NODE_FAILED, "the agent of node n1"),
]


@pytest.mark.parametrize(("bad", "code", "part"), HEALTH)
@pytest.mark.parametrize("policy", HealthPolicy)
def test_a_check_is_an_error_where_it_is_in_the_way_and_else_a_warning(bad, code, part, policy):
    one = entry(checks=[check(), bad] if not bad.is_own else [bad], serf="passing" if bad.id != "serfHealth" else None)
    explanation = explain(facts([one], query={"policy": policy}))
    (finding,) = explanation.found(code)
    assert part in finding.text
    assert finding.remedy
    assert (finding.severity is Severity.ERROR) == (not admits(policy, one.standing))
    assert explanation.is_discoverable == admits(policy, one.standing)


def test_what_concerns_a_node_is_said_once():
    both = [entry("web-1", serf="critical"), entry("web-2", serf="critical", address="10.0.0.6")]
    assert len(explain(facts(both)).found("node_failed")) == 1


def test_no_checks_and_no_agent_are_good_to_know():
    explanation = explain(facts([entry(serf=None)]))
    assert codes(explanation, Severity.INFO) == {FindingCode.NO_CHECKS, FindingCode.NO_AGENT}


# --- the question -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ({"tags": "b"}, "it lacks the tag 'b'; it has 'a'"),
        ({"tags": ["a", "b"]}, "it lacks the tag 'b'; it has 'a'"),
        ({"meta": {"v": "2"}}, "its meta 'v' is '1'"),
        ({"meta": {"w": "2"}}, "its meta has no 'w'"),
        ({"filter": "Service.Port == 1"}, "it does not fit filter='Service.Port == 1'"),
        ({"node_meta": {"rack": "7"}}, "it does not fit node_meta={'rack': '7'}"),
    ],
)
def test_an_option_that_leaves_an_instance_out_is_named(query, part):
    one = entry(tags=["a"], meta={"v": "1"})
    explanation = explain(facts([one], query=query, fitting=Entries(), found=Entries()))
    assert part in text(explanation, FindingCode.EXCLUDED_BY_QUERY)
    assert explanation.instances[0].excluded_by == (part,)
    assert not explanation.is_discoverable
    fits = explain(facts([one], query=query, fitting=Entries([one.instance])))
    assert codes(fits, Severity.ERROR) == set()
    assert fits.narrowed in str(fits)


# --- where to call it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "code", "origin", "port"),
    [
        (entry(), None, AddressOrigin.SERVICE, PortOrigin.SERVICE),
        (entry(address=""), FindingCode.ADDRESS_FROM_NODE, AddressOrigin.NODE, PortOrigin.SERVICE),
        (entry(address="0.0.0.0"), FindingCode.ADDRESS_FROM_NODE, AddressOrigin.NODE, PortOrigin.SERVICE),
        (entry(address="", node_address=""), FindingCode.NO_ADDRESS, AddressOrigin.NONE, PortOrigin.SERVICE),
        (entry(port=0), FindingCode.NO_PORT, AddressOrigin.SERVICE, PortOrigin.NONE),
        (entry(port=0, ports=[PortEntry(Port=8080)]), None, AddressOrigin.SERVICE, PortOrigin.NAMED),
        (entry(address="127.0.0.1"), FindingCode.LOOPBACK_ADDRESS, AddressOrigin.SERVICE, PortOrigin.SERVICE),
        (entry(address="127.0.0.1", node_address="127.0.0.1"), None, AddressOrigin.SERVICE, PortOrigin.SERVICE),
        (
            entry(address="", node_address="127.0.0.1", node_meta={"external-source": "kubernetes"}),
            FindingCode.NO_ADDRESS,
            AddressOrigin.NONE,
            PortOrigin.SERVICE,
        ),
    ],
)
def test_address_and_port_are_told_with_where_they_come_from(one, code, origin, port):
    explanation = explain(facts([one]))
    (instance,) = explanation.instances
    assert (instance.address_origin, instance.port_origin) == (origin, port)
    assert codes(explanation) - {FindingCode.NO_CHECKS} == ({code} if code else set())
    callable_ = origin is not AddressOrigin.NONE and port is not PortOrigin.NONE
    assert explanation.is_discoverable == callable_
    assert bool(instance.excluded_by) == (not callable_)
    assert (instance.host, instance.port) == (one.host, one.effective_port)


def test_further_addresses_are_shown_when_they_differ():
    one = entry()
    tagged = {"wan": TaggedAddress(address="1.2.3.4", port=80), "lan": TaggedAddress(address="10.0.0.5", port=80)}
    one = one.model_copy(update={"service": one.service.model_copy(update={"tagged_addresses": tagged})})
    explanation = explain(facts([one]))
    assert explanation.instances[0].tagged_addresses["wan"] == Address("1.2.3.4", 80)
    assert "not used: wan 1.2.3.4:80\n" in str(explanation)


def test_a_weight_of_nothing_is_told_in_the_state_that_has_it():
    one = entry(weights=Weights(passing=5, warning=0), checks=[check("warning")])
    explanation = explain(facts([one], query={"policy": "passing_or_warning"}))
    assert explanation.found("weight_zero")[0].severity is Severity.WARNING
    assert explain(facts([one])).found("weight_zero")[0].severity is Severity.INFO
    well = entry(weights=Weights(passing=5, warning=0))
    assert not explain(facts([well])).found("weight_zero")


def test_duplicates_are_told_by_address_and_by_id():
    three = [entry("web-1"), entry("web-2"), entry("web-2", node="n2", address="10.0.0.6")]
    explanation = explain(facts(three))
    assert text(explanation, FindingCode.DUPLICATE_ADDRESS).startswith(
        "10.0.0.5:80 is registered 2 times, as web-1 on n1, web-2 on n1"
    )
    assert text(explanation, FindingCode.DUPLICATE_ID) == "the id web-2 is registered on several nodes: n1, n2"
    one = explain(facts(three, asked="web-1", service="web", instance_id="web-1"))
    assert FindingCode.DUPLICATE_ADDRESS in codes(one)
    assert FindingCode.DUPLICATE_ID not in codes(one)


# --- the page ---------------------------------------------------------------------------------------------


def test_the_page_reads_from_the_verdict_to_the_facts():
    one = entry(tags=["a"], checks=[check("critical", output="connect: connection refused")])
    page = str(explain(facts([one, entry("web-2", address="10.0.0.6")])))
    assert page == (
        "web: discoverable, 1 of 2 instances would be found\n"
        "look-up: policy 'passing'\n"
        "asked: agent 127.0.0.1:8500, node n1, datacenter dc1, Consul 1.8.7, leader 127.0.0.1:8300\n"
        "\n"
        "1. error: check 'own check' of web-1 is critical: connect: connection refused\n"
        "   -> The output is what the checker saw, from the agent of node n1.\n"
        "2. info: web-2 has no check of its own: it passes for as long as its node does\n"
        "   -> Register it with a check, so that it is left out when it no longer works.\n"
        "\n"
        "web-1 on n1: 10.0.0.5:80, critical, left out\n"
        "   address from: the service's registration\n"
        "   registered: at the asked agent; in the catalog\n"
        "   tags: a\n"
        "   node check serfHealth is passing: Agent not live or unreachable\n"
        "   check own check is critical: connect: connection refused\n"
        "   admitted by: any\n"
        "   left out: check 'own check' of web-1 is critical: connect: connection refused\n"
        "\n"
        "web-2 on n1: 10.0.0.6:80, passing, found\n"
        "   address from: the service's registration\n"
        "   registered: at the asked agent; in the catalog\n"
        "   node check serfHealth is passing: Agent not live or unreachable\n"
        "   admitted by: passing, passing_or_warning, service_checks_only, any"
    )


def test_a_status_of_the_whole_is_the_worst_of_its_checks():
    one = entry(checks=[check("warning"), check("maintenance")])
    assert explain(facts([one])).instances[0].status is CheckStatus.MAINTENANCE
