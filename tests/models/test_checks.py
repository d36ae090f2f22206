"""How an agent is told to find out whether a service works."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.address import Address
from consul_access.models.checks import (
    KINDS,
    AliasCheck,
    DockerCheck,
    GrpcCheck,
    H2PingCheck,
    HttpCheck,
    OsServiceCheck,
    ScriptCheck,
    TcpCheck,
    TtlCheck,
    UdpCheck,
)
from consul_access.models.durations import seconds
from consul_access.models.status import CheckStatus

OWN = Address("10.0.0.5", 8080)
OWN_IPV6 = Address("2001:db8::1", 8080)
PACE = {"Interval": "10s"}

LEAST: dict[str, tuple[Any, dict[str, Any]]] = {
    "http": (HttpCheck(), {"HTTP": "http://10.0.0.5:8080/health", **PACE}),
    "tcp": (TcpCheck(), {"TCP": "10.0.0.5:8080", **PACE}),
    "udp": (UdpCheck(), {"UDP": "10.0.0.5:8080", **PACE}),
    "grpc": (GrpcCheck(), {"GRPC": "10.0.0.5:8080", **PACE}),
    "h2ping": (H2PingCheck(), {"H2PING": "10.0.0.5:8080", **PACE}),
    "script": (ScriptCheck(["/bin/true"]), {"Args": ["/bin/true"], **PACE}),
    "docker": (DockerCheck("abc", ["/bin/true"]), {"DockerContainerID": "abc", "Args": ["/bin/true"], **PACE}),
    "os service": (OsServiceCheck("nginx"), {"OSService": "nginx", **PACE}),
    "ttl": (TtlCheck(), {"TTL": "15s"}),
    "alias": (AliasCheck("other"), {"AliasService": "other"}),
}


def test_every_kind_is_among_these_examples() -> None:
    assert {type(check) for check, _ in LEAST.values()} == set(KINDS)


@pytest.mark.parametrize(("check", "written"), LEAST.values(), ids=LEAST)
def test_only_what_was_given_is_written(check: Any, written: dict[str, Any]) -> None:
    assert check.payload(OWN) == written


@pytest.mark.parametrize(
    ("check", "key", "target"),
    [
        (HttpCheck(path="/ready", scheme="https"), "HTTP", "https://[2001:db8::1]:8080/ready"),
        (TcpCheck(), "TCP", "[2001:db8::1]:8080"),
        (UdpCheck(), "UDP", "[2001:db8::1]:8080"),
        (GrpcCheck(service="pkg.Svc"), "GRPC", "[2001:db8::1]:8080/pkg.Svc"),
        (H2PingCheck(), "H2PING", "[2001:db8::1]:8080"),
    ],
)
def test_a_check_without_a_target_aims_at_the_service_with_brackets_around_ipv6(
    check: Any, key: str, target: str
) -> None:
    assert check.payload(OWN_IPV6)[key] == target


@pytest.mark.parametrize("kind", [HttpCheck, TcpCheck, UdpCheck, GrpcCheck, H2PingCheck])
def test_a_check_without_a_target_needs_a_service_with_a_port(kind: Any) -> None:
    with pytest.raises(InvalidInput, match="give port="):
        kind().payload(None)


@pytest.mark.parametrize("kind", [TcpCheck, UdpCheck, GrpcCheck, H2PingCheck])
@pytest.mark.parametrize(
    ("target", "written"),
    [
        ("host:80", "host:80"),
        ("[::1]:80", "[::1]:80"),
        (Address("::1", 80), "[::1]:80"),
        (Address("[::1]", 80), "[::1]:80"),
        ("10.0.0.9:65535", "10.0.0.9:65535"),
    ],
)
def test_a_target_of_its_own_comes_before_the_services(kind: Any, target: Any, written: str) -> None:
    assert written in kind(target).payload(OWN).values()


def test_an_http_check_writes_everything_in_the_agents_own_words() -> None:
    check = HttpCheck(
        "https://[::1]:8443/x",
        method="post",
        headers={"X-A": "1", "X-B": ["2", "3"]},
        body="two\nlines",
        tls_skip_verify=True,
        tls_server_name="web.example",
        disable_redirects=False,
        output_max_size=100,
        interval="1m30s",
        timeout=2.5,
        id="web-http",
        name="http",
        notes="for\npeople",
        status="warning",
        success_before_passing=2,
        failures_before_warning=1,
        failures_before_critical=3,
        deregister_critical_service_after=timedelta(minutes=10),
    )

    assert check.payload(None) == {
        "HTTP": "https://[::1]:8443/x",
        "Method": "POST",
        "Header": {"X-A": ["1"], "X-B": ["2", "3"]},
        "Body": "two\nlines",
        "TLSSkipVerify": True,
        "TLSServerName": "web.example",
        "DisableRedirects": False,
        "OutputMaxSize": 100,
        "Interval": "1m30s",
        "Timeout": "2.5s",
        "CheckID": "web-http",
        "Name": "http",
        "Notes": "for\npeople",
        "Status": "warning",
        "SuccessBeforePassing": 2,
        "FailuresBeforeWarning": 1,
        "FailuresBeforeCritical": 3,
        "DeregisterCriticalServiceAfter": "10m",
    }


@pytest.mark.parametrize(
    ("check", "written"),
    [
        (TcpCheck(use_tls=True), {"TCPUseTLS": True}),
        (GrpcCheck(use_tls=True), {"GRPCUseTLS": True}),
        (H2PingCheck(use_tls=False), {"H2PingUseTLS": False}),
        (GrpcCheck(tls_skip_verify=True, tls_server_name="x"), {"TLSSkipVerify": True, "TLSServerName": "x"}),
        (H2PingCheck(tls_skip_verify=True, tls_server_name="x"), {"TLSSkipVerify": True, "TLSServerName": "x"}),
        (TcpCheck(tls_skip_verify=True, tls_server_name="x"), {"TLSSkipVerify": True, "TLSServerName": "x"}),
        (ScriptCheck(["a"], output_max_size=9), {"OutputMaxSize": 9}),
        (DockerCheck("c", ["a"], shell="/bin/bash"), {"Shell": "/bin/bash"}),
        (AliasCheck(node="n1"), {"AliasNode": "n1"}),
        (AliasCheck("a", "n1"), {"AliasService": "a", "AliasNode": "n1"}),
        (TtlCheck(status=CheckStatus.PASSING), {"Status": "passing"}),
    ],
)
def test_options_are_written_under_the_names_that_agents_read(check: Any, written: dict[str, Any]) -> None:
    assert written.items() <= check.payload(OWN).items()


def test_a_status_is_a_plain_text_when_written() -> None:
    assert type(TtlCheck(status=CheckStatus.WARNING).payload(None)["Status"]) is str


DURATIONS = [("90s", "90s"), (90, "1m30s"), (1.5, "1.5s"), (timedelta(minutes=2), "2m")]


@pytest.mark.parametrize(("given_as", "sent"), DURATIONS)
def test_durations_are_always_sent_with_a_unit(given_as: Any, sent: str) -> None:
    written = HttpCheck(interval=given_as, timeout=given_as).payload(OWN) | TtlCheck(given_as).payload(None)

    assert (written["Interval"], written["Timeout"], written["TTL"]) == (sent, sent, sent)


REFUSED: dict[str, Any] = {
    "an interval without a unit": lambda: HttpCheck(interval="10"),
    "an interval in days": lambda: HttpCheck(interval="1d"),
    "an interval with a space": lambda: HttpCheck(interval="10 s"),
    "an empty interval": lambda: HttpCheck(interval=""),
    "an interval below a second": lambda: HttpCheck(interval="10ms"),
    "a negative interval": lambda: HttpCheck(interval=-1),
    "an interval that is true": lambda: HttpCheck(interval=True),
    "no interval": lambda: HttpCheck(interval=None),
    "a timeout of nothing": lambda: HttpCheck(timeout=0),
    "a ttl of nothing": lambda: TtlCheck("0s"),
    "no ttl": lambda: TtlCheck(None),
    "a ttl without a unit": lambda: TtlCheck("10"),
    "a removal after less than a minute": lambda: TtlCheck(deregister_critical_service_after="59s"),
    "maintenance to begin with": lambda: TtlCheck(status="maintenance"),
    "an unknown status": lambda: TtlCheck(status="bogus"),
    "a status that is a list": lambda: TtlCheck(status=["passing"]),
    "a negative threshold": lambda: TtlCheck(failures_before_critical=-1),
    "a threshold as text": lambda: TtlCheck(success_before_passing="2"),
    "a threshold that is true": lambda: TtlCheck(failures_before_warning=True),
    "an output of no size": lambda: HttpCheck(output_max_size=0),
    "notes that are no text": lambda: TtlCheck(notes=5),
    "a name with a line end": lambda: TtlCheck(name="a\nb"),
    "an empty id": lambda: TtlCheck(id=""),
    "an id with dots": lambda: TtlCheck(id="a/../b"),
    "an id with a percent sign": lambda: TtlCheck(id="a%2Fb"),
    "an id with a line end": lambda: TtlCheck(id="a\n"),
    "the id of the node's own check": lambda: TtlCheck(id="serfHealth"),
    "the id of a service's maintenance": lambda: TtlCheck(id="_service_maintenance:web"),
    "the id of a node's maintenance": lambda: TtlCheck(id="_node_maintenance"),
    "a URL without brackets": lambda: HttpCheck("http://::1:80/h"),
    "a URL that is none": lambda: HttpCheck("not a url"),
    "a file": lambda: HttpCheck("file:///etc/passwd"),
    "a URL without a host": lambda: HttpCheck("http:///health"),
    "a URL with port 99999": lambda: HttpCheck("http://h:99999/"),
    "a URL with port 0": lambda: HttpCheck("http://h:0/"),
    "a URL with a word as port": lambda: HttpCheck("http://h:http/"),
    "a URL with an unclosed bracket": lambda: HttpCheck("http://[::1/"),
    "a URL with a space": lambda: HttpCheck("http://h/a b"),
    "a URL with a line end": lambda: HttpCheck("http://h/\r\nX: y"),
    "a URL of every address": lambda: HttpCheck("http://0.0.0.0/"),
    "a URL that is no text": lambda: HttpCheck(5),
    "a path without a slash": lambda: HttpCheck(path="health"),
    "a path that is no text": lambda: HttpCheck(path=None),
    "an unknown scheme": lambda: HttpCheck(scheme="ftp"),
    "two words as method": lambda: HttpCheck(method="GET /"),
    "a method that HTTP has not": lambda: HttpCheck(method="G(T"),
    "a header's value with CR LF": lambda: HttpCheck(headers={"X": "a\r\nY: b"}),
    "a header's value that is a number": lambda: HttpCheck(headers={"X": 5}),
    "a header's name with a colon": lambda: HttpCheck(headers={"X:": "a"}),
    "an empty header's name": lambda: HttpCheck(headers={"": "a"}),
    "headers in pairs": lambda: HttpCheck(headers=[("X", "a")]),
    "a body of bytes": lambda: HttpCheck(body=b"x"),
    "a flag as text": lambda: HttpCheck(tls_skip_verify="false"),
    "a flag as number": lambda: TcpCheck(use_tls=1),
    "a certificate's name that is no text": lambda: GrpcCheck(tls_server_name=5),
    "a target without a port": lambda: TcpCheck("host"),
    "a target with an empty port": lambda: TcpCheck("host:"),
    "a target without a host": lambda: TcpCheck(":80"),
    "a target without brackets": lambda: TcpCheck("::1:80"),
    "a target with port 0": lambda: TcpCheck("host:0"),
    "a target with port 99999": lambda: TcpCheck("host:99999"),
    "a target with a port of 5000 digits": lambda: TcpCheck("host:" + "9" * 5000),
    "a target with other digits": lambda: TcpCheck("host:٨٠"),
    "a target that is a URL": lambda: TcpCheck("http://host:80"),
    "a target that is a number": lambda: TcpCheck(80),
    "an address with a port as text": lambda: TcpCheck(Address("host", "80")),  # type: ignore[arg-type]
    "a gRPC service of two words": lambda: GrpcCheck(service="a b"),
    "no program": lambda: ScriptCheck(),
    "an empty program": lambda: ScriptCheck([""]),
    "a program as one text": lambda: ScriptCheck("/bin/true -x"),
    "a number as argument": lambda: ScriptCheck(["/bin/true", 5]),
    "a NUL in an argument": lambda: ScriptCheck(["/bin/true", "a\0b"]),
    "a number as program": lambda: ScriptCheck(5),
    "no container": lambda: DockerCheck(args=["a"]),
    "no program in a container": lambda: DockerCheck("abc"),
    "a shell that is no text": lambda: DockerCheck("abc", ["a"], shell=5),
    "no system service": lambda: OsServiceCheck(),
    "an alias of nothing": lambda: AliasCheck(),
    "an alias of an empty service": lambda: AliasCheck(""),
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_what_can_never_work_is_refused_when_it_is_written(wrong: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        wrong()
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_all_checks_have_in_common_goes_by_name_only(kind: Any) -> None:
    assert all(
        field.kw_only
        for field in dataclasses.fields(kind)
        if field.name in {"id", "name", "notes", "status", "interval"}
    )


@pytest.mark.parametrize(("check", "_"), LEAST.values(), ids=LEAST)
def test_a_check_cannot_be_changed(check: Any, _: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        check.notes = "x"
    assert not hasattr(check, "__dict__")


def once(*values: str) -> Iterator[str]:
    yield from values


@pytest.mark.parametrize(
    ("check", "key", "written"),
    [
        (ScriptCheck(once("/bin/true", "-x")), "Args", ["/bin/true", "-x"]),
        (DockerCheck("abc", once("/bin/true")), "Args", ["/bin/true"]),
        (HttpCheck(headers={"X": once("1", "2")}), "Header", {"X": ["1", "2"]}),
    ],
)
def test_what_can_be_read_only_once_is_still_there_when_it_is_sent(check: Any, key: str, written: Any) -> None:
    assert [check.payload(OWN)[key] for _ in range(2)] == [written, written]


def test_what_the_caller_changes_afterwards_does_not_change_the_check() -> None:
    args, headers = ["/bin/true"], {"X": ["1"]}
    script, http = ScriptCheck(args), HttpCheck(headers=headers)
    args.append("-x")
    headers["Y"] = ["2"]

    assert script.payload(None)["Args"] == ["/bin/true"]
    assert http.payload(OWN)["Header"] == {"X": ["1"]}


# --- whatever is not refused ------------------------------------------------------------------------------

ODD = st.one_of(st.none(), st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.just("10s"))
LENGTHS = st.floats(1, 1e6) | st.integers(60, 9999) | st.sampled_from(["10s", "1m30s", "60000ms"])
NUMBERS = st.integers(0, 9)
HOST = r"(h|web\.example|10\.0\.0\.5|\[2001:db8::1\])"
KNOWN_KEYS = re.compile(r"[A-Z][A-Za-z0-9]*\Z")


def mostly(right: st.SearchStrategy[Any], wrong: st.SearchStrategy[Any] = ODD) -> st.SearchStrategy[Any]:
    """Few enough wrong values for many checks to have none."""
    return st.integers(0, 9).flatmap(lambda thrown: wrong if thrown == 9 else right)


AIMS = {
    True: mostly(
        st.from_regex(rf"\Ahttps?://{HOST}(:[1-9][0-9]{{0,4}})?(/[a-z0-9.%?=]*)?\Z"),
        st.from_regex(r"\A(https?|file)://[a-z0-9.:\[\]]{0,12}(:[0-9]{0,6})?(/[a-z%. ]*)?\Z") | st.text(max_size=20),
    ),
    False: mostly(
        st.from_regex(rf"\A{HOST}:[1-9][0-9]{{0,4}}\Z"),
        st.from_regex(r"\A[a-z0-9.:\[\]]{0,12}:[0-9]{0,6}\Z") | st.text(max_size=20),
    ),
}
AIMED = st.sampled_from([HttpCheck, TcpCheck, UdpCheck, GrpcCheck, H2PingCheck]).flatmap(
    lambda kind: st.tuples(st.just(kind), AIMS[kind is HttpCheck])
)
OPTIONS = {
    "id": mostly(st.sampled_from(["a", "a/b", "ä b"])),
    "name": mostly(st.text("aä ", max_size=5)),
    "notes": mostly(st.text(max_size=5)),
    "status": mostly(st.sampled_from(["passing", "warning", "critical", *CheckStatus])),
    "interval": mostly(LENGTHS),
    "timeout": mostly(LENGTHS),
    "success_before_passing": mostly(NUMBERS),
    "failures_before_critical": mostly(NUMBERS),
    "deregister_critical_service_after": mostly(LENGTHS),
}


@given(AIMED, st.fixed_dictionaries({}, optional=OPTIONS))
def test_a_check_that_is_not_refused_is_one_that_agents_understand(aim: Any, options: Any) -> None:
    kind, target = aim
    try:
        written = kind(target, **options).payload(None)
    except InvalidInput:
        return

    json.dumps(written, allow_nan=False)
    assert all(KNOWN_KEYS.match(key) and value is not None for key, value in written.items())
    assert seconds(written["Interval"], what="interval") >= 1
    for key in ("Interval", "Timeout", "DeregisterCriticalServiceAfter"):
        assert isinstance(written.get(key, ""), str)
        assert written.get(key, "1s")[-1] in "smh"
    assert written.get("Status", "passing") in {"passing", "warning", "critical"}
    (aimed,) = (written[key] for key in ("HTTP", "TCP", "UDP", "GRPC", "H2PING") if key in written)
    assert aimed.isprintable()
    assert " " not in aimed
    port = re.search(r"(?<!/):([0-9]+)(?:/|$)", aimed.removeprefix("https").removeprefix("http"))
    assert port is None or 1 <= int(port[1]) <= 65535


@given(mostly(LENGTHS | st.timedeltas(min_value=timedelta(seconds=1)), ODD | st.timedeltas()))
def test_a_ttl_that_is_not_refused_is_at_least_a_second_and_has_a_unit(ttl: Any) -> None:
    try:
        written = TtlCheck(ttl).payload(None)
    except InvalidInput:
        return

    assert written["TTL"][-1] in "smh"
    assert seconds(written["TTL"], what="ttl") >= 1
