"""A list that is read again and again: always the same as when it is read whole, and what has not changed is kept."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import ServiceInstance
from consul_access.call import Headers, Reply
from consul_access.consul import health
from consul_access.decoding import MOST_SHARED, Rereader, decode_list
from consul_access.errors import BadAnswer
from consul_access.models.instance import share_parts
from tests.support.registry import entry

KINDS = [health.watched("orders", now=time.time, policy=policy).kind for policy in ("passing", "any")]
STYLES = {
    "compact": {"separators": (",", ":")},
    "pretty": {"indent": 4},
    "foreign": {"separators": (", ", ": ")},
}

texts = st.text(max_size=8) | st.sampled_from(['{"Node":{"ID":', '"', "\\", '},{"Node":{"ID":"', "]\n", "\u2028"])
entries = st.builds(
    lambda number, tags, meta, port: entry(number, Tags=tags, Meta=meta, Port=port),
    st.integers(1, 6),
    st.lists(texts, max_size=2),
    st.dictionaries(texts, texts, max_size=2),
    st.integers(0, 65535),
)
answers = st.lists(st.lists(entries, max_size=6), min_size=1, max_size=6)


def reply(found, style="compact"):
    text = json.dumps(found, ensure_ascii=False, **STYLES[style]) if isinstance(found, list) else found
    return Reply(200, Headers(), text.encode() + (b"\n" if style == "pretty" else b""))


def read(reader, answer):
    steps = reader.read(answer)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slice_bytes", [1, 400, 128 * 1024])
@given(answers, st.sampled_from(list(STYLES)))
def test_it_reads_what_reading_it_whole_gives(kind, slice_bytes, given_answers, style):
    reader = Rereader(kind, share_parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consul_access.decoding.SLICE", slice_bytes)
        for found in given_answers:
            assert list(read(reader, reply(found, style))) == list(decode_list(kind, reply(found, style)))


@pytest.mark.parametrize("style", ["compact", "pretty"])
def test_what_has_not_changed_stays_the_same_object(style):
    reader = Rereader(ServiceInstance, share_parts)
    found = [entry(number) for number in range(1, 200)]
    first = read(reader, reply(found, style))
    assert read(reader, reply(found, style)) is first
    found[100] = entry(101, Port=1)
    second = read(reader, reply(found, style))
    assert [place for place in range(199) if first[place] is not second[place]] == [100]
    assert second[100].port == 1
    third = read(reader, reply(found[50:], style))
    assert all(one is other for one, other in zip(third, second[50:], strict=True))
    moved = read(reader, reply(list(reversed(found[50:])), style))
    assert all(one is other for one, other in zip(moved, reversed(third), strict=True))


def test_a_long_answer_is_read_in_slices():
    reader = Rereader(ServiceInstance)
    steps = reader.read(reply([entry(number) for number in range(1, 3000)]))
    assert sum(1 for _ in steps) >= 5


def test_equal_tags_and_meta_are_shared_between_instances_and_over_time():
    reader = Rereader(ServiceInstance, share_parts)
    found = [entry(number, Tags=["a"], Meta={"v": "1"}) for number in range(1, 4)]
    first = read(reader, reply(found))
    found[0] = entry(1, Tags=["a"], Meta={"v": "1"}, Port=1)
    second = read(reader, reply(found))
    assert len({id(instance.tags) for instance in (*first, *second)}) == 1
    assert len({id(instance.meta) for instance in (*first, *second)}) == 1
    found = [entry(number, Meta={"v": str(number)}) for number in range(1, 2 * MOST_SHARED)]
    assert [instance.meta["v"] for instance in read(reader, reply(found))][-1] == str(2 * MOST_SHARED - 1)
    read(reader, reply(found[1:]))
    assert len(reader._pool) <= MOST_SHARED


def test_an_entry_that_is_none_is_left_out_and_counted_and_the_next_answer_is_read_by_entry_again():
    reader = Rereader(ServiceInstance)
    assert len(read(reader, reply([entry(1), entry(2, Port=99999), entry(3)]))) == 2
    assert reader.rejected == 1
    first = read(reader, reply([entry(1), entry(2)]))
    assert reader.rejected == 0
    assert read(reader, reply([entry(1), entry(2), entry(3)]))[:2] == first


@pytest.mark.parametrize("text", ["", "{}", "nothing", '[{"Node":{"ID":', '[{"Node":{"ID":"a"}}]', "null"])
def test_what_is_no_list_is_a_bad_answer_and_what_was_read_before_stays(text):
    reader = Rereader(ServiceInstance)
    first = read(reader, reply([entry(1)]))
    with pytest.raises(BadAnswer):
        read(reader, reply(text))
    assert read(reader, reply([entry(1)])) is first


def test_an_empty_list():
    assert read(Rereader(ServiceInstance), reply([])) == ()
