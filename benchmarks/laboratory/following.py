"""What became of a list that is followed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from benchmarks.laboratory.judging import CONSUL, ONE, Meetings, alone, indexed
from benchmarks.laboratory.process import Process, running
from tests.faults.comparing import Met
from tests.support.agents import ConsulAgent
from tests.support.registry import PlayedRegistry, entry, listed
from tests.support.scripted import ScriptedServer, Step, answer, later, never


def register(member: Any, number: int) -> None:
    """As soon as that is possible."""
    while True:
        with contextlib.suppress(OSError, AssertionError):
            member.register("web", id=f"web-{number}", port=8000 + number, address="10.0.0.5")
            if any(entry["ServiceID"] == f"web-{number}" for entry in member.read("/v1/catalog/service/web")):
                return
        time.sleep(0.05)


def await_told(asked: Process) -> None:
    """Until it has seen a list."""
    while not any(isinstance(found, list) and found for _, found, _ in asked.ask("told")["told"]):
        time.sleep(0.05)


def followed(
    asked: Process, since: Callable[[], float | None], is_it: Callable[[Any], bool], within: float = 100.0
) -> Met:
    """How long after a moment something was told."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        begun = since()
        for when, found, _ in asked.ask("told")["told"]:
            if begun is not None and isinstance(found, list) and is_it(found):
                after = max(0.0, when - begun)
                return Met(f"followed {after:.1f} s after the change", seconds={"followed": after})
        time.sleep(0.05)
    return Met(f"not followed within {within:g} s", bad=1)


def flagged(asked: Process, met: Met) -> Met:
    """The same, and whether a list that was old said so and was never empty."""
    told = asked.ask("told")["told"]
    is_flagged, is_emptied = any(flag for _, _, flag in told), any(found == [] for _, found, _ in told)
    said = f"{met.said}, {'flagged' if is_flagged else 'no flag'}{', emptied' if is_emptied else ''}"
    return Met(said, bad=met.bad + is_emptied + (not is_flagged), failed=met.failed, seconds=met.seconds)


def of_an_index_that_stands(client: str) -> Met:
    with ScriptedServer([indexed(answer(body=ONE))]) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow")
        time.sleep(5)
        requests = len(server.requests)
    return Met(f"{requests:,} requests in 5 s", bad=int(requests > 4))


def of_an_index_that_goes_back(client: str) -> Met:
    moments: list[float] = []

    def play(_: object, query: dict[str, list[str]]) -> Step:
        index = query.get("index", [""])[0]
        if index == "1000":
            return later(0.2, listed(entry(2, "web"), index=7), moments)
        if not index:
            return listed(entry(2, "web"), index=8) if moments else listed(entry(1, "web"), index=1000)
        return never()

    with PlayedRegistry(play) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow")
        return followed(asked, lambda: moments[0] if moments else None, lambda ids: ids == ["web-2"], within=10)


def of_an_outage(client: str) -> Met:
    with ConsulAgent(server=True) as agent, running(client, "127.0.0.1", agent.port) as asked:
        register(agent, 1)
        asked.ask("follow")
        await_told(asked)
        agent.kill()
        time.sleep(15)
        agent.run()
        register(agent, 2)
        since = time.monotonic()
        return flagged(asked, followed(asked, lambda: since, lambda ids: "web-2" in ids))


def of_a_list_that_vanishes(client: str) -> Met:
    moments: list[float] = []

    def play(_: object, query: dict[str, list[str]]) -> Step:
        index = query.get("index", [""])[0]
        if index == "75":
            return later(0.2, listed(index=11), moments)
        if moments:
            return never() if index else listed(index=11)
        return listed(*(entry(number, "web") for number in range(1, 11)), index=75)

    with PlayedRegistry(play) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow")
        await_told(asked)
        time.sleep(5)
        told = asked.ask("told")["told"]
    emptied = any(found == [] for _, found, _ in told)
    is_flagged = any(flag for _, _, flag in told)
    said = f"{'0 instances' if emptied else '10 instances'}, {'flagged' if is_flagged else 'no flag'}"
    return Met(said, bad=int(emptied) + (not is_flagged))


def of_a_half_open_watch(client: str) -> Met:
    silent: list[float] = []

    def play(_: object, query: dict[str, list[str]]) -> Step:
        if "index" in query and not silent:
            silent.append(time.monotonic())
        return never() if "index" in query else listed(entry(1, "web"))

    with PlayedRegistry(play) as server, running(client, "127.0.0.1", server.port) as asked:
        asked.ask("follow", wait=10)
        until = time.monotonic() + 70
        while time.monotonic() < until:
            watching = [
                when
                for request, when in zip(server.requests, server.times, strict=False)
                if silent and when > silent[0] + 0.5 and "/v1/health" in request.target
            ]
            if watching:
                after = watching[0] - silent[0]
                return Met(f"asked again after {after:.1f} s", seconds={"noticed": after})
            time.sleep(0.1)
    return Met("not noticed in 70 s", bad=1)


MEETINGS: Meetings = {
    "F13": (CONSUL, alone(of_an_index_that_stands)),
    "F14": (CONSUL, alone(of_an_index_that_goes_back)),
    "F29": (CONSUL, alone(of_an_outage)),
    "F30": (CONSUL, alone(of_a_list_that_vanishes)),
    "F31": (CONSUL, alone(of_a_half_open_watch)),
}
