"""Users, passwords and tokens that end after four seconds."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from consul_access import (
    AuthenticationFailed,
    ConsulAccessError,
    EtcdRegistry,
    PermissionDenied,
    Timeouts,
    TokenUnknown,
)
from tests.support.waiting import eventually

PATIENT = Timeouts(read=40, total=40)
"""Logging in takes as long as a busy machine lets it."""


def test_a_user_reads_and_writes_what_it_may(face, etcd_with_users):
    server = etcd_with_users

    async def story() -> None:
        async with face.etcd(server.host, server.port, user="ann", password="annpw", timeout=PATIENT) as client:
            await client.put("ann/1", "x")
            assert (await client.get("ann/1"))[0] == b"x"
            with pytest.raises(PermissionDenied, match="role"):
                await client.get("other/1")
            with pytest.raises(PermissionDenied):
                await client.get_prefix("")
            assert "annpw" not in repr(client.settings) + repr(client)

    face.run(story)


def test_neither_password_nor_token_is_ever_written_down(face, etcd_with_users, caplog):
    server = etcd_with_users
    written: list[str] = []

    async def story() -> None:
        async with face.etcd(server.host, server.port, user="ann", password="annpw", timeout=PATIENT) as client:
            client.on_exchange(lambda exchange: written.append(repr(exchange)))
            await client.put("ann/1", "x")
            with pytest.raises(PermissionDenied) as caught:
                await client.get("other/1")
            inner = getattr(client, "_inner", client)
            written.extend([str(caught.value), repr(vars(inner)), repr(vars(inner._gateway)), repr(client.settings)])
            written.append(inner._gateway._login.known)

    with caplog.at_level(logging.DEBUG):
        face.run(story)
    token = written.pop()
    assert len(token) > 10
    told = "\n".join([*written, caplog.text])
    assert "kv.range" in told
    assert token not in told
    assert "annpw" not in told


def test_a_wrong_password_is_told_as_such(face, etcd_with_users):
    server = etcd_with_users

    async def story() -> None:
        async with face.etcd(server.host, server.port, user="ann", password="wr0ng-canary") as client:
            with pytest.raises(AuthenticationFailed, match="ETCDCTL_USER") as caught:
                await client.get("ann/1")
            assert "wr0ng-canary" not in str(caught.value) + repr(caught.value.__cause__)

    face.run(story)


def test_without_a_user_the_error_asks_for_one(face, etcd_with_users):
    server = etcd_with_users

    async def story() -> None:
        async with face.etcd(server.host, server.port) as client:
            with pytest.raises(TokenUnknown, match="user="):
                await client.get("ann/1")
            assert (await client.status()).version  # no proof of a login: it needs none

    face.run(story)


def test_where_there_are_no_users_a_password_does_no_harm(face, etcd):
    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port, user="ann", password="annpw", timeout=PATIENT) as client:
            await client.put("a", "1")
            assert (await client.get("a"))[0] == b"1"

    face.run(story)


def test_e08_a_token_that_has_ended_is_renewed(face, etcd_with_users, record_property):
    server = etcd_with_users
    ann = {"user": "ann", "password": "annpw", "timeout": PATIENT}

    async def story() -> None:
        async with (
            face.etcd(server.host, server.port, **ann) as client,
            face.etcd(server.host, server.port, **ann) as other,
        ):
            statuses: list[int | None] = []
            client.on_exchange(lambda exchange: statuses.append(exchange.status))
            await other.get("ann/1")
            async with client.watch_prefix("ann/") as watch:
                await client.put("ann/1", "before")
                server.outlast_tokens("ann", "annpw")
                begun = time.monotonic()
                await client.put("ann/1", "after")  # a write: the refused attempt did nothing
                record_property("written after", f"{time.monotonic() - begun:.2f} s")
                assert [(await anext(watch)).value for _ in range(2)] == [b"before", b"after"]
            assert set(statuses) == {200, 401}
            async with other.watch_prefix("ann/") as watch:  # begins with a token that has ended
                await other.put("ann/1", "again")
                assert (await anext(watch)).value == b"again"

    face.run(story)


def test_a_restarted_server_changes_nothing(face, etcd_with_users):
    server = etcd_with_users

    async def story() -> None:
        async with face.etcd(server.host, server.port, user="ann", password="annpw", timeout=PATIENT) as client:
            await client.put("ann/1", "x")
            server.restart()
            await client.put("ann/1", "y")
            assert (await client.get("ann/1"))[0] == b"y"

    face.run(story)


def test_many_callers_renew_a_token_once(etcd_with_users):
    server = etcd_with_users
    with EtcdRegistry(server.host, server.port, user="ann", password="annpw", timeout=PATIENT) as client:
        client.get("ann/1")
        renewals = 0
        login = client._gateway._login
        log_in = login._log_in

        def counted():
            nonlocal renewals
            renewals += 1
            return log_in()

        login._log_in = counted
        server.outlast_tokens("ann", "annpw")
        failures: list[ConsulAccessError] = []

        def call() -> None:
            try:
                client.get("ann/1")
            except ConsulAccessError as error:
                failures.append(error)

        threads = [threading.Thread(target=call) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert renewals == 1


def test_users_that_are_turned_on_later_are_met_with_a_login(etcd_server):
    server = etcd_server("3.4", token_ttl=4)
    with EtcdRegistry(server.host, server.port, user="ann", password="annpw", timeout=PATIENT) as client:
        client.put("ann/1", "x")
        server.enable_users({"ann": ("annpw", "ann/")})
        client.put("ann/1", "y")
        begun = time.monotonic()
        eventually(lambda: client.get("ann/1")[0] == b"y")
        assert time.monotonic() - begun < 10
