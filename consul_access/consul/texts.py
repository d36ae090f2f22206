"""What an agent's refusal means. Status codes do not tell: one 500 is an election, the next a typing mistake.

The texts are those of Consul 1.8 to 1.21, observed on real agents and read in its source (`agent/http.go`,
`agent/agent_endpoint.go`, `agent/consul/rpc.go`). They are matched without regard to case, the first line that fits.
"""

from __future__ import annotations

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
from consul_access.rules.retrying import Meaning

__all__ = ["meaning"]

_ANY = 0
"""Any status from 400 on."""

_TEXTS: tuple[tuple[int, str, type[ConsulAccessError], str], ...] = (
    (403, "acl not found", TokenUnknown, "the agent does not know the token"),
    (403, "", PermissionDenied, "the token may not do this"),
    (401, "", PermissionDenied, "the agent, or a proxy before it, wants other credentials"),
    (429, "too many concurrent connections", ConnectionLimit, "too many connections from this host"),
    (429, "", RateLimited, "the agent asks to slow down"),
    (_ANY, "failed to create boolean expression", FilterError, "the filter expression is refused"),
    (_ANY, "failed to parse filter", FilterError, "the filter expression is refused"),
    # What a streamed view says of a filter (1.10 and later) is all that follows the words above elsewhere.
    (500, "): no match found, expected", FilterError, "the filter expression is refused"),
    (500, '): rule "', FilterError, "the filter expression is refused"),
    (500, 'selector "', FilterError, "the filter expression is refused"),
    (500, 'invalid match operator "', FilterError, "the filter expression is refused"),
    (500, 'failed to coerce value "', FilterError, "the filter expression is refused"),
    (500, "failed to compile regular expression", FilterError, "the filter expression is refused"),
    (_ANY, "no path to datacenter", UnknownDatacenter, "the servers know no such datacenter"),
    (404, "unknown service id", UnknownService, "the agent has no service of that id"),
    (_ANY, "does not have associated ttl", UnknownCheck, "the agent has no TTL check of that id"),
    (_ANY, "unknown check", UnknownCheck, "the agent has no check of that id"),
    (_ANY, "unknown service", UnknownService, "the agent has no service of that id"),
    (_ANY, "no service registered with id", UnknownService, "the agent has no service of that id"),
    (_ANY, "missing service registration", UnknownService, "the catalog has no service of that id on that node"),
    (_ANY, "scripts are disabled", FeatureDisabled, "this agent runs no script or docker checks"),
    (_ANY, "consul enterprise feature", FeatureDisabled, "this agent is not Consul Enterprise"),
    (_ANY, "json: unknown field", UnsupportedByAgent, "the agent's version does not know a field of the request"),
    (404, "", NotFound, "the agent does not know what was asked for"),
    (400, "http request to an https server", TlsError, "this port speaks https"),
    (400, "", InvalidRequest, "the agent calls the request malformed"),
    (_ANY, "no cluster leader", NoLeader, "the servers have no leader"),
    (_ANY, "no known consul servers", NoLeader, "the agent has lost its servers"),
    (_ANY, "leadership lost", NoLeader, "the leader stepped down in the middle of this"),
    (_ANY, "not the leader", NoLeader, "the asked server does not lead"),
    (_ANY, "only the leader", NoLeader, "the asked server does not lead"),
    (503, "", RateLimited, "the agent cannot do this now"),
)

_NOT_APPLIED = ("no cluster leader", "no known consul servers", "not the leader", "only the leader")


def meaning(status: int, text: str) -> Meaning:
    """What a status of 400 or more, with this text, says about the request.

    Args:
        status: the HTTP status.
        text: the body.
    """
    folded = text[:2000].lower()
    for code, fragment, error, message in _TEXTS:
        if code in (_ANY, status) and fragment in folded:
            return Meaning(error, message, applied=_may_be_applied(error, status, folded))
    if status >= 500:
        return Meaning(ServerError, "the agent failed while answering", applied=True)
    return Meaning(RequestRefused, "the agent refuses the request", applied=False)


def _may_be_applied(error: type[ConsulAccessError], status: int, folded: str) -> bool:
    if not error.retryable or status == 429:
        return False
    return not any(text in folded for text in _NOT_APPLIED)
