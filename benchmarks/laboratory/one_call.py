"""Meetings with one bad server, or one bad call."""

from __future__ import annotations

import contextlib
import posixpath
import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import trustme

from benchmarks.laboratory.judging import (
    CONSUL,
    GOOD,
    MEBIBYTE,
    ONE,
    TOKEN,
    Meeting,
    Meetings,
    Read,
    alone,
    in_words,
    indexed,
    is_foreign,
    should_be_refused,
    should_be_right,
    wrong,
)
from benchmarks.laboratory.process import running
from tests.faults.comparing import Met
from tests.support.agents import ConsulAgent
from tests.support.awkward import AWKWARD, REFUSED
from tests.support.black_hole import BlackHole
from tests.support.scripted import (
    ScriptedServer,
    Step,
    answer,
    drip_body,
    drip_headers,
    endless,
    gzip_bomb,
    hang_up_after,
    never,
    reset,
    truncate,
)
from tools.ports import free_ports


def reads_of(steps: Sequence[Step], times: int) -> Callable[[str], tuple[list[Read], float]]:
    """Reads from a server that does this; and the mebibytes that they took."""

    def meet(client: str) -> tuple[list[Read], float]:
        with (
            ScriptedServer([indexed(step) for step in steps]) as server,
            running(client, "127.0.0.1", server.port) as asked,
        ):
            begun = asked.ask("reads", times=0, pause=0)["memory"]
            found = asked.ask("reads", times=times, pause=0)
        return found["reads"], (found["memory"] - begun) / MEBIBYTE

    return meet


def well(*steps: Step, times: int) -> Meeting:
    """Errors and odd answers that a client should get over by itself."""
    return alone(lambda client: should_be_right(reads_of(steps, times)(client)[0], GOOD))


def refused(*steps: Step) -> Meeting:
    """Answers that are none."""
    return alone(lambda client: should_be_refused(reads_of(steps, 1)(client)[0]))


def bounded(*steps: Step) -> Meeting:
    """Answers that are too long: they must not be taken in."""

    def meet(client: str) -> Met:
        reads, grown = reads_of(steps, 1)(client)
        met = should_be_refused(reads)
        return Met(f"{met.said}; +{grown:.0f} MB", bad=met.bad + (grown > 64), failed=met.failed)

    return alone(meet)


def of_an_impossible_port(client: str) -> Met:
    reads, _ = reads_of([answer(body=ONE.replace(b"8080", b"99999"))], 1)(client)
    return Met(in_words(reads, []), bad=len(wrong(reads, [])))


def of_a_redirected_read(client: str) -> Met:
    with ScriptedServer([indexed(answer(body=ONE))]) as elsewhere:
        moved = answer(302, b"", {"Location": f"{elsewhere.url}/v1/health/service/web"})
        with ScriptedServer([moved]) as server, running(client, "127.0.0.1", server.port) as asked:
            return with_token(elsewhere, should_be_refused(asked.ask("reads", times=1, pause=0)["reads"]))


def of_a_redirected_write(client: str) -> Met:
    with ScriptedServer([answer(body=b"")]) as elsewhere:
        moved = answer(307, b"", {"Location": f"{elsewhere.url}/v1/agent/service/register"})
        with ScriptedServer([moved]) as server, running(client, "127.0.0.1", server.port) as asked:
            error = asked.ask("register")["error"]
            met = Met(error or "no error", bad=int(error is None), failed=int(is_foreign(error)))
            return with_token(elsewhere, met)


def with_token(elsewhere: ScriptedServer, met: Met) -> Met:
    """The same, and whether a stranger has been given the token."""
    leaked = any(TOKEN in str(request.headers) for request in elsewhere.requests)
    said = f"{met.said}; {'the token went to the other host' if leaked else 'the token stayed'}"
    return Met(said, bad=met.bad + leaked, failed=met.failed)


def of_a_lost_answer(client: str) -> Met:
    with ScriptedServer([reset(), answer(body=b"")]) as server, running(client, "127.0.0.1", server.port) as asked:
        error = asked.ask("register")["error"]
    return Met(error or "no error", failed=int(error is not None))


