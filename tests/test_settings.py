"""Explicit argument, environment, default: what counts, and what cannot be used."""

from __future__ import annotations

import logging
import pickle
import ssl
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from consul_access import Address, ConsulSettings, InvalidSettings, RetryPolicy, Target, Timeouts
from consul_access.settings import ssl_context

CANARY = "canary-1f2e3d"


def load(*args: Any, environ: dict[str, str] | None = None, **kwargs: Any) -> ConsulSettings:
    return ConsulSettings.load(*args, environ=environ or {}, **kwargs)


def target(*args: Any, **kwargs: Any) -> Target:
    (only,) = load(*args, **kwargs).targets
    return only


def test_without_anything_it_is_the_agent_on_this_machine():
    assert target() == Target(Address("127.0.0.1", 8500))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("10.0.0.5:8501", "http://10.0.0.5:8501"),
        ("consul.example", "http://consul.example:80"),
        ("http://consul.example", "http://consul.example:80"),
        ("https://consul.example", "https://consul.example:443"),
        ("https://consul.example:8501/a/b/", "https://consul.example:8501/a/b"),
        ("HTTP://consul.example:1", "http://consul.example:1"),
        ("[::1]:8500", "http://[::1]:8500"),
        ("::1", "http://[::1]:80"),
        ("http://[2001:db8::1]:8500", "http://[2001:db8::1]:8500"),
        ("unix:///run/consul.sock", "unix:///run/consul.sock"),
    ],
)
def test_the_variable_takes_addresses_as_consuls_own_tools_do(text, url):
    assert target(environ={"CONSUL_HTTP_ADDR": text}).url == url


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ({"host": "10.0.0.5"}, "http://10.0.0.5:8500"),
        ({"port": 8501}, "http://127.0.0.1:8501"),
        ({"host": "::1", "port": 1}, "http://[::1]:1"),
        ({"host": "[::1]"}, "http://[::1]:8500"),
        ({"url": "https://consul.example"}, "https://consul.example:443"),
        ({"url": "unix:///x"}, "unix:///x"),
        ({"addresses": ["10.0.0.5"]}, "http://10.0.0.5:8500"),
        ({"addresses": [("10.0.0.5", 1)]}, "http://10.0.0.5:1"),
        ({"addresses": "10.0.0.5:2"}, "http://10.0.0.5:2"),
    ],
)
def test_an_argument_goes_before_the_variable(arguments, url):
    assert target(**arguments, environ={"CONSUL_HTTP_ADDR": "elsewhere:1"}).url == url


def test_https_by_variable_is_cancelled_by_an_explicit_url_only():
    environ = {"CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_ADDR": "http://consul.example:8501"}
    assert target(environ=environ).tls
    assert target("10.0.0.5", environ=environ).tls
    assert not target(url="http://consul.example", environ=environ).tls


@pytest.mark.parametrize("word", ["1", "t", "T", "TRUE", "true", "True"])
def test_the_words_for_true_are_gos(word):
    assert target(environ={"CONSUL_HTTP_SSL": word}).tls


@pytest.mark.parametrize("word", ["0", "f", "F", "FALSE", "false", "False"])
def test_the_words_for_false_are_gos(word):
    assert not load(environ={"CONSUL_HTTP_SSL_VERIFY": word}).verify


def test_another_word_is_ignored_and_said_to_be(caplog):
    with caplog.at_level(logging.WARNING):
        assert not target(environ={"CONSUL_HTTP_SSL": "yes"}).tls
    assert "CONSUL_HTTP_SSL='yes'" in caplog.text


def test_an_empty_variable_is_not_set():
    names = ("ADDR", "TOKEN", "TOKEN_FILE", "AUTH", "SSL", "SSL_VERIFY")
    settings = load(environ={f"CONSUL_HTTP_{name}": "" for name in names})
    assert settings == load() or settings.targets == load().targets
    assert settings.token.read() is None
    assert settings.http_auth is None
    assert settings.verify


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [
        ("CONSUL_NAMESPACE", "namespace", "n"),
        ("CONSUL_PARTITION", "partition", "p"),
        ("CONSUL_CACERT", "ca_cert", "/ca.pem"),
        ("CONSUL_CAPATH", "ca_path", "/certs"),
        ("CONSUL_TLS_SERVER_NAME", "tls_server_name", "server.dc1.consul"),
    ],
)
def test_a_variable_fills_a_field_and_an_argument_goes_before_it(variable, field, value):
    assert getattr(load(environ={variable: value}), field) == value
    assert getattr(load(**{field: "mine"}, environ={variable: value}), field) == "mine"


