"""Another client, or ours, in a process of its own: does what it is told, and tells what came of it.

Arguments: the client's name, host and port, and what else it is made with, as JSON. Orders come as JSON lines; each is
answered by one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TOKEN = "canary-of-the-peers-1"
Telling = Callable[[Any, bool | None], None]
"""Is told what is in the list now, and whether it says that it may be out of date; None for an error."""


class Consul:
    """py-consul."""

    own = "consul"

    def __init__(self, host: str, port: int, ca: str | None = None, token: str | None = TOKEN) -> None:
        import consul

        tls = {"scheme": "https", "verify": ca} if ca else {}
        self._client = consul.Consul(host=host, port=port, token=token, **tls)

    def read(self, name: str = "web") -> list[str]:
        _, entries = self._client.health.service(name, passing=True)
        return [f"{one['Service']['Address']}:{one['Service']['Port']}" for one in entries]

    def names(self, name: str) -> list[str]:
        return [one["Service"]["Service"] for one in self._client.health.service(name)[1]]

    def ids(self, name: str) -> list[str]:
        return [one["Service"]["ID"] for one in self._client.health.service(name)[1]]

    def register(self) -> None:
        from consul import Check

        self._client.agent.service.register("web", "web-1", address="10.0.0.5", port=8080, check=Check.ttl("30s"))
        self._client.agent.check.ttl_pass("service:web-1")

    def deregister(self) -> None:
        self._client.agent.service.deregister("web-1")

    def keep(self) -> str:
        """The recipe that is found everywhere: register, and deregister at the interpreter's end."""
        import atexit

        self.register()
        atexit.register(self.deregister)
        return ""

    def kept(self) -> str:
        """It knows nothing after the registration."""
        return ""

    def reason(self) -> str:
        """It says nothing beside a list."""
        return ""

    def follow_many(self, names: list[str], told: Callable[[str, int], None]) -> None:
        """A thread for each: it has one function for one question."""
        for name in names:
            tell = lambda found, _, name=name: isinstance(found, list) and told(name, len(found))  # noqa: E731
            threading.Thread(target=self.follow, args=(tell, name), daemon=True).start()

    def exchange(self) -> None:
        """A write that must not happen twice."""
        self._client.kv.put("a", "1", cas=7)

    def key(self, key: str) -> None:
        self._client.kv.get(key)

    def follow(self, told: Telling, name: str = "web", wait: float = 55.0) -> None:
        """The documentation's loop, which would end at the first exception, with a pause of 1 s after each."""
        index = None
        while True:
            try:
                index, entries = self._client.health.service(
                    name, index=index, wait=f"{wait * 1000:.0f}ms", passing=True
                )
                told([one["Service"]["ID"] for one in entries], False)
            except Exception as error:
                told(type(error).__name__, None)
                time.sleep(1)


class Ours:
    """consul-access at Consul."""

    own = "consul_access"

    def __init__(self, host: str, port: int, ca: str | None = None, token: str | None = TOKEN) -> None:
        import ssl

        from consul_access import ConsulAccess

        tls: Any = {"url": f"https://{host}:{port}", "ssl_context": ssl.create_default_context(cafile=ca)} if ca else {}
        self._client = ConsulAccess(**(tls or {"host": host, "port": port}), token=token)
        self._resolver: Any = None

    def read(self, name: str = "web") -> list[str]:
        return [str(one) for one in self._client.search_service(name)]

    def names(self, name: str) -> list[str]:
        return [one.service for one in self._client.instances(name)]

    def ids(self, name: str) -> list[str]:
        return [one.id for one in self._client.instances(name)]

    def register(self) -> None:
        from consul_access import TtlCheck

        self._client.register_service("web", "10.0.0.5", 8080, id="web-1", check=TtlCheck(30))

    def keep(self) -> str:
        from consul_access import TtlCheck

        self._causes: list[str] = []

        def heard(event: Any) -> None:
            if event.kind == "unseen":
                self._causes.append(event.cause)

        options: Any = {"check": TtlCheck(30), "fail_fast": False, "on_event": heard}
        self._kept = self._client.registered("web", "10.0.0.5", 8080, id="web-1", **options).start()
        return self.kept()

    def kept(self) -> str:
        """Why nobody sees it."""
        return f"{self._kept.state}: {self._causes[-1]}" if self._causes else ""

    def reason(self) -> str:
        """What is wrong with the list that is followed."""
        return self._resolver.snapshot().reason if self._resolver is not None else ""

    def follow_many(self, names: list[str], told: Callable[[str, int], None]) -> None:
        def follow() -> None:
            for snapshot in self._client.watch(names):
                told(snapshot.service, len(snapshot))

        threading.Thread(target=follow, daemon=True).start()

    def exchange(self) -> None:
        from tests.support.calls import COMPARE_AND_SET

        self._client.send(COMPARE_AND_SET)

    def key(self, key: str) -> None:
        from consul_access import Call
        from consul_access.call import path

        self._client.send(Call("kv.get", "GET", path("v1", "kv", *key.split("/")), read=lambda reply: reply.status))

    def follow(self, told: Telling, name: str = "web", wait: float = 55.0) -> None:
        from consul_access._live import making

        making.WAIT = wait
        self._resolver = resolver = self._client.resolver(name).start()
        last = None
        while True:
            snapshot = resolver.snapshot()
            now = ([one.id for one in snapshot], snapshot.is_stale)
            if now != last and (snapshot.source != "nothing" or snapshot.reason):
                told(*now)
                last = now
            time.sleep(0.005)


