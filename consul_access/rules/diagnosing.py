"""What is wrong between a client and its Consul or etcd, judged over facts that were gathered before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, TypeVar

from consul_access.errors import BadAnswer, ConsulAccessError, NotFound, TokenUnknown
from consul_access.models.catalog import AgentInfo, Node
from consul_access.models.explanation import Severity
from consul_access.models.external import SYNTHETIC_NODE
from consul_access.models.rights import Right
from consul_access.rules.addressing import servers_with
from consul_access.rules.remarks import ModeVerdict, Remark, RemarkCode
from consul_access.rules.versions import Version

if TYPE_CHECKING:
    from consul_access.models.address import Target

__all__ = [
    "ConsulFacts",
    "EtcdFacts",
    "MemberState",
    "clock_difference",
    "consul_modes",
    "consul_remarks",
    "decisive",
    "etcd_modes",
    "etcd_remarks",
    "may_be_another",
    "rights_asked",
    "what_answers",
]

T = TypeVar("T")

CLOCK_TOLERANCE: Final = 3.0
"""Seconds. A server's date has none smaller, and the machine may be busy."""
_STRANGERS: Final = (
    ("http request to an https server", "a server that speaks https"),
    ('"etcdserver"', "an etcd"),
    ('"gitversion"', "a Kubernetes API server"),
)
_LEADER: Final = re.compile(r'"(?:[^"\\]*:\d+)?"')
"""What Consul answers to `GET /v1/status/leader`, and hardly anybody else."""
OLDEST_CONSUL: Final = (1, 8, 0)
OLDEST_ETCD: Final = (3, 4, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulFacts:
    """What was gathered about a Consul. A fact that could not be had is the error that stands for it.

    Args:
        target: who was asked.
        ips: what the target's host name stands for.
        verify: whether its certificate is checked.
        has_token: whether a token was sent.
        leader: the leader's address; empty for none.
        peers: the servers' addresses.
        agent: who answers.
        acls: whether access is controlled; None when that cannot be told.
        rights: what the token may do; None when the agent does not tell.
        catalog_node: the node of catalog mode, or None when there is none yet.
        clock: the server's clock minus ours, in seconds; None when it told no date.
        own_address: the address that would be registered in agent mode; None for the agent's own; an error for none.
        own_catalog_address: the same for catalog mode, where there is no agent's own.
        stranger: what else seems to answer there; empty for nothing that is known.
        service: the name that rights were asked for.
    """

    target: Target
    ips: tuple[str, ...] = ()
    verify: bool = True
    has_token: bool = False
    leader: str | ConsulAccessError
    peers: tuple[str, ...] | ConsulAccessError = ()
    agent: AgentInfo | ConsulAccessError
    acls: bool | ConsulAccessError | None = None
    rights: Mapping[Right, bool] | ConsulAccessError | None = None
    catalog_node: Node | ConsulAccessError | None = None
    clock: float | None = None
    own_address: str | ConsulAccessError | None = None
    own_catalog_address: str | ConsulAccessError | None = None
    stranger: str = ""
    service: str = ""

    @property
    def are_controlled(self) -> bool:
        """Whether it is known that access is controlled."""
        return self.acls is True

    @property
    def token_failure(self) -> TokenUnknown | None:
        """How it was said that the servers do not know the token; None when they do, or there is none."""
        facts = (self.leader, self.acls, self.rights, self.agent) if self.has_token else ()
        return next((fact for fact in facts if isinstance(fact, TokenUnknown)), None)

    @property
    def servers(self) -> int:
        """How many servers there are, if the address is that of one of them, and not of an agent of its own; else 0."""
        if isinstance(self.peers, ConsulAccessError):
            return 0
        return servers_with({self.target.ip or self.target.address.host, *self.ips}, self.peers)

    def may(self, resource: str, access: str) -> bool | None:
        """Whether the token may do that; None when nobody could say."""
        if self.acls is False:
            return True
        if self.rights is None or isinstance(self.rights, ConsulAccessError):
            return None
        return all(allowed for right, allowed in self.rights.items() if right[:2] == (resource, access))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """What one member of etcd answered.

    Args:
        address: the member.
        failure: why there is no answer, or None.
        version: of the server.
        cluster: the cluster's id.
        leader: the leader's id, or None.
        complaints: what it complains about, such as a full store.
        clock: its clock minus ours, in seconds.
        stranger: what else seems to answer there.
    """

    address: str
    failure: ConsulAccessError | None = None
    version: str = ""
    cluster: int = 0
    leader: int | None = None
    complaints: tuple[str, ...] = ()
    clock: float | None = None
    stranger: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdFacts:
    """What was gathered about an etcd.

    Args:
        members: what each of them answered.
        prefix: where the registry's keys are.
        reading: why these cannot be read, or None.
        own_address: the address that would be registered, or why there is none.
    """

    members: tuple[MemberState, ...]
    prefix: str
    reading: ConsulAccessError | None = None
    own_address: str | ConsulAccessError | None = field(default=None)


def rights_asked(service: str, node: str) -> tuple[Right, ...]:
    """The rights that registering and looking up need.

    Args:
        service: the service that is to be registered; empty for any that no rule names.
        node: the agent's node; empty when it is not known.
    """
    return (
        Right("service", "read", service),
        Right("service", "write", service),
        Right("node", "read", node),
        Right("node", "write", SYNTHETIC_NODE),
        Right("agent", "read", node),
    )


def clock_difference(date: str | None, sent: float, received: float) -> float | None:
    """How much the server's clock is ahead of ours, in seconds; None when it tells no date.

    Args:
        date: the answer's `Date`, which is cut to whole seconds.
        sent: our clock when the request was sent.
        received: our clock when the answer was there.

    The answer was made between the two, within the second that it tells: only what is beyond that is a difference.
    """
    try:
        told = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None
    if told > received:
        return told - received
    return min(0.0, told + 1 - sent)


def what_answers(status: int, text: str, server: str = "") -> str:
    """What it is that answers at an address where something else was expected; empty when it is nothing known.

    Args:
        status: of its answer to a question that another kind of server understands.
        text: its body.
        server: its `Server` header.
    """
    start = text.lstrip()[:1000].lower()
    found = next((name for fragment, name in _STRANGERS if fragment in start), "")
    if status == 200 and _LEADER.fullmatch(text.strip()):
        found = "a Consul agent"
    if not found and (start.startswith(("<!doctype html", "<html", "<head")) or (status == 404 and server)):
        found = f"a web server ({server})" if server else "a web server"
    return found


def may_be_another(error: object) -> bool:
    """Whether something answered, and not as it should: it is worth asking what that is."""
    if not isinstance(error, ConsulAccessError):
        return False
    return isinstance(error, BadAnswer | NotFound) or error.status in {400, 404}


def decisive(*failures: object) -> ConsulAccessError | None:
    """The failure that the whole ends with: the first for which later will not help, else the first."""
    errors = [failure for failure in failures if isinstance(failure, ConsulAccessError)]
    return next((error for error in errors if not error.retryable), errors[0] if errors else None)


# --- Consul -----------------------------------------------------------------------------------------------


def consul_remarks(facts: ConsulFacts) -> Iterator[Remark]:
    """Everything there is to say about a Consul, in the order of the way to it."""
    yield from _connection(facts)
    if isinstance(facts.leader, ConsulAccessError):
        yield from _unreached(facts, facts.leader)
        return
    if not facts.leader:
        yield Remark(
            RemarkCode.NO_LEADER,
            Severity.ERROR,
            "the servers have no leader: look-ups fail, and registrations are not handed on",
            "Elections take seconds; if this lasts, look at the servers (consul operator raft list-peers).",
        )
    yield from clock_remarks(f"Consul at {facts.target}", facts.clock)
    yield from _consul_version(facts)
    yield from _token(facts)


def _connection(facts: ConsulFacts) -> Iterator[Remark]:
    if facts.target.tls and not facts.verify:
        yield Remark(
            RemarkCode.CERTIFICATE_NOT_CHECKED,
            Severity.WARNING,
            "the server's certificate is not checked: whoever sits in between may read the token",
            "Give the authority's certificate (CONSUL_CACERT) instead of CONSUL_HTTP_SSL_VERIFY=false.",
        )
    if facts.has_token and not facts.target.tls and not facts.target.is_local:
        yield Remark(
            RemarkCode.TOKEN_IN_CLEAR,
            Severity.WARNING,
            f"the token travels to {facts.target} as clear text",
            "Use https (CONSUL_HTTP_ADDR=https://..., CONSUL_CACERT).",
        )
    if len(facts.ips) > 1 and not facts.target.is_local:
        yield Remark(
            RemarkCode.SEVERAL_ADDRESSES,
            Severity.INFO,
            f"{facts.target.address.host} stands for {len(facts.ips)} addresses: a registration stays with the one at "
            "which it was made",
        )


def _unreached(facts: ConsulFacts, error: ConsulAccessError) -> Iterator[Remark]:
    if facts.stranger:
        yield Remark(
            RemarkCode.SOMETHING_ELSE,
            Severity.ERROR,
            f"{facts.stranger} answers at {facts.target}, and not Consul",
            _other_port(facts.stranger),
        )
        return
    code = RemarkCode.TOKEN_REFUSED if isinstance(error, TokenUnknown) else RemarkCode.NOT_REACHED
    yield Remark(code, Severity.ERROR, _in_words(error), error.advice)


def _other_port(stranger: str) -> str:
    if "https" in stranger:
        return "Write https:// before the address, or set CONSUL_HTTP_SSL=true."
    return "Consul's HTTP interface has port 8500, or 8501 for https; check CONSUL_HTTP_ADDR."


def _in_words(error: ConsulAccessError) -> str:
    where = f"{error.address}: " if error.address else ""
    return where + error.message + (f" ({' '.join(error.excerpt.split())})" if error.excerpt else "")


def clock_remarks(who: str, difference: float | None) -> Iterator[Remark]:
    """What is to be said about a clock that is ahead of ours by so many seconds."""
    if difference is None or abs(difference) <= CLOCK_TOLERANCE:
        return
    way = "ahead of" if difference > 0 else "behind"
    yield Remark(
        RemarkCode.CLOCKS_DIFFER,
        Severity.WARNING,
        f"the clock of {who} is {abs(difference):.0f} s {way} this machine's",
        "Let both follow NTP: certificates, login tokens and the heartbeats of catalog mode go by the clock.",
    )


def _consul_version(facts: ConsulFacts) -> Iterator[Remark]:
    if isinstance(facts.agent, TokenUnknown) and facts.has_token:
        return  # which is told by itself
    if isinstance(facts.agent, ConsulAccessError):
        yield Remark(
            RemarkCode.VERSION_NOT_TOLD,
            Severity.INFO,
            f"who the agent is cannot be read: {facts.agent.message}",
            "agent:read would allow it; registering and looking up work without.",
        )
        return
    yield from _version("Consul", facts.agent.version, OLDEST_CONSUL)


def _version(name: str, version: str, oldest: tuple[int, int, int]) -> Iterator[Remark]:
    try:
        known = Version.parse(version)
    except BadAnswer as error:
        yield Remark(RemarkCode.VERSION_NOT_TOLD, Severity.WARNING, error.message)
        return
    if known.numbers < oldest:
        least = ".".join(map(str, oldest[:2]))
        text = f"this is {name} {known}; nothing older than {least} has been tested"
        yield Remark(RemarkCode.VERSION_UNTESTED, Severity.WARNING, text, f"Use {name} {least} or newer.")


def _token(facts: ConsulFacts) -> Iterator[Remark]:
    failure = facts.token_failure
    if failure is not None:
        yield Remark(
            RemarkCode.TOKEN_REFUSED,
            Severity.ERROR,
            f"the servers do not know the token: {_in_words(failure)}",
            failure.advice,
        )
        return
    if facts.are_controlled and not facts.has_token:
        yield Remark(
            RemarkCode.NO_TOKEN,
            Severity.WARNING,
            "access is controlled, and no token is sent: look-ups leave out what an anonymous caller may not see, and "
            "say nothing of it",
            "Give a token (CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_TOKEN or --token-file).",
        )
    if facts.acls is not False and (facts.rights is None or isinstance(facts.rights, ConsulAccessError)):
        reason = f": {_in_words(facts.rights)}" if isinstance(facts.rights, ConsulAccessError) else ""
        text = f"what the token may do cannot be told{reason}"
        yield Remark(RemarkCode.RIGHTS_NOT_TOLD, Severity.INFO, text)


def consul_modes(facts: ConsulFacts) -> list[ModeVerdict]:
    """Which ways to register and to look up work from here."""
    return [_agent_mode(facts), _catalog_mode(facts), _resolve_mode(facts)]


def _agent_mode(facts: ConsulFacts) -> ModeVerdict:
    missing = _first(_no_answer, _no_token, _no_write, _no_own_address)(facts)
    if missing is not None:
        return ModeVerdict("agent", False, *missing)
    if facts.servers > 1:
        return ModeVerdict(
            "agent",
            True,
            f"pinned: {facts.target} is one of {facts.servers} servers, and what is registered there goes when it goes",
            'Register at an agent of this machine, or use mode="catalog".',
        )
    where = facts.own_address or "the agent's own address"
    return ModeVerdict("agent", True, f"the agent at {facts.target} takes registrations; they are found at {where}")


def _catalog_mode(facts: ConsulFacts) -> ModeVerdict:
    missing = _first(_no_answer, _no_token, _no_leader, _no_write, _no_catalog_node, _no_catalog_address)(facts)
    if missing is not None:
        return ModeVerdict("catalog", False, *missing)
    return ModeVerdict("catalog", True, f"the servers take entries; they are found at {facts.own_catalog_address}")


def _resolve_mode(facts: ConsulFacts) -> ModeVerdict:
    missing = _first(_no_answer, _no_token, _no_leader, _no_read)(facts)
    if missing is not None:
        return ModeVerdict("resolve", False, *missing)
    return ModeVerdict("resolve", True, "look-ups are answered")


_Missing = tuple[str, str]


def _first(*looks: Callable[[ConsulFacts], _Missing | None]) -> Callable[[ConsulFacts], _Missing | None]:
    """The first thing that is missing."""
    return lambda facts: next((found for look in looks if (found := look(facts)) is not None), None)


def _no_answer(facts: ConsulFacts) -> _Missing | None:
    if not isinstance(facts.leader, ConsulAccessError):
        return None
    if facts.stranger:
        return f"{facts.stranger} answers at {facts.target}", _other_port(facts.stranger)
    return facts.leader.message, facts.leader.advice


def _no_token(facts: ConsulFacts) -> _Missing | None:
    failure = facts.token_failure
    return None if failure is None else ("the servers do not know the token", failure.advice)


def _no_leader(facts: ConsulFacts) -> _Missing | None:
    return None if facts.leader else ("the servers have no leader", "Elections take seconds; look at the servers.")


def _no_write(facts: ConsulFacts) -> _Missing | None:
    if facts.may("service", "write") is not False:
        return None
    named = f" for {facts.service!r}" if facts.service else ""
    return f"the token lacks service:write{named}", f"Give it a policy: {_policy('service', facts.service, 'write')}"


def _no_read(facts: ConsulFacts) -> _Missing | None:
    for resource, name in (("service", facts.service), ("node", "")):
        if facts.may(resource, "read") is False:
            return (
                f"the token lacks {resource}:read: look-ups give empty lists, and no error",
                f"Give it a policy: {_policy(resource, name, 'read')}",
            )
    return None


def _no_catalog_node(facts: ConsulFacts) -> _Missing | None:
    exists = facts.catalog_node is not None and not isinstance(facts.catalog_node, ConsulAccessError)
    if exists or facts.may("node", "write") is not False:
        return None
    return (
        f"there is no node {SYNTHETIC_NODE!r} that the token can see, and it may not make one (node:write)",
        f"Have an operator register the node {SYNTHETIC_NODE!r} once; services need service:write alone afterwards.",
    )


def _no_own_address(facts: ConsulFacts) -> _Missing | None:
    return _no_address(facts.own_address)


def _no_catalog_address(facts: ConsulFacts) -> _Missing | None:
    return _no_address(facts.own_catalog_address)


def _no_address(own: str | ConsulAccessError | None) -> _Missing | None:
    if not isinstance(own, ConsulAccessError):
        return None
    return "others would not know where to call this machine", "Give address=, or set CONSUL_ACCESS_ADVERTISE."


def _policy(resource: str, name: str, access: str) -> str:
    selector = f'{resource} "{name}"' if name else f'{resource}_prefix ""'
    return f'{selector} {{ policy = "{access}" }}'


# --- etcd -------------------------------------------------------------------------------------------------


def etcd_remarks(facts: EtcdFacts) -> Iterator[Remark]:
    """Everything there is to say about an etcd."""
    for member in facts.members:
        yield from _member(member)
    clusters = {member.cluster for member in facts.members if member.failure is None}
    if len(clusters) > 1:
        yield Remark(
            RemarkCode.DIFFERENT_CLUSTERS,
            Severity.ERROR,
            f"the endpoints belong to {len(clusters)} different clusters: what one holds the other does not",
            "Name members of one cluster only (ETCDCTL_ENDPOINTS).",
        )
    if facts.reading is not None and _answering(facts):
        yield Remark(
            RemarkCode.KEYS_REFUSED,
            Severity.ERROR,
            f"keys below {facts.prefix} cannot be read: {_in_words(facts.reading)}",
            facts.reading.advice,
        )


def _member(member: MemberState) -> Iterator[Remark]:
    if member.failure is not None:
        if member.stranger:
            yield Remark(
                RemarkCode.SOMETHING_ELSE,
                Severity.ERROR,
                f"{member.stranger} answers at {member.address}, and not etcd",
                "etcd's clients use port 2379; check ETCDCTL_ENDPOINTS.",
            )
        else:
            yield Remark(RemarkCode.NOT_REACHED, Severity.ERROR, _in_words(member.failure), member.failure.advice)
        return
    if member.leader is None:
        yield Remark(
            RemarkCode.NO_LEADER,
            Severity.ERROR,
            f"{member.address} knows no leader: nothing can be read or written there",
            "Elections take seconds; if this lasts, too few members are up (etcdctl endpoint status --cluster).",
        )
    for complaint in member.complaints:
        yield Remark(
            RemarkCode.MEMBER_COMPLAINS,
            Severity.ERROR,
            f"{member.address} complains: {complaint}",
            "See to it at the server (etcdctl alarm list, endpoint status).",
        )
    yield from clock_remarks(f"etcd at {member.address}", member.clock)
    yield from _version("etcd", member.version, OLDEST_ETCD)


def _answering(facts: EtcdFacts) -> list[MemberState]:
    return [member for member in facts.members if member.failure is None and member.leader is not None]


def etcd_modes(facts: EtcdFacts) -> list[ModeVerdict]:
    """Whether registering and looking up at etcd work from here."""
    if not _answering(facts):
        return [ModeVerdict("etcd", False, "no member answers that knows a leader", "See what is said about them.")]
    if facts.reading is not None:
        return [ModeVerdict("etcd", False, f"keys below {facts.prefix} cannot be read", facts.reading.advice)]
    missing = _no_address(facts.own_address)
    if missing is not None:
        return [ModeVerdict("etcd", False, f"look-ups work, but {missing[0]}", missing[1])]
    return [
        ModeVerdict("etcd", True, f"keys below {facts.prefix} are read; registrations are found at {facts.own_address}")
    ]
