"""Differences between lists, and addresses that occur twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from consul_access import CheckStatus, ServiceInstance
from consul_access.models.instance import Standing
from consul_access.rules.comparing import difference, distinct


def instance(number=1, node="n", **fields):
    given = {"service": "web", "service_address": "10.0.0.1", "service_port": 80} | fields
    return ServiceInstance(id=f"web-{number}", node=node, **given)


STATES = [Standing(status, status) for status in CheckStatus]
instances = st.builds(
    instance,
    number=st.integers(1, 4),
    node=st.sampled_from(["a", "b"]),
    service_address=st.sampled_from(["", "10.0.0.1", "10.0.0.2"]),
    service_port=st.sampled_from([0, 80, 81]),
    standing=st.sampled_from(STATES),
    modify_index=st.integers(1, 5),
)
lists = st.lists(instances, max_size=8, unique_by=lambda found: (found.node, found.id))


def key(found):
    return found.node, found.id


@given(lists, lists)
def test_a_difference_applied_to_the_list_before_gives_the_list_after(before, after):
    diff = difference(tuple(before), tuple(after))
    known = {key(found): found for found in before}
    for found in diff.removed:
        assert known.pop(key(found)) == found
    for found in diff.added:
        assert key(found) not in known
        known[key(found)] = found
    for change in diff.changed:
        assert known[key(change.before)] == change.before != change.after
        known[key(change.after)] = change.after
    assert known == {key(found): found for found in after}


@given(lists)
def test_equal_lists_do_not_differ_in_whatever_order(found):
    assert not difference(tuple(found), tuple(replace(one) for one in reversed(found)))
    assert not difference(found, found)


@given(lists)
def test_every_address_that_can_be_called_remains_once(found):
    kept = distinct(found)
    places = [(one.host, one.port) for one in kept]
    assert len(set(places)) == len(places)
    assert set(places) == {(one.host, one.port) for one in found if one.is_callable}
    assert all(any(one is other for other in found) for one in kept)


def test_of_two_at_one_address_the_healthy_one_counts_and_then_the_later_one():
    ill = instance(1, standing=Standing(CheckStatus.CRITICAL, CheckStatus.CRITICAL), modify_index=9)
    old, new = instance(2, modify_index=3), instance(3, modify_index=4)
    assert distinct([ill, old, new]) == (new,)
    assert distinct([new, old, ill]) == (new,)
    other = instance(4, service_port=81)
    assert distinct([other, old]) == (other, old)
