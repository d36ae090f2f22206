"""The gateway without I/O: a request in; an answer, a stream, or word that it has to wait, out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from consul_access.testing.common.exchange import Answer, Request
from consul_access.testing.etcd import messages
from consul_access.testing.etcd.dialect import Refused
from consul_access.testing.etcd.keyspace import ranges_of
from consul_access.testing.etcd.state import NO_LEADER, EtcdState
from consul_access.testing.etcd.watching import Stream

__all__ = ["Gateway", "Held"]

MAX_BYTES: Final = 1536 * 1024
TIMES_OUT_AFTER: Final = 7.0
_ORIGIN: Final = (
    ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
    ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
    ("Access-Control-Allow-Origin", "*"),
)
JSON: Final = (*_ORIGIN, ("Content-Type", "application/json"))
GRPC: Final = (*JSON, ("Grpc-Metadata-Content-Type", "application/grpc"))
TEXT: Final = (*_ORIGIN, ("Content-Type", "text/plain; charset=utf-8"))
HTML: Final = (*_ORIGIN, ("Content-Type", "text/html; charset=utf-8"))

Asked: TypeAlias = Mapping[str, Any]


@dataclass(slots=True)
class Held:
    """A request that waits: for a leader, or for ever.

    Args:
        request: the request.
        until: when it is refused; None for never.
    """

    request: Request
    until: float | None


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request, read."""

    asked: Asked
    token: str


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the gateway.

    Args:
        message: what it reads.
        answer: what answers.
        writes: it has to be agreed upon by the members.
        reads: it asks the leader, unless any member may answer.
    """

    message: messages.Message
    answer: Callable[[Gateway, _Ask], dict[str, Any]]
    writes: bool = False
    reads: bool = False


class Gateway:
    """Answers for one state.

    Args:
        state: the state.
        urls: where the member says that it is reached.
    """

    def __init__(self, state: EtcdState, urls: Callable[[], list[str]]) -> None:
        self._state = state
        self._urls = urls

    def begin(self, request: Request) -> Answer | Held:
        """Takes a request."""
        path = request.target.partition("?")[0]
        if path.startswith("/v3beta/"):
            path = f"/v3/{path[8:]}"
        if path == "/v3":
            return Answer(301, (*HTML, ("Location", "/v3/")), b'<a href="/v3/">Moved Permanently</a>.\n\n')
        if not path.startswith("/v3/"):
            return self._outside(path)
        if request.method == "OPTIONS":
            return Answer(200, _ORIGIN)
        known = path in _CALLS or path in {"/v3/watch", "/v3/lease/keepalive"}
        if not known or (path == "/v3/auth/status" and not self._state.dialect.has_auth_status):
            return self._unserved(404, 5, "Not Found")
        if request.method != "POST":
            return self._unserved(405 if self._state.dialect.gateway == 1 else 501, 12, "Method Not Allowed")
        return self._called(path, request)

    def resume(self, held: Held) -> Answer | None:
        """Looks again at a request that waits."""
        if held.until is None:
            return None
        if self._state.lost_leader_at is None:
            outcome = self.begin(held.request)
            return outcome if isinstance(outcome, Answer) else None
        if self._state.now < held.until:
            return None
        path = held.request.target.partition("?")[0]
        if path == "/v3/lease/keepalive":
            return self._refused(Refused(14, NO_LEADER), stream=True)
        is_read = path in _CALLS and _CALLS[path].reads
        refused = Refused(14, "etcdserver: request timed out") if is_read else Refused(4, "context deadline exceeded")
        return self._refused(refused)

    # --- paths --------------------------------------------------------------------------------------------

    def _outside(self, path: str) -> Answer:
        dialect = self._state.dialect
        if path == "/version":
            told = {"etcdserver": dialect.text, "etcdcluster": f"3.{dialect.minor}.0"}
            return Answer(200, JSON, json.dumps(told, separators=(",", ":")).encode())
        if path == "/health":
            well = self._state.lost_leader_at is None and not self._state.is_full
            health = {"health": "true" if well else "false"}
            if dialect.minor >= 5:
                health["reason"] = "" if well else ("ALARM NOSPACE" if self._state.is_full else "RAFT NO LEADER")
            return Answer(200 if well else 503, TEXT, json.dumps(health, separators=(",", ":")).encode())
        if path in {"/livez", "/readyz"} and dialect.has_probes:
            return Answer(200, TEXT, b"ok\n")
        return Answer(404, TEXT, b"404 page not found\n")

    def _unserved(self, status: int, code: int, text: str) -> Answer:
        if self._state.dialect.gateway == 1:
            return Answer(status, TEXT, f"{text}\n".encode())
        return Answer(status, JSON, self._state.dialect.refusal(code, text))

    def _called(self, path: str, request: Request) -> Answer | Held:
        headers = request.headers
        token = headers.get("grpc-metadata-token", "") or headers.get("authorization", "")
        needs_leader = headers.get("grpc-metadata-hasleader", "") == "true"
        lost = self._state.lost_leader_at is not None
        if needs_leader and lost:
            return self._refused(Refused(14, NO_LEADER))
        if path == "/v3/watch":
            return self._watch(request, token, needs_leader=needs_leader)
        if path == "/v3/lease/keepalive":
            return Held(request, self._state.now + TIMES_OUT_AFTER) if lost else self._keep_alive(request)
        call = _CALLS[path]
        try:
            asked = messages.read(request.body, call.message, self._state.dialect)
            if lost and (call.writes or (call.reads and not asked.get("serializable"))):
                return Held(request, self._state.now + TIMES_OUT_AFTER)
            told = call.answer(self, _Ask(asked, token))
        except Refused as refused:
            return self._refused(refused)
        return Answer(200, GRPC, json.dumps(told, separators=(",", ":")).encode())

    def _refused(self, refused: Refused, *, stream: bool = False) -> Answer:
        dialect = self._state.dialect
        write = dialect.stream_refusal if stream else dialect.refusal
        return Answer(dialect.status(refused.code), JSON, write(refused.code, refused.text))

    # --- streams ------------------------------------------------------------------------------------------

    def _watch(self, request: Request, token: str, *, needs_leader: bool) -> Answer | Held:
        state = self._state
        stream = Stream(
            state.keys.store,
            write=state.line,
            allowed=lambda key, end: state.access.expect(token, [(key, end)], state.now),
            ended=lambda one: state.streams.remove(one) if one in state.streams else None,
            needs_leader=needs_leader,
            now=state.now,
        )
        begun = False
        for asked in messages.documents(request.body, messages.WATCH, state.dialect):
            if isinstance(asked, Refused):
                if not begun and state.dialect.gateway == 1:
                    return Answer(500, JSON, state.dialect.refusal(2, asked.text))
                break
            begun = stream.take_request(asked) or begun
        if not begun:
            return Held(request, None)  # real ones say nothing at all, for ever
        stream.catch_up()
        state.streams.append(stream)
        return Answer(200, GRPC, live=stream)

    def _keep_alive(self, request: Request) -> Answer:
        lines = b""
        for asked in messages.documents(request.body, messages.ID, self._state.dialect):
            if isinstance(asked, Refused):
                if not lines and self._state.dialect.gateway == 1:
                    return Answer(500, JSON, self._state.dialect.refusal(2, asked.text))
                break
            number = asked.get("ID", 0)
            lease = self._state.keys.leases.get(number)
            told = {"ID": str(number)} if number else {}
            if lease is not None:
                lease.until = self._state.now + lease.ttl
                told["TTL"] = str(lease.ttl)
            lines += self._state.line(told, self._state.keys.store.revision)
        return Answer(200, GRPC if lines else JSON if self._state.dialect.gateway == 1 else _ORIGIN, lines)

    # --- calls --------------------------------------------------------------------------------------------

    def _told(self, told: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"header": self._state.header(), **(told or {})}

    def _allow(self, name: str, ask: _Ask) -> None:
        ranges = ranges_of(name, ask.asked)
        if ranges:
            self._state.access.expect(ask.token, ranges, self._state.now)

    def range(self, ask: _Ask) -> dict[str, Any]:
        """Reads."""
        self._state.keys.expect("request_range", ask.asked)
        self._allow("request_range", ask)
        return self._told(self._state.keys.range(ask.asked))

    def put(self, ask: _Ask) -> dict[str, Any]:
        """Writes."""
        keys = self._state.keys
        keys.expect("request_put", ask.asked)
        self._fits(ask.asked)
        self._allow("request_put", ask)
        lease = keys.leases.get(ask.asked.get("lease", 0))
        if lease is not None:
            self._state.access.expect(ask.token, [(key, b"") for key in sorted(lease.keys)], self._state.now)
        self._expect_room()
        if ask.asked.get("lease"):
            keys.leases.expect(ask.asked["lease"])  # within a transaction the key is looked for first
        keys.expect_possible("request_put", ask.asked)
        told = keys.put(ask.asked)
        keys.store.commit()
        return self._told(told)

    def delete(self, ask: _Ask) -> dict[str, Any]:
        """Deletes."""
        self._state.keys.expect("request_delete_range", ask.asked)
        self._allow("request_delete_range", ask)
        told = self._state.keys.delete(ask.asked)
        self._state.keys.store.commit()
        return self._told(told)

    def txn(self, ask: _Ask) -> dict[str, Any]:
        """Several in one step."""
        self._state.keys.expect_txn(ask.asked)
        self._fits(ask.asked)
        self._allow("request_txn", ask)
        self._expect_room()
        told = self._state.keys.txn(ask.asked, lambda revision: {"revision": str(revision)})
        self._state.keys.store.commit()
        return self._told(told)

    def compact(self, ask: _Ask) -> dict[str, Any]:
        """Forgets what was before."""
        self._state.keys.store.compact(ask.asked.get("revision", 0))
        return self._told()

    def grant(self, ask: _Ask) -> dict[str, Any]:
        """Makes a lease."""
        self._expect_room()
        lease = self._state.keys.leases.grant(ask.asked.get("TTL", 0), ask.asked.get("ID", 0), self._state.now)
        return self._told({"ID": str(lease.id), "TTL": str(lease.ttl)})

    def revoke(self, ask: _Ask) -> dict[str, Any]:
        """Ends a lease and its keys."""
        lease = self._state.keys.leases.expect(ask.asked.get("ID", 0))
        self._state.access.expect(ask.token, [(key, b"") for key in sorted(lease.keys)], self._state.now)
        self._state.keys.end_lease(lease.id)
        return self._told()

    def time_to_live(self, ask: _Ask) -> dict[str, Any]:
        """How a lease stands."""
        number = ask.asked.get("ID", 0)
        lease = self._state.keys.leases.get(number)
        told = {"ID": str(number)} if number else {}
        keys: list[bytes] = []
        if ask.asked.get("keys") and self._state.dialect.guards_lease_keys:
            held = sorted(lease.keys) if lease is not None else []
            self._state.access.expect(ask.token, [(key, b"") for key in held], self._state.now)
        if lease is None:
            return self._told(told | {"TTL": "-1"})
        if ask.asked.get("keys"):
            keys = sorted(lease.keys)
        left = int(lease.until - self._state.now)
        told |= ({"TTL": str(left)} if left else {}) | {"grantedTTL": str(lease.ttl)}
        return self._told(told | ({"keys": [_base64(key) for key in keys]} if keys else {}))

    def leases(self, _: _Ask) -> dict[str, Any]:
        """Which leases there are."""
        found = [{"ID": str(lease.id)} for lease in self._state.keys.leases.all()]
        return self._told({"leases": found} if found else {})

    def authenticate(self, ask: _Ask) -> dict[str, Any]:
        """Logs in."""
        name, password = ask.asked.get("name", ""), ask.asked.get("password", "")
        return self._told({"token": self._state.access.log_in(name, password, self._state.now)})

    def auth_status(self, ask: _Ask) -> dict[str, Any]:
        """Whether users are known."""
        self._state.access.expect_root(ask.token, self._state.now)
        return self._told(({"enabled": True} if self._state.access.enabled else {}) | {"authRevision": "1"})

    def status(self, _: _Ask) -> dict[str, Any]:
        """How the member is."""
        state = self._state
        complaints = [NO_LEADER] if state.lost_leader_at is not None else []
        complaints += [f"memberID:{state.member_id} alarm:NOSPACE "] if state.is_full else []
        told = {"version": state.dialect.text, "dbSize": "20480"}
        told |= {} if state.lost_leader_at is not None else {"leader": str(state.member_id)}
        applied = str(state.keys.store.revision + 3)
        told |= {"raftIndex": applied, "raftTerm": str(state.term), "raftAppliedIndex": applied}
        return self._told(told | ({"errors": complaints} if complaints else {}) | {"dbSizeInUse": "16384"})

    def members(self, _: _Ask) -> dict[str, Any]:
        """Who belongs to the cluster."""
        state = self._state
        urls = self._urls()
        member = {"ID": str(state.member_id), "name": state.name, "peerURLs": ["http://127.0.0.1:2380"]}
        return {"header": state.header(0), "members": [member | ({"clientURLs": urls} if urls else {})]}

    def alarm(self, _: _Ask) -> dict[str, Any]:
        """What is wrong with members."""
        full = [{"memberID": str(self._state.member_id), "alarm": "NOSPACE"}] if self._state.is_full else []
        told: dict[str, Any] = {"alarms": full} if full else {}
        return told if self._state.dialect.minor == 4 else self._told(told)

    def hash(self, _: _Ask) -> dict[str, Any]:
        """A number that differs when what is stored differs; it is not the real one's."""
        return self._told({"hash": self._state.keys.store.revision})

    def defragment(self, _: _Ask) -> dict[str, Any]:
        """Frees space; a fake has none to free."""
        return {}

    def _fits(self, asked: Asked) -> None:
        if _size(asked) > MAX_BYTES:
            raise Refused(3, "etcdserver: request is too large")

    def _expect_room(self) -> None:
        if self._state.is_full:
            raise Refused(8, "etcdserver: mvcc: database space exceeded")


