"""Fake etcds on a port, with all that tests want of a real server."""

from __future__ import annotations

import time

from consul_access.testing import FakeEtcd
from tests.support.etcd import NEWER, OLDER, ROOT_PASSWORD, EtcdServer
from tests.support.fakes import Served

GATEWAYS = {OLDER: 1, NEWER: 2}
"""The generation of the gateway that the real server of a release has."""


class FakeEtcdServer(Served, EtcdServer):
    """A fake, ready to be used when the block begins.

    Args:
        release: which it answers as, with the gateway that the real one has.
        token_ttl: seconds that a login is good for.
    """

    def __init__(self, release: str = OLDER, *, token_ttl: int | None = None) -> None:
        self.release = release
        self.host = "127.0.0.1"
        self.authority = None
        self.token_ttl = token_ttl
        self._root_token = None
        self.fake = FakeEtcd(release, gateway=GATEWAYS[release], token_ttl=token_ttl or 300.0, name="one")
        self.served = self.fake.serve()

    @property
    def port(self) -> int:  # type: ignore[override]
        return self.served.port

    def run(self) -> None:
        self.fake.start()

    def kill(self) -> None:
        self.fake.kill()

    def stop(self) -> None:
        self.fake.faults.end_streams()
        self.fake.kill()

    def outlast_tokens(self, user: str, password: str) -> None:
        assert self.token_ttl is not None
        time.sleep(self.token_ttl + 0.5)

    def enable_users(self, users: dict[str, tuple[str, str]]) -> None:
        self.fake.add_user("root", ROOT_PASSWORD)
        for name, (password, prefix) in users.items():
            self.fake.add_user(name, password, prefix=prefix)
        self._root_token = self.token("root", ROOT_PASSWORD)
