"""Meetings in which a process ends, one way or another."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.laboratory.judging import CONSUL, Meeting, Meetings, alone, back_again
from benchmarks.laboratory.process import Process, running
from tests.faults.comparing import Met
from tests.support.agents import ConsulAgent
from tests.support.counting import Counting


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


@contextlib.contextmanager
def kept(client: str) -> Iterator[tuple[Process, ConsulAgent, Counting]]:
    """A process that keeps a registration, and its agent."""
    with (
        ConsulAgent() as agent,
        counted(agent) as counting,
        running(client, "127.0.0.1", int(counting.address.rpartition(":")[2])) as asked,
    ):
        asked.ask("keep")
        yield asked, agent, counting


def way_out(leave: Callable[[Process], object], code: int) -> Meeting:
    """The process is left like that; its exit code should be this one, and nothing be left behind."""

    def meet(client: str) -> Met:
        with kept(client) as (asked, agent, _):
            begun = time.monotonic()
            leave(asked)
            returned = asked.ended()
            took = time.monotonic() - begun
            left = bool(agent.read("/v1/agent/services"))
        said = f"{'left behind' if left else 'deregistered'}, exit code {returned} after {took:.1f} s"
        return Met(said, bad=int(left) + (returned != code), seconds={"exit": took})

    return alone(meet)


def by_signal(*numbers: signal.Signals) -> Meeting:
    def leave(asked: Process) -> None:
        for number in numbers:
            asked.process.send_signal(number)

    return way_out(leave, -numbers[0])


def by_order(*orders: str, code: int = 0, last: str = "end") -> Meeting:
    def leave(asked: Process) -> None:
        for order in orders:
            asked.ask(order)
        asked.tell(last, code=code)

    return way_out(leave, code)


def through_its_own_handler(asked: Process) -> None:
    asked.ask("handle")
    asked.process.send_signal(signal.SIGTERM)


def child_ends(order: str) -> Meeting:
    """A child of the process ends, which was not registered."""

    def meet(client: str) -> Met:
        with kept(client) as (asked, agent, _):
            asked.ask(order)
            time.sleep(0.5)  # for what the child may have asked for
            is_there = bool(agent.read("/v1/agent/services"))
        return Met("the parent stays registered" if is_there else "the parent was deregistered", bad=int(not is_there))

    return alone(meet)


def of_a_frozen_agent_at_the_end(client: str) -> Met:
    with ConsulAgent() as agent, running(client, "127.0.0.1", agent.port) as asked:
        asked.ask("keep")
        agent.pause()
        begun = time.monotonic()
        asked.process.send_signal(signal.SIGINT)
        asked.ended()
        took = time.monotonic() - begun
        agent.resume()
    return Met(f"exit after {took:.1f} s", seconds={"exit": took})


def of_a_refused_deregistration(client: str) -> Met:
    with kept(client) as (asked, agent, counting):
        counting.refuse_next = True
        asked.tell("end", code=0)
        asked.ended()
        left = bool(agent.read("/v1/agent/services"))
    return Met("left behind" if left else "deregistered at the second try", bad=int(left))


def of_a_lost_registration(client: str) -> Met:
    with kept(client) as (_, agent, _):
        agent.request("PUT", "/v1/agent/service/deregister/web-1")
        return back_again(agent, within=15)


MEETINGS: Meetings = {
    "L01": (CONSUL, by_order()),
    "L02": (CONSUL, by_signal(signal.SIGTERM)),
    "L03": (CONSUL, by_signal(signal.SIGINT)),
    "L04": (CONSUL, by_signal(signal.SIGHUP)),
    "L05": (CONSUL, by_order(last="exit", code=3)),
    "L06": (CONSUL, by_order(last="fail", code=1)),
    "L07": (CONSUL, by_order("fail_in_a_thread")),
    "L08": (CONSUL, by_signal(signal.SIGTERM, signal.SIGTERM)),
    "L09": (CONSUL, child_ends("fork_and_exit")),
    "L10": (CONSUL, child_ends("multiply")),
    "L12": (CONSUL, way_out(through_its_own_handler, 7)),
    "L13": (CONSUL, alone(of_a_frozen_agent_at_the_end)),
    "L14": (CONSUL, alone(of_a_refused_deregistration)),
    "L15": (CONSUL, alone(of_a_lost_registration)),
}