def test_the_port_of_a_tls_server_name_is_cut_off():
    assert load(environ={"CONSUL_TLS_SERVER_NAME": "name:8501"}).tls_server_name == "name"


def test_a_client_certificate_needs_its_key():
    environ = {"CONSUL_CLIENT_CERT": "/c.pem", "CONSUL_CLIENT_KEY": "/k.pem"}
    assert load(environ=environ).client_key == "/k.pem"
    for name in environ:
        with pytest.raises(InvalidSettings, match="belong together"):
            load(environ={name: "/x.pem"})


def test_the_order_of_tokens(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(" from argument file \n".replace(" ", ""))
    second.write_text("fromvariablefile")
    environ = {"CONSUL_HTTP_TOKEN": "variable", "CONSUL_HTTP_TOKEN_FILE": str(second)}
    assert load(token_file=first, token="argument", environ=environ).token.read() == "fromargumentfile"
    assert load(token="argument", environ=environ).token.read() == "argument"
    assert load(environ=environ).token.read() == "fromvariablefile"
    assert load(environ={"CONSUL_HTTP_TOKEN": "variable"}).token.read() == "variable"
    assert load().token.read() is None


@pytest.mark.parametrize(("text", "pair"), [("ann:pw:x", ("ann", "pw:x")), ("ann", ("ann", ""))])
def test_basic_authentication(text, pair):
    user, password = load(environ={"CONSUL_HTTP_AUTH": text}).http_auth
    assert (user, password.get_secret_value()) == pair
    assert load(http_auth=("bob", SecretStr("x")), environ={"CONSUL_HTTP_AUTH": text}).http_auth[0] == "bob"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"host": "http://x"}, "url="),
        ({"host": "x:8500"}, "port="),
        ({"host": ""}, "host"),
        ({"host": "a b"}, "no IP address and no name"),
        ({"port": 0}, "1 to 65535"),
        ({"port": 65536}, "1 to 65535"),
        ({"port": "8500"}, "1 to 65535"),
        ({"port": True}, "1 to 65535"),
        ({"url": "consul.example:8500"}, "scheme"),
        ({"url": "ftp://x"}, "ftp://"),
        ({"url": "http://x:port"}, "no address"),
        ({"url": "http://x?y=1"}, "query"),
        ({"url": "http://x#y"}, "query"),
        ({"url": "http://x/a/../b"}, "rewrite"),
        ({"url": "http://x/a//b"}, "rewrite"),
        ({"url": "http://x/\n"}, "control character"),
        ({"url": "unix://"}, "socket"),
        ({"url": "unix://" + "x" * 200}, "107"),
        ({"url": "http://x", "host": "y"}, "contradict"),
        ({"url": "http://x", "addresses": ["y"]}, "contradict"),
        ({"addresses": []}, "at least one"),
        ({"datacenter": ""}, "datacenter"),
        ({"namespace": "a\nb"}, "namespace"),
        ({"token": 5}, "token="),
        ({"max_connections": 0}, "max_connections"),
        ({"max_answer_bytes": 1.5}, "max_answer_bytes"),
        ({"http_auth": ("a:b", "c")}, "colon"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_write(arguments, text):
    with pytest.raises(InvalidSettings, match=text):
        load(**arguments)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "5", True, None])
@pytest.mark.parametrize("name", ["connect", "read", "write", "pool", "total"])
def test_a_time_limit_is_a_positive_number(name, limit):
    with pytest.raises(InvalidSettings, match=name):
        Timeouts(**{name: limit})


def test_a_number_is_the_whole_calls_time():
    assert load(timeout=3).timeouts == Timeouts(read=3, total=3)
    assert load(timeout=Timeouts(connect=1)).timeouts.total == 10


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"attempts": 1.5}, {"base": -1}, {"cap": float("nan")}])
def test_a_retry_policy_has_bounds(wrong):
    with pytest.raises(InvalidSettings):
        RetryPolicy(**wrong)
    assert RetryPolicy.none().attempts == 1


