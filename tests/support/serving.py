"""A server as a process, under load: callers that ask the registry and call whomever it names."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
DRAIN = 1.0


def get(port, path="/"):
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def says_42(port):
    """Calls the service once."""
    answer = get(port)
    assert answer == (200, b"42"), answer


def passing(agent):
    """The ids that a caller is sent to."""
    return [entry["Service"]["ID"] for entry in agent.read("/v1/health/service/orders?passing")]


def in_catalog_alone(agent):
    """The nodes that it is shown at; the agent itself has nothing of it."""
    assert agent.read("/v1/agent/services") == {}
    return [entry["Node"] for entry in agent.read("/v1/catalog/service/orders")]


class Load:
    """Callers that do nothing but ask the agent and call whom it names; what fails is kept.

    The drain is as long as callers may hold on to what they were told. On a machine that stops a caller for longer
    than half of it, between asking and calling, a failure says nothing.
    """

    def __init__(self, agent, call, callers=2):
        self.failed = []
        self.calls = 0
        self._agent = agent
        self._call = call
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._calls) for _ in range(callers)]

    def _calls(self):
        while not self._done.wait(0.005):  # often, and leaving the machine to the server
            asked = time.monotonic()
            for entry in self._agent.read("/v1/health/service/orders?passing"):
                begun = time.monotonic()
                try:
                    self._call(entry["Service"]["Port"])
                    self.calls += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, a caller was sent to somebody who is not there
                    if begun - asked < DRAIN / 2:
                        self.failed.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for thread in self._threads:
            thread.join()


class Server:
    """A server's process.

    Args:
        folder: where its files are put, and where it runs.
        command: Python's arguments.
        files: texts by file name.
        address: the agent, or a way to it.
        port: where it will listen; also in PORT.
    """

    def __init__(self, folder, command, files, address, port, **environ):
        self.folder = folder
        self.port = port
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        self._environ = os.environ | {
            "CONSUL_HTTP_ADDR": address,
            "PORT": str(port),
            "DRAIN": str(DRAIN),
            "PYTHONPATH": f"{ROOT}:{folder}",
            "TMPDIR": str(folder),
            "HOME": str(folder),
            **environ,
        }
        self._command = [sys.executable, *command]
        self.process = None

    def __enter__(self):
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_):
        # Its own group, so that workers whose master was killed do not outlive the test.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def children(self):
        """The process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in path.read_text().split()]

    def passes(self, agent):
        """Waits until callers are sent there."""

        def told():
            assert self.process.poll() is None, self.log
            return passing(agent)

        try:
            return eventually(told, within=120)
        except AssertionError:
            raise AssertionError(f"it does not pass: {agent.read('/v1/agent/checks')}\n{self.log}") from None


def leaves_in_order(server, agent, counting, *, call=says_42, number=signal.SIGTERM, begun="", times=0, forgiven=None):
    """Ends a server that is under load. Not one caller is sent to somebody who does not answer.

    Args:
        forgiven: what the server itself may complain of while it ends.

    Returns:
        Its exit code.
    """
    with Load(agent, call) as load, server:
        server.passes(agent)
        eventually(lambda: load.calls > 20, within=60, what="callers are served")
        eventually(lambda: server.log.count(begun) >= times, within=120, what="all workers have begun")
        told = time.monotonic()
        server.process.send_signal(number)
        eventually(lambda: passing(agent) == [], within=60, what="it leaves the look-ups")
        closed = _closed_at(server.port, call)
        code = server.process.wait(60)
        assert agent.read("/v1/agent/services") == {}
    assert load.failed == [], (load.failed[0], server.log)
    hidden = counting.first("/v1/agent/service/maintenance/", server.log)
    assert closed - hidden >= DRAIN
    assert closed > counting.first("/v1/agent/service/deregister/")
    assert counting.deregistrations == 1
    if forgiven is None or forgiven not in server.log:
        assert "Traceback" not in server.log, server.log
        assert "Error" not in server.log, server.log
    counting.told("out of the look-ups after", f"{hidden - told:.2f} s")
    counting.told("the port closed after that", f"{closed - hidden:.2f} s")
    counting.told("calls served", load.calls)
    return code


def leaves_in_order_while_it_starts(server, agent, counting):
    """Ends a server that is registered already, so callers may come, and still looks whether all see it."""
    counting.holds = "/v1/catalog/service/"
    counting.held.clear()
    with server:
        assert counting.holding.wait(60), server.log
        assert agent.read("/v1/agent/services") != {}
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: counting.asked("/v1/agent/service/maintenance/"), within=60, what="it leaves the look-ups")
        counting.held.set()
        code = server.process.wait(60)
        assert agent.read("/v1/agent/services") == {}
    hidden, gone = (counting.first(f"/v1/agent/service/{what}/", server.log) for what in ("maintenance", "deregister"))
    assert gone - hidden >= DRAIN
    assert "Traceback" not in server.log, server.log
    return code


def _closed_at(port, call):
    """When the first call fails; until then every one is answered."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            call(port)
        except AssertionError:  # it answers, and wrongly
            raise
        except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
            continue  # a worker has ended, the port is still open
        except Exception:  # noqa: BLE001 - each kind of call has errors of its own
            return time.monotonic()
    raise AssertionError("the port was not closed")


def told(port, path="/health"):
    """Status and report that the health path answers."""
    status, body = get(port, path)
    return status, json.loads(body)
