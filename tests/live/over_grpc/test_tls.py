"""TLS, where gRPC goes another way than the gateway."""

from __future__ import annotations

import ssl

import pytest

from consul_access import PermissionDenied, TlsError
from tests.live.test_etcd_tls import (  # noqa: F401 - told here as well
    test_an_unknown_authority_is_told_as_such,
    test_without_a_client_certificate_the_error_speaks_of_tls,
)
from tests.support.etcd import RELEASES


@pytest.fixture(params=RELEASES)
def release(request) -> str:
    return request.param


def test_mutual_tls(face, etcd_server, certificates, release):
    server = etcd_server(release, authority=certificates, client_certificates=True)
    certificate, key = certificates.client(common_name=None)
    context = ssl.create_default_context(cafile=certificates.file)
    context.load_cert_chain(certificate, key)

    async def story() -> None:
        tls = {"ca_cert": certificates.file, "cert_cert": certificate, "cert_key": key}
        async with face.etcd(server.host, server.port, **tls) as client:
            await client.put("a", "1")
            async with client.watch_prefix("a") as watch:
                await client.put("a", "2" * 100_000)
                assert len((await anext(watch)).value) == 100_000
        async with face.etcd(server.host, server.port, ssl_context=context) as client:
            with pytest.raises(TlsError, match="set_alpn_protocols"):
                await client.get("a")
        context.set_alpn_protocols(["h2"])
        async with face.etcd(server.host, server.port, ssl_context=context) as client:
            assert len((await client.get("a"))[0]) == 100_000

    face.run(story)


def test_a_certificates_common_name_is_the_user(face, etcd_server, certificates, release):
    server = etcd_server(release, authority=certificates, client_certificates=True, token_ttl=300)
    server.enable_users({"ann": ("annpw", "ann/")})
    certificate, key = certificates.client(common_name="ann")

    async def story() -> None:
        tls = {"ca_cert": certificates.file, "cert_cert": certificate, "cert_key": key}
        async with face.etcd(server.host, server.port, **tls) as client:
            await client.put("ann/1", "x")
            assert (await client.get("ann/1"))[0] == b"x"
            with pytest.raises(PermissionDenied):
                await client.put("bob/1", "x")
            async with client.watch_prefix("ann/") as watch:
                await client.put("ann/1", "y")
                assert (await anext(watch)).value == b"y"

    face.run(story)


def test_the_servers_certificate_need_not_be_a_clients(face, etcd_server, certificates, release):
    server = etcd_server(release, authority=certificates, client_certificates=True, server_usages="server")
    certificate, key = certificates.client(common_name=None)

    async def story() -> None:
        tls = {"ca_cert": certificates.file, "cert_cert": certificate, "cert_key": key}
        async with face.etcd(server.host, server.port, **tls) as client:
            await client.put("a", "1")
            assert (await client.get("a"))[0] == b"1"

    face.run(story)


def test_no_gateway_is_needed(face, etcd_server, release):
    server = etcd_server(release, arguments=["--enable-grpc-gateway=false"], gateway=False)

    async def story() -> None:
        async with face.etcd(server.host, server.port) as client:
            await client.put("a", "1")
            async with client.watch_key("a") as watch, client.registered("orders", "10.0.0.5", 8080):
                await client.put("a", "2")
                assert (await anext(watch)).value == b"2"
                (found,) = await client.instances("orders")
                assert found.address == ("10.0.0.5", 8080)

    face.run(story)
