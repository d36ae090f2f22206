"""How to reach etcd: arguments, etcdctl's variables, defaults."""

from __future__ import annotations

import ssl

import pytest

from consul_access.errors import InvalidSettings
from consul_access.etcd.settings import EtcdSettings
from consul_access.models.address import Address

CANARY = "s3cret-canary"


def load(*args, environ=None, **kwargs) -> EtcdSettings:
    return EtcdSettings.load(*args, environ=environ or {}, **kwargs)


def urls(*args, **kwargs) -> list[str]:
    return [target.url for target in load(*args, **kwargs).targets]


def test_an_etcd_on_this_machine_is_the_default():
    assert urls() == ["http://127.0.0.1:2379"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"host": "etcd.example"}, ["http://etcd.example:2379"]),
        ({"host": "::1", "port": 12379}, ["http://[::1]:12379"]),
        ({"endpoints": ["a:1", ("b", 2), Address("c", 3)]}, ["http://a:1", "http://b:2", "http://c:3"]),
        ({"endpoints": "a, https://b, http://c:3"}, ["http://a:2379", "https://b:2379", "http://c:3"]),
        ({"host": "a", "ca_cert": "ca.pem"}, ["https://a:2379"]),
        ({"endpoints": "a,http://b", "ssl_context": ssl.create_default_context()}, ["https://a:2379", "http://b:2379"]),
        ({"environ": {"ETCDCTL_ENDPOINTS": "a:1,b:2"}}, ["http://a:1", "http://b:2"]),
        ({"environ": {"ETCDCTL_ENDPOINTS": "a:1", "ETCDCTL_CACERT": "ca.pem"}}, ["https://a:1"]),
        ({"host": "x", "environ": {"ETCDCTL_ENDPOINTS": "a:1"}}, ["http://x:2379"]),
    ],
)
def test_where_to(given, expected):
    assert urls(**given) == expected


def test_the_etcd3_packages_names_for_certificates():
    settings = load(ca_cert="ca.crt", cert_cert="client.crt", cert_key="client.key")
    assert (settings.ca_cert, settings.client_cert, settings.client_key) == ("ca.crt", "client.crt", "client.key")


def test_etcdctls_variables_are_read_and_the_servers_are_not():
    environ = {
        "ETCDCTL_CERT": "c",
        "ETCDCTL_KEY": "k",
        "ETCDCTL_USER": "ann:pw",
        "ETCD_LISTEN_CLIENT_URLS": "http://x:1",
    }
    settings = load(environ=environ | {"ETCDCTL_INSECURE_SKIP_TLS_VERIFY": "true"})
    assert (settings.client_cert, settings.client_key, settings.user, settings.verify) == ("c", "k", "ann", False)
    assert settings.password.get_secret_value() == "pw"
    assert settings.targets[0].url == "https://127.0.0.1:2379"


def test_with_a_password_of_its_own_the_user_is_taken_whole():
    settings = load(environ={"ETCDCTL_USER": "ann:x", "ETCDCTL_PASSWORD": "pw"})
    assert (settings.user, settings.password.get_secret_value()) == ("ann:x", "pw")


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "ann"},
        {"password": "pw"},
        {"cert_cert": "c"},
        {"host": "a", "endpoints": "b"},
        {"endpoints": []},
        {"endpoints": f"ann:{CANARY}@a:1"},
        {"environ": {"ETCDCTL_ENDPOINTS": f"http://ann:{CANARY}@a:1"}},
        {"host": "http://a"},
        {"port": 0},
        {"endpoints": "ftp://a"},
        {"kubernetes_prefix": "registry/"},
        {"user": ":", "password": "x", "kubernetes_prefix": "/"},
    ],
)
def test_what_cannot_be_used_is_refused_without_telling_secrets(wrong):
    with pytest.raises(InvalidSettings) as caught:
        load(**wrong)
    assert CANARY not in str(caught.value)


def test_no_secret_is_printed():
    settings = load(user="ann", password=CANARY)
    assert CANARY not in repr(settings)
    assert CANARY not in str(vars(type(settings)))
