"""Every way out of a process deregisters once: real processes, real signals, a real agent; the L-series."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
START = """
import os, signal, sys, threading, time, logging, asyncio, multiprocessing
logging.basicConfig(level=logging.WARNING)
from consul_access import AsyncConsulAccess, ConsulAccess, TtlCheck
FORKING = multiprocessing.get_context("fork")
def ready():
    print("ready", flush=True)
def kept(**settings):
    return ConsulAccess().registered("orders", port=8080, id="orders-1", check=TtlCheck(30), **settings)
"""
FOREVER = """
kept().start()
ready()
while True:
    time.sleep(0.05)  # Python answers a signal that comes between its last look and the system call after that call
"""
BEATING = 'ConsulAccess().registered("orders", port=8080, id="orders-1", check=TtlCheck(1))'


@contextlib.contextmanager
def running(program, address):
    """A process that has said that it is ready."""
    environ = os.environ | {"CONSUL_HTTP_ADDR": address, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", START + program]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ended(process, within=10):
    """Exit code and what was written to stderr."""
    _, errors = process.communicate(timeout=within)
    return process.returncode, errors


def gone_once(consul, counting):
    assert consul.read("/v1/agent/services") == {}
    return counting.deregistrations == 1


@pytest.mark.parametrize(
    ("rest", "code", "traceback"),
    [
        pytest.param("kept().start(); ready()", 0, "", id="L01 the end, without the block's end"),
        pytest.param("kept().start(); ready(); sys.exit(3)", 3, "", id="L05 sys.exit"),
        pytest.param("with kept(): ready(); sys.exit(3)", 3, "", id="L05 sys.exit within the block"),
        pytest.param("kept().start(); ready(); 1 / 0", 1, "ZeroDivisionError", id="L06 an exception"),
        pytest.param("with kept(): ready(); 1 / 0", 1, "ZeroDivisionError", id="L06 an exception within the block"),
        pytest.param(
            "kept().start(); ready(); t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
            0,
            "ZeroDivisionError",
            id="L07 an exception in a thread",
        ),
        pytest.param(
            "kept().start()\nif not os.fork(): sys.exit()\nos.wait()\nready(); time.sleep(0.3)",
            0,
            "",
            id="L09 a forked child that exits",
        ),
        pytest.param(
            "with kept():\n  child = os.fork()\n  if child: os.wait(); ready()\n",
            0,
            "",
            id="L09 a forked child that leaves the parent's block",
        ),
        pytest.param(
            "kept().start(); ready(); p = FORKING.Process(target=print); p.start(); p.join()",
            0,
            "",
            id="L10 a multiprocessing child",
        ),
    ],
)
def test_l_series_ends_by_itself(consul, counting, rest, code, traceback):
    with running(rest, counting.address) as process:
        returned, errors = ended(process)
    assert returned == code, errors
    assert errors.count("Traceback") == (1 if traceback else 0), errors
    assert traceback in errors
    assert gone_once(consul, counting)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_l02_l03_l04_a_signal_deregisters_and_ends_the_process_as_without_us(consul, counting, number):
    with running(FOREVER, counting.address) as process:
        assert "orders-1" in consul.read("/v1/agent/services")
        process.send_signal(number)
        returned, errors = ended(process)
    assert returned == -number
    assert errors.count("Traceback") == (1 if number == signal.SIGINT else 0)  # Python's own KeyboardInterrupt
    assert gone_once(consul, counting)


def test_l08_sigterm_twice(consul, counting):
    with running(FOREVER, counting.address) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        returned, errors = ended(process)
    assert (returned, errors) == (-signal.SIGTERM, "")
    assert gone_once(consul, counting)


def test_l08_the_second_sigterm_while_the_first_is_deregistering(consul, counting):
    """The agent refuses the first try after the second signal: whoever died by that makes no second one."""
    counting.may_pass.clear()
    counting.refuse_next = True
    with running(FOREVER, counting.address) as process:
        process.send_signal(signal.SIGTERM)
        eventually(lambda: counting.deregistrations)
        process.send_signal(signal.SIGTERM)
        counting.may_pass.set()
        returned, errors = ended(process)
    assert (returned, errors) == (-signal.SIGTERM, "")
    assert consul.read("/v1/agent/services") == {}
    assert counting.deregistrations == 2


def test_sigterm_during_the_drain_lets_it_end_first(consul, counting):
    with running("with kept(drain=1): ready()\nprint('not reached', flush=True)", counting.address) as process:
        eventually(lambda: "_service_maintenance:orders-1" in consul.read("/v1/agent/checks"))
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    assert time.monotonic() - begun > 0.6
    assert (process.returncode, output, errors) == (-signal.SIGTERM, "", "")
    assert gone_once(consul, counting)


def test_sigterm_in_the_middle_of_registering(consul, counting):
    """At ten moments of the registration: never is anything left behind."""
    program = "ready()\nkept().start()\nwhile True: time.sleep(0.05)\n"
    for moment in range(10):
        with running(program, counting.address) as process:
            time.sleep(moment * 0.02)  # moments spread over the imports, the registration and the first heartbeat
            process.send_signal(signal.SIGTERM)
            returned, errors = ended(process)
        assert (returned, errors) == (-signal.SIGTERM, "")
        assert consul.read("/v1/agent/services") == {}, moment


def test_sigterm_in_the_middle_of_a_heartbeat(consul, counting):
    """The heartbeat arrives after the deregistration, and changes nothing any more."""
    with running(FOREVER.replace("kept()", BEATING), counting.address) as process:
        counting.held.clear()
        assert counting.holding.wait(5)
        process.send_signal(signal.SIGTERM)
        returned, errors = ended(process)
        counting.held.set()
    assert (returned, errors) == (-signal.SIGTERM, "")
    assert gone_once(consul, counting)
    time.sleep(0.2)  # for the heartbeat that was held
    assert consul.read("/v1/agent/services") == {}


def test_each_worker_of_a_pre_forking_server_registers_its_own(consul):
    """As gunicorn with --preload does: the client is made before the fork, each worker registers after it."""
    program = """
