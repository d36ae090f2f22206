"""Makes the pictures of docs/observability.md again, from a real run: `make screenshots`.

A real Consul agent, three instances of examples/testservice, a caller that is measured, a real Prometheus that scrapes
it, and what happens to all of them in two minutes: an instance is killed, the agent loses its memory, a registration is
lost.

- docs/images/watch.svg: the last page that `consul-access watch` has shown at a terminal, while one is dead.
- docs/images/dashboard.svg: what every expression of deploy/grafana/consul-access.json amounts to, by Prometheus' own
  reckoning. An expression that gives nothing is an error.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import httpx
from prometheus_client import CollectorRegistry, start_http_server
from rich.console import Console
from rich.text import Text

from consul_access import Call, ConsulAccess, DiscoveryTransport, TtlCheck
from consul_access.integrations.prometheus import Metrics
from tools import servers
from tools.drawing import Drawn, Series, drawing
from tools.ports import free_ports

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "consul-access.json"
IMAGES = ROOT / "docs" / "images"
LENGTH: Final = 120.0
STEP: Final = 1
VARIABLES: Final = {"$__rate_interval": "10s", "$job": ".*", "$service": ".*"}


class Processes:
    """Programs that are started and ended by their ids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *command: str, **environ: str) -> subprocess.Popen[bytes]:
        """Starts one; what it says is in the folder."""
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | environ, cwd=self._folder
            )
        self._running.append(process)
        return process

    def end(self) -> None:
        """Kills what still runs."""
        for process in self._running:
            process.kill()
            process.wait()


class Stage:
    """An agent, instances, a caller and Prometheus.

    Args:
        processes: starts them.
        folder: for their files.
    """

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes = processes
        self._folder = folder
        self._ports = free_ports(4)
        self.agent_address = f"127.0.0.1:{self._ports[0]}"
        self.metrics_port, self.prometheus_port = free_ports(2)
        self.instance_ports = free_ports(3)
        self.instances: dict[int, subprocess.Popen[bytes]] = {}
        self.agent: subprocess.Popen[bytes] | None = None

    def run_agent(self) -> None:
        """Starts the agent, which knows nothing."""
        http, rpc, lan, wan = self._ports
        config = {
            "node_name": "node-1",
            "bind_addr": "127.0.0.1",
            "ports": {"http": http, "dns": -1, "grpc": -1, "server": rpc, "serf_lan": lan, "serf_wan": wan},
            "disable_update_check": True,
            "performance": {"raft_multiplier": 1},
        }
        (self._folder / "consul.json").write_text(json.dumps(config))
        command = (str(servers.consul()), "agent", "-dev", f"-config-file={self._folder / 'consul.json'}")
        self.agent = self._processes.start("consul", *command)
        _until(lambda: b"127.0.0.1" in _read(f"http://{self.agent_address}/v1/status/leader"))

    def run_instance(self, port: int) -> None:
        """Starts an instance of the test service."""
        command = (
            sys.executable,
            str(ROOT / "examples/testservice/testservice.py"),
            f"--consulip={self.agent_address}",
            "--host=127.0.0.1",
            f"--port={port}",
        )
        self.instances[port] = self._processes.start(f"instance-{port}", *command, PYTHONPATH=str(ROOT))

    def run_prometheus(self) -> None:
        """Starts Prometheus, which scrapes the caller every second."""
        (self._folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: shop\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{self.metrics_port}']}}]\n"
        )
        self._processes.start(
            "prometheus",
            str(servers.prometheus()),
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.prometheus_port}",
        )
        _until(lambda: b"Ready" in _read(f"http://127.0.0.1:{self.prometheus_port}/-/ready"))

    def end_agent(self) -> None:
        """Kills the agent."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()


class Caller:
    """Calls the test service again and again; it is registered itself, and measured.

    Args:
        address: the agent.
        metrics_port: where Prometheus finds what was measured.
    """

    def __init__(self, address: str, metrics_port: int) -> None:
        registry = CollectorRegistry()
        self._server, self._serving = start_http_server(metrics_port, "127.0.0.1", registry)
        self.access = ConsulAccess(addresses=[address], timeout=2.0)
        Metrics(registry).observe(self.access)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._calls)

    def _calls(self) -> None:
        keeper = self.access.registered("shop", "127.0.0.1", 8080, check=TtlCheck(3), drain=0)
        with keeper, httpx.Client(transport=DiscoveryTransport(self.access), timeout=2.0) as client:
            while not self._stopped.wait(0.02):
                with contextlib.suppress(httpx.TransportError):  # nobody is there yet
                    client.get("http://testservice/")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.access.close()
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()


class Terminal:
    """`consul-access watch` at a terminal of its own.

    Args:
        address: the agent.
        arguments: what is watched.
    """

    def __init__(self, address: str, arguments: Sequence[str]) -> None:
        self.command = f"consul-access watch {' '.join(arguments)}"
        self._shown = io.BytesIO()
        leader, follower = pty.openpty()
        environ = os.environ | {"CONSUL_HTTP_ADDR": address, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        program = [str(Path(sys.executable).with_name("consul-access")), "watch", *arguments]
        self.process = subprocess.Popen(program, env=environ, stdin=follower, stdout=follower, stderr=follower)
        os.close(follower)
        self._thread = threading.Thread(target=self._reads, args=(leader,))
        self._thread.start()

    def _reads(self, leader: int) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(leader, 65536):
                self._shown.write(data)
        os.close(leader)

    def page(self) -> str:
        """Ends it; gives what was last on the screen."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        self._thread.join()
        shown = self._shown.getvalue().decode()
        frames = re.split(r"(?:\x1b\[\d*[AKJ]|\x1b\[\?25[lh]|\r)+", shown.replace("\r\n", "\n"))
        return max(frames[-6:], key=len).strip("\n")


