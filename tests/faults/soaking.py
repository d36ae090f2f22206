"""A soak: faults that are thrown by dice with a seed, while services are kept and followed; then `judging` judges."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from consul_access import AsyncConsulAccess, AsyncEtcdRegistry, ConsulAccess, ConsulAccessError, EtcdRegistry, TtlCheck
from tests.faults.judging import Bounds, Held, History, Told, Trouble, Used, Write
from tests.support.agents import ConsulAgent
from tests.support.cluster import Cluster
from tests.support.etcd import NEWER, EtcdCluster, EtcdServer, encoded
from tests.support.faulty import PROXY_THREADS, FaultyProxy, Way

BOUNDS = Bounds(slack=2.0, follow=5.0, recover=40.0, flag=20.0)
"""A machine that is busy with other things is given time; what is wrong for ever is wrong after that as well."""
KEPT = 4
TTL = 6
Server: TypeAlias = Any
"""A ConsulAgent or an EtcdServer: both can be killed, run, paused and resumed."""


FENCE = encoded("soak/last change")
"""The key that holds the number of the last change."""
FENCE_AT_CONSUL = "soak/last-change"


def spoilt(data: bytes) -> bytes:
    """Bytes that no text has, here and there: HTTP cannot tell that a digit became another one, TLS does."""
    return bytes(byte | 0x80 if place % 97 == 50 else byte for place, byte in enumerate(data))


# --- where it takes place -------------------------------------------------------------------------------------


class Ground(ABC):
    """A registry, the way to it, and what can be done to it behind the library's back."""

    servers: list[Server]
    """Those that may die or freeze, one at a time."""
    bounds: Bounds = BOUNDS
    """What is promised here."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.proxies: list[FaultyProxy] = []

    def lead_to(self, *servers: Server) -> None:
        """Makes the way to them."""
        self.proxies = [self.stack.enter_context(FaultyProxy(server.port, server.host)) for server in servers]

    def is_one_of_several(self, server: Server) -> bool:
        """Whether another one can be asked when this one is gone."""
        return len(self.servers) > 1

    @abstractmethod
    def client(self) -> Any: ...

    @abstractmethod
    def async_client(self) -> Any: ...

    @abstractmethod
    def write(self, instance: str, present: bool, change: int) -> bool:
        """Registers an instance of `orders`, or deregisters it; whether that is certain.

        Args:
            instance: its id.
            present: whether it is registered.
            change: which change it is: what is tried again has the same number.
        """

    @abstractmethod
    def kept(self) -> set[str] | None:
        """The instances of `kept` that a caller would be sent to; None while nobody can tell."""

    @abstractmethod
    def forget(self, instance: str) -> None:
        """Removes a registration behind its owner's back."""