class Etcd3:
    """The etcd3 package."""

    own = "etcd3"

    def __init__(self, host: str, port: int, user: str | None = None, password: str | None = None) -> None:
        import etcd3

        self._client = etcd3.client(host=host, port=port, user=user, password=password)

    def read(self, name: str = "web") -> list[str]:
        return sorted(metadata.key.decode().rpartition("/")[2] for _, metadata in self._client.get_prefix(f"{name}/"))

    def register(self) -> None:
        self._lease = self._client.lease(3)
        self._client.put("web/web-1", "10.0.0.5:8080", lease=self._lease)

    def keep(self) -> str:
        self.register()

        def beat() -> None:
            while True:
                time.sleep(1)
                try:
                    self._lease.refresh()
                except Exception:  # its documentation says nothing about what to do
                    time.sleep(0.1)

        threading.Thread(target=beat, daemon=True).start()
        return ""

    def follow(self, told: Telling, name: str = "web") -> None:
        while True:
            try:
                events, _ = self._client.watch_prefix(f"{name}/")
                for event in events:
                    told([event.key.decode().rpartition("/")[2]], False)
            except Exception as error:
                told(type(error).__name__, None)
                time.sleep(1)

    def follow_list(self, told: Telling, name: str = "web") -> None:
        """It has events alone, and none that would say that they are late."""
        self.follow(told, name)


class OursAtEtcd:
    """consul-access at etcd."""

    own = "consul_access"

    def __init__(self, host: str, port: int, user: str | None = None, password: str | None = None) -> None:
        from consul_access import EtcdRegistry

        self._client = EtcdRegistry(host, port, ttl=3, user=user, password=password)

    def read(self, name: str = "web") -> list[str]:
        return sorted(item.metadata.key.decode().rpartition("/")[2] for item in self._client.get_prefix(f"{name}/"))

    def register(self) -> None:
        self.keep()

    def keep(self) -> str:
        self._kept = self._client.registered("kept", "10.0.0.5", 8080, id="web-1").start()
        return ""

    def follow(self, told: Telling, name: str = "web") -> None:
        with self._client.watch_prefix(f"{name}/") as watch:
            for event in watch:
                told([event.key.decode().rpartition("/")[2]], False)

    def follow_list(self, told: Telling, name: str = "web") -> None:
        resolver = self._client.resolver(name).start()
        last = None
        while True:
            snapshot = resolver.snapshot()
            now = ([one.id for one in snapshot], snapshot.is_stale)
            if now != last:
                told(*now)
                last = now
            time.sleep(0.005)


CLIENTS: dict[str, Any] = {"py-consul": Consul, "ours": Ours, "etcd3": Etcd3, "ours-etcd": OursAtEtcd}


def named(error: BaseException, own: str) -> str:
    """Whose error it is, unless it is the client's own."""
    package = type(error).__module__.partition(".")[0]
    return type(error).__name__ if package == own else f"{package}.{type(error).__name__}"


