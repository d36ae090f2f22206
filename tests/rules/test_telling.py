"""What explanations say alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.telling import grouped, is_loopback, lacking, some

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=4)


@given(wanted=WORDS, tags=WORDS)
def test_what_is_lacking_is_told_exactly_when_something_is(wanted, tags):
    told = lacking(wanted, tags)
    assert (told == "") is (set(wanted) <= set(tags))
    assert all(repr(tag) in told.partition(";")[0] for tag in set(wanted) - set(tags))


@given(items=st.lists(st.integers()))
def test_grouping_loses_nothing_and_keeps_the_order(items):
    groups = grouped(items, lambda item: item % 3)
    assert {key: [item for item in items if item % 3 == key] for key in groups} == groups
    assert sum(map(len, groups.values())) == len(items)


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (list("abcde"), "a, b, c, d, e"), (list("abcdefg"), "a, b, c, d, e and 2 more")]
)
def test_of_many_names_the_first_are_told_and_the_others_counted(names, said):
    assert some(names) == said


@pytest.mark.parametrize(
    ("host", "is_it"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.5", False), ("", False)]
)
def test_what_leads_home(host, is_it):
    assert is_loopback(host) is is_it
