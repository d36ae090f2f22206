"""Real etcd servers and clusters, on free ports of the loopback interface, gone without a trace afterwards."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from consul_access import testing
from tests.support.certificates import Authority
from tests.support.waiting import eventually
from tools import servers

__all__ = ["OLDER", "RELEASES", "EtcdCluster", "EtcdServer"]

OLDER, NEWER = "3.4", "3.5"
RELEASES: dict[str, Callable[[], Path]] = {OLDER: servers.etcd, NEWER: servers.etcd_newer}
"""3.4 answers with gateway v1. Debian's 3.5 answers with gateway v2, as 3.6 does everywhere."""

ROOT_PASSWORD = "the-root-password"


class EtcdServer(testing.EtcdServer):
    """A real etcd with a single member that can be asked with nothing of ours in between.

    Args:
        release: one of `RELEASES`.
        host: where it listens; any address of 127.0.0.0/8.
        authority: speaks https with a certificate of this authority.
        client_certificates: clients need a certificate of the authority, too.
        server_usages: what the server's certificate is for; `both`, or `server` alone.
        token_ttl: seconds that a login is good for; it is a server with users when this is given.
        gateway: whether it is expected to serve its JSON gateway.
        arguments: further ones for the command line.
    """

    def __init__(
        self,
        release: str = OLDER,
        *,
        host: str = "127.0.0.1",
        authority: Authority | None = None,
        client_certificates: bool = False,
        server_usages: str = "both",
        token_ttl: int | None = None,
        gateway: bool = True,
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(arguments=arguments)
        self.release = release
        self.gateway = gateway
        self.host = host
        self.authority = authority
        self.client_certificates = client_certificates
        self.server_usages = server_usages
        self.token_ttl = token_ttl
        self.cluster: str | None = None
        self._root_token: str | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.authority else 'http'}://{self.address}"

    def post(self, path: str, body: Any, *, token: str | None = None, timeout: float = 20.0) -> tuple[int, str]:
        """Status and text of a request that has nothing of ours in it."""
        with self._connection(timeout) as connection:
            headers = {"Authorization": token} if token else {}
            connection.request("POST", path, json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")

    def call(self, path: str, body: Any = None) -> dict[str, Any]:
        """A JSON answer; as root, on a server with users."""
        status, text = self.post(path, body or {}, token=self._root_token)
        if status != 200 and self._root_token is not None:
            self._root_token = self.token("root", ROOT_PASSWORD)
            status, text = self.post(path, body or {}, token=self._root_token)
        assert status == 200, f"{path}: {status} {text}"
        answer: dict[str, Any] = json.loads(text)
        return answer

    def put(self, key: str | bytes, value: str | bytes, **fields: Any) -> int:
        """Writes behind our back; the revision."""
        body = {"key": encoded(key), "value": encoded(value)} | fields
        return int(self.call("/v3/kv/put", body)["header"]["revision"])

    def delete(self, key: str | bytes) -> None:
        self.call("/v3/kv/deleterange", {"key": encoded(key)})

    def compact(self, revision: int | None = None) -> int:
        """Forgets everything before this revision, the present one by default."""
        wanted = revision or int(self.call("/v3/kv/range", {"key": encoded("x")})["header"]["revision"])
        status, text = self.post("/v3/kv/compaction", {"revision": wanted, "physical": True}, token=self._root_token)
        assert status == 200 or "has been compacted" in text, text  # nothing was written since the last time
        return wanted

    def clear(self) -> None:
        """Deletes every key."""
        self.call("/v3/kv/deleterange", {"key": "AA==", "range_end": "AA=="})

    def token(self, user: str, password: str) -> str:
        status, text = self.post("/v3/auth/authenticate", {"name": user, "password": password})
        assert status == 200, text
        return str(json.loads(text)["token"])

    def outlast_tokens(self, user: str, password: str) -> None:
        """Waits until a token that was made before has ended, which a busy server is slow to notice."""
        assert self.token_ttl is not None
        for token in [self.token(user, password) for _ in range(6)]:  # to look at one is to use it
            time.sleep(self.token_ttl + 2)
            if self.post("/v3/kv/range", {"key": encoded(f"{user}/")}, token=token)[0] == 401:
                return
        raise AssertionError("tokens do not end")

    def enable_users(self, users: dict[str, tuple[str, str]]) -> None:
        """Turns authentication on, with `root` and these users: password, and the prefix that each may use."""
        self.call("/v3/auth/user/add", {"name": "root", "password": ROOT_PASSWORD})
        self.call("/v3/auth/user/grant", {"user": "root", "role": "root"})
        for name, (password, prefix) in users.items():
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            permission = {"permType": "READWRITE", "key": encoded(prefix), "range_end": encoded(end)}
            self.call("/v3/auth/user/add", {"name": name, "password": password})
            self.call("/v3/auth/role/add", {"name": name})
            self.call("/v3/auth/role/grant", {"name": name, "perm": permission})
            self.call("/v3/auth/user/grant", {"user": name, "role": name})
        self.call("/v3/auth/enable")
        self._root_token = self.token("root", ROOT_PASSWORD)

    def is_ready(self) -> bool:
        """Whether it has a leader and says so."""
        try:
            status, text = self.post("/v3/maintenance/status", {}, timeout=2.0)
        except (OSError, http.client.HTTPException):
            return False
        if not self.gateway or self.server_usages == "server":  # the answer that a test wants to see
            return status in {404, 503}
        return status == 200 and bool(json.loads(text).get("leader"))

    def _found(self) -> Path:
        return RELEASES[self.release]()

    def _options(self) -> dict[str, str]:
        options = super()._options()
        if self.cluster is not None:
            options["initial-cluster"] = self.cluster
        if self.authority is not None:
            certificate, key = self.authority.server(self.home, self.host, clients_too=self.server_usages == "both")
            options |= {"cert-file": str(certificate), "key-file": str(key)}
            if self.client_certificates:
                options |= {"trusted-ca-file": str(self.authority.file), "client-cert-auth": "true"}
        if self.token_ttl is not None:
            options |= {"auth-token-ttl": str(self.token_ttl), "bcrypt-cost": "4"}
        return options

    @contextlib.contextmanager
    def _connection(self, timeout: float) -> Iterator[http.client.HTTPConnection]:
        connection: http.client.HTTPConnection
        if self.authority is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        else:
            context = ssl.create_default_context(cafile=self.authority.file)
            certificate, key = self.authority.client(common_name=None)
            context.load_cert_chain(certificate, key)
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)
        try:
            yield connection
        finally:
            connection.close()


