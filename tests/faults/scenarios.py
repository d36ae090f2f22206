"""Every scenario of the laboratory by its name: what happens, what must hold, and which tests hold it.

A test belongs to a scenario when its name says so (`test_f13_...`, `test_l02_l03_l04_...`); others are listed here as
`path::function`. `tests/faults/test_scenarios.py` sees to it that each has a test, and each named test a scenario.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"(?<=_)([fceln]\d\d)(?=_)")
WATCHING, FAULTS = "tests/faces/test_watching.py", "tests/faces/test_faults.py"
WAYS_OUT, POINTS, HOSTILE = "tests/live/test_ways_out.py", "tests/faults/test_points.py", "tests/faults/test_hostile.py"
FUZZ = "tests/faults/test_fuzz.py"
ENDS = f"{WAYS_OUT}::test_l_series_ends_by_itself"


@dataclass(frozen=True)
class Scenario:
    """One of them.

    Args:
        what: the fault.
        bar: what must hold.
        reference: how long others that are trusted take, or what they do: Go's `consul watch` and `etcdctl`.
    """

    what: str
    bar: str
    reference: str = ""


SCENARIOS = {
    # --- one call and a bad answer ------------------------------------------------------------------------------
    "F01": Scenario("connections closed on reuse, 60 reads", "no error"),
    "F02": Scenario("one 500 without a leader, 10 reads", "no error, within 2 s", "raises at once"),
    "F03": Scenario("429 with Retry-After: 1", "no error, at least 1 s is waited", "raises at once"),
    "F04": Scenario("reset instead of an answer", "no error", "raises at once"),
    "F05": Scenario("truncated body", "no error, nothing wrong"),
    "F06": Scenario("answers of the wrong shape", "an error that says so"),
    "F07": Scenario("200 MB answer", "an own error, at most 64 MB"),
    "F08": Scenario("1 MB of gzip that is 1 GiB", "an own error, at most 64 MB"),
    "F09": Scenario("JSON nested 100,000 deep", "an own error", "an error"),
    "F10": Scenario("never answers", "an own error at the deadline", "hangs"),
    "F11": Scenario("a body byte by byte", "an own error at the deadline"),
    "F12": Scenario("headers line by line", "an own error at the deadline", "hangs"),
    "F13": Scenario("index absent, 0 or unchanged", "the data, 4 requests in 5 s at most", "8,000 requests a second"),
    "F14": Scenario("index goes back", "the change within 1 s"),
    "F15": Scenario("302 to another host", "the token stays here", "follows with the token"),
    "F16": Scenario("307 to a write", "not followed", "follows with the token"),
    "F17": Scenario("registration applied, answer lost", "no error, one instance"),
    "F18": Scenario("conditional write applied, answer lost", "outcome unknown, sent once"),
    "F19": Scenario("awkward names", "right or refused"),
    "F20": Scenario("awkward paths", "never leave their place"),
    "F21": Scenario("the token, looked for", "in its header alone"),
    "F22": Scenario("impossible ports and addresses", "none is handed out"),
    "F23": Scenario("100 threads, one client", "no error, nothing wrong"),
    "F24": Scenario("fork with a warm client, 300 reads each", "nothing wrong"),
    "F25": Scenario("connection refused", "an own error within 5 s", "an error at once"),
    "F26": Scenario("connecting leads to a black hole", "an own error at the deadline"),
    "F27": Scenario("wrong TLS", "named, not repeated"),
    "F28": Scenario("HTTP_PROXY and an agent on loopback", "the proxy sees nothing", "no proxy for loopback"),
    "F29": Scenario("15 s outage under a watch", "followed within 2 s after it"),
    "F30": Scenario("all instances vanish, index goes back", "kept or flagged"),
    "F31": Scenario("half-open connection under a watch", "given up after the wait and a little more"),
    "F32": Scenario("half-open connection in the pool", "an own error at the deadline"),
    # --- Consul clusters ----------------------------------------------------------------------------------------
    "C01": Scenario("agent killed for 3 s", "picks 0 errors, followed within 1 s", "1.9 s"),
    "C02": Scenario("agent loses its data", "registered again, nothing lost", "not offered"),
    "C03": Scenario("leader killed", "0 errors, nothing wrong, followed within 1.5 s", "1.2 s; 1.8.7: 2.2 s"),
    "C04": Scenario("no quorum for 20 s", "flagged within 12 s, followed within 2 s after it", "13.4 s; 1.8.7: 11.9 s"),
    "C05": Scenario("agent frozen", "flagged, the list stays", "0.0 s after it went on"),
    "C06": Scenario("servers lose their data", "the last good list is kept and flagged", "nothing for 38 to 87 s"),
    "C07": Scenario("token revoked; no token", "an error with a name; an empty list says why"),
    "C08": Scenario("rolling restart", "0 errors, followed within 5 s"),
    "C09": Scenario("followers frozen", "nothing wrong, followed within the freeze"),
    # --- etcd ---------------------------------------------------------------------------------------------------
    "E01": Scenario("bound member dies", "0 errors, 0 events lost", "0 lost"),
    "E02": Scenario("the only member restarts", "0 events lost, within 2 s"),
    "E03": Scenario("leader killed", "0 errors, 0 events lost", "0 lost"),
    "E04": Scenario("compaction while away", "read again or an error"),
    "E05": Scenario("bound member frozen", "noticed within 10 s", "+1.0 and +15.0 s in two runs"),
    "E06": Scenario("no quorum", "flagged within 12 s"),
    "E07": Scenario("process frozen beyond its lease", "registered again within 3 s"),
    "E08": Scenario("login expired", "renewed"),
    "E09": Scenario("large values, 100 events at once", "0 events lost", "0 lost"),
    "E10": Scenario("connection refused", "an own error within 5 s"),
    # --- ways out of a process ----------------------------------------------------------------------------------
    "L01": Scenario("the end of the program", "deregistered once"),
    "L02": Scenario("SIGTERM", "deregistered once, exit code as without us"),
    "L03": Scenario("SIGINT", "deregistered once, exit code as without us"),
    "L04": Scenario("SIGHUP", "deregistered once, exit code as without us"),
    "L05": Scenario("sys.exit", "deregistered once"),
    "L06": Scenario("an exception", "deregistered once"),
    "L07": Scenario("an exception in a thread", "deregistered once"),
    "L08": Scenario("SIGTERM twice", "deregistered once"),
    "L09": Scenario("a forked child ends", "the parent stays registered"),
    "L10": Scenario("a multiprocessing child ends", "the parent stays registered"),
    "L11": Scenario("SIGKILL", "critical after its TTL, the agent removes it"),
    "L12": Scenario("a handler that is there already", "left alone"),
    "L13": Scenario("agent frozen or down at the exit", "exit within 3 s"),
    "L14": Scenario("deregistration refused once", "repeated"),
    "L15": Scenario("registration lost", "back within 10 s"),
    # --- what others do not try ---------------------------------------------------------------------------------
    "N01": Scenario("wall clock jumps by an hour", "no effect"),
    "N02": Scenario("10,000 cancellations in the first milliseconds", "no slot lost"),
    "N03": Scenario("accepted by the agent, refused by the servers", "pending, and the cause within 30 s"),
    "N04": Scenario("token rotated", "no gap"),
    "N05": Scenario("300 watches on one agent", "at most 64 connections, all served"),
    "N06": Scenario("uvicorn and SIGTERM", "deregistered first, port closed after the drain"),
    "N07": Scenario("50 writes a second while members die", "every list told is one that was true, in order"),
    "N08": Scenario("random faults, one after the other", "nothing wrong, lost, left behind or leaked"),
    "N09": Scenario("IPv6 agent and instances", "brackets where they belong"),
}
ALSO: dict[str, tuple[str, ...]] = {
    "F04": (f"{POINTS}::test_a_read_is_repeated_wherever_it_broke",),
    "F05": (f"{POINTS}::test_an_answer_cut_after_any_number_of_bytes_is_never_taken_for_a_whole_one",),
    "F06": (f"{FUZZ}::test_a_spoilt_answer_is_a_value_or_our_error",),
    "F07": (f"{HOSTILE}::test_what_has_no_end_is_ended_by_us",),
    "F09": (f"{FUZZ}::test_bombs_are_a_value_or_our_error",),
    "F15": (f"{HOSTILE}::test_no_redirect_is_followed_anywhere_by_anything",),
    "F18": (f"{POINTS}::test_a_write_that_must_not_happen_twice_is_sent_once_wherever_it_broke",),
    "F19": (f"{FUZZ}::test_a_name_is_one_segment_of_the_path_or_refused",),
    "F20": (f"{FUZZ}::test_a_path_is_taken_apart_into_what_it_was_made_of",),
    "F21": ("tests/faults/test_secrets.py::test_no_error_shows_the_token_even_with_local_variables",),
    "F22": (f"{HOSTILE}::test_impossible_numbers_are_no_addresses",),
    "C04": (f"{WATCHING}::test_servers_without_a_leader_behind_a_200_are_noticed",),
    "L01": (ENDS,),
    "L05": (ENDS,),
    "L06": (ENDS,),
    "L07": (ENDS,),
    "L09": (ENDS,),
    "L10": (ENDS,),
    "N02": (f"{FAULTS}::test_ten_thousand_early_cancellations_lose_no_slot",),
    "N09": (
        "tests/test_wire.py::test_a_request_names_host_and_path_of_its_target",
        "tests/rules/test_registering.py::test_an_ipv6_address_has_brackets_in_the_checks_url",
        "tests/models/test_checks.py::test_a_check_without_a_target_aims_at_the_service_with_brackets_around_ipv6",
    ),
}
"""Tests whose names do not say to which scenario they belong."""
ALONE = {
    "L11": "the agent's doing",
    "N01": "no clock",
    "N02": "aiohttp's pool",
    "N04": "one token for life",
    "N06": "nothing for web servers",
    "N07": "no lists",
    "N08": "made of the others",
}
"""Why nobody else is met in a scenario, in a word."""
SERIES = {
    "F": "One call and a bad answer",
    "C": "Consul clusters",
    "E": "etcd clusters",
    "L": "Ways out of a process",
    "N": "What others do not try",
}


@cache
def functions() -> frozenset[str]:
    """Every test function there is, as `path::name`."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add(f"{path.relative_to(ROOT)}::{node.name}")
    return frozenset(found)


def named_in(function: str) -> list[str]:
    """The scenarios that a test's name says."""
    return [found.upper() for found in NAMED.findall(function.rpartition("::")[2])]


@cache
def holders(name: str) -> tuple[str, ...]:
    """The tests that hold a scenario."""
    named = [function for function in functions() if name in named_in(function)]
    return (*sorted(named), *ALSO.get(name, ()))


@cache
def scenarios_of(path: str, function: str) -> list[str]:
    """The scenarios that a test belongs to; asked for each test there is, so it does not read them all."""
    test, named = f"{path}::{function}", named_in(function)
    return [name for name in SCENARIOS if name in named or test in ALSO.get(name, ())]
