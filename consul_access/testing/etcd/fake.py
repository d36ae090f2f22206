"""`FakeEtcd`: an etcd made of memory, for httpx in the same process or on a port for everybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from consul_access.errors import InvalidInput
from consul_access.models.keys import key_bytes, prefix_end, value_bytes
from consul_access.testing.common.clock import Clock, RealClock
from consul_access.testing.common.exchange import Answer, Request
from consul_access.testing.common.fake import Fake, Shared
from consul_access.testing.common.faults import After
from consul_access.testing.etcd.access import ROOT
from consul_access.testing.etcd.dialect import Dialect
from consul_access.testing.etcd.faults import EtcdFaults
from consul_access.testing.etcd.front import Gateway, Held
from consul_access.testing.etcd.state import EtcdState

__all__ = ["FakeEtcd"]


class FakeEtcd(Fake[EtcdState]):
    """etcd's v3 JSON gateway: keys, transactions, leases, watches and users, as a chosen version answers.

    It answers as real servers do; its contract tests are run against them too. Use it through
    `EtcdRegistry(transport=fake.transport())`, or let it serve on a port: `with FakeEtcd().serve() as server`.

    Args:
        version: `3.4` (answers as 3.4.23), `3.5` (3.5.16), `3.6`, or a whole version.
        gateway: the generation of its gateway, 1 or 2; 2 from 3.6 on by default. Debian's 3.5 has 2.
        users: user names and passwords; each may use the keys that begin with its name and a slash, `root` all of them.
        token_ttl: seconds after its last use that a login is forgotten.
        clock: a `SimulatedClock`, when time shall pass only as you say; the real time otherwise.
        name: the member's name.
        seed: what ids and tokens are made from: the same seed gives the same.

    Raises:
        InvalidInput: there is no such version or gateway.
    """

    connection_limit = 10_000

    def __init__(
        self,
        version: str = "3.5",
        *,
        gateway: int | None = None,
        users: Mapping[str, str] | None = None,
        token_ttl: float = 300.0,
        clock: Clock | None = None,
        name: str = "default",
        seed: int = 0,
    ) -> None:
        clock = clock or RealClock()
        dialect = Dialect.of(version, gateway)
        state = EtcdState(dialect, name=name, now=clock.now(), token_ttl=token_ttl, seed=seed)
        self._gateway = Gateway(state, lambda: [server.url for server in self._servers])
        self._faults = EtcdFaults(self)
        self._share(Shared(state, clock))
        for user, password in (users or {}).items():
            self.add_user(user, password, prefix=f"{user}/")

    # --- what tests want to do to it ----------------------------------------------------------------------

    @property
    def faults(self) -> EtcdFaults:
        """What goes wrong, on switches: `fake.faults.lose_leader(for_=2)`."""
        return self._faults

    @property
    def version(self) -> str:
        """The version that it answers as."""
        return self.state.dialect.text

    @property
    def revision(self) -> int:
        """The store's revision."""
        return self.state.keys.store.revision

    def after(self, number: float) -> After[EtcdFaults]:
        """Has something go wrong later: `fake.after(3).requests.lose_leader(for_=2)`."""
        return self.faults.after(number)

    def put(self, key: str | bytes, value: str | bytes, lease: int = 0) -> int:
        """Writes a key behind the clients' backs; the revision.

        Raises:
            InvalidInput: there is no such lease.
        """
        with self.locked():
            keys = self.state.keys
            if lease and keys.leases.get(lease) is None:
                raise InvalidInput(f"there is no lease {lease}")
            keys.put({"key": key_bytes(key), "value": value_bytes(value), "lease": lease})
            keys.store.commit()
            self.notify()
            return self.revision

    def get(self, key: str | bytes) -> bytes | None:
        """What a key holds; None when it is not there."""
        with self.locked():
            found = self.state.keys.store.at(key_bytes(key), self.revision)
        return None if found is None else found.value

    def delete(self, key: str | bytes) -> bool:
        """Deletes a key behind the clients' backs; whether it was there."""
        with self.locked():
            gone = self.state.keys.delete({"key": key_bytes(key)})
            self.state.keys.store.commit()
            self.notify()
        return bool(gone)

    def keys(self) -> list[bytes]:
        """Every key there is, in order."""
        with self.locked():
            return [pair.key for pair in self.state.keys.store.find(b"\0", b"\0")]

    def compact(self, revision: int | None = None) -> int:
        """Forgets everything before this revision, the present one by default; the revision."""
        with self.locked():
            wanted = revision or self.revision
            if wanted > self.state.keys.store.compacted:
                self.state.keys.store.compact(wanted)
            self.notify()
        return wanted

    def add_user(self, name: str, password: str, *, prefix: str | bytes = "") -> None:
        """A user, who may use the keys that begin so; from the first one on tokens are needed. `root` may do all."""
        first = value_bytes(prefix)
        with self.locked():
            self.state.access.add(name, password, [] if name == ROOT else [(first, prefix_end(first))])

    def clear(self) -> None:
        """Deletes every key, ends every lease, and switches all faults off."""
        self.faults.heal()
        with self.locked():
            for lease in self.state.keys.leases.all():
                self.state.keys.leases.end(lease.id)
            self.state.keys.delete({"key": b"\0", "range_end": b"\0"})
            self.state.keys.store.commit()
            self.notify()

    def kill(self) -> None:
        """It ends without a word, as by SIGKILL; connections break."""
        with self.locked():
            self.state.is_up = False
            self.state.end_streams(broken=True)
            for server in self._servers:
                server.deafen()
            self.notify()

    def start(self, *, keep: bool = True) -> None:
        """Starts it again: tokens are gone, leases have their full time.

        Args:
            keep: with its keys and leases, or without.
        """
        with self.locked():
            self.state.is_up = True
            self.state.access.forget_tokens()
            if not keep:
                self.state.wipe()
            for lease in self.state.keys.leases.all():
                lease.until = self.state.now + lease.ttl
            for server in self._servers:
                server.listen()
            self.notify()

    # --- requests -----------------------------------------------------------------------------------------

    def request(self, path: str, body: Any = None, *, token: str = "", timeout: float | None = None) -> Answer:
        """Asks it something, past every client.

        Args:
            path: such as `/v3/kv/range`.
            body: to be sent as JSON; bytes as they are.
            token: to send it with.
            timeout: real seconds to wait at most.

        Raises:
            TimeoutError: there was no answer by then.
            ConnectionError: it is down, or a fault broke the connection.
        """
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return self.ask(Request("POST", path, {"authorization": token} if token else {}, data), timeout)

    def begin(self, request: Request) -> Answer | Held:
        """Takes a request that has arrived."""
        return self._gateway.begin(request)

    def resume(self, pending: Held) -> Answer | None:
        """Looks again at a request that waits; None if it goes on waiting."""
        return self._gateway.resume(pending)

    # --- inside -------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self.state.is_up

    @property
    def state(self) -> EtcdState:
        """All that it knows."""
        return self._shared.state

    def __repr__(self) -> str:
        state = "" if self.is_up else ", down"
        wrong = f", {', '.join(self.faults.active)}" if self.faults.active else ""
        return f"<FakeEtcd {self.version} at revision {self.revision}, {len(self.keys())} keys{state}{wrong}>"