class EtcdCluster:
    """Three members, each on an address of its own.

    Args:
        release: one of `RELEASES`.
        arguments: further ones for every member's command line.
    """

    def __init__(self, release: str = OLDER, *, arguments: Sequence[str] = ()) -> None:
        self.members = [EtcdServer(release, host=f"127.0.0.{n}", arguments=arguments) for n in (1, 2, 3)]
        for number, member in enumerate(self.members):
            member.name = f"m{number}"

    @property
    def endpoints(self) -> list[str]:
        return [member.address for member in self.members]

    def start(self) -> None:
        """Starts all members on free ports; others are taken when somebody was quicker."""
        for attempt in range(3):
            try:
                self._start()
            except RuntimeError:
                logs = "\n".join(f"--- {member.name}\n{member.log()[-2000:]}" for member in self.members)
                self.close()
                if attempt == 2 or "address already in use" not in logs:
                    raise RuntimeError(f"the cluster did not start:\n{logs}") from None
            else:
                return

    def _start(self) -> None:
        for member in self.members:
            member.prepare()
        cluster = ",".join(f"{m.name}=http://{m.host}:{m.peer_port}" for m in self.members)
        for member in self.members:
            member.cluster = cluster
            member.launch()
        for member in self.members:
            member.await_ready()

    def close(self) -> None:
        """Ends all members, and removes what they wrote."""
        for member in self.members:
            member.close()

    def compact(self) -> None:
        """Forgets everything before the present revision, as soon as there is a leader to ask."""

        def done() -> bool:
            try:
                self.running()[0].compact()
            except AssertionError:  # an election
                return False
            return True

        eventually(done, within=30, what="the store is compacted")

    def leader(self) -> EtcdServer:
        """The member that leads."""

        def found() -> EtcdServer | None:
            for member in self.running():
                status = member.call("/v3/maintenance/status")
                if status.get("leader") == status["header"]["member_id"]:
                    return member
            return None

        return eventually(found, within=30, what="there is a leader")

    def followers(self) -> list[EtcdServer]:
        leader = self.leader()
        return [member for member in self.running() if member is not leader]

    def running(self) -> list[EtcdServer]:
        return [member for member in self.members if member.process is not None]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()