def of_a_lost_answer_to_a_condition(client: str) -> Met:
    with ScriptedServer([reset(), answer(body=b"true")]) as server, running(client, "127.0.0.1", server.port) as asked:
        error = asked.ask("exchange")["error"]
    sent = len(server.requests)
    said = f"{error or 'no error'}; sent {sent} times"
    return Met(said, bad=(sent > 1) + (error is None), failed=int(is_foreign(error)))


def of_awkward_names(client: str) -> Met:
    with ConsulAgent() as agent:
        for number, name in enumerate(AWKWARD):
            agent.register(name, id=f"awkward-{number}", port=80, address="10.0.0.5")
        with running(client, "127.0.0.1", agent.port) as asked:
            found = asked.ask("names", names=AWKWARD)["found"]
            odd = asked.ask("names", names=REFUSED)["found"]
    right = sum(one["found"] == [name] for name, one in zip(AWKWARD, found, strict=True))
    believed = [name for name, one in zip(REFUSED, odd, strict=True) if one["error"] is None]
    said = f"{right} of {len(AWKWARD)} found; {len(REFUSED) - len(believed)} of {len(REFUSED)} impossible ones refused"
    return Met(said, bad=len(AWKWARD) - right + len(believed))


KEYS = ["a b", "a?b", "a#b", "a%2Fb", "ä", "a+b", "..", "a/../b", "../agent/self", "a//b", "a\nb"]
"""Of these the first six can be asked for."""


def of_awkward_paths(client: str) -> Met:
    with ScriptedServer([indexed(answer(404, b""))]) as server, running(client, "127.0.0.1", server.port) as asked:
        astray, refusals = [], 0
        for key in KEYS:
            before = len(server.requests)
            asked.ask("keys", keys=[key])
            sent = {unquote(urlsplit(request.target).path) for request in server.requests[before:]}
            refusals += not sent
            if sent and {posixpath.normpath(path) for path in sent} != {f"/v1/kv/{key}"}:
                astray.append(key)
    lost = max(0, refusals - (len(KEYS) - 6))
    said = f"{len(astray)} of {len(KEYS)} led astray ({', '.join(map(repr, astray))})" if astray else (
        f"{len(KEYS) - refusals} asked for, {refusals} refused"
    )  # fmt: skip
    return Met(said, bad=len(astray), failed=lost)


def of_a_token_that_is_looked_for(client: str) -> Met:
    with ScriptedServer([indexed(answer(body=ONE))]) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("reads", times=1, pause=0)
        places = asked.ask("shows", secret=TOKEN)["places"]
    return Met(f"seen in {len(places)} places" + (f": {places[0]}" if places else ""), bad=len(places))


def of_a_hundred_threads(client: str) -> Met:
    with ConsulAgent() as agent, running(client, "127.0.0.1", agent.port) as asked:
        for number in range(10):
            agent.register(f"s{number}", id=f"s{number}-1", port=80, address="10.0.0.5")
        found = asked.ask("threads", number=100, times=20)
    failed = 2000 - found["right"] - found["wrong"]
    return Met(f"{found['right']:,} of 2,000 right, {failed} raised", bad=found["wrong"], failed=failed)


def of_a_fork(client: str) -> Met:
    with ConsulAgent() as agent, running(client, "127.0.0.1", agent.port) as asked:
        for name in "ab":
            agent.register(name, port=80, address="10.0.0.5")
        others = asked.ask("fork", times=150)["wrong"]
    return Met(f"{others} of 300 answers were the other one's", bad=others)


def of_a_refused_connection(client: str) -> Met:
    with running(client, "127.0.0.1", free_ports(1)[0]) as asked:
        return should_be_refused(asked.ask("reads", times=1, pause=0)["reads"])


def of_a_black_hole(client: str) -> Met:
    with contextlib.ExitStack() as stack, running(client, "127.0.0.1", BlackHole(stack).port) as asked:
        return should_be_refused(asked.ask("reads", times=1, pause=0)["reads"])