class AtConsul(Ground):
    """One server with its data on disk."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        self.agent: Any = stack.enter_context(ConsulAgent(server=True))
        self.servers = [self.agent]
        self.lead_to(self.agent)

    def client(self) -> Any:
        return ConsulAccess(url=self.proxies[0].url)

    def async_client(self) -> Any:
        return AsyncConsulAccess(url=self.proxies[0].url)

    def asked(self) -> list[Any]:
        return [self.agent]

    def write(self, instance: str, present: bool, change: int) -> bool:
        """Done once, however often it is tried.

        A server that was frozen may carry a try out when it wakes (observed), whose answer nobody waits for any more.
        So each change also writes its number, over the one before and no other.
        """
        for server in self.asked():
            with contextlib.suppress(OSError):
                if self._step(server, instance, present, change):
                    return True
        return False

    def _step(self, server: Any, instance: str, present: bool, change: int) -> bool:
        status, text = server.request("GET", f"/v1/kv/{FENCE_AT_CONSUL}?consistent")
        if status not in {200, 404}:
            return False
        (last,) = json.loads(text) if status == 200 else ({"ModifyIndex": 0, "Value": ""},)
        number = encoded(f"{change:09}")
        if last["Value"] == number:
            return True
        service = {"ID": instance, "Service": "orders", "Address": "10.9.0.1", "Port": 8000}
        fence = {"Verb": "cas", "Key": FENCE_AT_CONSUL, "Value": number, "Index": last["ModifyIndex"]}
        step = [
            {"KV": fence},
            {"Node": {"Verb": "set", "Node": {"Node": "external", "Address": "10.9.0.1"}}},
            {"Service": {"Verb": "set" if present else "delete", "Node": "external", "Service": service}},
        ]
        return bool(server.request("PUT", "/v1/txn", step)[0] == 200)

    def kept(self) -> set[str] | None:
        for server in self.asked():
            with contextlib.suppress(OSError, AssertionError):
                entries = server.read("/v1/health/service/kept?passing")
                return {entry["Service"]["ID"] for entry in entries}
        return None

    def forget(self, instance: str) -> None:
        with contextlib.suppress(OSError):
            self.agent.request("PUT", f"/v1/agent/service/deregister/{instance}")


class AtConsulCluster(AtConsul):
    """Three servers, and the client agent of this machine.

    A leader that was frozen answers who waits with what happened meanwhile, one change after the other as it is told of
    them; in the default mode nothing says that there are more (https://developer.hashicorp.com/consul/api-docs/features/consistency).
    """

    bounds = replace(BOUNDS, replay=1.0, replaying=("killed", "without quorum", "frozen"))

    def __init__(self, stack: contextlib.ExitStack) -> None:
        Ground.__init__(self, stack)
        self.cluster = stack.enter_context(Cluster(client=True))
        self.agent = self.cluster.agent
        self.servers = self.cluster.members
        self.lead_to(self.agent)

    def asked(self) -> list[Any]:
        return self.cluster.servers

    def is_one_of_several(self, server: Server) -> bool:
        return server is not self.agent  # behind which nobody else can be reached


class AtEtcd(Ground):
    """One member."""

    prefix = "/consul-access/v1/services/"

    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        self.servers = [stack.enter_context(EtcdServer(NEWER))]
        self.lead_to(*self.servers)

    def client(self) -> Any:
        return EtcdRegistry(endpoints=[proxy.address for proxy in self.proxies], ttl=TTL)

    def async_client(self) -> Any:
        return AsyncEtcdRegistry(endpoints=[proxy.address for proxy in self.proxies], ttl=TTL)

    def write(self, instance: str, present: bool, change: int) -> bool:
        """Done once, however often it is tried.

        A try whose answer never came may be carried out long afterwards: a leader that was frozen hands it on to the
        next one when it wakes (observed). So each change also writes its number, and is done only after lower ones.
        """
        key, number = encoded(f"{self.prefix}orders/{instance}"), encoded(f"{change:09}")
        value = {"schema": 1, "id": instance, "name": "orders", "address": "10.9.0.1", "port": 8000}
        done = {"request_put": {"key": key, "value": encoded(json.dumps(value))}}
        step = {
            "compare": [{"key": FENCE, "target": "VALUE", "result": "LESS", "value": number}],
            "success": [
                {"request_put": {"key": FENCE, "value": number}},
                done if present else {"request_delete_range": {"key": key}},
            ],
        }
        if change == 0:  # there is none yet, and so nothing to compare with
            self._post("/v3/kv/put", {"key": FENCE, "value": encoded("")})
        return self._post("/v3/kv/txn", step) is not None

    def kept(self) -> set[str] | None:
        prefix = f"{self.prefix}kept/"
        found = self._post("/v3/kv/range", {"key": encoded(prefix), "range_end": encoded(prefix[:-1] + "0")})
        if found is None:
            return None
        return {_decoded(pair["key"]).rpartition("/")[2] for pair in found.get("kvs", ())}

    def forget(self, instance: str) -> None:
        self._post("/v3/kv/deleterange", {"key": encoded(f"{self.prefix}kept/{instance}")})

    def _post(self, path: str, body: object) -> dict[str, Any] | None:
        for server in self.servers:
            with contextlib.suppress(OSError):
                status, text = server.post(path, body, timeout=3)
                if status == 200:
                    answer: dict[str, Any] = json.loads(text)
                    return answer
        return None


class AtEtcdCluster(AtEtcd):
    """Three members."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        Ground.__init__(self, stack)
        self.servers = stack.enter_context(EtcdCluster(NEWER)).members
        self.lead_to(*self.servers)


GROUNDS: dict[str, type[Ground]] = {
    "consul": AtConsul,
    "etcd": AtEtcd,
    "consul cluster": AtConsulCluster,
    "etcd cluster": AtEtcdCluster,
}


def _decoded(text: str) -> str:
    import base64

    return base64.b64decode(text).decode()


# --- who takes part -------------------------------------------------------------------------------------------


class Part(ABC):
    """A thread that goes on until the end of its block."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self.run)

    @abstractmethod
    def run(self) -> None: ...

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


class Writer(Part):
    """Registers and deregisters instances of `orders` behind the library's back, and notes when that was."""

    def __init__(self, ground: Ground, history: History, dice: random.Random) -> None:
        super().__init__()
        self._ground, self._history, self._dice = ground, history, dice
        self.present: set[str] = set()
        self.writing: tuple[str, float] | None = None
        self._number = 0
        self.change("orders-always", present=True)

    def run(self) -> None:
        while not self.ended.wait(self._dice.uniform(0.2, 1.2)):
            going = sorted(self.present - {"orders-always"})
            if len(going) > 4 or (going and self._dice.random() < 0.5):
                self.change(self._dice.choice(going), present=False)
            else:
                self._number += 1
                self.change(f"orders-{self._number % 40}", present=True)

    def change(self, instance: str, *, present: bool) -> None:
        """Tries it until it is certain; from the first try on it may be so."""
        begun = time.monotonic()
        place = len(self._history.writes)
        self._history.writes.append(Write(instance, present, begun, float("inf")))
        while not self._ground.write(instance, present, place):
            if self.ended.wait(0.1):
                return
        self._history.writes[place] = Write(instance, present, begun, time.monotonic())
        (self.present.add if present else self.present.discard)(instance)


class Notes:
    """Takes down what a resolver says, whenever it says something else, and once a second."""

    def __init__(self, who: str, history: History) -> None:
        self._who, self._history = who, history
        self._last = Told(who, 0.0, frozenset(), 0.0, stale=True)
        self.current = False

    def look(self, resolver: Any) -> None:
        try:
            resolver.pick()
        except ConsulAccessError as error:
            self._history.failures.append(f"{self._who} at {time.monotonic():.2f}: a pick failed: {error}")
        snapshot = resolver.snapshot()
        ids = frozenset(one.id for one in snapshot)
        now = Told(self._who, time.monotonic(), ids, snapshot.age, snapshot.is_stale)
        last = self._last
        is_news = (now.ids, now.stale) != (last.ids, last.stale) or now.age < last.age or now.when > last.when + 1
        if is_news:
            self._history.told.append(now)
            self._last = now
        self.current = not now.stale


class Following(Part):
    """A client for threads that follows `orders`."""

    def __init__(self, client: Any, history: History) -> None:
        super().__init__()
        self._resolver = client.resolver("orders")
        self.notes = Notes("threads", history)

    @property
    def ids(self) -> set[str]:
        return {one.id for one in self._resolver.snapshot()}

    def run(self) -> None:
        with self._resolver as orders:
            orders.wait_ready(30)
            while not self.ended.wait(0.02):
                self.notes.look(orders)


class AsyncFollowing(Part):
    """The same with a client for tasks, in an event loop of its own."""

    def __init__(self, ground: Ground, history: History) -> None:
        super().__init__()
        self._ground = ground
        self.notes = Notes("tasks", history)
        self.ids: set[str] = set()
        self.tasks = 0

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with self._ground.async_client() as client, client.resolver("orders") as orders:
            await orders.wait_ready(30)
            while not self.ended.is_set():
                self.notes.look(orders)
                self.ids = {one.id for one in orders.snapshot()}
                self.tasks = len(asyncio.all_tasks())
                await asyncio.sleep(0.02)


# --- what happens ---------------------------------------------------------------------------------------------

Fault: TypeAlias = Callable[["Soak"], contextlib.AbstractContextManager[object]]
"""Gives whether somebody can still be reached."""


def way(**how: Any) -> Fault:
    """The way to one server, or to all of them, is like this."""

    @contextlib.contextmanager
    def fault(soak: Soak) -> Iterator[bool]:
        proxies = soak.ground.proxies
        chosen = proxies if soak.dice.random() < 0.5 else [soak.dice.choice(proxies)]
        made = {name: value(soak.dice) if name != "spoil" and callable(value) else value for name, value in how.items()}
        with contextlib.ExitStack() as stack:
            for proxy in chosen:
                stack.enter_context(proxy.way(Way(**made)))
                if "cut" in made or "spoil" in made:
                    proxy.hang_up()  # what waits would not notice
            yield len(chosen) < len(proxies)

    return fault


def hang_up(soak: Soak) -> contextlib.AbstractContextManager[object]:
    for proxy in soak.ground.proxies:
        proxy.hang_up(reset=soak.dice.random() < 0.5)
    return contextlib.nullcontext()


@contextlib.contextmanager
def frozen(soak: Soak) -> Iterator[bool]:
    server = soak.dice.choice(soak.ground.servers)
    server.pause()
    try:
        yield soak.ground.is_one_of_several(server)
    finally:
        server.resume()


@contextlib.contextmanager
def killed(soak: Soak) -> Iterator[bool]:
    server = soak.dice.choice(soak.ground.servers)
    server.kill()
    try:
        yield soak.ground.is_one_of_several(server)
    finally:
        server.run()


@contextlib.contextmanager
def without_quorum(soak: Soak) -> Iterator[bool]:
    """Two of three servers are killed; the only one, where it is alone."""
    lost = soak.dice.sample(soak.ground.servers[:3], max(1, len(soak.ground.servers[:3]) - 1))
    for server in lost:
        server.kill()
    try:
        yield True
    finally:
        with ThreadPoolExecutor() as together:  # one alone does not become ready
            list(together.map(lambda server: server.run(), lost))


def forgotten(soak: Soak) -> contextlib.AbstractContextManager[object]:
    soak.ground.forget(soak.dice.choice(sorted(soak.keepers)))
    return contextlib.nullcontext()


FAULTS: dict[str, Fault] = {
    "slow": way(delay=lambda dice: dice.uniform(0.02, 0.3)),
    "silent": way(silent=True),
    "refused": way(refused=True),
    "cut": way(cut=lambda dice: dice.randrange(4000), reset=lambda dice: dice.random() < 0.5),
    "spoilt": way(spoil=spoilt),
    "hung up": hang_up,
    "frozen": frozen,
    "killed": killed,
    "without quorum": without_quorum,
    "forgotten": forgotten,
}


class Soak:
    """Throws faults, one after the other, and keeps the history.

    Args:
        ground: where.
        seed: of the dice.
        longest: seconds that a fault lasts at most.
        bounds: what is promised.
        kinds: the faults that may happen; all of them by default.
    """

    def __init__(
        self, ground: Ground, seed: int, longest: float, bounds: Bounds = BOUNDS, kinds: Iterable[str] = ()
    ) -> None:
        self.ground = ground
        self.dice = random.Random(seed)
        self.longest = longest
        self.bounds = bounds
        self.kinds = sorted(kinds or FAULTS)
        self.history = History()
        self.keepers: dict[str, Any] = {}
        self._number = 0

    def run(self, seconds: float) -> History:
        """Goes on for so long, and a little longer until all is quiet."""
        writer = Writer(self.ground, self.history, random.Random(self.dice.random()))
        with self.ground.client() as client:
            following, tasks = Following(client, self.history), AsyncFollowing(self.ground, self.history)
            for _ in range(KEPT):
                self._keep_another(client)
            with writer, following, tasks:
                until = time.monotonic() + seconds
                self._quiet(writer, following, tasks)
                while time.monotonic() < until:
                    self._fault(client)
                    self._quiet(writer, following, tasks)
            for keeper in self.keepers.values():
                keeper.stop()
            self.keepers.clear()
        self.history.held.append(Held(time.monotonic(), frozenset(), frozenset(self.ground.kept() or ())))
        return self.history

    def _fault(self, client: Any) -> None:
        kind = self.dice.choice(self.kinds)
        seconds = self.dice.uniform(0.2, self.longest)
        begun = time.monotonic()
        place = len(self.history.troubles)
        self.history.troubles.append(Trouble(kind, begun, float("inf")))
        with FAULTS[kind](self) as in_part:
            kind += " in part" if in_part else ""
            if self.dice.random() < 0.4:
                self._replace_one(client)
            time.sleep(max(0.0, begun + seconds - time.monotonic()))  # a fault has no condition: it lasts
            lifted = time.monotonic()
        self.history.troubles[place] = Trouble(kind, begun, time.monotonic(), lifted)

    def _keep_another(self, client: Any) -> None:
        self._number += 1
        name = f"kept-{self._number}"
        options = {"check": TtlCheck(TTL)} if isinstance(client, ConsulAccess) else {}
        keeper = client.registered("kept", "10.0.0.5", 9000 + self._number % 500, id=name, fail_fast=False, **options)
        self.keepers[name] = keeper.start()

    def _replace_one(self, client: Any) -> None:
        """One registration ends, whether it can be deregistered now or not, and another one begins."""
        name = self.dice.choice(sorted(self.keepers))
        self.keepers.pop(name).stop()
        self._keep_another(client)

    def _quiet(self, writer: Writer, *readers: Any) -> None:
        """Waits until everything is as it should be, which must not take for ever; then it is measured."""
        begun = time.monotonic()
        while not self._is_well(found := self.ground.kept(), writer, readers):
            if time.monotonic() > begun + self.bounds.recover:
                seen = {type(reader).__name__: sorted(reader.ids) for reader in readers}
                text = f"{found} {sorted(self.keepers)}; {sorted(writer.present)} {seen}"
                kind = self.history.troubles[-1] if self.history.troubles else "the beginning"
                self.history.failures.append(f"it is not well {self.bounds.recover:g} s after {kind}: {text}")
                break
            time.sleep(0.02)
        now = time.monotonic()
        self.history.held.append(Held(now, frozenset(self.keepers), frozenset(found or ())))
        self.history.used.append(Used(now, _threads(), readers[-1].tasks, self._files(), _resident()))

    def _is_well(self, kept: set[str] | None, writer: Writer, readers: Iterable[Any]) -> bool:
        lists = all(reader.notes.current and reader.ids == writer.present for reader in readers)
        return lists and kept == set(self.keepers)

    def _files(self) -> int:
        """Those that are open, but not the proxies' own."""
        return len(os.listdir("/proc/self/fd")) - sum(2 * proxy.connections for proxy in self.ground.proxies)  # noqa: PTH208


def _threads() -> int:
    """Those that are at work, but not the proxies' own."""
    return sum(thread.name != PROXY_THREADS for thread in threading.enumerate())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
