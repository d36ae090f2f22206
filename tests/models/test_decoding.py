"""Answers become values, or a `BadAnswer`; a bad entry does not spoil a good list."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from consul_access.call import Headers, Reply
from consul_access.decoding import decode, decode_list
from consul_access.errors import BadAnswer
from consul_access.models.catalog import Node
from consul_access.models.instance import ServiceInstance


def reply(body: bytes, index: str = "7") -> Reply:
    return Reply(200, Headers([(b"X-Consul-Index", index.encode())]), body, address="127.0.0.1:8500")


def entry(**service: object) -> dict[str, Any]:
    return {
        "Node": {"Node": "n1", "Address": "10.0.0.1"},
        "Service": {"ID": "a", "Service": "a", "Port": 80, **service},
    }


def entries(*found: object) -> Reply:
    return reply(json.dumps(found).encode())


WRONG = {
    "object": b"{}",
    "null": b"null",
    "text": b'"x"',
    "number": b"5",
    "true": b"true",
    "list of null": b"[null]",
    "list of number": b"[1]",
    "list of list": b"[[]]",
    "list of object": b"[{}]",
    "HTML": b"<html><body>502 Bad Gateway</body></html>",
    "nothing": b"",
    "truncated": b'[{"Node":{"Node":"n1"},"Service":{"ID":"a","Serv',
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'[{"a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]",
    "not UTF-8": b'["\xff\xfe"]',
    "half a character": b'["\\ud800"]',
    "number without end": b"[" + b"9" * 10_000 + b"]",
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_an_answer_of_the_wrong_shape_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer) as caught:
        decode_list(ServiceInstance, reply(body))

    assert caught.value.status == 200
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_bad_answer_for_a_list_of_texts_is_one_too(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        decode(list[str], reply(body))


def test_an_empty_list_is_a_good_answer() -> None:
    found = decode_list(ServiceInstance, reply(b" [] "))

    assert found == []
    assert (found.rejected, found.meta.index) == (0, 7)


@pytest.mark.parametrize(
    "bad",
    [entry(Port=port) for port in (99999, -1, "80", 80.5)]
    + [entry(Address=address) for address in ("http://evil", "a b", "host:80", "10.0.0.5\n", "10.0.0.1/24")]
    + [entry(ID=None), entry(Meta={"a": 5}), entry(Tags="a"), entry(Weights={"Passing": "x"})]
    + [{}, [], None, 5, "x", {"Service": None}, {**entry(), "Checks": [{"Status": "splendid"}]}],
)
def test_a_bad_entry_is_left_out_counted_and_logged(bad: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="consul_access"):
        found = decode_list(ServiceInstance, entries(entry(ID="first"), bad, entry(ID="last")))

    assert [instance.id for instance in found] == ["first", "last"]
    assert (found.rejected, found.meta.index) == (1, 7)
    assert "1 entries of 127.0.0.1:8500 cannot be used" in caplog.text


def test_a_list_with_nothing_but_bad_entries_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer, match="Port"):
        decode_list(ServiceInstance, entries(entry(Port=-1), entry(Port=70000)))


def test_unusual_values_survive_being_read_entry_by_entry() -> None:
    odd = entry(Meta={"text": 'ä \u2028 \U0001f600 " \\ \0'}, ModifyIndex=2**63 - 1, Novelty=[1e300, -0.0, 2**70])
    found = decode_list(ServiceInstance, entries(odd, {}))

    assert found[0].meta == odd["Service"]["Meta"]
    assert found[0].modify_index == 2**63 - 1


def test_the_error_names_the_place_and_quotes_the_beginning() -> None:
    with pytest.raises(BadAnswer) as caught:
        decode(Node, reply(b'{"Node": ["nested"]}'))

    assert "Node" in str(caught.value)
    assert caught.value.excerpt == '{"Node": ["nested"]}'


def test_a_whole_page_of_html_is_quoted_in_200_characters() -> None:
    with pytest.raises(BadAnswer) as caught:
        decode(str, reply(b"<html>" + b"x" * 10_000))

    assert caught.value.excerpt is not None
    assert len(caught.value.excerpt) == 200
