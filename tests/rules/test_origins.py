"""Where settings come from: the same precedence as the client's own, and never a secret."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import ConsulSettings, EtcdSettings, InvalidSettings
from consul_access.rules.origins import (
    MASK,
    consul_origins,
    environment_remarks,
    etcd_origins,
    has_consul,
    has_etcd,
)
from consul_access.rules.remarks import RemarkCode
from consul_access.tokens import FileToken

NOTHING: dict[str, str | None] = {}


def told(origins, setting):
    (found,) = (one for one in origins if one.setting == setting)
    return found.value, found.source


def codes(environ):
    return [remark.code for remark in environment_remarks(environ)]


def test_options_go_before_variables_and_variables_before_defaults():
    environ = {"CONSUL_HTTP_ADDR": "10.0.0.1:8500"}
    assert told(consul_origins({}, NOTHING), "address") == ("127.0.0.1:8500", "default")
    assert told(consul_origins(environ, NOTHING), "address") == ("10.0.0.1:8500", "CONSUL_HTTP_ADDR")
    assert told(consul_origins(environ, {"--http-addr": "h:1"}), "address") == ("h:1", "--http-addr")
    assert told(etcd_origins({"ETCDCTL_CERT": "/c"}, NOTHING), "client certificate") == ("/c", "ETCDCTL_CERT")


def test_an_empty_variable_counts_as_not_set():
    assert told(consul_origins({"CONSUL_HTTP_TOKEN": ""}, NOTHING), "token") == ("none", "default")
    assert not has_consul({"CONSUL_HTTP_ADDR": ""})
    assert not has_etcd({"ETCDCTL_USER": "", "ETCD_NAME": "a server's"})


def test_it_tells_of_the_token_what_the_client_takes(tmp_path):
    (tmp_path / "token").write_text("in the file")
    environ = {"CONSUL_HTTP_TOKEN": "in the variable", "CONSUL_HTTP_TOKEN_FILE": str(tmp_path / "token")}
    assert isinstance(ConsulSettings.load(environ=environ).token, FileToken)
    assert told(consul_origins(environ, NOTHING), "token") == (str(tmp_path / "token"), "CONSUL_HTTP_TOKEN_FILE")
    assert codes(environ) == [RemarkCode.TOKEN_SHADOWED]


@pytest.mark.parametrize("value", ["yes", "on", "maybe"])
def test_a_flag_that_is_ignored_is_told_as_ignored(value):
    environ = {"CONSUL_HTTP_SSL": value}
    assert not ConsulSettings.load(environ=environ).targets[0].tls
    assert told(consul_origins(environ, NOTHING), "https") == ("false", "default")
    assert codes(environ) == [RemarkCode.FLAG_IGNORED]


@pytest.mark.parametrize("value", ["1", "true", "T"])
def test_a_flag_that_counts_is_told(value):
    environ = {"CONSUL_HTTP_SSL": value}
    assert ConsulSettings.load(environ=environ).targets[0].tls
    assert told(consul_origins(environ, NOTHING), "https") == (value, "CONSUL_HTTP_SSL")
    assert codes(environ) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CONSUL_TOKEN", "CONSUL_HTTP_TOKEN"),
        ("CONSUL_HOST", "CONSUL_HTTP_ADDR"),
        ("CONSUL_HTTP_ADDRS", "CONSUL_HTTP_ADDR"),
        ("CONSUL_HTTP_TOKEN_FILES", "CONSUL_HTTP_TOKEN_FILE"),
        ("ETCDCTL_ENDPOINT", "ETCDCTL_ENDPOINTS"),
        ("ETCD_ENDPOINTS", "ETCDCTL_ENDPOINTS"),
    ],
)
def test_a_variable_that_nobody_reads_is_told_with_the_one_that_is_meant(name, meant):
    (remark,) = environment_remarks({name: "x"})
    assert (remark.code, remark.severity) == (RemarkCode.VARIABLE_NOT_READ, "warning")
    assert name in remark.text
    assert remark.remedy == f"Is {meant} meant?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONSUL_PORT", "tcp://10.96.0.1:8500"),  # Kubernetes, for a Service named `consul`
        ("CONSUL_PORT_8500_TCP", "tcp://10.96.0.1:8500"),
        ("CONSUL_SERVICE_HOST", "10.96.0.1"),
        ("CONSUL_BIN", "/usr/bin/consul"),
        ("ETCD_DATA_DIR", "/var/lib/etcd"),
        ("PATH", "/bin"),
    ],
)
def test_what_others_set_for_themselves_is_not_mentioned(name, value):
    assert codes({name: value}) == []


def test_proxies_are_told_as_not_used():
    assert codes({"https_proxy": "http://proxy:3128"}) == [RemarkCode.PROXY_NOT_USED]


secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="@:/,*"), min_size=8
)  # a mask is stars


@given(secret=secrets)
def test_no_secret_is_ever_told(secret):
    environ = {
        "CONSUL_HTTP_TOKEN": secret,
        "CONSUL_HTTP_AUTH": f"ann:{secret}",
        "CONSUL_HTTP_ADDR": f"http://ann:{secret}@consul:8500",
        "ETCDCTL_USER": f"ann:{secret}",
        "ETCDCTL_PASSWORD": secret,
        "ETCDCTL_ENDPOINTS": f"http://ann:{secret}@etcd:2379",
        "CONSUL_TOKEN": secret,
        "HTTPS_PROXY": f"http://ann:{secret}@proxy",
        "CONSUL_HTTP_SSL": secret,
    }
    everything = json.dumps(
        [consul_origins(environ, NOTHING), etcd_origins(environ, NOTHING), list(environment_remarks(environ))]
    )
    alone = json.dumps([consul_origins({}, NOTHING), etcd_origins({}, NOTHING)])
    written = json.dumps(secret)[1:-1]
    assert written not in everything or written in alone
    assert MASK in everything


@given(st.dictionaries(st.sampled_from(["CONSUL_HTTP_ADDR", "CONSUL_NAMESPACE", "CONSUL_CACERT"]), st.text()))
def test_whatever_the_environment_holds_there_is_one_line_a_setting(environ):
    settings = [one.setting for one in consul_origins(environ, NOTHING)]
    assert len(settings) == len(set(settings))
    assert all(one.value for one in consul_origins(environ, NOTHING))


def test_etcd_s_own_reading_of_a_user_is_the_one_that_is_told():
    environ = {"ETCDCTL_USER": "ann:pw"}
    assert EtcdSettings.load(environ=environ).user == "ann"
    assert told(etcd_origins(environ, NOTHING), "user") == (f"ann:{MASK}", "ETCDCTL_USER")
    with pytest.raises(InvalidSettings):
        EtcdSettings.load(environ={"ETCDCTL_PASSWORD": "pw"})