def happen(stage: Stage, access: ConsulAccess, terminal: Terminal) -> None:
    """What happens in two minutes; the terminal is closed while an instance is dead."""
    begun = time.monotonic()

    def at(seconds: float) -> None:
        time.sleep(max(0.0, begun + seconds - time.monotonic()))

    victim = stage.instance_ports[0]
    at(25)
    stage.instances[victim].kill()
    stage.instances[victim].wait()
    at(40)
    (IMAGES / "watch.svg").write_text(picture(terminal.page(), terminal.command))
    at(45)
    stage.run_instance(victim)
    at(60)
    stage.end_agent()
    at(72)
    stage.run_agent()
    at(95)
    (shop,) = access.keepers
    access.send(Call("agent.service.deregister", "PUT", f"/v1/agent/service/deregister/{shop.id}", lambda _: None))
    at(LENGTH)


def asked(port: int, expression: str, end: float) -> list[dict[str, Any]]:
    """What Prometheus makes of an expression over the whole run."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    query = {"query": expression, "start": end - LENGTH, "end": end, "step": STEP}
    answer = json.loads(_read(f"http://127.0.0.1:{port}/api/v1/query_range?{urllib.parse.urlencode(query)}"))
    if answer["status"] != "success":
        raise SystemExit(f"{expression}\nis refused: {answer}")
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def panels(port: int, end: float) -> Iterator[Drawn]:
    """The dashboard's panels with their data."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        found = []
        for target in panel.get("targets", ()):
            results = asked(port, target["expr"], end)
            if not results:
                raise SystemExit(f"{panel['title']!r}: {target['expr']}\ngives nothing")
            found += [_series(target["legendFormat"], result, end) for result in results]
        yield Drawn(panel, found)


def _series(legend: str, result: dict[str, Any], end: float) -> Series:
    name = re.sub(r"{{(\w+)}}", lambda label: result["metric"].get(label[1], ""), legend)
    points = [(when - end + LENGTH, float(value)) for when, value in result["values"] if value != "NaN"]
    return Series(name, points)


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - ours
        body: bytes = answer.read()
    return body


def _until(condition: Any, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise SystemExit("it did not come true in time")
        time.sleep(0.05)


def picture(page: str, title: str) -> str:
    """A terminal's page as an SVG, without fonts from elsewhere."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(page))
    svg = console.export_svg(title=title, unique_id="watch")
    return re.sub(r"@font-face {.*?}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    """Makes both pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="consul-access-screenshots-") as name, contextlib.ExitStack() as stack:
        processes = Processes(Path(name))
        stack.callback(processes.end)
        stage = Stage(processes, Path(name))
        stage.run_agent()
        stage.run_prometheus()
        for port in stage.instance_ports:
            stage.run_instance(port)
        caller = stack.enter_context(Caller(stage.agent_address, stage.metrics_port))
        caller.access.wait_for("testservice", at_least=3, timeout=60)
        happen(stage, caller.access, Terminal(stage.agent_address, ["shop", "testservice", "--policy", "any"]))
        found = list(panels(stage.prometheus_port, time.time()))
        title = f"The panels of {DASHBOARD.name}, from a run of {LENGTH:.0f} seconds"
        (IMAGES / "dashboard.svg").write_text(drawing(found, LENGTH, title))
    print(f"{IMAGES / 'watch.svg'}\n{IMAGES / 'dashboard.svg'}")


if __name__ == "__main__":
    main()
