"""The etcd3 package beside the protobuf of this environment; `make compat` runs this beside each generation of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from importlib import metadata

import pytest

from consul_access import (
    AsyncEtcdRegistry,
    ConnectFailed,
    EtcdRegistry,
    InvalidSettings,
    OutcomeUnknown,
    PermissionDenied,
    RetryPolicy,
    TlsError,
    Unavailable,
)
from consul_access.compat import etcd3 as compat
from consul_access.compat.etcd3 import Etcd3Transport, install
from tests.support.waiting import eventually

BUSY = 30.0
ONCE = RetryPolicy.none()

ALONE = """
import json, os, sys
from importlib import metadata
from google.protobuf import descriptor_pool

def is_known(name):
    try:
        descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        return False
    return True

from consul_access.compat.etcd3 import install
before = dict(os.environ)
answers = [install(), install()]
import etcd3
host, port = sys.argv[1:]
client = etcd3.client(host, int(port))
client.put("k/1", "one")
client.put("k/2", "two")
lease = client.lease(30)
client.put("k/3", "three", lease)
found = {meta.key.decode(): value.decode() for value, meta in client.get_prefix("k/")}
events, cancel = client.watch_prefix("k/")
changed = client.replace("k/1", "one", "uno")
told = next(events)
cancel()
then = client.transaction(
    compare=[client.transactions.value("k/1") == "uno"],
    success=[client.transactions.delete("k/2")],
    failure=[],
)[0]
print(json.dumps({
    "answers": answers,
    "found": found,
    "event": [type(told).__name__, told.key.decode(), told.value.decode()],
    "changed": changed,
    "then": then,
    "remaining": lease.remaining_ttl > 0,
    "keys": [key.decode() for key in lease.keys],
    "version": client.status().version,
    "members": len(list(client.members)),
    "gone": client.get("k/2")[0] is None,
    "descending": [value.decode() for value, _ in client.get_prefix("k/", sort_order="descend", sort_target="key")],
    "default pool": [is_known(name) for name in ("kv.proto", "auth.proto", "rpc.proto")],
    "environment": dict(os.environ) == before,
}))
lease.revoke()
client.close()
"""


def alone(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a fresh interpreter says."""
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def carried(server, **kwargs):
    """An etcd3 client and the transport over it."""
    install()
    import etcd3

    client = etcd3.client(server.host, server.port, **kwargs)
    return client, Etcd3Transport(client)


def test_etcd3_works_after_install_and_the_default_pool_is_left_alone(etcd):
    done = alone(ALONE, etcd.host, str(etcd.port))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"].startswith(etcd.release)
    del found["version"]
    assert found == {
        "answers": [True, True],
        "found": {"k/1": "one", "k/2": "two", "k/3": "three"},
        "event": ["PutEvent", "k/1", "uno"],
        "changed": True,
        "then": True,
        "remaining": True,
        "keys": ["k/3"],
        "members": 1,
        "gone": True,
        "descending": ["three", "uno"],
        "default pool": [False, False, False],
        "environment": True,
    }


@pytest.mark.skipif(
    int(metadata.version("protobuf").split(".")[0]) < 4, reason="protobuf 3 takes such modules as they are"
)
def test_without_install_the_import_is_refused():
    done = alone("import etcd3")
    assert done.returncode != 0
    assert "Descriptors cannot be created directly" in done.stderr


def test_without_readable_source_our_own_descriptors_stand_in():
    code = """
from consul_access.compat import etcd3 as compat
compat._installed = lambda name: None
compat.install()
import etcd3
from etcd3.etcdrpc import RangeRequest, rpc_pb2
assert RangeRequest(key=b"k", sort_order=RangeRequest.DESCEND).SerializeToString() == b"\\n\\x01k(\\x02"
assert rpc_pb2.AlarmType.Name(rpc_pb2.NOSPACE) == "NOSPACE"
"""
    done = alone(code)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("kv", "auth", "rpc"):
        assert compat._own(name) == compat._installed(name)


def test_other_versions_and_modules_that_are_there_already_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if not isinstance(one, compat._Finder)])
    with monkeypatch.context() as patch:
        patch.setattr(compat.metadata, "version", lambda name: "0.13.0")
        assert install() is False
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "etcd3.etcdrpc.kv_pb2", json)
        assert install() is False
    assert not any(isinstance(one, compat._Finder) for one in sys.meta_path)

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(compat.metadata, "version", absent)
    with pytest.raises(InvalidSettings, match=r"consul-access\[etcd3\]"):
        install()