def test_no_secret_is_seen_in_settings_or_their_errors(tmp_path):
    file = tmp_path / "token"
    file.write_text(CANARY)
    seen = []
    for settings in (
        load(token=CANARY, http_auth=("ann", CANARY)),
        load(token=SecretStr(CANARY)),
        load(token=file),
        load(token=lambda: CANARY),
        load(environ={"CONSUL_HTTP_TOKEN": CANARY, "CONSUL_HTTP_AUTH": f"ann:{CANARY}"}),
    ):
        settings.token.read()
        seen += [repr(settings), str(settings), f"{settings}", repr(settings.token), str(settings.token)]
    for wrong in ({"token": f"{CANARY}\n"}, {"url": f"http://ann:{CANARY}@x"}, {"http_auth": ("ann", f"{CANARY}\n")}):
        with pytest.raises(InvalidSettings) as caught:
            load(**wrong)
        seen += [str(caught.value), repr(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)]
    with pytest.raises(InvalidSettings) as caught:
        load(environ={"CONSUL_HTTP_ADDR": f"ann:{CANARY}@x:8500"})
    seen.append(str(caught.value))
    assert CANARY not in "\n".join(seen)


class TestTls:
    @pytest.fixture
    def files(self, tmp_path):
        authority = trustme.CA()
        certificate = authority.issue_cert("client.example")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        return tmp_path

    def test_certificates_are_checked_unless_told_otherwise(self, files):
        context = ssl_context(
            load(ca_cert=files / "ca.pem", client_cert=files / "cert.pem", client_key=files / "key.pem")
        )
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert len(context.get_ca_certs()) == 1

        assert ssl_context(load(verify=False)).verify_mode is ssl.CERT_NONE
        assert ssl_context(load(environ={"CONSUL_HTTP_SSL_VERIFY": "false"})).check_hostname is False

    def test_without_files_the_systems_authorities_count(self):
        assert ssl_context(load()).verify_mode is ssl.CERT_REQUIRED

    @pytest.mark.parametrize("name", ["ca_cert", "client_cert"])
    def test_a_file_that_cannot_be_used_is_named(self, files, name):
        for content in (None, "no certificate"):
            bad = files / "bad.pem"
            if content is not None:
                bad.write_text(content)
            given = {name: bad} | ({"client_key": files / "key.pem"} if name == "client_cert" else {})
            with pytest.raises(InvalidSettings, match=r"bad\.pem"):
                ssl_context(load(**given))


HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z][a-z0-9]{0,5}){0,2}", fullmatch=True) | st.ip_addresses().map(str)
PREFIXES = st.lists(st.from_regex(r"[a-z0-9_-]{1,5}", fullmatch=True), max_size=3).map(
    lambda all: "".join(f"/{one}" for one in all)
)


@given(HOSTS, st.integers(1, 65535), st.booleans(), PREFIXES)
def test_a_target_written_as_a_url_is_the_same_target(host, port, tls, prefix):
    written = Target(Address(host, port), tls=tls, prefix=prefix)
    assert target(url=written.url) == written


@given(st.text(max_size=30) | st.text("0123456789.:/[]@-%?#ahtpunix", max_size=30))
def test_any_text_is_an_address_or_refused(text):
    for way in ({"url": text}, {"host": text}, {"addresses": [text]}, {"environ": {"CONSUL_HTTP_ADDR": text}}):
        try:
            found = target(**way)
        except InvalidSettings:
            continue
        assert found.unix_path or 1 <= found.address.port <= 65535
        assert "\n" not in found.url


def test_targets_can_be_compared_hashed_and_sent_to_another_process():
    one = target("10.0.0.5").pinned("10.0.0.6")
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(target("10.0.0.5").pinned("10.0.0.6"))
    assert str(one) == "10.0.0.5:8500 (10.0.0.6)"


@pytest.mark.parametrize(
    ("where", "is_local"),
    [
        ({"host": "127.0.0.9"}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"url": "unix:///x"}, True),
        ({"host": "10.0.0.5"}, False),
        ({"host": "consul.example"}, False),
    ],
)
def test_a_target_knows_whether_it_is_on_this_machine(where, is_local):
    assert target(**where).is_local is is_local
