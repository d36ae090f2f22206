"""Calls and replies: described completely, and quoted so that nothing changes its place."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.call import Call, Headers, Repeat, Reply, json_body, path, read_json
from consul_access.errors import BadAnswer, InvalidInput

TEXTS = st.text(max_size=15) | st.text("a/%?#&=+ \"'\r\n;:@\\.~é\udc80", max_size=8)


@pytest.mark.parametrize(
    ("segment", "written"),
    [
        ("web", "web"),
        ("web-1.x_y", "web-1.x_y"),
        ("a/b", "a%2Fb"),
        ("a b", "a%20b"),
        ("a%2Fb", "a%252Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("ä", "%C3%A4"),
        ("...", "..."),
        (".hidden", ".hidden"),
        ("a+b&c=d", "a%2Bb%26c%3Dd"),
        ("\u2028", "%E2%80%A8"),
    ],
)
def test_a_segment_stays_one_segment(segment: str, written: str) -> None:
    assert path("v1", segment, "end") == f"/v1/{written}/end"


@pytest.mark.parametrize("segment", ["", ".", "..", "a\n", "\0", "\x1f", "\x7f", "\x80", "\ud800", 5, None, b"a"])
def test_a_segment_that_would_not_arrive_is_refused(segment: Any) -> None:
    with pytest.raises(InvalidInput):
        path("v1", segment)


@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_any_segments_are_refused_or_read_back_as_they_were(segments: list[str]) -> None:
    try:
        written = path(*segments)
    except InvalidInput:
        return
    assert [unquote(segment, errors="strict") for segment in written.split("/")] == ["", *segments]
    assert written.isascii()
    assert not set(written) & set(" ?#\r\n\t")


def made(*pairs: tuple[str, str | None]) -> Call[bytes]:
    return Call(name="x", method="GET", path="/v1/x", read=lambda reply: reply.body, query=pairs)


def test_a_query_is_written_behind_the_path() -> None:
    assert made().target_path == "/v1/x"
    assert made(("stale", None), ("dc", "a b"), ("tag", "")).target_path == "/v1/x?stale&dc=a%20b&tag="


@given(st.lists(st.tuples(st.sampled_from(["tag", "node-meta", "filter"]), TEXTS), min_size=1, max_size=4))
def test_any_query_is_refused_or_reads_back_as_it_was(pairs: list[tuple[str, str]]) -> None:
    try:
        written = made(*pairs).target_path
    except InvalidInput:
        return
    before, _, query = written.partition("?")
    assert before == "/v1/x"
    assert written.isascii()
    assert not set(query) & set(" #\r\n\t")
    assert parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") == pairs


def test_half_a_character_in_a_query_is_refused() -> None:
    with pytest.raises(InvalidInput, match="UTF-8"):
        _ = made(("near", "\ud800")).target_path


def test_a_call_is_a_read_answered_with_200_unless_it_says_otherwise() -> None:
    call = made()

    assert (call.repeat, call.statuses, call.body, call.patience) == (Repeat.READ, frozenset({200}), None, 0.0)


def test_a_call_written_for_a_person_holds_no_body() -> None:
    call = Call(name="x", method="PUT", path="/", read=lambda reply: None, body=b"SecretID")

    assert "SecretID" not in repr(call)


# --- bodies -----------------------------------------------------------------------------------------------

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(TREES)
def test_any_tree_is_refused_or_sent_as_strict_json(tree: object) -> None:
    try:
        body = json_body(tree)
    except InvalidInput:
        return
    assert json.loads(body.decode(), parse_constant=pytest.fail) == tree


def nested(depth: int) -> object:
    tree: object = 1
    for _ in range(depth):
        tree = [tree]
    return tree


def circular() -> list[object]:
    tree: list[object] = []
    tree.append(tree)
    return tree


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {"a": [float("-inf")]}, "\ud800", object(), {1, 2}, b"x", {(1,): 2}, circular(),
     nested(100_000)],
    ids=["nan", "inf", "-inf", "half a character", "object", "set", "bytes", "odd key", "circular", "deep"],
)  # fmt: skip
def test_what_json_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        json_body(value)


def test_bodies_are_compact_and_in_utf_8() -> None:
    assert json_body({"a": ["ä", None]}) == '{"a":["ä",null]}'.encode()


# --- replies ----------------------------------------------------------------------------------------------


def test_headers_are_found_in_any_case_and_the_last_of_repeated_ones_counts() -> None:
    headers = Headers([(b"X-Consul-Index", b"5"), (b"x-consul-index", b"6"), (b"Age", b"\xe4")])

    assert (headers["X-CONSUL-INDEX"], headers.get("age"), headers.get("none")) == ("6", "ä", None)
    assert sorted(headers) == ["age", "x-consul-index"]
    assert len(headers) == 2
    assert headers.raw[0] == (b"X-Consul-Index", b"5")
    assert repr(Headers()) == "Headers({})"


@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=4))
def test_no_header_can_make_reading_them_fail(raw: list[tuple[bytes, bytes]]) -> None:
    dict(Headers(raw))


@given(st.binary(max_size=2000))
def test_an_excerpt_is_short_and_on_one_line(body: bytes) -> None:
    found = Reply(200, Headers(), body).excerpt()

    assert len(found) <= 200
    assert "\n" not in found


def test_a_reply_is_read_as_json_or_is_a_bad_answer() -> None:
    assert read_json(Reply(200, Headers(), b'{"a":[1]}')) == {"a": [1]}
    for body in (b"", b"{", b"<html>", b"\xff", b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000):
        with pytest.raises(BadAnswer, match="not JSON"):
            read_json(Reply(200, Headers(), body))
