"""Every kind of check as agents read it, and what is refused when it is written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from consul_access import (
    Address,
    AliasCheck,
    CheckStatus,
    DockerCheck,
    GrpcCheck,
    H2PingCheck,
    HttpCheck,
    InvalidInput,
    OsServiceCheck,
    ScriptCheck,
    TcpCheck,
    TtlCheck,
    UdpCheck,
)

OWN = Address("10.0.0.5", 8080)
SIX = Address("2001:db8::1", 8080)


@pytest.mark.parametrize(
    ("check", "payload"),
    [
        (HttpCheck(), {"HTTP": "http://10.0.0.5:8080/health", "Interval": "10s"}),
        (HttpCheck(path="/x", scheme="https"), {"HTTP": "https://10.0.0.5:8080/x", "Interval": "10s"}),
        (
            HttpCheck("http://[::1]:9/x", method="post", headers={"A": "1", "B": ["2", "3"]}, body="b", timeout=2),
            {
                "HTTP": "http://[::1]:9/x",
                "Method": "POST",
                "Header": {"A": ["1"], "B": ["2", "3"]},
                "Body": "b",
                "Interval": "10s",
                "Timeout": "2s",
            },
        ),
        (
            HttpCheck(tls_skip_verify=True, tls_server_name="n", disable_redirects=True, output_max_size=9),
            {
                "HTTP": "http://10.0.0.5:8080/health",
                "TLSSkipVerify": True,
                "TLSServerName": "n",
                "DisableRedirects": True,
                "OutputMaxSize": 9,
                "Interval": "10s",
            },
        ),
        (TcpCheck(), {"TCP": "10.0.0.5:8080", "Interval": "10s"}),
        (TcpCheck("[::1]:80", use_tls=True), {"TCP": "[::1]:80", "TCPUseTLS": True, "Interval": "10s"}),
        (TcpCheck(("::1", 80)), {"TCP": "[::1]:80", "Interval": "10s"}),
        (UdpCheck("web.example:53"), {"UDP": "web.example:53", "Interval": "10s"}),
        (
            GrpcCheck(service="a.B", use_tls=False),
            {"GRPC": "10.0.0.5:8080/a.B", "GRPCUseTLS": False, "Interval": "10s"},
        ),
        (H2PingCheck(use_tls=True), {"H2PING": "10.0.0.5:8080", "H2PingUseTLS": True, "Interval": "10s"}),
        (
            ScriptCheck(["/bin/x", "-q"], output_max_size=1),
            {"Args": ["/bin/x", "-q"], "OutputMaxSize": 1, "Interval": "10s"},
        ),
        (
            DockerCheck("c0ffee", ["x"], shell="/bin/bash"),
            {"DockerContainerID": "c0ffee", "Args": ["x"], "Shell": "/bin/bash", "Interval": "10s"},
        ),
        (OsServiceCheck(service="nginx"), {"OSService": "nginx", "Interval": "10s"}),
        (TtlCheck(), {"TTL": "15s"}),
        (TtlCheck(timedelta(minutes=1, seconds=30)), {"TTL": "1m30s"}),
        (AliasCheck(service="other-1"), {"AliasService": "other-1"}),
        (AliasCheck(node="n1"), {"AliasNode": "n1"}),
    ],
)
def test_a_check_is_written_with_what_was_given_and_nothing_else(check, payload):
    assert check.payload(OWN) == payload


def test_ipv6_addresses_get_their_brackets():
    assert HttpCheck().payload(SIX)["HTTP"] == "http://[2001:db8::1]:8080/health"
    assert TcpCheck().payload(SIX)["TCP"] == "[2001:db8::1]:8080"


def test_what_all_checks_have_in_common():
    check = TtlCheck(
        "10s",
        id="c1",
        name="mine",
        notes="for people",
        status=CheckStatus.WARNING,
        success_before_passing=1,
        failures_before_warning=2,
        failures_before_critical=3,
        deregister_critical_service_after="10m",
    )
    assert check.payload(None) == {
        "TTL": "10s",
        "CheckID": "c1",
        "Name": "mine",
        "Notes": "for people",
        "Status": "warning",
        "SuccessBeforePassing": 1,
        "FailuresBeforeWarning": 2,
        "FailuresBeforeCritical": 3,
        "DeregisterCriticalServiceAfter": "10m",
    }


@pytest.mark.parametrize(
    ("given", "written"), [(5, "5s"), (1.5, "1.5s"), (90, "1m30s"), ("1h", "1h"), (timedelta(hours=1), "1h")]
)
def test_a_length_of_time_is_always_sent_with_its_unit(given, written):
    assert HttpCheck(interval=given).payload(OWN)["Interval"] == written


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: HttpCheck(interval="10"), "number and a unit"),
        (lambda: HttpCheck(interval=0.01), "1s or more"),
        (lambda: HttpCheck(interval=True), "seconds"),
        (lambda: HttpCheck(timeout=0), "timeout"),
        (lambda: HttpCheck("ftp://x/"), "http://HOST"),
        (lambda: HttpCheck("not a url"), "http://HOST"),
        (lambda: HttpCheck("http://::1:80/h"), "url|address"),
        (lambda: HttpCheck("http://x:99999/"), "no URL"),
        (lambda: HttpCheck("http://x:0/"), "port 0"),
        (lambda: HttpCheck("http://0.0.0.0/"), "others can call"),
        (lambda: HttpCheck(path="health"), "begin with"),
        (lambda: HttpCheck(scheme="ftp"), "'https'"),
        (lambda: HttpCheck(method="G ET"), "one word"),
        (lambda: HttpCheck(headers={"A": "1\r\nX: 2"}), "control character"),
        (lambda: HttpCheck(headers={"A B": "1"}), "one word"),
        (lambda: HttpCheck(status="maintenance"), "'critical'"),
        (lambda: HttpCheck(status="bogus"), "'critical'"),
        (lambda: HttpCheck(id="a/../b"), "deregistered"),
        (lambda: HttpCheck(success_before_passing=-1), "success_before_passing"),
        (lambda: HttpCheck(output_max_size=0), "output_max_size"),
        (lambda: HttpCheck(deregister_critical_service_after="10s"), "minute"),
        (lambda: TcpCheck("::1:80"), r"\[address\]:port"),
        (lambda: TcpCheck("host"), "host:port"),
        (lambda: TcpCheck("host:99999"), "65535"),
        (lambda: TcpCheck("host:８０"), "host:port"),
        (lambda: TtlCheck(0.5), "1s or more"),
        (lambda: TtlCheck("-5s"), "duration"),
        (lambda: AliasCheck(), "service="),
        (lambda: ScriptCheck(), "program"),
        (lambda: ScriptCheck("/bin/true"), "program"),
        (lambda: DockerCheck("", ["x"]), "container"),
        (lambda: OsServiceCheck(), "service="),
        (lambda: GrpcCheck(service="a b"), "one word"),
    ],
)  # fmt: skip
def test_what_an_agent_would_take_wrongly_is_refused_when_it_is_written(make, text):
    with pytest.raises(InvalidInput, match=text):
        make()


def test_a_check_without_a_target_needs_an_address_to_aim_at():
    with pytest.raises(InvalidInput, match="port="):
        TcpCheck().payload(None)


def test_checks_cannot_be_changed():
    with pytest.raises(AttributeError):
        TtlCheck("10s").ttl = "20s"