def _size(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 1


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_LEASE_CALLS: Final = {
    "revoke": _Call(messages.ID, Gateway.revoke, writes=True),
    "timetolive": _Call(messages.TTL, Gateway.time_to_live, writes=True),
    "leases": _Call(messages.NOTHING, Gateway.leases),
}
_CALLS: Final[dict[str, _Call]] = {
    "/v3/kv/range": _Call(messages.RANGE, Gateway.range, reads=True),
    "/v3/kv/put": _Call(messages.PUT, Gateway.put, writes=True),
    "/v3/kv/deleterange": _Call(messages.DELETE, Gateway.delete, writes=True),
    "/v3/kv/txn": _Call(messages.TXN, Gateway.txn, writes=True),
    "/v3/kv/compaction": _Call(messages.COMPACTION, Gateway.compact, writes=True),
    "/v3/lease/grant": _Call(messages.GRANT, Gateway.grant, writes=True),
    **{f"/v3/lease/{name}": call for name, call in _LEASE_CALLS.items()},
    **{f"/v3/kv/lease/{name}": call for name, call in _LEASE_CALLS.items()},
    "/v3/auth/authenticate": _Call(messages.LOGIN, Gateway.authenticate, writes=True),
    "/v3/auth/status": _Call(messages.NOTHING, Gateway.auth_status),
    "/v3/maintenance/status": _Call(messages.NOTHING, Gateway.status),
    "/v3/maintenance/alarm": _Call(messages.NOTHING, Gateway.alarm),
    "/v3/maintenance/hash": _Call(messages.NOTHING, Gateway.hash),
    "/v3/maintenance/defragment": _Call(messages.NOTHING, Gateway.defragment),
    "/v3/cluster/member/list": _Call(messages.NOTHING, Gateway.members),
}