def of_wrong_tls(client: str) -> Met:
    """A foreign authority, another name, and a port that speaks plain HTTP."""
    authority, stranger = trustme.CA(), trustme.CA()
    contexts = []
    for certificate in (stranger.issue_cert("127.0.0.1"), authority.issue_cert("10.0.0.5")):
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        certificate.configure_cert(contexts[-1])
    reads, told = [], 0
    with tempfile.TemporaryDirectory() as folder:
        trusted = Path(folder) / "authority.pem"
        authority.cert_pem.write_to_path(trusted)
        for context in (*contexts, None):
            with (
                ScriptedServer([indexed(answer(body=ONE))], tls=context) as server,
                running(client, "127.0.0.1", server.port, ca=str(trusted)) as asked,
            ):
                reads += asked.ask("reads", times=1, pause=0)["reads"]
            told += len(server.requests)
    met = should_be_refused(reads)
    return Met(f"{met.said}; {told} requests sent", bad=met.bad + told, failed=met.failed)


def of_a_proxy_in_the_environment(client: str) -> Met:
    with ScriptedServer([indexed(answer(body=ONE))]) as proxy, ScriptedServer([indexed(answer(body=ONE))]) as server:
        environ = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "NO_PROXY": "", "no_proxy": ""}
        with running(client, "127.0.0.1", server.port, environ=environ) as asked:
            reads = asked.ask("reads", times=1, pause=0)["reads"]
        met = should_be_right(reads, GOOD)
        leaked = sum(TOKEN in str(request.headers) for request in proxy.requests)
    said = "the proxy was given the token" if leaked else "the proxy saw nothing"
    return Met(said, bad=met.bad + leaked, failed=met.failed)


def of_a_half_open_connection(client: str) -> Met:
    reads, _ = reads_of([answer(body=ONE), never(), answer(body=ONE)], 3)(client)
    met = should_be_refused(reads[1:2])
    right = [found for _, _, found in (reads[0], reads[2])] == [GOOD, GOOD]
    return Met(met.said, bad=met.bad + (not right), failed=met.failed)


MEETINGS: Meetings = {
    "F01": (CONSUL, well(hang_up_after(answer(body=ONE)), times=20)),
    "F02": (CONSUL, well(*[answer(500, b"No cluster leader"), answer(body=ONE)] * 10, times=10)),
    "F03": (CONSUL, well(*[answer(429, b"slow down", {"Retry-After": "1"}), answer(body=ONE)] * 3, times=3)),
    "F04": (CONSUL, well(*[reset(), answer(body=ONE)] * 10, times=10)),
    "F05": (CONSUL, well(*[truncate(ONE), answer(body=ONE)] * 5, times=5)),
    "F06": (CONSUL, refused(answer(body=b"{}"))),
    "F07": (CONSUL, bounded(endless(200 * MEBIBYTE))),
    "F08": (CONSUL, bounded(gzip_bomb(512 * MEBIBYTE))),
    "F09": (CONSUL, refused(answer(body=b"[" * 100_000 + b"]" * 100_000))),
    "F10": (CONSUL, refused(never())),
    "F11": (CONSUL, refused(drip_body(ONE, 0.5))),
    "F12": (CONSUL, refused(drip_headers(0.5))),
    "F15": (CONSUL, alone(of_a_redirected_read)),
    "F16": (CONSUL, alone(of_a_redirected_write)),
    "F17": (CONSUL, alone(of_a_lost_answer)),
    "F18": (CONSUL, alone(of_a_lost_answer_to_a_condition)),
    "F19": (CONSUL, alone(of_awkward_names)),
    "F20": (CONSUL, alone(of_awkward_paths)),
    "F21": (CONSUL, alone(of_a_token_that_is_looked_for)),
    "F22": (CONSUL, alone(of_an_impossible_port)),
    "F23": (CONSUL, alone(of_a_hundred_threads)),
    "F24": (CONSUL, alone(of_a_fork)),
    "F25": (CONSUL, alone(of_a_refused_connection)),
    "F26": (CONSUL, alone(of_a_black_hole)),
    "F27": (CONSUL, alone(of_wrong_tls)),
    "F28": (CONSUL, alone(of_a_proxy_in_the_environment)),
    "F32": (CONSUL, alone(of_a_half_open_connection)),
}
