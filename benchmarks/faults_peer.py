"""Another client, or ours, in a process of its own: does what it is told, and tells what came of it.

Arguments: the client's name, host and port. Orders come as JSON lines; each is answered by one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any


class Consul:
    """py-consul."""

    def __init__(self, host: str, port: int) -> None:
        import consul

        self._client = consul.Consul(host=host, port=port, token="canary-of-the-peers-1")

    def read(self) -> list[str]:
        _, entries = self._client.health.service("web", passing=True)
        return [f"{one['Service']['Address']}:{one['Service']['Port']}" for one in entries]

    def register(self) -> None:
        from consul import Check

        self._client.agent.service.register("web", "web-1", address="10.0.0.5", port=8080, check=Check.ttl("30s"))
        self._client.agent.check.ttl_pass("service:web-1")

    def deregister(self) -> None:
        self._client.agent.service.deregister("web-1")

    def keep(self) -> None:
        """The recipe that is found everywhere: register, and deregister at the interpreter's end."""
        import atexit

        self.register()
        atexit.register(self.deregister)

    def follow(self, told: Any) -> None:
        """The documentation's loop, which would end at the first exception, with a pause of 1 s after each."""
        index = None
        while True:
            try:
                index, entries = self._client.health.service("web", index=index, wait="55s", passing=True)
                told([one["Service"]["ID"] for one in entries], False)
            except Exception as error:
                told(type(error).__name__, None)
                time.sleep(1)


class Ours:
    """consul-access at Consul."""

    def __init__(self, host: str, port: int) -> None:
        from consul_access import ConsulAccess

        self._client = ConsulAccess(host, port, token="canary-of-the-peers-1")

    def read(self) -> list[str]:
        return [str(one) for one in self._client.search_service("web")]

    def register(self) -> None:
        from consul_access import TtlCheck

        self._client.register_service("web", "10.0.0.5", 8080, id="web-1", check=TtlCheck(30))

    def keep(self) -> None:
        from consul_access import TtlCheck

        self._kept = self._client.registered("web", "10.0.0.5", 8080, id="web-1", check=TtlCheck(30)).start()

    def follow(self, told: Any) -> None:
        self._resolver = self._client.resolver("web").start()
        last = None
        while True:
            snapshot = self._resolver.snapshot()
            now = ([one.id for one in snapshot], snapshot.is_stale)
            if now != last:
                told(*now)
                last = now
            time.sleep(0.005)


class Etcd3:
    """The etcd3 package."""

    def __init__(self, host: str, port: int) -> None:
        import etcd3

        self._client = etcd3.client(host=host, port=port, timeout=5)

    def read(self) -> list[str]:
        return sorted(metadata.key.decode().rpartition("/")[2] for _, metadata in self._client.get_prefix("web/"))

    def register(self) -> None:
        self._lease = self._client.lease(3)
        self._client.put("web/web-1", "10.0.0.5:8080", lease=self._lease)

    def keep(self) -> None:
        self.register()

        def beat() -> None:
            while True:
                time.sleep(1)
                try:
                    self._lease.refresh()
                except Exception:  # its documentation says nothing about what to do
                    time.sleep(0.1)

        threading.Thread(target=beat, daemon=True).start()

    def follow(self, told: Any) -> None:
        while True:
            try:
                events, _ = self._client.watch_prefix("web/")
                for event in events:
                    told([event.key.decode().rpartition("/")[2]], False)
            except Exception as error:
                told(type(error).__name__, None)
                time.sleep(1)


class OursAtEtcd:
    """consul-access at etcd."""

    def __init__(self, host: str, port: int) -> None:
        from consul_access import EtcdRegistry

        self._client = EtcdRegistry(host, port, ttl=3)

    def read(self) -> list[str]:
        return sorted(item.metadata.key.decode().rpartition("/")[2] for item in self._client.get_prefix("web/"))

    def register(self) -> None:
        self.keep()

    def keep(self) -> None:
        self._lease = self._client.registered("kept", "10.0.0.5", 8080, id="web-1").start()

    def follow(self, told: Any) -> None:
        with self._client.watch_prefix("web/") as watch:
            for event in watch:
                told([event.key.decode().rpartition("/")[2]], False)


CLIENTS: dict[str, Any] = {"py-consul": Consul, "ours": Ours, "etcd3": Etcd3, "ours-etcd": OursAtEtcd}


class Peer:
    """Carries orders out."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._told: list[tuple[float, Any, bool | None]] = []

    def reads(self, times: int, pause: float) -> dict[str, Any]:
        """Reads so often: what each brought, or the error's name, and how long the longest took."""
        found: list[Any] = []
        longest = 0.0
        for _ in range(times):
            begun = time.monotonic()
            try:
                found.append(self._client.read())
            except Exception as error:
                found.append(type(error).__name__)
            longest = max(longest, time.monotonic() - begun)
            time.sleep(pause)
        return {"found": found, "longest": longest, "memory": _peak()}

    def register(self) -> dict[str, Any]:
        return self._tried(self._client.register)

    def keep(self) -> dict[str, Any]:
        return self._tried(self._client.keep)

    def follow(self) -> dict[str, Any]:
        def told(what: Any, flagged: bool | None) -> None:
            self._told.append((time.monotonic(), what, flagged))

        threading.Thread(target=self._client.follow, args=(told,), daemon=True).start()
        return {}

    def told(self) -> dict[str, Any]:
        return {"told": list(self._told)}

    def fork(self, times: int) -> dict[str, Any]:
        """Reads in a child and in its parent at once; how many brought what the other one asked for."""
        self._client.read()
        child = os.fork()
        name = "a" if child else "b"
        wrong = 0
        for _ in range(times):
            try:
                wrong += self._of(name) not in ([name], ["error"])
            except Exception:
                continue
        if not child:
            os._exit(min(wrong, 200))
        _, status = os.waitpid(child, 0)
        return {"wrong": wrong + os.waitstatus_to_exitcode(status)}

    def _of(self, name: str) -> list[str]:
        if isinstance(self._client, Consul):
            return [one["Service"]["ID"] for one in self._client._client.health.service(name)[1]]
        return [one.id for one in self._client._client.instances(name)]

    def _tried(self, work: Any) -> dict[str, Any]:
        begun = time.monotonic()
        try:
            work()
        except Exception as error:
            return {"error": type(error).__name__, "took": time.monotonic() - begun}
        return {"error": None, "took": time.monotonic() - begun}


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    name, host, port = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    peer = Peer(CLIENTS[name](host, int(port)))
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "exit":
            sys.exit()
        print(json.dumps(getattr(peer, order.pop("do"))(**order)), flush=True)


if __name__ == "__main__":
    main()
