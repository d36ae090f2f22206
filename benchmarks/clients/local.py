"""What needs no server: picks, memory, reading an answer again, the retry layer. Takes orders on standard input."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
import tracemalloc
from collections.abc import Callable, Generator, Sequence
from itertools import cycle
from timeit import timeit
from typing import Any

from benchmarks.clients.measuring import serve
from consul_access import (
    AsyncConsulAccess,
    Call,
    ConsulAccess,
    EjectingBalancer,
    HealthEntry,
    ServiceInstance,
    ServiceSnapshot,
    StalePolicy,
)
from consul_access.call import Headers, Reply
from consul_access.consul import health
from consul_access.decoding import Rereader, decode_list
from consul_access.models.instance import share_parts
from consul_access.rules.balancing import balancer_named
from consul_access.wire import WireAnswer

PICKS = 200_000


def entry(number: int) -> dict[str, Any]:
    """An instance with the tags, meta and checks that real ones have."""
    return {
        "Node": {
            "ID": f"{number:08x}-0000-4000-8000-000000000000", "Node": f"node-{number % 100}",
            "Address": f"10.0.{number // 250 % 250}.{number % 250}", "Datacenter": "dc1",
            "TaggedAddresses": {"lan": "10.0.0.1", "wan": "10.0.0.1"}, "Meta": {"consul-network-segment": ""},
        },
        "Service": {
            "ID": f"followed-{number}", "Service": "followed", "Tags": ["http", "v2", f"zone-{number % 3}"],
            "Address": f"10.1.{number // 250 % 250}.{number % 250}", "Port": 8080,
            "Meta": {"version": "2.3.1", "zone": f"z{number % 3}", "team": "core", "language": "python"},
            "Weights": {"Passing": 1, "Warning": 1}, "ModifyIndex": number,
        },
        "Checks": [
            {"Node": "n", "CheckID": name, "Name": name, "Status": "passing", "Output": "200 OK", "ServiceID": "x"}
            for name in ("serfHealth", f"service:followed-{number}")
        ],
    }  # fmt: skip


def answer(entries: list[dict[str, Any]]) -> Reply:
    return Reply(200, Headers(), json.dumps(entries, separators=(",", ":")).encode())


def finished(steps: Generator[None, None, Any]) -> tuple[Any, float, float]:
    """The result, the seconds that all steps took, and the longest one.

    They wait for nothing, so that the thread's CPU is what they take; by the clock they would also take what a busy
    machine gives to others meanwhile.
    """
    longest, begun = 0.0, time.thread_time()
    last = begun
    while True:
        try:
            next(steps)
        except StopIteration as end:
            now = time.thread_time()
            return end.value, now - begun, max(longest, now - last)
        now = time.thread_time()
        longest, last = max(longest, now - last), now


def reread() -> Rereader[Any]:
    kind = health.watched("followed", now=time.time).kind
    assert kind is not None
    return Rereader(kind, share_parts)


def weighed(function: Callable[[], object]) -> int:
    """Bytes that the result holds."""
    gc.collect()
    tracemalloc.start()
    kept = function()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


class At:
    """A carrier that has its answer already."""

    def __init__(self, found: WireAnswer) -> None:
        self._found = found

    def exchange(self, *_: object) -> WireAnswer:
        return self._found


class AsyncAt(At):
    async def exchange(self, *_: object) -> WireAnswer:  # type: ignore[override]
        return self._found


class Local:
    """The orders; each gives a round's figures."""

    def picks(self) -> dict[str, float]:
        """Seconds of a pick, of a dict look-up, and of that with a plain round robin."""
        entries, _, _ = finished(reread().read(answer([entry(number) for number in range(10)])))
        snapshot = ServiceSnapshot(service="followed", instances=entries, source="live", answered_at=time.monotonic())
        with ConsulAccess(port=1) as access:
            forever, limited = access.resolver("followed"), access.resolver("followed", stale=StalePolicy.keep_for(60))
            tasks = AsyncConsulAccess(port=1).resolver("followed", stale=StalePolicy.keep_for(60))
            for resolver in (forever, limited, tasks):
                resolver._tell(snapshot, None)
            turns = {"followed": cycle(entries).__next__}
            ways: dict[str, Callable[[], object]] = {
                "round robin": lambda: turns["followed"](),  # noqa: PLW0108 - the look-up counts
                "pick, forever": forever.pick,
                "pick, a while": limited.pick,
                "pick, tasks": tasks.pick,
                "instances": forever.instances,
            }
            found = {"dict": timeit("table['followed']", globals={"table": {"followed": entries}}, number=PICKS)}
            found |= {name: timeit("way()", globals={"way": way}, number=PICKS) for name, way in ways.items()}
        return {name: took / PICKS for name, took in found.items()}

    def balancers(self, names: Sequence[str]) -> dict[str, float]:
        """Seconds of a pick among 10 instances by each balancer, alone and with ejection around it."""
        instances = tuple(
            ServiceInstance(
                id=f"i{n}", service="shop", service_address=f"10.0.0.{n + 1}", service_port=80, passing_weight=n + 1
            )
            for n in range(10)
        )
        number = PICKS // 2
        found = {"dict": timeit("table['shop']", globals={"table": {"shop": instances}}, number=number)}
        for name in names:
            plain = balancer_named(name, random.Random(1)).prepare(instances)
            careful = EjectingBalancer(balancer_named(name, random.Random(1)), time.monotonic).prepare(instances)
            call = "pick(key='user-7')" if name == "sticky" else "pick()"
            for kind, pick in (("plain", plain), ("ejecting", careful)):
                found[f"{kind}:{name}"] = timeit(call, globals={"pick": pick}, number=number)
        return {name: took / number for name, took in found.items()}

    def following_pick(self, port: int, calls: int = PICKS) -> dict[str, float]:
        """Seconds of a pick by a resolver that follows a service at a real agent."""
        with ConsulAccess("127.0.0.1", port) as access, access.resolver("bench-1") as resolver:
            resolver.wait_ready(10)
            return {"pick": timeit(resolver.pick, number=calls) / calls}

    def memory(self, size: int, whole: bool) -> dict[str, float]:
        """Bytes of an instance that is kept, and of a whole entry."""
        one = answer([entry(0)])
        finished(reread().read(one)), decode_list(HealthEntry, one)  # what both are read with is made by then
        reply, reader = answer([entry(number) for number in range(size)]), reread()
        found = {"kept": weighed(lambda: finished(reader.read(reply))) / size}
        if whole:
            found["whole"] = weighed(lambda: decode_list(HealthEntry, reply)) / size
        return found

    def rereading(self, size: int, number: int) -> dict[str, float]:
        """Seconds to read an answer again in which one instance has changed, and the longest step of it."""
        entries = [entry(which) for which in range(size)]
        before = answer(entries)
        finished(reread().read(answer(entries[:1])))  # the reader itself is made by then
        entries[number * 7 % size] = entry(size + number)
        after = answer(entries)
        gc.collect()
        gc.freeze()  # what this benchmark has made to ask with is not looked through while it is asked
        reader = reread()
        _, _, first = finished(reader.read(before))
        begun = time.thread_time()
        decode_list(HealthEntry, after)
        whole = time.thread_time() - begun
        gc.collect()
        _, took, stall = finished(reader.read(after))
        gc.unfreeze()
        return {"whole": whole, "change": took, "stall": stall, "first stall": first}

    def retrying(self, calls: int) -> dict[str, float]:
        """Seconds that the retry layer adds to a call that succeeds at once, beside tenacity's own loop around it."""
        import tenacity

        call = Call("any", "GET", "/v1/any", lambda reply: reply)
        found = WireAnswer(200, Headers(), b"{}", reusable=True, packing=b"")
        with ConsulAccess(port=1) as access:
            transport = access._transport
            transport._own, own = At(found), transport._own  # type: ignore[assignment]
            alone = _alone(transport, call)
            around = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))
            ways: dict[str, Callable[[], object]] = {
                "alone": alone,
                "repeating": lambda: transport.reply(call),
                "tenacity": lambda: around(alone),
            }
            taken = {name: _least(way, calls) for name, way in ways.items()}
            transport._own = own
        return {
            "layer": taken["repeating"] - taken["alone"],
            "tenacity": taken["tenacity"] - taken["alone"],
            **asyncio.run(_retrying_async(found, call, calls)),
        }


