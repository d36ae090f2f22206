"""Addresses that are read without Pydantic's core: the same as the instances' own, or none at all."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consul_access.call import Headers, Reply
from consul_access.consul import health, plain
from consul_access.consul.plain import SHORT, plain_addresses
from consul_access.errors import BadAnswer
from consul_access.models.address import Address
from consul_access.models.instance import AllPassing
from consul_access.rules.choosing import addresses_of
from tests.support.scripted import answer

ENTRY: dict[str, Any] = {
    "Node": {
        "ID": "b6d8", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
        "TaggedAddresses": {"lan": "10.0.0.1", "wan": "10.0.0.1"}, "Meta": {"consul-network-segment": ""},
        "CreateIndex": 1, "ModifyIndex": 2,
    },
    "Service": {
        "ID": "web-1", "Service": "web", "Tags": ["a", "b"], "Address": "10.0.0.5", "Meta": {"version": "2"},
        "TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": 80}}, "Port": 8080,
        "Weights": {"Passing": 10, "Warning": 3}, "EnableTagOverride": False,
        "Proxy": {"Mode": "", "MeshGateway": {}, "Expose": {}}, "Connect": {}, "CreateIndex": 3, "ModifyIndex": 4,
    },
    "Checks": [{"Node": "n1", "CheckID": "serfHealth", "Status": "passing", "ServiceTags": [], "Definition": {}}],
}  # fmt: skip
LOOKED_AT = [
    field["validation_alias"]
    for field in AllPassing.core_schema()["schema"]["fields"]  # type: ignore[typeddict-item]
    if isinstance(field["validation_alias"], list)
]
"""Where in an entry an instance looks."""
PLACES = [*LOOKED_AT, *([*path[:end]] for path in LOOKED_AT for end in (1, 2)), ["Checks"], ["id"], ["\0"]]

hosts = st.ip_addresses().map(str) | st.sampled_from(
    ["", "web", "0.0.0.0", "::", "127.0.0.1", "::1", "fe80::1%eth0", "fe80::1%a b", "1.2.3.04", "１.2.3.4", " 10.0.0.1"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70000) | st.sampled_from([10**30, 1.5, 80.0]) | st.text(max_size=5)
    | hosts | st.sampled_from(["kubernetes", "80", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
changes = st.lists(st.tuples(st.sampled_from(PLACES), values), max_size=3)


def changed(*made: tuple[list[str], object]) -> dict[str, Any]:
    """The entry with other values in some places."""
    entry = copy.deepcopy(ENTRY)
    for (*outer, last), value in made:
        place: Any = entry
        for key in outer:
            place = place.setdefault(key, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = value
    return entry


def without(path: list[str]) -> dict[str, Any]:
    entry = copy.deepcopy(ENTRY)
    place = entry
    for key in path[:-1]:
        place = place.get(key, {})
    place.pop(path[-1], None)
    return entry


def of_instances(body: bytes) -> tuple[list[Address] | None, bool]:
    """The addresses of the instances in an answer, and whether there was nothing to say about any of them."""
    try:
        found = health.instances("web").read(Reply(200, Headers(), body))
    except BadAnswer:
        return None, False
    usable = [one for one in found if one.is_callable]
    return addresses_of(usable, "web"), len(usable) == len(found) and not found.rejected


def assert_the_same_or_nothing(body: bytes) -> None:
    found = plain_addresses(body)
    assert found is None or (found, True) == of_instances(body)


@given(st.lists(changes.map(lambda made: changed(*made)), max_size=3), st.booleans())
def test_what_is_told_the_instances_tell_too(entries, is_ascii):
    text = json.dumps(entries, ensure_ascii=is_ascii)
    assert_the_same_or_nothing(text.encode("utf-8", "surrogatepass"))


@given(values)
def test_nothing_is_told_about_what_is_no_list(value):
    assert_the_same_or_nothing(json.dumps(value).encode("utf-8", "surrogatepass"))


@given(st.data(), st.binary(min_size=1, max_size=4) | st.sampled_from([b'"', b"\\ud800", b"{", b"]", b"1e999", b"NaN"]))
def test_damage_is_never_overlooked(data, damage):
    body = json.dumps([ENTRY]).encode()
    begin = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(begin, min(begin + 3, len(body))))
    assert_the_same_or_nothing(body[:begin] + damage + body[end:])


DEEP = json.dumps([changed((["Checks"], 0))])


@given(st.integers(0, 250), st.sampled_from([("[", "]"), ('{"a":', "}")]))
@example(250, ("[", "]"))
def test_answers_are_no_deeper_than_the_core_lets_them_be(levels, brackets):
    opening, closing = brackets
    body = DEEP.replace('"Checks": 0', f'"Checks": {opening * levels}1{closing * levels}').encode()
    assert_the_same_or_nothing(body)


@pytest.mark.parametrize(
    ("key", "before"),
    [
        ("Port", "1"),
        ("Port", "null"),
        ("Address", '"10.0.0.9"'),
        ("Meta", "7"),
        ("Service", '{"Port": 9}'),
        ("Node", "[]"),
    ],
)
def test_of_a_key_that_is_there_twice_the_last_counts_as_it_does_for_instances(key, before):
    body = json.dumps([ENTRY]).replace(f'"{key}": ', f'"{key}": {before}, "{key}": ').encode()
    assert plain_addresses(body) == [("10.0.0.5", 8080)]
    assert_the_same_or_nothing(body)


@pytest.mark.parametrize("path", LOOKED_AT, ids=".".join)
def test_whatever_an_instance_looks_at_is_looked_at(path):
    for wrong in (1.5, [[]], {"a": []}, True):
        assert plain_addresses(json.dumps([changed((path, wrong))]).encode()) is None
    assert_the_same_or_nothing(json.dumps([without(path)]).encode())


@pytest.mark.parametrize(
    ("made", "address"),
    [
        ((), ("10.0.0.5", 8080)),
        (((["Service", "Address"], ""),), ("10.0.0.1", 8080)),
        (((["Service", "Address"], "2001:db8::1"),), ("2001:db8::1", 8080)),
        (((["Service", "Tags"], None), (["Service", "Meta"], None), (["Node", "Meta"], None)), ("10.0.0.5", 8080)),
    ],
)
def test_what_agents_write_is_plain(made, address):
    body = json.dumps([changed(*made)] * 2).encode()
    assert plain_addresses(body) == [address, address]
    assert of_instances(body) == ([address, address], True)


def test_a_list_without_entries_is_plain():
    assert plain_addresses(b"[]\n") == []


@pytest.mark.parametrize(
    "made",
    [
        ((["Service", "Port"], 0),),
        ((["Service", "Ports"], [{"Name": "http", "Port": 80}]),),
        ((["Service", "Address"], "web.example"),),
        ((["Service", "Address"], "fe80::1%a b"),),
        (
            (["Service", "Address"], ""),
            (["Node", "Address"], "127.0.0.1"),
            (["Node", "Meta"], {"external-source": "k"}),
        ),
        ((["Service", "Meta"], {"long": "x" * SHORT}),),
        ((["\0"], 1),),  # where the checks of such instances are looked for, so as not to be found
    ],
)
def test_what_has_to_be_judged_is_not_plain(made):
    assert plain_addresses(json.dumps([ENTRY, changed(*made)]).encode()) is None


@pytest.mark.parametrize(
    "query", [{}, {"policy": "passing"}, {"policy": "any"}, {"tags": ["a"], "near": "_agent"}, {"max_heartbeat_age": 9}]
)
def test_the_question_is_the_one_for_instances(query):
    asked, usual = plain.addresses("web", now=lambda: 0.0, **query), health.instances("web", now=lambda: 0.0, **query)
    assert asked._replace(read=usual.read) == usual


@pytest.mark.parametrize(
    "made", [((),), (((["Service", "Address"], "web.example"),), ((["Service", "Port"], 0),), ((["Service"], 1),))]
)
def test_a_first_search_finds_and_says_what_every_other_one_does(face, scripted, caplog, made):
    body = json.dumps([changed(*changes) for changes in made]).encode()
    server = scripted([answer(body=body)])
    found, said = [], []

    async def story():
        async with face.access(url=server.url) as access:
            for _ in range(2):
                caplog.clear()
                found.append(await access.search_service("web"))
                said.append([record.getMessage() for record in caplog.records])

    with caplog.at_level(logging.WARNING, "consul_access"):
        face.run(story)
    assert found[0]
    assert found[0] == found[1]
    assert said[0] == said[1]


def test_a_first_search_fails_as_every_other_one_does(face, scripted):
    server = scripted([answer(body=b'{"not": "a list"}')])
    said = []

    async def story():
        async with face.access(url=server.url) as access:
            for _ in range(2):
                with pytest.raises(BadAnswer) as caught:
                    await access.search_service("web")
                said.append(str(caught.value))

    face.run(story)
    assert said[0] == said[1]