class Peer:
    """Carries orders out."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._told: list[tuple[float, Any, bool | None]] = []
        self._lengths: dict[str, int] = {}
        self._enough = threading.Event()
        self._reads: list[tuple[float, float, Any]] = []

    def reads(self, times: int, pause: float, name: str = "web") -> dict[str, Any]:
        """Reads so often: when each began and ended, and what it brought, or the error's name."""
        reads = []
        for _ in range(times):
            reads.append(self._read(name))
            time.sleep(pause)
        return {"reads": reads, "memory": _peak()}

    def begin_reads(self, pause: float) -> dict[str, Any]:
        """Reads until `end_reads`."""

        def read() -> None:
            while not self._enough.wait(pause):
                self._reads.append(self._read("web"))

        self._reading = threading.Thread(target=read, daemon=True)
        self._reading.start()
        return {}

    def end_reads(self) -> dict[str, Any]:
        self._enough.set()
        self._reading.join()
        return {"reads": self._reads}

    def _read(self, name: str) -> tuple[float, float, Any]:
        begun = time.monotonic()
        try:
            found: Any = self._client.read(name)
        except Exception as error:
            found = named(error, self._client.own)
        return begun, time.monotonic(), found

    def register(self) -> dict[str, Any]:
        return self._tried(self._client.register)

    def keep(self) -> dict[str, Any]:
        return self._tried(self._client.keep)

    def exchange(self) -> dict[str, Any]:
        return self._tried(self._client.exchange)

    def kept(self) -> dict[str, Any]:
        return {"said": self._client.kept()}

    def names(self, names: list[str]) -> dict[str, Any]:
        """What a look-up of each of these names brought."""
        return {"found": [self._tried(lambda name=name: self._client.names(name)) for name in names]}

    def keys(self, keys: list[str]) -> dict[str, Any]:
        """What the look-up of each of these keys brought."""
        return {"found": [self._tried(lambda key=key: self._client.key(key)) for key in keys]}

    def follow(self, **how: Any) -> dict[str, Any]:
        return self._followed(self._client.follow, how)

    def follow_list(self, **how: Any) -> dict[str, Any]:
        return self._followed(self._client.follow_list, how)

    def told(self) -> dict[str, Any]:
        return {"told": list(self._told)}

    def follow_many(self, names: list[str]) -> dict[str, Any]:
        """Follows them all."""
        self._client.follow_many(names, self._lengths.__setitem__)
        return {}

    def seen(self) -> dict[str, Any]:
        """The length of the last list of each."""
        return {"seen": dict(self._lengths)}

    def reason(self) -> dict[str, Any]:
        """What is said of the list that is followed, within 3 s."""
        until = time.monotonic() + 3
        while not self._client.reason() and time.monotonic() < until:
            time.sleep(0.05)
        return {"reason": self._client.reason()}

    def shows(self, secret: str) -> dict[str, Any]:
        """Where a secret can be seen by whoever prints the client or what it consists of."""
        client = self._client._client
        places = {"repr": repr(client), "str": str(client)}
        seen, left = set(), [("", client)]
        while left:
            place, one = left.pop()
            if id(one) in seen or place.count(".") > 4:
                continue
            seen.add(id(one))
            for name, value in (getattr(one, "__dict__", None) or {}).items():
                places[f"{place}.{name}"] = value if isinstance(value, str) else repr(value)
                left.append((f"{place}.{name}", value))
        return {"places": sorted(place for place, text in places.items() if secret in text)}

    def threads(self, number: int, times: int) -> dict[str, Any]:
        """So many threads read through one client: what they brought."""

        def read(worker: int) -> list[Any]:
            name, found = f"s{worker % 10}", []
            for _ in range(times):
                try:
                    found.append(self._client.ids(name) == [f"{name}-1"])
                except Exception as error:
                    found.append(named(error, self._client.own))
            return found

        with ThreadPoolExecutor(number) as pool:
            found = [one for part in pool.map(read, range(number)) for one in part]
        return {"right": found.count(True), "wrong": found.count(False)}

    def fork(self, times: int) -> dict[str, Any]:
        """Reads in a child and in its parent at once; how many brought what the other one asked for."""
        self._client.read()
        child = os.fork()
        name = "a" if child else "b"
        wrong = 0
        for _ in range(times):
            try:
                wrong += self._client.ids(name) not in ([name], ["error"])
            except Exception:
                continue
        if not child:
            os._exit(min(wrong, 200))
        _, status = os.waitpid(child, 0)
        return {"wrong": wrong + os.waitstatus_to_exitcode(status)}

    def fork_and_exit(self) -> dict[str, Any]:
        """A child ends as programs end."""
        if not (child := os.fork()):
            sys.stdout = sys.stderr  # the parent's answers are not the child's
            sys.exit()
        os.waitpid(child, 0)
        return {}

    def multiply(self) -> dict[str, Any]:
        """A child of multiprocessing's ends."""
        process = multiprocessing.get_context("fork").Process(target=os.getpid)
        process.start()
        process.join()
        return {}

    def fail_in_a_thread(self) -> dict[str, Any]:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        return {}

    def handle(self) -> dict[str, Any]:
        """SIGTERM has a handler of the program's, which ends it with code 7."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        return {}

    def _followed(self, follow: Any, how: dict[str, Any]) -> dict[str, Any]:
        def told(what: Any, flagged: bool | None) -> None:
            self._told.append((time.monotonic(), what, flagged))

        threading.Thread(target=follow, args=(told,), kwargs=how, daemon=True).start()
        return {}

    def _tried(self, work: Any) -> dict[str, Any]:
        begun = time.monotonic()
        try:
            found, error = work(), None
        except Exception as raised:
            found, error = None, named(raised, self._client.own)
        return {"found": found, "error": error, "took": time.monotonic() - begun}


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _orders() -> Iterator[bytes]:
    """The lines that come, waited for with a limit.

    Python runs a signal's handler at its main thread's next step, so one that comes just before a call that waits for
    ever would have to wait as long; with orders and signals at the same moment this was seen once in seven times.
    """
    rest = b""
    while True:
        if not select.select([sys.stdin], [], [], 0.1)[0]:
            continue
        data = os.read(sys.stdin.fileno(), 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def main() -> None:
    name, host, port, options = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        peer = Peer(CLIENTS[name](host, int(port), **json.loads(options)))
    except Exception as error:
        print(json.dumps({"error": named(error, CLIENTS[name].own)}), flush=True)
        return
    print("{}", flush=True)
    for line in _orders():
        order = json.loads(line)
        if order["do"] == "exit":
            sys.exit(order["code"])
        if order["do"] == "end":
            return
        if order["do"] == "fail":
            raise ZeroDivisionError
        print(json.dumps(getattr(peer, order.pop("do"))(**order)), flush=True)


if __name__ == "__main__":
    main()
