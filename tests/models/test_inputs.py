"""What may be sent, and what is refused with a sentence that helps."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import InvalidInput
from consul_access.models import inputs

ANYTHING = st.text(max_size=30) | st.integers() | st.none() | st.binary(max_size=5) | st.booleans() | st.floats()


@pytest.mark.parametrize("name", ["a", "a/b", "a b", "ä", "a_b", "a.b", "-", "..a", "a..", "x" * 5000])
def test_odd_ids_that_can_be_found_again_are_accepted(name):
    assert inputs.identifier(name, "id") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/a", "a//b", "a/", "a/../b", "a/./b", "a%2Fb", "a\nb", "\x00", "\ud800", 5, None]
)
def test_ids_that_could_never_be_deregistered_are_refused(name):
    with pytest.raises(InvalidInput, match="id"):
        inputs.identifier(name, "id")


def test_the_servers_own_name_is_refused():
    with pytest.raises(InvalidInput, match="another"):
        inputs.service_name("consul")


@pytest.mark.parametrize(
    ("name", "fits"), [("web-1", True), ("W", True), ("a_b", False), ("x" * 64, False), ("-a", False)]
)
def test_dns_holds_letters_digits_and_hyphens(name, fits):
    assert inputs.fits_dns(name) is fits


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("[::1]", "::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("web.example", "web.example"),
        ("a_b", "a_b"),
    ],
)
def test_hosts_are_addresses_or_names(host, written):
    assert inputs.host(host, "address") == written


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("0.0.0.0", "others can call"),
        ("::", "others can call"),
        ("[::]", "others can call"),
        ("http://evil", "URL"),
        ("10.0.0.0/24", "network"),
        ("host:80", "port="),
        ("10.0.0.5:80", "port="),
        ("a b", "no IP address"),
        ("", "no IP address"),
        ("999.1.1.1", "no IP address"),
        ("x" * 254, "no IP address"),
        ("a\n", "control character"),
        (5, "text"),
    ],
)
def test_other_things_are_no_hosts(host, text):
    with pytest.raises(InvalidInput, match=text):
        inputs.host(host, "address")


@pytest.mark.parametrize("port", [0, -1, 65536, 2**31, "80", 80.0, True, None])
def test_what_nothing_can_listen_on_is_no_port(port):
    with pytest.raises(InvalidInput, match="1 to 65535"):
        inputs.port(port)


def test_one_text_is_not_taken_apart_into_tags():
    with pytest.raises(InvalidInput, match=r"\['abc'\]"):
        inputs.check_tags("abc")
    assert inputs.check_tags(iter(["a", "b c", ""])) == ("a", "b c", "")


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({f"k{number}": "" for number in range(65)}, "64"),
        ({"": ""}, "illegal"),
        ({"a b": ""}, "illegal"),
        ({"a" * 129: ""}, "illegal"),
        ({5: ""}, "illegal"),
        ({"consul-x": ""}, "reserved"),
        ({"a": 5}, "texts only"),
        ({"a": None}, "texts only"),
        ({"a": "x" * 513}, "512 bytes"),
        ({"a": "é" * 257}, "512 bytes"),
        ({"a": "\n"}, "control character"),
    ],
)
def test_meta_beyond_the_agents_limits_is_refused(meta, text):
    with pytest.raises(InvalidInput, match=text):
        inputs.check_meta(meta)


def test_meta_at_the_limits_is_accepted():
    meta = {f"{number:0>128}": "é" * 256 for number in range(64)}
    assert inputs.check_meta(meta) == meta


@given(ANYTHING)
def test_anything_is_accepted_or_refused_and_what_is_accepted_obeys_the_rules(value):
    for check in (lambda: inputs.identifier(value, "x"), lambda: inputs.host(value, "x"), lambda: inputs.port(value)):
        try:
            found = check()
        except InvalidInput:
            continue
        if isinstance(found, int):
            assert 1 <= found <= 65535
        else:
            assert not re.search(r"[\x00-\x1f\x7f]", found)
            assert found.encode()


@given(st.ip_addresses())
def test_every_address_but_the_unspecified_is_a_host(address):
    if address.is_unspecified:
        with pytest.raises(InvalidInput):
            inputs.host(str(address), "address")
    else:
        assert ipaddress.ip_address(inputs.host(str(address), "address")) == address
