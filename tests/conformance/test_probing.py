"""HTTP and TCP checks that an agent really makes."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.waiting import eventually


class Patient:
    """An HTTP server whose health can be chosen."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        patient = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                patient.asked.append((self.command, self.path, dict(self.headers), body))
                self.send_response(302 if self.path == "/moved" else patient.status)
                if self.path == "/moved":
                    self.send_header("Location", "/health")
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"well")

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/health"


@pytest.fixture
def patient():
    one = Patient()
    thread = threading.Thread(target=one.server.serve_forever)
    thread.start()
    yield one
    one.server.shutdown()
    thread.join()
    one.server.server_close()


def becomes(consul, status, check_id="service:web"):
    return eventually(
        lambda: (found := consul.read("/v1/agent/checks")[check_id])["Status"] == status and found, within=15
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [(200, "passing"), (204, "passing"), (299, "passing"), (429, "warning"), (404, "critical"), (503, "critical")],
)
def test_the_status_code_decides(consul, patient, code, status):
    patient.status = code
    other = "passing" if status == "critical" else "critical"
    consul.register("web", check={"HTTP": patient.url, "Interval": "1s", "Status": other})
    becomes(consul, status)


def test_it_is_asked_as_it_was_told_to_be(consul, patient):
    check = {
        "HTTP": patient.url,
        "Interval": "1s",
        "Method": "POST",
        "Body": "are you well",
        "Header": {"X-Who": ["me"]},
    }
    consul.register("web", check=check)
    found = becomes(consul, "passing")
    assert found["Output"] == f"HTTP POST {patient.url}: 200 OK Output: well"
    method, path, headers, body = patient.asked[0]
    assert (method, path, headers["X-Who"], body) == ("POST", "/health", "me", b"are you well")


def test_it_says_who_it_is_and_follows_redirects(consul, patient):
    consul.register("web", check={"HTTP": patient.url.replace("health", "moved"), "Interval": "1s"})
    becomes(consul, "passing")
    assert [path for _, path, _, _ in patient.asked[:2]] == ["/moved", "/health"]
    assert patient.asked[0][2]["User-Agent"] == "Consul Health Check"


def test_nobody_there_is_critical(consul, free_port):
    url = f"http://127.0.0.1:{free_port}/"
    consul.register("web", check={"HTTP": url, "Interval": "1s", "Status": "passing"})
    found = becomes(consul, "critical")
    assert found["Output"] == f'Get "{url}": dial tcp 127.0.0.1:{free_port}: connect: connection refused'


def test_tcp_asks_whether_somebody_takes_the_connection(consul, patient, free_port):
    consul.register("web", check={"TCP": f"127.0.0.1:{patient.port}", "Interval": "1s"})
    assert becomes(consul, "passing")["Output"] == f"TCP connect 127.0.0.1:{patient.port}: Success"
    consul.register("web", check={"TCP": f"127.0.0.1:{free_port}", "Interval": "1s"})
    assert becomes(consul, "critical")["Output"] == f"dial tcp 127.0.0.1:{free_port}: connect: connection refused"


def test_an_interval_of_a_millisecond_is_one_of_a_second(consul, patient):
    consul.register("web", check={"HTTP": patient.url, "Interval": "1ms"})
    becomes(consul, "passing")
    asked = len(patient.asked)
    eventually(lambda: len(patient.asked) > asked)
    assert len(patient.asked) <= asked + 2


def test_the_first_failure_after_registering_counts_whatever_the_threshold(consul, patient):
    patient.status = 500
    check = {"HTTP": patient.url, "Interval": "1s", "FailuresBeforeCritical": 3, "Status": "passing"}
    consul.register("web", check=check)
    becomes(consul, "critical")
    assert len(patient.asked) <= 2


def test_later_it_takes_so_many_in_a_row(consul, patient):
    check = {"HTTP": patient.url, "Interval": "1s", "FailuresBeforeCritical": 2, "SuccessBeforePassing": 2}
    consul.register("web", check=check)
    becomes(consul, "passing")
    patient.asked.clear()
    patient.status = 500
    becomes(consul, "critical")
    assert len(patient.asked) >= 2
    patient.asked.clear()
    patient.status = 200
    becomes(consul, "passing")
    assert len(patient.asked) >= 2


def test_a_check_that_is_replaced_by_one_of_another_kind_goes_on(consul, patient):
    """So does a TTL: its reports are taken, and it ends. Seen on 1.8.7; why two checks should not share an id."""
    consul.register("web", check={"CheckID": "x", "HTTP": patient.url, "Interval": "1s"})
    consul.register("web", check={"CheckID": "x", "TTL": "1h"})
    assert becomes(consul, "passing", "x")["Type"] == "ttl"
    consul.register("other", check={"CheckID": "y", "TTL": "1h"})
    consul.register("other", check={"CheckID": "y", "TCP": "127.0.0.1:1", "Interval": "1h"})
    assert consul.request("PUT", "/v1/agent/check/warn/y") == (200, "")
    assert becomes(consul, "warning", "y")["Type"] == "tcp"
