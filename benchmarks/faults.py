"""The fault laboratory: every scenario against this library, a selection of them against other clients: `make faults`.

Ours are tests (tests/faults/scenarios.py names them); their results and what they measured are read from pytest's own
report. Others are short programs (faults_peer.py) that meet the same faults; what happened to them is written down, and
ours meets them beside, in the same way. `--write` puts the tables into docs/reliability.md, everything as JSON beside
it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from tests.faults.scenarios import SCENARIOS, SERIES, holders, scenarios_of
from tests.support.agents import ConsulAgent
from tests.support.cluster import Cluster
from tests.support.counting import Counting
from tests.support.etcd import NEWER, EtcdCluster, EtcdServer
from tests.support.scripted import (
    Connection,
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

PAGE, RESULTS = ROOT / "docs" / "reliability.md", ROOT / "docs" / "reliability.json"
MARK = "<!-- measured -->"
PATIENCE = 45.0
MEBIBYTE = 1024 * 1024
ENTRY: dict[str, Any] = {
    "Node": {"Node": "n1", "Address": "10.0.0.1"},
    "Service": {"ID": "web-1", "Service": "web", "Address": "10.0.0.5", "Port": 8080},
    "Checks": [],
}
ONE = json.dumps([ENTRY]).encode()
GOOD = ["10.0.0.5:8080"]


class Indexed(Connection):
    """Adds the index that every answer of an agent's has; without it py-consul reads none."""

    def send(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            data = data.replace(b"\r\n", b"\r\nX-Consul-Index: 7\r\n", 1)
        super().send(data)


def indexed(step: Step) -> Step:
    return lambda connection: step(Indexed(connection.sock, connection.ended))


class Hung(Exception):
    """The client did not answer in time."""


class Peer:
    """A client's process."""

    def __init__(self, name: str, host: str, port: int) -> None:
        paths = [str(ROOT)] if name != "etcd3" else [str(ROOT / ".venv" / "protobuf-3"), str(ROOT)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("CONSUL_", "ETCD"))}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "faults_peer.py"), name, host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        self._answer()

    def tell(self, do: str, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self.process.stdin.flush()

    def ask(self, do: str, patience: float = PATIENCE, **order: Any) -> dict[str, Any]:
        self.tell(do, **order)
        return self._answer(patience)

    def _answer(self, patience: float = PATIENCE) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=patience)
        except queue.Empty:
            raise Hung(f"hung for {patience:g} s") from None
        if not line:
            raise Hung("ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self._reading.join()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def peer(name: str, host: str, port: int) -> Iterator[Peer]:
    made = Peer(name, host, port)
    try:
        yield made
    finally:
        made.close()


# --- bad answers ----------------------------------------------------------------------------------------------


def told_of(answered: dict[str, Any], *expected: object) -> str:
    """What became of the reads, in words."""
    found = answered["found"]
    raised = Counter(one for one in found if isinstance(one, str))
    wrong = [one for one in found if not isinstance(one, str) and one not in expected]
    parts = [f"{sum(raised.values())} of {len(found)} raised ({', '.join(sorted(raised))})"] if raised else []
    parts += [f"{len(wrong)} of {len(found)} wrong: {json.dumps(wrong[0])}"] if wrong else []
    parts += [] if parts else [f"{len(found)} of {len(found)} right"]
    return f"{'; '.join(parts)}; {answered['longest']:.1f} s at most"


Answers: dict[str, tuple[Callable[[], list[Step]], int, object]] = {
    "F01": (lambda: [hang_up_after(answer(body=ONE))], 20, GOOD),
    "F02": (lambda: [answer(500, b"No cluster leader"), answer(body=ONE)] * 10, 10, GOOD),
    "F03": (lambda: [answer(429, b"slow down", {"Retry-After": "1"}), answer(body=ONE)] * 3, 3, GOOD),
    "F04": (lambda: [reset(), answer(body=ONE)] * 10, 10, GOOD),
    "F05": (lambda: [truncate(ONE), answer(body=ONE)] * 5, 5, GOOD),
    "F06": (lambda: [answer(body=b"{}")], 1, "an error"),
    "F07": (lambda: [endless(200 * MEBIBYTE)], 1, "an error"),
    "F08": (lambda: [gzip_bomb(512 * MEBIBYTE)], 1, "an error"),
    "F09": (lambda: [answer(body=b"[" * 100_000 + b"]" * 100_000)], 1, "an error"),
    "F10": (lambda: [never()], 1, "an error"),
    "F11": (lambda: [drip_body(ONE, 0.5)], 1, "an error"),
    "F12": (lambda: [drip_headers(0.5)], 1, "an error"),
    "F22": (lambda: [answer(body=ONE.replace(b"8080", b"99999"))], 1, []),
}


def of_bad_answers(name: str, client: str) -> str:
    steps, times, expected = Answers[name]
    with ScriptedServer([indexed(step) for step in steps()]) as server, peer(client, "127.0.0.1", server.port) as asked:
        begun = asked.ask("reads", times=0, pause=0)["memory"]
        found = asked.ask("reads", times=times, pause=0)
        told = told_of(found, expected)
        grown = (found["memory"] - begun) / MEBIBYTE
        return f"{told}; +{grown:.0f} MB" if name in {"F07", "F08"} else told


def of_an_index_that_stands(client: str) -> str:
    with ScriptedServer([indexed(answer(body=ONE))]) as server, peer(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow")
        time.sleep(5)
        return f"{len(server.requests):,} requests in 5 s"


def of_a_redirect(client: str) -> str:
    with ScriptedServer([indexed(answer(body=ONE))]) as elsewhere:
        moved = answer(302, b"", {"Location": f"{elsewhere.url}/v1/health/service/web"})
        with ScriptedServer([moved]) as server, peer(client, "127.0.0.1", server.port) as asked:
            found = told_of(asked.ask("reads", times=1, pause=0), "an error")
        leaked = any("canary" in str(request.headers) for request in elsewhere.requests)
        return f"{found}; {'the token went to the other host' if leaked else 'the token stayed'}"


def of_a_lost_answer(client: str) -> str:
    with ScriptedServer([reset(), answer(body=b"")]) as server, peer(client, "127.0.0.1", server.port) as asked:
        return str(asked.ask("register")["error"] or "no error")


def of_a_fork(client: str) -> str:
    with ConsulAgent() as agent, peer(client, "127.0.0.1", agent.port) as asked:
        for name in "ab":
            agent.register(name, port=80, address="10.0.0.5")
        return f"{asked.ask('fork', times=150)['wrong']} of 300 answers were the other one's"


# --- clusters -------------------------------------------------------------------------------------------------


def register(member: Any, number: int) -> None:
    """As soon as that is possible."""
    while True:
        with contextlib.suppress(OSError, AssertionError):
            member.register("web", id=f"web-{number}", port=8000 + number, address="10.0.0.5")
            if any(entry["ServiceID"] == f"web-{number}" for entry in member.read("/v1/catalog/service/web")):
                return
        time.sleep(0.05)


def at_cluster(client: str, fault: Callable[[Cluster], Callable[[], None]], seconds: float) -> str:
    """A read every 0.2 s and a list that is followed, while something happens and after it."""
    with Cluster(client=True) as cluster:
        assert cluster.agent is not None
        asked_at, writes_at = cluster.agent, cluster.servers[0]
        register(writes_at, 1)
        with peer(client, asked_at.host, asked_at.port) as reads, peer(client, asked_at.host, asked_at.port) as follows:
            follows.ask("follow")
            while not follows.ask("told")["told"]:
                time.sleep(0.05)
            undo = fault(cluster)
            reads.tell("reads", times=round(seconds * 5), pause=0.2)
            time.sleep(seconds)
            undo()
            register(writes_at, 2)
            since = time.monotonic()
            seen = after(follows, since, lambda ids: "web-2" in ids)
            flagged = any(flag for _, _, flag in follows.ask("told")["told"] if flag is not None)
            emptied = any(found == [] for _, found, _ in follows.ask("told")["told"])
            try:  # between the change and the last read both lists are right
                said = told_of(reads._answer(120), ["10.0.0.5:8001"], ["10.0.0.5:8001", "10.0.0.5:8002"])
            except Hung as error:
                said = str(error)
        return f"{said}; followed {seen}{', flagged' if flagged else ', no flag'}{', emptied' if emptied else ''}"


def after(follows: Peer, since: float, is_it: Callable[[Any], bool], within: float = 100.0) -> str:
    """How long after a moment something was told."""
    while time.monotonic() - since < within:
        for when, found, _ in follows.ask("told")["told"]:
            if isinstance(found, list) and is_it(found):
                return f"{max(0.0, when - since):.1f} s after the change"
        time.sleep(0.05)
    return f"not within {within:g} s"


def agent_killed(cluster: Cluster) -> Callable[[], None]:
    assert cluster.agent is not None
    cluster.agent.kill()
    return cluster.agent.run


def leader_killed(cluster: Cluster) -> Callable[[], None]:
    leader = next(one for one in (cluster.leader(),))
    if leader is cluster.servers[0]:  # which is written to: let another one lead
        leader.kill()
        cluster.leader()
        leader.run()
        leader = cluster.leader()
    leader.kill()
    return lambda: None


def quorum_lost(cluster: Cluster) -> Callable[[], None]:
    lost = cluster.servers[1:]
    for server in lost:
        server.kill()

    def undo() -> None:
        for server in lost:
            server.launch()
        for server in lost:
            server.await_ready()

    return undo


def agent_frozen(cluster: Cluster) -> Callable[[], None]:
    assert cluster.agent is not None
    cluster.agent.pause()
    return cluster.agent.resume


def of_lost_data(client: str) -> str:
    with ConsulAgent() as agent, peer(client, "127.0.0.1", agent.port) as asked:
        asked.ask("keep")
        agent.restart()
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            if agent.read("/v1/agent/services"):
                return f"registered again after {time.monotonic() - begun:.1f} s"
            time.sleep(0.02)
        return "lost (30 s)"


def of_etcd(client: str, what: str) -> str:
    """Events while the only member restarts, or three members lose the one that is asked."""
    with EtcdCluster(NEWER) if what == "E01" else EtcdServer(NEWER) as servers:
        members = servers.members if isinstance(servers, EtcdCluster) else [servers]
        with peer(client, members[0].host, members[0].port) as asked:
            asked.ask("follow")
            while not asked.ask("told")["told"]:
                members[0].put("web/web-0", "0")
                time.sleep(0.1)
            if what == "E04":
                members[0].kill()
                members[0].run()
                for number in range(1, 6):
                    members[0].put(f"web/web-{number}", "1")
                members[0].compact()
            else:
                members[0].kill()
                time.sleep(3)
                members[0].run()
                for number in range(1, 6):
                    members[0].put(f"web/web-{number}", "1")
            since = time.monotonic()
            wanted = {f"web-{number}" for number in range(1, 6)}
            while time.monotonic() - since < 40:
                seen = [(when, found[0]) for when, found, _ in asked.ask("told")["told"] if isinstance(found, list)]
                if wanted <= {name for _, name in seen}:
                    last = max(when for when, name in seen if name in wanted)
                    return f"0 of 5 lost, {max(0.0, last - since):.1f} s after the return"
                time.sleep(0.05)
            return f"{len(wanted - {name for _, name in seen})} of 5 lost (40 s)"


def of_a_frozen_process(client: str) -> str:
    with EtcdServer(NEWER) as server, peer(client, server.host, server.port) as asked:
        asked.ask("keep")
        asked.process.send_signal(signal.SIGSTOP)
        time.sleep(9)
        asked.process.send_signal(signal.SIGCONT)
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            found = server.call("/v3/kv/range", {"key": "AA==", "range_end": "AA=="})
            if found.get("kvs"):
                return f"back after {time.monotonic() - begun:.1f} s"
            time.sleep(0.05)
        return "never back (30 s)"


def of_a_way_out(client: str, how: signal.Signals | None) -> str:
    with ConsulAgent() as agent, counted(agent) as counting:
        port = int(counting.address.rpartition(":")[2])
        with peer(client, "127.0.0.1", port) as asked:
            asked.ask("keep")
            begun = time.monotonic()
            asked.tell("exit") if how is None else asked.process.send_signal(how)
            asked.process.wait(60)
            took = time.monotonic() - begun
        left = "left behind" if agent.read("/v1/agent/services") else "deregistered"
        return f"{left}, exit code {asked.process.returncode} after {took:.1f} s"


@contextlib.contextmanager
def counted(agent: ConsulAgent) -> Iterator[Counting]:
    counting = Counting(agent)
    thread = threading.Thread(target=counting.server.serve_forever)
    thread.start()
    try:
        yield counting
    finally:
        counting.server.shutdown()
        thread.join()
        counting.server.server_close()


def of_a_frozen_agent_at_the_end(client: str) -> str:
    with ConsulAgent() as agent, peer(client, "127.0.0.1", agent.port) as asked:
        asked.ask("keep")
        agent.pause()
        begun = time.monotonic()
        asked.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            asked.process.wait(60)
        took = time.monotonic() - begun
        agent.resume()
        return f"exit after {took:.1f} s"


CONSUL, ETCD = ("ours", "py-consul"), ("ours-etcd", "etcd3")
MEETINGS: dict[str, tuple[tuple[str, str], Callable[[str], str]]] = {
    **{name: (CONSUL, lambda client, name=name: of_bad_answers(name, client)) for name in Answers},
    "F13": (CONSUL, of_an_index_that_stands),
    "F15": (CONSUL, of_a_redirect),
    "F17": (CONSUL, of_a_lost_answer),
    "F24": (CONSUL, of_a_fork),
    "C01": (CONSUL, lambda client: at_cluster(client, agent_killed, 3)),
    "C02": (CONSUL, of_lost_data),
    "C03": (CONSUL, lambda client: at_cluster(client, leader_killed, 6)),
    "C04": (CONSUL, lambda client: at_cluster(client, quorum_lost, 20)),
    "C05": (CONSUL, lambda client: at_cluster(client, agent_frozen, 40)),
    "E01": (ETCD, lambda client: of_etcd(client, "E01")),
    "E02": (ETCD, lambda client: of_etcd(client, "E02")),
    "E04": (ETCD, lambda client: of_etcd(client, "E04")),
    "E07": (ETCD, of_a_frozen_process),
    "L01": (CONSUL, lambda client: of_a_way_out(client, None)),
    "L02": (CONSUL, lambda client: of_a_way_out(client, signal.SIGTERM)),
    "L03": (CONSUL, lambda client: of_a_way_out(client, signal.SIGINT)),
    "L04": (CONSUL, lambda client: of_a_way_out(client, signal.SIGHUP)),
    "L13": (CONSUL, of_a_frozen_agent_at_the_end),
}


def met(names: list[str]) -> dict[str, dict[str, str]]:
    """What happened to each client in each scenario."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        clients, meeting = MEETINGS[name]
        for client in clients:
            print(f"{name} {client}", file=sys.stderr)
            try:
                said = meeting(client)
            except Hung as error:
                said = str(error)
            found.setdefault(name, {})[client.removesuffix("-etcd")] = said
            print(f"  {said}", file=sys.stderr)
    return found


# --- ours -----------------------------------------------------------------------------------------------------


def tested(selection: list[str]) -> dict[str, dict[str, Any]]:
    """Runs the tests of these scenarios: passed, failed and measured for each."""
    functions = sorted({test for name in selection for test in holders(name)})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        files = sorted({test.partition("::")[0] for test in functions})
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "scenario"]
        subprocess.run([*command, f"--junitxml={report}", *files], cwd=ROOT, check=False)
        cases = ET.parse(report).iter("testcase")
        return of_cases(cases, selection)


def of_cases(cases: Any, selection: list[str]) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = defaultdict(lambda: {"passed": 0, "failed": [], "skipped": 0, "measured": {}})
    modules = {test.partition("::")[0].removesuffix(".py").replace("/", "."): test.partition("::")[0]
               for name in SCENARIOS for test in holders(name)}  # fmt: skip
    for case in cases:
        module = next((one for one in modules if f"{case.get('classname')}.".startswith(f"{one}.")), None)
        if module is None:
            continue
        function = case.get("name").partition("[")[0]
        for name in scenarios_of(modules[module], function):
            if name not in selection or ("[L" in case.get("name") and f"[{name} " not in case.get("name")):
                continue  # one test function holds several ways out
            result = results[name]
            if case.find("failure") is not None or case.find("error") is not None:
                result["failed"].append(case.get("name"))
            elif case.find("skipped") is not None:
                result["skipped"] += 1
            else:
                result["passed"] += 1
            for measured in case.iter("property"):
                if measured.get("name") != "backend":
                    result["measured"].setdefault(measured.get("name"), []).append(measured.get("value"))
    return dict(results)


# --- the page -------------------------------------------------------------------------------------------------


def recovery(result: dict[str, Any]) -> str:
    """What was measured, the slowest of each."""
    parts = []
    for what, values in result["measured"].items():
        seconds = [float(value.removesuffix(" s")) for value in values if value.endswith(" s")]
        if seconds and "after" in what:
            parts.append(f"{what} {max(seconds):.1f} s")
        elif what == "seconds":
            parts.append(f"{max(map(float, values)):.1f} s")
    return "; ".join(parts[:3])


def tables(results: dict[str, Any], peers: dict[str, dict[str, str]]) -> str:
    lines: list[str] = []
    for series, title in SERIES.items():
        lines += [
            f"## {title}",
            "",
            "| scenario | what must hold | ours | recovery of ours | reference |",
            "|---|---|---|---|---|",
        ]
        for name, one in SCENARIOS.items():
            if name.startswith(series):
                result = results.get(name, {"passed": 0, "failed": [], "measured": {}})
                verdict = f"**{len(result['failed'])} failed**, {result['passed']} held" if result["failed"] else (
                    f"holds ({result['passed']})" if result["passed"] else "not run"
                )  # fmt: skip
                lines.append(f"| {name} {one.what} | {one.bar} | {verdict} | {recovery(result)} | {one.reference} |")
        lines.append("")
    lines += ["## Beside other clients", "", "| scenario | ours | py-consul or etcd3 |", "|---|---|---|"]
    for name, said in peers.items():
        other = next(value for client, value in said.items() if client != "ours")
        lines.append(f"| {name} {SCENARIOS[name].what} | {said['ours']} | {other} |")
    return "\n".join([*lines, ""])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("scenarios", nargs="*", help="by name; all of them by default")
    options.add_argument("--write", action="store_true", help="put the results into docs/reliability.md")
    options.add_argument("--only", choices=["ours", "peers"], help="run the tests, or the meetings with others")
    given = options.parse_args()
    names = [name for name in SCENARIOS if not given.scenarios or name in given.scenarios]
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"ours": {}, "peers": {}}
    peers = {} if given.only == "ours" else met([name for name in MEETINGS if name in names])
    ours = {} if given.only == "peers" else tested(names)
    found = {"ours": {**known["ours"], **ours}, "peers": {**known["peers"], **peers}}
    page = tables(found["ours"], dict(sorted(found["peers"].items(), key=lambda pair: list(SCENARIOS).index(pair[0]))))
    if given.write:
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(f"{PAGE.read_text().partition(MARK)[0]}{MARK}\n\n{page}")
    else:
        print(page)
    return int(any(result["failed"] for result in ours.values()))


if __name__ == "__main__":
    sys.exit(main())
