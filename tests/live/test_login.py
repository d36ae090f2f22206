"""Logging in for a token, at a real agent: a JWT auth method stands for Kubernetes' own."""

from __future__ import annotations

import base64
import json
import logging
import time

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from consul_access import InvalidSettings, LoginToken, PermissionDenied, TtlCheck
from consul_access.consul import agent as agent_calls


def _part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def bearer(key, tmp_path):
    """Writes a service account's token to a file, as Kubernetes does."""
    path = tmp_path / "bearer"

    def write(service="orders"):
        claims = {"iss": "cluster", "service": service, "exp": int(time.time()) + 600, "iat": int(time.time())}
        signed = b".".join(_part(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, claims))
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        path.write_text((signed + b"." + _part(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode() + "\n")
        return path

    write()
    return write


@pytest.fixture
def auth_method(acl_consul, key):
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    config = {
        "JWTValidationPubKeys": [public.decode()],
        "JWTSupportedAlgs": ["ES256"],
        "BoundIssuer": "cluster",
        "ClaimMappings": {"service": "service"},
    }
    rule = {"AuthMethod": "pods", "BindType": "service", "BindName": "${value.service}"}
    for path, body in (("auth-method", {"Name": "pods", "Type": "jwt", "Config": config}), ("binding-rule", rule)):
        status, text = acl_consul.request("PUT", f"/v1/acl/{path}", body)
        assert status == 200, text
    yield "pods"
    acl_consul.request("DELETE", "/v1/acl/auth-method/pods")  # and every token made by it


def made(consul):
    """The tokens that logins have made and nobody has given back."""
    return [token for token in consul.read("/v1/acl/tokens") if token.get("AuthMethod") == "pods"]


def test_a_service_account_registers_its_own_service_and_no_other_and_gives_its_token_back(
    face, acl_consul, auth_method, bearer
):
    async def story():
        token = LoginToken(auth_method, bearer_file=bearer(), meta={"pod": "orders-0"})
        async with face.access(url=acl_consul.url, token=token) as access:
            async with access.registered("orders", port=8080, check=TtlCheck(15), id="orders-1") as keeper:
                assert keeper.state == "registered"
                assert len(made(acl_consul)) == 1
                with pytest.raises(PermissionDenied):
                    await access.register_service("payments", port=1, check=None)
        assert made(acl_consul) == []
        assert "orders-1" not in acl_consul.read("/v1/agent/services")

    face.run(story)


def test_a_revoked_token_is_replaced_by_another_login_with_the_bearer_of_now(face, acl_consul, auth_method, bearer):
    async def story():
        token = LoginToken(auth_method, bearer_file=bearer())
        async with face.access(url=acl_consul.url, token=token) as access:
            await access.register_service("orders", port=8080, check=None, id="orders-1")
            (first,) = made(acl_consul)
            await face.sleep(1.1)  # a token younger than a second is taken for new
            acl_consul.request("DELETE", f"/v1/acl/token/{first['AccessorID']}")
            bearer()
            assert await access.deregister_service("orders-1")
            (second,) = made(acl_consul)
            assert second["AccessorID"] != first["AccessorID"]

    face.run(story)


def test_a_bearer_that_is_not_accepted_is_an_error_that_shows_no_secret(
    face, acl_consul, auth_method, tmp_path, caplog
):
    secret = "eyJhbGciOiJFUzI1NiJ9.canary.canary"
    (tmp_path / "bad").write_text(secret)

    async def story():
        token = LoginToken(auth_method, bearer_file=tmp_path / "bad")
        async with face.access(url=acl_consul.url, token=token) as access:
            with pytest.raises(PermissionDenied, match="does not accept the bearer") as caught:  # agents say 500
                await access.send(agent_calls.services())
            assert caught.value.operation == "acl.login"
            assert secret not in f"{caught.value!r} {caught.value} {access!r} {access.settings!r}"

    with caplog.at_level(logging.DEBUG):
        face.run(story)
    assert secret not in caplog.text


def test_a_bearer_file_that_is_not_there_says_what_to_do(face, acl_consul, tmp_path):
    async def story():
        token = LoginToken(bearer_file=tmp_path / "none")
        async with face.access(url=acl_consul.url, token=token) as access:
            with pytest.raises(InvalidSettings, match="automountServiceAccountToken"):
                await access.services()

    face.run(story)


def test_a_deleted_auth_method_ends_what_was_logged_in(face, acl_consul, auth_method, bearer):
    async def story():
        token = LoginToken(auth_method, bearer_file=bearer())
        async with face.access(url=acl_consul.url, token=token) as access:
            await access.services()
            await face.sleep(1.1)  # a token younger than a second is taken for new
            acl_consul.request("DELETE", "/v1/acl/auth-method/pods")
            with pytest.raises(PermissionDenied):
                await access.send(agent_calls.services())

    face.run(story)
