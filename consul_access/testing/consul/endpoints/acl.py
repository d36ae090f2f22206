"""`/v1/acl`: logging in and out, and as much of tokens and policies as tests of services need."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any, Final

from consul_access.testing.consul.access import Authorizer, Policy, RulesFault, Token, parse_rules
from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.endpoints.common import DENIED, authorized
from consul_access.testing.consul.exchange import Ask, Found, Refused, Told
from consul_access.testing.consul.strict import ANYTHING, BOOL, STRING, Items, Malformed, Mapped, Struct, decode

__all__ = ["login", "logout", "make_policy", "make_token", "own_token", "policies", "policy", "token", "tokens"]

_NAMED: Final = Struct("ACLTokenPolicyLink", {"ID": STRING, "Name": STRING}, "structs.ACLTokenPolicyLink")
_TOKEN: Final = Struct(
    "ACLToken",
    {
        **dict.fromkeys(("AccessorID", "SecretID", "Description", "ExpirationTTL", "Namespace"), STRING),
        "Policies": Items(_NAMED, "[]structs.ACLTokenPolicyLink"),
        "Local": BOOL,
        **dict.fromkeys(("Roles", "ServiceIdentities", "NodeIdentities"), ANYTHING),
    },
    "structs.ACLToken",
)
_POLICY: Final = Struct(
    "ACLPolicy",
    {**dict.fromkeys(("ID", "Name", "Description", "Rules"), STRING), "Datacenters": ANYTHING},
    "structs.ACLPolicy",
)
_LOGIN: Final = Struct(
    "ACLLoginParams",
    {"AuthMethod": STRING, "BearerToken": STRING, "Meta": Mapped(STRING, "map[string]string")},
    "structs.ACLLoginParams",
)


def login(agent: Agent, ask: Ask) -> Told:
    """`acl/login`: exchanges a bearer token for a Consul token."""
    _refuse_disabled(agent)
    body = _body(ask, _LOGIN)
    access = agent.cluster.access
    methods = {method for method, _ in access.logins}
    if body.get("AuthMethod", "") not in methods:
        raise Refused(403, "ACL not found")
    name = access.logins.get((body["AuthMethod"], body.get("BearerToken", "")))
    if name is None:
        raise Refused(403, DENIED)
    made = Token(
        agent.cluster.new_id(), agent.cluster.new_id(), [name], "token created via login", body["AuthMethod"], True
    )
    return Told(_shown(agent, _add(agent, made)))


def logout(agent: Agent, ask: Ask) -> Told:
    """`acl/logout`: gives the token back that it is sent with."""
    _refuse_disabled(agent)
    held = agent.cluster.access.tokens.get(ask.token)
    if held is None or not ask.token:
        raise Refused(403, "ACL not found")
    if not held.method:
        raise Refused(403, DENIED)
    del agent.cluster.access.tokens[ask.token]
    agent.cluster.changed()
    return Told(None, raw=b"")


def own_token(agent: Agent, ask: Ask) -> Found:
    """`acl/token/self`: the token that it is sent with."""
    _refuse_disabled(agent)
    held = agent.cluster.access.tokens.get(ask.token)
    if held is None:
        raise Refused(403, "ACL not found", headers=_read_headers(agent))
    return Found(_shown(agent, held), _index(agent), shows_consistency=False)


def token(agent: Agent, ask: Ask) -> Told | Found:
    """`acl/token/ACCESSOR`: one token, to be read or deleted."""
    allowed = _administrator(agent, ask)
    access = agent.cluster.access
    held = access.by_accessor(ask.rest)
    if ask.request.method == "DELETE":
        if not allowed.writes("acl"):
            raise Refused(403, DENIED)
        if held is not None:
            del access.tokens[held.secret]
            agent.cluster.catalog.index += 1
            agent.cluster.changed()
        return Told(True)
    if held is None:
        raise Refused(403, "ACL not found", headers=_read_headers(agent))
    if ask.request.method == "PUT":
        body = _body(ask, _TOKEN)
        held.policies, held.description = _policies(agent, body), body.get("Description", "")
        return Told(_shown(agent, held))
    return Found(_shown(agent, held), _index(agent), shows_consistency=False)


def tokens(agent: Agent, ask: Ask) -> Found:
    """`acl/tokens`: all of them, without their secrets."""
    _administrator(agent, ask)
    made = [_shown(agent, held) for held in agent.cluster.access.tokens.values()]
    return Found([{key: value for key, value in one.items() if key != "SecretID"} for one in made], _index(agent))


def make_token(agent: Agent, ask: Ask) -> Told:
    """`acl/token`: makes one."""
    if not _administrator(agent, ask).writes("acl"):
        raise Refused(403, DENIED)
    body = _body(ask, _TOKEN)
    cluster = agent.cluster
    accessor, secret = body.get("AccessorID") or cluster.new_id(), body.get("SecretID") or cluster.new_id()
    made = Token(accessor, secret, _policies(agent, body), body.get("Description", ""), local=body.get("Local", False))
    return Told(_shown(agent, _add(agent, made)))


def make_policy(agent: Agent, ask: Ask) -> Told:
    """`acl/policy`: makes one."""
    if not _administrator(agent, ask).writes("acl"):
        raise Refused(403, DENIED)
    body = _body(ask, _POLICY)
    name = body.get("Name", "")
    if not name:
        raise Refused(500, "Invalid Policy: no Name is set")
    if name in agent.cluster.access.policies:
        raise Refused(500, f'Invalid Policy: A Policy with Name "{name}" already exists')
    try:
        rules = parse_rules(body.get("Rules", ""))
    except RulesFault as fault:
        raise Refused(500, str(fault)) from None
    cluster = agent.cluster
    cluster.catalog.index += 1
    made = Policy(cluster.new_id(), name, body.get("Rules", ""), body.get("Description", ""), rules)
    made.created = made.modified = cluster.catalog.index
    cluster.access.policies[name] = made
    return Told(_shown_policy(made))


def policies(agent: Agent, ask: Ask) -> Found:
    """`acl/policies`: all of them, without their rules."""
    _administrator(agent, ask)
    made = [_shown_policy(one) for _, one in sorted(agent.cluster.access.policies.items())]
    shown = [{key: value for key, value in one.items() if key != "Rules"} | {"Datacenters": None} for one in made]
    return Found(shown, _index(agent), shows_consistency=False)


def policy(agent: Agent, ask: Ask) -> Found:
    """`acl/policy/name/NAME`: one of them."""
    _administrator(agent, ask)
    held = agent.cluster.access.policies.get(ask.rest)
    if held is None:
        raise Refused(403, "ACL not found", headers=_read_headers(agent))
    return Found(_shown_policy(held), _index(agent), shows_consistency=False)


def _refuse_disabled(agent: Agent) -> None:
    if not agent.cluster.access.enabled:
        raise Refused(401, "ACL support disabled")


def _administrator(agent: Agent, ask: Ask) -> Authorizer:
    _refuse_disabled(agent)
    allowed = authorized(agent, ask)
    if not allowed.reads("acl"):
        raise Refused(403, DENIED, meta=ask.request.method == "GET")
    return allowed


def _body(ask: Ask, kind: Struct) -> dict[str, Any]:
    try:
        body: dict[str, Any] = decode(ask.request.body, kind) or {}
    except Malformed as mistake:
        raise Refused(400, f"Bad request: Failed to decode request body: {mistake}") from None
    return body


def _policies(agent: Agent, body: dict[str, Any]) -> list[str]:
    known = agent.cluster.access.policies
    found = []
    for link in body.get("Policies", []):
        name = link.get("Name") or next((one.name for one in known.values() if one.id == link.get("ID")), "")
        if name not in known:
            raise Refused(500, f'No such ACL policy with name "{link.get("Name", "")}"')
        found.append(name)
    return found


def _add(agent: Agent, made: Token) -> Token:
    cluster = agent.cluster
    cluster.catalog.index += 1
    made.created = made.modified = cluster.catalog.index
    made.made_at = cluster.timestamp()
    cluster.access.tokens[made.secret] = made
    return made


def _index(agent: Agent) -> int:
    access = agent.cluster.access
    indexes = [token.modified for token in access.tokens.values()] + [one.modified for one in access.policies.values()]
    return max(indexes, default=1)


def _read_headers(agent: Agent) -> tuple[tuple[str, str], ...]:
    known = (("X-Consul-Knownleader", "true"), ("X-Consul-Lastcontact", "0"))
    return (("X-Consul-Index", str(max(_index(agent), 1))), *known)


def _hash(text: str) -> str:
    return b64encode(hashlib.blake2b(text.encode(), digest_size=32).digest()).decode()


def _shown(agent: Agent, held: Token) -> dict[str, Any]:
    known = agent.cluster.access.policies
    links = [{"ID": known[name].id, "Name": name} for name in held.policies if name in known]
    made: dict[str, Any] = {"AccessorID": held.accessor, "SecretID": held.secret, "Description": held.description}
    if links:
        made["Policies"] = links
    made["Local"] = held.local
    if held.method:
        made["AuthMethod"] = held.method
    made |= {"CreateTime": held.made_at, "Hash": _hash(held.accessor + held.description + ",".join(held.policies))}
    return made | {"CreateIndex": held.created, "ModifyIndex": held.modified}


def _shown_policy(held: Policy) -> dict[str, Any]:
    made = {"ID": held.id, "Name": held.name, "Description": held.description, "Rules": held.text}
    return made | {"Hash": _hash(held.name + held.text), "CreateIndex": held.created, "ModifyIndex": held.modified}
