"""A service's own checks, asked together; on both faces."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from consul_access import AsyncHealthChecks, HealthChecks, InvalidInput, TtlCheck


def checks_of(face, *args, **kwargs):
    return (AsyncHealthChecks if face.is_async else HealthChecks)(*args, **kwargs)


async def reported(face, checks):
    return await checks.report() if face.is_async else checks.report()


def answered(face, story):
    """What a story returns."""
    answers = []

    async def told():
        answers.append(await story())

    face.run(told)
    return answers[0]


def test_every_check_is_asked_and_a_crashing_one_is_a_failing_one(face):
    def crashes():
        raise OSError("connection refused")

    async def story():
        checks = checks_of(
            face,
            {
                "a": lambda: None,
                "b": lambda: ("warning", "slow"),
                "c": lambda: False,
                "d": crashes,
                "e": lambda: "fine",
            },
        )
        return await reported(face, checks)

    results = {name: (result.status, result.output) for name, result in answered(face, story).checks.items()}
    assert results.pop("e")[0] == "critical"
    assert results == {
        "a": ("passing", ""),
        "b": ("warning", "slow"),
        "c": ("critical", ""),
        "d": ("critical", "failed: OSError('connection refused')"),
    }


def test_a_hanging_check_is_a_failing_one_and_does_not_hold_up_the_others(face, record_property):
    release = threading.Event()
    asked = []

    def hangs():
        asked.append(1)
        release.wait(60)

    async def story():
        checks = checks_of(face, {"hangs": hangs, "works": lambda: True}, limits={"hangs": 0.2})
        begun = time.monotonic()
        reports = [await reported(face, checks) for _ in range(3)]
        return reports, time.monotonic() - begun

    try:
        reports, taken = answered(face, story)
    finally:
        release.set()
    record_property("three reports with a hanging check", f"{taken:.2f} s")
    assert taken < 20
    assert len(asked) == 1  # it is not asked again before it has answered
    for report in reports:
        assert report.checks["hangs"].output == "has not answered within 0.2 s"
        assert report.checks["works"].status == "passing"


def test_they_are_asked_at_the_same_time(face):
    everybody_is_here = threading.Barrier(4)

    async def story():
        checks = checks_of(
            face, {str(number): lambda: everybody_is_here.wait(20) is None for number in range(4)}, limit=30
        )
        return await reported(face, checks)

    face.run(story)
    assert not everybody_is_here.broken


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_functions_are_asked_too_and_cut_off_at_their_limit(backend):
    ended = []

    async def hangs():
        try:
            await anyio.sleep(60)
        finally:
            ended.append(True)

    async def works():
        await anyio.lowlevel.checkpoint()
        return "warning", "so so"

    async def story():
        checks = {"hangs": hangs, "works": works, "begins plain": lambda: works()}
        return await AsyncHealthChecks(checks, limits={"hangs": 0.1}, limit=30).report()

    report = anyio.run(story, backend=backend)
    assert ended == [True]
    assert report.checks["hangs"].status == "critical"
    for name in ("works", "begins plain"):
        assert (report.checks[name].status, report.checks[name].output) == ("warning", "so so")


def test_who_asks_while_they_are_being_asked_gets_the_same_report():
    asked, together = [], threading.Barrier(5)

    def slow():
        asked.append(1)
        time.sleep(0.2)

    checks = HealthChecks({"slow": slow}, limit=20)
    reports = []

    def asks():
        together.wait()
        reports.append(checks.report())

    threads = [threading.Thread(target=asks) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.status for report in reports] == ["passing"] * 5
    assert len(asked) <= 2


def test_they_can_be_what_a_ttl_check_is_reported_with(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            checks = checks_of(face, {"database": lambda: True, "queue": lambda: ("warning", "long")})
            async with access.registered("orders", port=80, check=TtlCheck(15), health=checks):
                (check,) = consul.read("/v1/agent/checks").values()
                assert (check["Status"], check["Output"]) == ("warning", "queue: warning long\ndatabase: passing")

    face.run(story)


def test_what_cannot_be_right_is_refused(face):
    with pytest.raises(InvalidInput, match="databse"):
        checks_of(face, {"database": lambda: True}, limits={"databse": 1})
    with pytest.raises(InvalidInput, match="seconds, more than 0"):
        checks_of(face, {"database": lambda: True}, limit=0)
    with pytest.raises(InvalidInput, match="give a function"):
        checks_of(face, {"database": True})
    with pytest.raises(InvalidInput, match="name"):
        checks_of(face, {"": lambda: True})


def test_threads_refuse_an_async_check():
    async def ping(): ...

    with pytest.raises(InvalidInput, match="async function"):
        HealthChecks({"database": ping})


def test_a_function_functions_by_name_and_checks_are_understood(face):
    kind = AsyncHealthChecks if face.is_async else HealthChecks
    ready = kind({"x": lambda: False})
    assert kind.of(ready) is ready

    async def statuses(health):
        report = await reported(face, kind.of(health))
        return {name: result.status for name, result in report.checks.items()}

    assert answered(face, lambda: statuses(lambda: "warning")) == {"health": "warning"}
    assert answered(face, lambda: statuses({"a": lambda: None})) == {"a": "passing"}
    assert answered(face, lambda: statuses(None)) == {}
