"""An agent's HTTP face without I/O: a request in; an answer, or word that it has to wait, out."""

from __future__ import annotations

import gzip
import json
import posixpath
from dataclasses import replace
from typing import Any, Final

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.cluster import ServersAway
from consul_access.testing.consul.exchange import (
    Answer,
    Ask,
    Found,
    Options,
    Refused,
    Request,
    Told,
    Waiting,
    parse_query,
    refuse_namespace,
    unquoted,
)
from consul_access.testing.consul.routes import Endpoint, Route, find_route

__all__ = ["Front"]

JSON: Final = ("Content-Type", "application/json")
TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
HTML: Final = ("Content-Type", "text/html; charset=utf-8")
_STREAM_ENDED: Final = "rpc error: code = Unavailable desc = transport is closing"
_NO_STREAM: Final = (
    "rpc error: code = Unavailable desc = all SubConns are in TransientFailure, latest connection error: connection "
    'error: desc = "transport: Error while dialing dial tcp {0}:0->{0}:8300: operation was canceled"'
)
VARY: Final = ("Vary", "Accept-Encoding")


class Front:
    """Answers for one agent.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._cached: set[tuple[object, ...]] = set()

    def begin(self, request: Request) -> Answer | Waiting:
        """Takes a request."""
        raw, _, query_text = request.target.partition("?")
        try:
            path = unquoted(raw)
        except ValueError:
            return Answer(400, (TEXT,), b"400 Bad Request")
        if not path.isprintable():
            return Answer(400)
        clean = _cleaned(path)
        if clean != path:
            return _moved(request, clean)
        route, rest = find_route(path, self.agent.cluster.dialect)
        if route is None:
            return _moved(request, f"{path}/") if find_route(f"{path}/", self.agent.cluster.dialect)[0] else Answer(404)
        ask = Ask(request, path, rest, parse_query(query_text))
        outcome = self._routed(route, ask)
        return outcome if isinstance(outcome, Waiting) else self._packed(request, outcome)

    def resume(self, waiting: Waiting) -> Answer | None:
        """Looks again at a request that waits; None if it goes on waiting."""
        ask = waiting.ask
        cluster = self.agent.cluster
        is_over = cluster.now >= waiting.until
        if waiting.seen == cluster.changes and not is_over:
            return None
        waiting.seen = cluster.changes
        try:
            if self.agent.cut_off is not None:
                raise Refused(500, _STREAM_ENDED if ask.is_streamed else "rpc error making call: EOF", meta=True)
            if ask.options.index:
                self._refuse_without_leader(ask)
            told = waiting.again(self.agent, ask)
            if not is_over and (_unchanged(ask, told) or _of_others(told, waiting.known)):
                return None
            answer = self._answered(ask, told)
        except Refused as refused:
            answer = self._refusal(ask, refused)
        except ServersAway as away:
            answer = self._refusal(ask, _no_leader(away))
        return self._packed(ask.request, answer)

    def interrupted(self, waiting: Waiting) -> Answer:
        """What a blocking query gets when its agent leaves in good order: nothing, and that with a 200."""
        del waiting
        headers = (("X-Consul-Index", str(self.agent.cluster.catalog.index)), ("X-Consul-Knownleader", "true"))
        return Answer(200, (JSON, VARY, *headers, ("X-Consul-Lastcontact", "0")), b"[]")

    # --- one request --------------------------------------------------------------------------------------

    def _routed(self, route: Route, ask: Ask) -> Answer | Waiting:
        method = ask.request.method
        allowed = ",".join(("OPTIONS", *route.methods))
        if method == "OPTIONS":
            return Answer(200, (("Allow", allowed), VARY, *self._policy_headers()))
        if method not in route.methods:
            text = f"method {method} not allowed".encode()
            headers = (("Allow", allowed), VARY, TEXT, *self._policy_headers())
            return Answer(405, headers, b"" if method == "HEAD" else text)
        try:
            self._refuse_early(route, ask)
            if not route.reads_servers and not ask.path.startswith("/v1/agent/"):
                self._refuse_cut_off()
            if route.reads_servers:
                ask.options = Options.parse(ask.query)
                ask.is_streamed = self._is_streamed(ask)
                if ask.is_streamed and self._is_elsewhere(ask):
                    route.answer(self.agent, ask)  # what is wrong with the question is said all the same
                    return self._waiting(ask, _nothing, None)
                self._refuse_datacenter(ask)
                self._refuse_without_leader(ask)
            told = route.answer(self.agent, ask)
            return self._wait(route, ask, told) or self._answered(ask, told)
        except Refused as refused:
            return self._refusal(ask, refused)
        except ServersAway as away:
            return self._refusal(ask, _no_leader(away))

    def _is_streamed(self, ask: Ask) -> bool:
        """Whether a view answers: not those who ask for the first time, nor for what is near."""
        repeats = ask.options.index > 0 or ask.options.cached
        return self.agent.cluster.dialect.streams and _is_by_service(ask) and repeats and not ask.first("near")

    def _refuse_early(self, route: Route, ask: Ask) -> None:
        if route.scoped:
            refuse_namespace(ask)
        if self.agent.cluster.dialect.wants_json and ask.request.body and ask.request.method != "GET":
            kind = ask.request.headers.get("content-type", "application/json").partition(";")[0].strip()
            if kind != "application/json":
                raise Refused(415, "Unsupported Content-Type")

    def _is_elsewhere(self, ask: Ask) -> bool:
        return ask.first("dc") not in {"", self.agent.cluster.catalog.datacenter}

    def _refuse_datacenter(self, ask: Ask) -> None:
        if self._is_elsewhere(ask):
            raise Refused(500, "No path to datacenter", meta=True)

    def _refuse_cut_off(self) -> None:
        if (text := self.agent.cut_off) is not None:
            raise ServersAway(text)

    def _refuse_without_leader(self, ask: Ask) -> None:
        """While there is no leader, only stale and cached answers are given; while there is no server, cached ones.

        A view needs no leader, and goes on telling what it holds when there is no server.
        """
        cut_off = self.agent.cut_off
        away = cut_off or self.agent.cluster.away
        if away is None or ((ask.options.stale or ask.is_streamed) and cut_off is None):
            return
        if (ask.options.cached or ask.is_streamed) and _cache_key(ask) in self._cached:
            return
        raise Refused(500, _NO_STREAM.format(self.agent.node.address) if ask.is_streamed else away, meta=True)

    def _wait(self, route: Route, ask: Ask, told: Told | Found) -> Waiting | None:
        if not _unchanged(ask, told):
            return None
        if ask.is_streamed and self.agent.cut_off is not None:
            raise Refused(500, _NO_STREAM.format(self.agent.node.address))
        return self._waiting(ask, route.answer, told)

    def _waiting(self, ask: Ask, answer: Endpoint, told: Told | Found | None) -> Waiting:
        cluster = self.agent.cluster
        exactly = isinstance(told, Told) or ask.is_streamed
        until = ask.wait_until(cluster.now, 0.0 if exactly else cluster.random.random())
        known = told.wakes if isinstance(told, Found) else None if told else ()
        return Waiting(ask, answer, until, cluster.changes, known)

    def _packed(self, request: Request, answer: Answer) -> Answer:
        """The answer, packed for those who ask for that, refusals too."""
        asks = "gzip" in request.headers.get("accept-encoding", "")
        if not answer.body or not asks or not self.agent.cluster.dialect.packs(len(answer.body)):
            return answer
        headers = (*answer.headers, ("Content-Encoding", "gzip"))
        return replace(answer, headers=headers, body=gzip.compress(answer.body, 1))

    # --- writing answers ----------------------------------------------------------------------------------

    def _answered(self, ask: Ask, told: Told | Found) -> Answer:
        headers = [*self._policy_headers()]
        if isinstance(told, Found):
            headers += self._meta(ask, told)
            body, kind = _json(told.data, ask), JSON
        elif told.raw is not None:
            body, kind = told.raw, ("Content-Type", told.kind)
            headers += told.headers
        else:
            body, kind = _json(told.data, ask), JSON
            headers += told.headers
        if body and kind[1]:
            headers.insert(0, kind)
        headers.append(VARY)
        return Answer(told.status, tuple(headers), body)

    def _policy_headers(self) -> list[tuple[str, str]]:
        cluster = self.agent.cluster
        if not cluster.dialect.tells_default_policy:
            return []
        return [("X-Consul-Default-Acl-Policy", "deny" if cluster.access.enabled else "allow")]

    def _meta(self, ask: Ask, found: Found) -> list[tuple[str, str]]:
        cluster = self.agent.cluster
        headers = [("X-Consul-Index", str(max(found.index, 1)))]
        known = not ask.is_streamed and (cluster.away is None or cluster.stale_known or ask.options.cached)
        headers += [("X-Consul-Knownleader", "true" if known else "false"), ("X-Consul-Lastcontact", "0")]
        if found.shows_consistency:
            headers.append(("X-Consul-Effective-Consistency", ask.options.consistency))
        if found.cacheable and (ask.options.cached or ask.is_streamed):
            key = _cache_key(ask)
            hit = key in self._cached
            self._cached.add(key)
            if ask.options.cached:
                headers += [("X-Cache", "HIT"), ("Age", "0")] if hit else [("X-Cache", "MISS")]
        if found.filtered and cluster.dialect.tells_filtered:
            headers.append(("X-Consul-Results-Filtered-By-ACLs", "true"))
        if cluster.dialect.tells_backend:
            headers.append(("X-Consul-Query-Backend", "streaming" if ask.is_streamed else "blocking-query"))
        return headers

    def _refusal(self, ask: Ask, refused: Refused) -> Answer:
        headers = [*refused.headers, VARY]
        dialect = self.agent.cluster.dialect
        reads_first = dialect.refuses_bare and _is_by_service(ask)
        if reads_first and refused.found is not None:
            headers += self._meta(ask, refused.found)
        elif refused.meta and not reads_first:
            headers += [("X-Consul-Index", "1"), ("X-Consul-Knownleader", "false"), ("X-Consul-Lastcontact", "0")]
            if dialect.tells_backend:
                headers.append(("X-Consul-Query-Backend", "blocking-query"))
        body = refused.text.encode()
        if body:
            headers.append(TEXT)
        return Answer(refused.status, (*headers, *self._policy_headers()), body)


def _nothing(agent: Agent, ask: Ask) -> Found:
    """What a view of a datacenter holds that nobody knows: it is waited for, and no refusal says so."""
    del agent, ask
    return Found([], 0, cacheable=True, wakes=())


def _is_by_service(ask: Ask) -> bool:
    """Whether it asks for the instances of a service and their health."""
    return ask.path.startswith(("/v1/health/service/", "/v1/health/connect/"))


def _cache_key(ask: Ask) -> tuple[object, ...]:
    """What an agent's cache tells questions apart by; how near somebody wants to be is no part of it."""
    asked = (tuple(ask.query.get(name, ())) for name in ("tag", "node-meta", "filter", "dc"))
    return (ask.path, ask.token, ask.is_streamed, *asked)