def test_only_what_has_a_channel_can_carry_and_only_for_threads(any_etcd):
    with pytest.raises(InvalidSettings, match="gRPC channel"):
        Etcd3Transport(object())
    client, transport = carried(any_etcd)

    async def ask() -> None:
        async with AsyncEtcdRegistry(any_etcd.host, any_etcd.port, transport=transport) as etcd:  # type: ignore[arg-type]
            await etcd.get("a")

    with pytest.raises(InvalidSettings, match="AsyncBaseTransport"):
        asyncio.run(ask())
    client.close()


def test_a_gateway_that_is_turned_off_is_not_needed(etcd_server):
    server = etcd_server(arguments=["--enable-grpc-gateway=false"], gateway=False)
    client, transport = carried(server)
    with EtcdRegistry(server.host, server.port, transport=transport) as etcd:
        with etcd.watch_prefix("a/") as events:
            etcd.put("a/1", "x")
            assert next(events).value == b"x"
        assert etcd.get("a/1")[0] == b"x"
        assert etcd.status().version.startswith(server.release)
    client.close()


def test_a_certificates_common_name_is_who_one_is(etcd_server, certificates):
    server = etcd_server("3.5", authority=certificates, client_certificates=True, token_ttl=300)
    server.enable_users({"ann": ("annpw", "ann/")})
    certificate, key = certificates.client(common_name="ann")
    files = {"ca_cert": str(certificates.file), "cert_cert": str(certificate), "cert_key": str(key)}
    client, transport = carried(server, **files)
    with EtcdRegistry(server.host, server.port, transport=transport) as etcd:
        etcd.put("ann/1", "x")
        assert etcd.get("ann/1")[0] == b"x"
        with pytest.raises(PermissionDenied):
            etcd.get("bob/1")
        with pytest.raises(PermissionDenied):
            next(etcd.watch_key("bob/1"))
    client.close()


def test_a_user_logs_in_over_the_channel_and_again_when_the_token_has_ended(etcd_with_users):
    server = etcd_with_users
    client, transport = carried(server)
    with EtcdRegistry(server.host, server.port, transport=transport, user="ann", password="annpw") as etcd:
        etcd.put("ann/1", "x")
        server.outlast_tokens("ann", "annpw")
        assert etcd.get("ann/1")[0] == b"x"
        with pytest.raises(PermissionDenied):
            etcd.get("bob/1")
    client.close()


def test_errors_of_the_channel_say_whether_anything_was_sent(etcd_server, certificates):
    server = etcd_server()
    client, transport = carried(server)
    with EtcdRegistry(server.host, server.port, transport=transport, retry=ONCE, timeout=1) as etcd:
        etcd.put("a", "1")
        server.pause()
        with pytest.raises(OutcomeUnknown):
            etcd.put("a", "2")
        server.resume()
        server.kill()

        def refused() -> bool:
            try:
                etcd.put("a", "3")
            except ConnectFailed:
                return True
            except OutcomeUnknown:  # it was on its way when the server was killed
                return False
            return False

        eventually(refused, within=BUSY, what="the channel knows that nobody listens")
        client.close()
        with pytest.raises(ConnectFailed, match="closed channel"):
            etcd.get("a")
    secured = etcd_server(authority=certificates)
    plain, transport = carried(secured)
    with EtcdRegistry(secured.host, secured.port, transport=transport, retry=ONCE, timeout=5) as etcd:
        with pytest.raises((TlsError, Unavailable)):
            etcd.get("a")
    plain.close()


def test_a_watch_goes_on_when_its_server_is_back_and_can_be_closed_while_nothing_happens(etcd_server, record_property):
    server = etcd_server()
    client, transport = carried(server, grpc_options=[("grpc.max_reconnect_backoff_ms", 500)])
    told: list[bytes] = []
    with EtcdRegistry(server.host, server.port, transport=transport) as etcd:
        watch = etcd.watch_prefix("a/", start_revision=1)
        reader = threading.Thread(target=lambda: told.extend(event.key for event in watch))
        reader.start()
        etcd.put("a/1", "x")
        eventually(lambda: told == [b"a/1"], within=BUSY, what="the first event")
        server.kill()
        server.run()
        server.put("a/2", "x")
        eventually(lambda: told == [b"a/1", b"a/2"], within=BUSY, what="the event after the restart")
        watch.close()
        reader.join(BUSY)
        assert not reader.is_alive()
    client.close()