def _least(way: Callable[[], object], calls: int) -> float:
    """The quickest of several runs: a difference of a microsecond is lost in what disturbs the others."""
    return min(timeit(way, number=calls // 10) for _ in range(10)) / (calls // 10)


def _alone(transport: Any, call: Call[Any]) -> Callable[[], object]:
    """One attempt, without any thought of another."""
    from consul_access._sync.transport import _Course

    def alone() -> object:
        return transport._attempt(_Course(call, None, transport.settings.timeouts.total + call.patience))

    return alone


async def _retrying_async(found: WireAnswer, call: Call[Any], calls: int) -> dict[str, float]:
    import tenacity

    from consul_access._async.transport import _Course

    async with AsyncConsulAccess(port=1) as access:
        transport: Any = access._transport
        transport._own, own = AsyncAt(found), transport._own

        async def alone() -> object:
            return await transport._attempt(_Course(call, None, transport.settings.timeouts.total + call.patience))

        around = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3))
        ways: dict[str, Callable[[], Any]] = {
            "alone": alone,
            "repeating": lambda: transport.reply(call),
            "tenacity": lambda: around(alone),
        }
        taken = {name: await _least_async(way, calls) for name, way in ways.items()}
        transport._own = own
    return {
        "layer, tasks": taken["repeating"] - taken["alone"],
        "tenacity, tasks": taken["tenacity"] - taken["alone"],
    }


async def _least_async(way: Callable[[], Any], calls: int) -> float:
    found = []
    for _ in range(10):
        begun = time.perf_counter()
        for _ in range(calls // 10):
            await way()
        found.append((time.perf_counter() - begun) / (calls // 10))
    return min(found)


if __name__ == "__main__":
    serve(Local())