def _no_leader(away: ServersAway) -> Refused:
    return Refused(500, str(away))


def _unchanged(ask: Ask, told: Told | Found) -> bool:
    """Whether a blocking query goes on waiting."""
    if isinstance(told, Found):
        return ask.options.index > 0 and max(told.index, 1) <= ask.options.index
    wanted = ask.first("hash")
    return bool(wanted) and ("X-Consul-Contenthash", wanted) in told.headers


def _of_others(told: Told | Found, known: Any) -> bool:
    """Whether the index has moved by something that nobody waits for here."""
    return isinstance(told, Found) and told.wakes is not None and told.wakes == known


def _json(data: Any, ask: Ask) -> bytes:
    if data is None and ask.request.method != "GET":
        return b""
    if "pretty" in ask.query:
        return (json.dumps(data, ensure_ascii=False, indent=4) + "\n").encode()
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _cleaned(path: str) -> str:
    """The path as Go's multiplexer wants it: without `..`, `.` and `//`, its last slash kept."""
    clean = posixpath.normpath(f"/{path}").replace("//", "/") if path else "/"
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean


def _moved(request: Request, path: str) -> Answer:
    query = request.target.partition("?")[2]
    location = path + (f"?{query}" if query else "")
    body = f'<a href="{location}">Moved Permanently</a>.\n\n'.encode() if request.method == "GET" else b""
    headers = (HTML, ("Location", location)) if body else (("Location", location),)
    return Answer(301, headers, body)