access = ConsulAccess()
parent = access.registered("parent", port=8080, id="parent", check=TtlCheck(30)).start()
def work(number):
    with access.registered("orders", port=8080, id=f"orders-{number}", check=TtlCheck(3)):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        time.sleep(60)
workers = []
for number in (1, 2):
    pid = os.fork()
    if not pid:
        work(number)
    workers.append(pid)
while len(access.search_service("orders")) < 2:
    time.sleep(0.01)
ready()
for pid in workers:
    time.sleep(4)
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    print(sorted(entry.service.id for entry in access.health("orders", policy="passing")), flush=True)
parent.stop()
"""
    with running(program, consul.address) as process:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines() == ["['orders-2']", "[]"]
    assert consul.read("/v1/agent/services") == {}


def test_l12_a_handler_that_is_already_there_is_left_alone(consul, counting):
    program = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nkept().start()\nready()\nwhile True: time.sleep(0.05)\n"
    )
    with running(program, counting.address) as process:
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (7, "")
    assert gone_once(consul, counting)


def test_l11_after_sigkill_the_agent_has_what_it_needs_to_clean_up(consul, counting):
    program = FOREVER.replace(
        "kept()",
        "ConsulAccess().registered('orders', port=8080, id='orders-1', "
        "check=TtlCheck(1, deregister_critical_service_after='1m'))",
    )
    with running(program, counting.address) as process:
        process.kill()
        ended(process)
    eventually(lambda: not consul.read("/v1/health/service/orders?passing"), within=1.5)
    assert "orders-1" in consul.read("/v1/agent/services")  # removed after 69 to 105 s, as measured
    assert counting.deregistrations == 0


def test_l13_a_frozen_agent_delays_the_exit_by_less_than_3_seconds(agents):
    agent = agents()
    with running(FOREVER, agent.address) as process:
        agent.pause()
        try:
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            returned, errors = ended(process)
        finally:
            agent.resume()
    assert time.monotonic() - begun < 3
    assert returned == -signal.SIGTERM
    assert "could not be deregistered" in errors
    assert "Traceback" not in errors


def test_l13_an_agent_that_is_down_delays_the_exit_by_less_than_2_seconds(agents):
    agent = agents()
    with running(FOREVER, agent.address) as process:
        agent.kill()
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        returned, errors = ended(process)
        took = time.monotonic() - begun
        agent.run()
    assert took < 2
    assert returned == -signal.SIGTERM
    assert "could not be deregistered" in errors
    assert "it stays registered" in errors
    assert "Traceback" not in errors


def test_l14_one_refused_deregistration_is_repeated(consul, counting):
    with running(FOREVER, counting.address) as process:
        counting.refuse_next = True
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (-signal.SIGTERM, "")
    assert consul.read("/v1/agent/services") == {}
    assert counting.deregistrations == 2


ASYNC_START = """
async def begin():
    access = AsyncConsulAccess()
    return await access.registered("orders", port=8080, id="orders-1", check=TtlCheck(30)).start()
"""


@pytest.mark.parametrize(
    ("name", "program"),
    [
        (
            "the task is cancelled within the block",
            """
async def service(begun):
    async with AsyncConsulAccess() as access:
        async with access.registered("orders", port=8080, id="orders-1", check=TtlCheck(30)):
            ready()
            begun.set()
            await asyncio.sleep(60)
async def main():
    begun = asyncio.Event()
    task = asyncio.create_task(service(begun))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
asyncio.run(main())
""",
        ),
        ("asyncio.run ends", ASYNC_START + "async def main():\n  await begin(); ready()\nasyncio.run(main())"),
        (
            "trio.run ends",
            ASYNC_START + "import trio\nasync def main():\n  await begin(); ready()\ntrio.run(main)",
        ),
        (
            "the loop is closed and its tasks are forgotten",
            ASYNC_START
            + "loop = asyncio.new_event_loop(); logging.getLogger('asyncio').disabled = True\n"
            + "k = loop.run_until_complete(begin()); loop.close(); ready()",
        ),
        ("the loop is left open", ASYNC_START + "k = asyncio.new_event_loop().run_until_complete(begin()); ready()"),
    ],
)
def test_an_async_keeper_deregisters_once(consul, counting, name, program):
    with running(program, counting.address) as process:
        returned, errors = ended(process)
    assert returned == 0, errors
    assert "Traceback" not in errors
    assert gone_once(consul, counting)


def test_sigterm_while_an_event_loop_runs(consul, counting):
    program = (
        ASYNC_START + "async def main():\n  k = await begin(); ready(); await asyncio.sleep(60)\nasyncio.run(main())"
    )
    with running(program, counting.address) as process:
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (-signal.SIGTERM, "")
    assert gone_once(consul, counting)
