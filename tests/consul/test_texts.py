"""What an agent's refusal means: the same status can mean "later" or "never", and its text decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import errors
from consul_access.consul.texts import meaning
from consul_access.errors import (
    ConnectionLimit,
    ConsulAccessError,
    FeatureDisabled,
    FilterError,
    InvalidRequest,
    NoLeader,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestRefused,
    ServerError,
    TlsError,
    TokenUnknown,
    UnknownCheck,
    UnknownDatacenter,
    UnknownService,
    UnsupportedByAgent,
)

SAID: list[tuple[int, str, type[ConsulAccessError]]] = [
    # unknown things
    (404, "unknown service ID: web-1", UnknownService),
    (404, 'Unknown service ID "web-1". Ensure that the service ID is passed, not the service name.', UnknownService),
    (500, 'Unknown service "zzz"', UnknownService),
    (500, 'Unknown service {"zzz" {}}', UnknownService),
    (500, 'failed inserting check: Missing service registration on node "consul-access"', UnknownService),
    (404, "Query not found", NotFound),
    (404, "", NotFound),
    (404, "404 page not found", NotFound),
    (405, "method HEAD not allowed", RequestRefused),
    (500, 'CheckID "service:web-1" does not have associated TTL', UnknownCheck),
    (500, 'Unknown check "service:web-1"', UnknownCheck),
    (404, 'Unknown check ID "service:web-1". Ensure that the check ID is passed, not the check name.', UnknownCheck),
    # bad parameters
    (500, "No path to datacenter", UnknownDatacenter),
    (500, "rpc error making call: No path to datacenter", UnknownDatacenter),
    (400, "Missing service name", InvalidRequest),
    (400, "Invalid wait time", InvalidRequest),
    (400, "Invalid index", InvalidRequest),
    (400, "Cannot specify ?stale with ?consistent, conflicting semantics.", InvalidRequest),
    (400, "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature", FeatureDisabled),
    (500, "Failed to create boolean expression evaluator: 1:5 (4): no match found, expected: [ \\t]", FilterError),
    (500, "rpc error making call: Failed to create boolean expression evaluator: Selector is not valid", FilterError),
    (500, '1:9 (8): no match found, expected: "!=", ".", "==", "[", [ \\t\\r\\n] or [a-zA-Z0-9_]', FilterError),
    (500, '1:19 (18): rule "grouping": Unmatched parentheses', FilterError),
    (500, 'Selector "No" is not valid', FilterError),
    (500, 'Invalid match operator "Equal" for selector "Service.Tags"', FilterError),
    (500, 'Failed to coerce value "x" for selector "Service.Port": strconv.ParseInt: parsing "x"', FilterError),
    (500, 'Failed to compile regular expression "(": error parsing regexp: missing closing ): `(`', FilterError),
    (500, 'rpc error: code = Unavailable desc = all SubConns are in TransientFailure', ServerError),
    (500, 'rpc error: code = Unavailable desc = transport is closing', ServerError),
    # registration
    (400, 'Request decode failed: json: unknown field "Ports"', UnsupportedByAgent),
    (400, "Invalid check: TTL must be > 0", InvalidRequest),
    (400, "Missing service name", InvalidRequest),
    (500, "Scripts are disabled on this agent; to enable, configure 'enable_script_checks'", FeatureDisabled),
    (500, 'ServiceID "zzz" does not exist', ServerError),
    # the connection
    (429, "Your IP is issuing too many concurrent connections, please rate limit your calls", ConnectionLimit),
    (429, "rate limit exceeded, try again later or against a different server", RateLimited),
    (503, "rate limit exceeded for operation that can only be performed by the leader", RateLimited),
    (503, "", RateLimited),
    (400, "Client sent an HTTP request to an HTTPS server.", TlsError),
    # permissions
    (403, "Permission denied", PermissionDenied),
    (403, "Permission denied: token with AccessorID '1' lacks permission 'service:write' on \"web\"", PermissionDenied),
    (403, "rpc error making call: Permission denied", PermissionDenied),
    (403, "ACL not found", TokenUnknown),
    (403, "rpc error making call: ACL not found", TokenUnknown),
    (401, "", PermissionDenied),
    # the servers behind the agent
    (500, "No cluster leader", NoLeader),
    (500, "rpc error making call: No cluster leader", NoLeader),
    (500, "No known Consul servers", NoLeader),
    (500, "raft apply failed: leadership lost while committing log", NoLeader),
    (500, "node is not the leader", NoLeader),
    (500, "rpc error making call: EOF", ServerError),
    (500, "rpc error making call: stream closed", ServerError),
    (500, "rpc error getting client: failed to get conn: dial tcp 10.0.0.1:8300: connection refused", ServerError),
    (500, "rpc error getting client: failed to get conn: rpc error: lead thread didn't get connection", ServerError),
    (500, "rpc error: code = Unavailable desc = transport is closing", ServerError),
    (502, "<html>Bad Gateway</html>", ServerError),
    (504, "", ServerError),
]  # fmt: skip


@pytest.mark.parametrize(("status", "text", "error"), SAID)
def test_every_text_that_agents_give_means_one_error(status: int, text: str, error: type[ConsulAccessError]) -> None:
    assert meaning(status, text).error is error


@pytest.mark.parametrize(("status", "text", "error"), SAID)
def test_the_case_of_letters_does_not_matter(status: int, text: str, error: type[ConsulAccessError]) -> None:
    assert meaning(status, text.upper() + "\n").error is error


NOT_APPLIED = ["No cluster leader", "No known Consul servers", "node is not the leader"]


@pytest.mark.parametrize("text", NOT_APPLIED)
def test_servers_without_a_leader_have_applied_nothing(text: str) -> None:
    assert not meaning(500, text).applied


@pytest.mark.parametrize(
    "text",
    ["raft apply failed: leadership lost while committing log", "rpc error making call: EOF",
     "code = Unavailable desc = transport is closing", "", "rpc error making call: stream closed"],
)  # fmt: skip
def test_a_server_that_failed_in_the_middle_may_have_applied_the_write(text: str) -> None:
    assert meaning(500, text).applied


@pytest.mark.parametrize(("status", "text", "error"), [said for said in SAID if not said[2].retryable])
def test_a_final_refusal_has_applied_nothing(status: int, text: str, error: type[ConsulAccessError]) -> None:
    assert not meaning(status, text).applied


def test_a_request_that_was_limited_was_not_applied() -> None:
    assert not meaning(429, "slow down").applied


@pytest.mark.parametrize("name", ["No cluster leader", "ACL not found", "not the leader"])
def test_an_odd_service_id_that_the_agent_repeats_does_not_change_what_it_says(name: str) -> None:
    assert meaning(404, f"unknown service ID: {name}").error is UnknownService


@given(st.integers(400, 599), st.text())
def test_every_refusal_means_something(status: int, text: str) -> None:
    found = meaning(status, text)

    assert found.error.__name__ in errors.__all__
    assert found.message
    assert not found.message.endswith(".")


def test_a_long_text_is_not_searched_to_its_end() -> None:
    assert meaning(500, " " * 100_000 + "No cluster leader").error is ServerError
