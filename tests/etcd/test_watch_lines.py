"""The lines of a watch, however their bytes were cut on the way."""

from __future__ import annotations

import base64
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import AnswerTooLarge, BadAnswer
from consul_access.etcd.watch import LineDecoder, Range, open_watch
from consul_access.models.keys import EventKind

LINES = [
    {"result": {"header": {"revision": "3"}, "created": True}},
    {
        "result": {
            "header": {"revision": "4"},
            "events": [
                {"kv": {"key": "YQ==", "value": "Yg==", "mod_revision": "4", "create_revision": "4", "version": "1"}},
                {
                    "type": "DELETE",
                    "kv": {"key": "YQ==", "mod_revision": "5"},
                    "prev_kv": {"key": "YQ==", "value": "Yg=="},
                },
            ],
        }
    },
    {"result": {"header": {"revision": "9"}}},
    {"result": {"header": {"revision": "9"}, "watch_id": "-1", "canceled": True, "compact_revision": "7"}},
    {"error": {"grpc_code": 14, "http_code": 503, "message": "etcdserver: no leader"}},
    {"error": {"code": 14, "message": "etcdserver: no leader"}},
]
STREAM = b"\n\n".join(json.dumps(line).encode() for line in LINES) + b"\n"


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_lines_are_the_same_however_the_bytes_are_cut(cuts: list[int]):
    decoder = LineDecoder(10_000)
    places = [0, *sorted(cuts), len(STREAM)]
    found = [line for begin, end in itertools.pairwise(places) for line in decoder.feed(STREAM[begin:end])]
    assert found == list(LineDecoder(10_000).feed(STREAM))
    assert len(found) == len(LINES)


def test_a_line_tells_everything():
    created, changed, progress, canceled, older, newer = LineDecoder(10_000).feed(STREAM)
    assert (created.created, created.revision) == (True, 3)
    put, gone = changed.events
    assert (put.kind, put.key, put.value, put.revision) == (EventKind.PUT, b"a", b"b", 4)
    assert (gone.kind, gone.revision, gone.previous.value) == (EventKind.DELETE, 5, b"b")
    assert (progress.events, progress.created, progress.revision) == ((), False, 9)
    assert (canceled.canceled, canceled.compact_revision, canceled.watch_id) == (True, 7, -1)
    assert older.error == newer.error == ("etcdserver: no leader", 14)


def test_a_line_without_end_is_bounded():
    decoder = LineDecoder(100)
    with pytest.raises(AnswerTooLarge):
        list(decoder.feed(b'{"result":' + b" " * 100))


@pytest.mark.parametrize("text", [b"[]\n", b"{\n", b"5\n", b'{"result":5}\n', b'{"result":{"events":[{}]}}\n'])
def test_a_line_that_is_none_is_a_bad_answer(text: bytes):
    with pytest.raises(BadAnswer):
        list(LineDecoder(100).feed(text))


def test_several_ranges_are_watched_by_several_objects_in_one_body():
    call = open_watch([(Range(b"a"), 0), (Range(b"b", b"c"), 7)], previous=True)
    first, second = (json.loads(part) for part in call.body.replace(b"}}{", b"}}\n{").split(b"\n"))
    assert first["create_request"] == {"key": "YQ==", "progress_notify": True, "fragment": True, "prev_kv": True}
    assert second["create_request"]["range_end"] == base64.b64encode(b"c").decode()
    assert second["create_request"]["start_revision"] == 7
