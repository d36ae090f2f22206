"""TLS and mutual TLS at real etcd servers, and the ways in which the gateway refuses it."""

from __future__ import annotations

import ssl

import pytest

from consul_access import ConnectionLost, GatewayUnusable, RetryPolicy, TlsError, Unavailable
from tests.support.certificates import Authority
from tests.support.etcd import RELEASES

ONCE = {"retry": RetryPolicy.none()}


@pytest.fixture(params=RELEASES)
def release(request) -> str:
    return request.param


@pytest.mark.parametrize("common_name", [None, "ann"])
def test_mutual_tls_as_kubernetes_has_it(face, etcd_server, certificates, release, common_name):
    server = etcd_server(release, authority=certificates, client_certificates=True)
    certificate, key = certificates.client(common_name=common_name)

    async def story() -> None:
        async with face.etcd(
            server.host, server.port, ca_cert=certificates.file, cert_cert=certificate, cert_key=key
        ) as client:
            await client.put("a", "1")
            assert (await client.get("a"))[0] == b"1"
            async with client.watch_prefix("a") as watch:
                await client.put("a", "2" * 100_000)
                assert len((await anext(watch)).value) == 100_000
        context = ssl.create_default_context(cafile=certificates.file)
        context.load_cert_chain(certificate, key)
        async with face.etcd(server.host, server.port, ssl_context=context) as client:
            assert len((await client.get("a"))[0]) == 100_000

    face.run(story)


def test_without_a_client_certificate_the_error_speaks_of_tls(face, etcd_server, certificates, release):
    server = etcd_server(release, authority=certificates, client_certificates=True)

    async def story() -> None:
        async with face.etcd(server.host, server.port, ca_cert=certificates.file) as client:
            with pytest.raises(TlsError, match="cert_cert"):
                await client.get("a")
            with pytest.raises(TlsError):
                await client.put("a", "1")

    face.run(story)


def test_an_unknown_authority_is_told_as_such(face, etcd_server, certificates, release):
    server = etcd_server(release, authority=certificates)
    foreign = Authority()

    async def story() -> None:
        async with face.etcd(server.host, server.port, ca_cert=foreign.file) as client:
            with pytest.raises(TlsError, match="ca_cert"):
                await client.get("a")
        async with face.etcd(f"{server.host}", server.port) as client:  # plain http
            with pytest.raises((TlsError, ConnectionLost)):
                await client.get("a")

    face.run(story)
    foreign.close()


def test_a_certificate_with_a_common_name_and_users_cannot_use_the_gateway(face, etcd_server, certificates, release):
    server = etcd_server(release, authority=certificates, client_certificates=True, token_ttl=300)
    server.enable_users({"ann": ("annpw", "ann/")})
    tls = {"ca_cert": certificates.file}
    named, named_key = certificates.client(common_name="ann")
    nameless, nameless_key = certificates.client(common_name=None)

    async def story() -> None:
        for user in ({}, {"user": "ann", "password": "annpw"}):
            async with face.etcd(
                server.host, server.port, cert_cert=named, cert_key=named_key, **tls, **user
            ) as client:
                with pytest.raises(GatewayUnusable, match="client certificate without one"):
                    await client.get("ann/1")
        async with face.etcd(
            server.host, server.port, cert_cert=nameless, cert_key=nameless_key, user="ann", password="annpw", **tls
        ) as client:
            await client.put("ann/1", "x")
            assert (await client.get("ann/1"))[0] == b"x"

    face.run(story)


def test_a_server_certificate_without_client_auth_is_told_as_such(face, etcd_server, certificates, release):
    server = etcd_server(release, authority=certificates, client_certificates=True, server_usages="server")
    certificate, key = certificates.client(common_name=None)

    async def story() -> None:
        async with face.etcd(
            server.host, server.port, ca_cert=certificates.file, cert_cert=certificate, cert_key=key, **ONCE
        ) as client:
            # One of the two texts that etcd has for it also stands for a server that is just ending.
            with pytest.raises((GatewayUnusable, Unavailable), match="clientAuth"):
                await client.get("a")

    face.run(story)


def test_a_gateway_that_is_turned_off_is_told_as_such(face, etcd_server, release):
    async def story() -> None:
        async with face.etcd(server.host, server.port) as client:
            with pytest.raises(GatewayUnusable, match="--enable-grpc-gateway"):
                await client.get("a")
            with pytest.raises(GatewayUnusable):
                async with client.watch_key("a"):
                    pass

    server = etcd_server(release, arguments=["--enable-grpc-gateway=false"], gateway=False)
    face.run(story)


def test_a_host_that_is_not_named_is_told_as_such(face, etcd_server, release):
    server = etcd_server(release, arguments=["--host-whitelist=etcd.example,127.0.0.1"])

    async def story() -> None:
        async with face.etcd("localhost", server.port) as client:
            with pytest.raises(GatewayUnusable, match="--host-whitelist"):
                await client.get("a")
        async with face.etcd(server.host, server.port) as client:
            assert await client.get("a") == (None, None)

    face.run(story)
