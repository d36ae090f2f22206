"""The same instance for the same key."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.balancing import StickyBalancer
from consul_access.rules.balancing.sticky import REMEMBERED
from tests.support.instances import DEAD, instance, several

KEYS = [f"user-{number}" for number in range(10_000)]


def placed(found, keys=KEYS, seed=1):
    pick = StickyBalancer(random.Random(seed)).prepare(found)
    return {key: pick(key=key).id for key in keys}


def test_a_key_sticks_whatever_the_order_and_the_dice():
    found = several(7)

    assert placed(found) == placed(found[::-1], seed=2)


def test_keys_are_spread_evenly():
    counted = Counter(placed(several(10)).values())

    deviation = sum((count - 1000) ** 2 / 1000 for count in counted.values())
    assert len(counted) == 10
    assert deviation < 28  # chi-square with 9 degrees of freedom


@pytest.mark.parametrize("number", [2, 5, 20])
def test_when_one_goes_only_its_own_keys_move_and_to_all_others(number):
    found = several(number)
    before, after = placed(found), placed(found[1:])
    moved = [key for key in KEYS if before[key] != after[key]]

    assert {before[key] for key in moved} == {"i0"}
    assert len(moved) == Counter(before.values())["i0"]
    assert abs(len(moved) - 10_000 / number) < 4 * (10_000 / number) ** 0.5
    assert len({after[key] for key in moved}) == number - 1


def test_when_one_comes_keys_move_to_nobody_else():
    found = several(9)
    before, after = placed(found[:-1]), placed(found)

    assert {after[key] for key in KEYS if before[key] != after[key]} == {"i8"}


@given(st.sets(st.sampled_from("abcdefgh"), min_size=2), st.text())
def test_any_text_is_a_key_and_stays_when_others_go(names, key):
    found = tuple(instance(name) for name in sorted(names))
    chosen = placed(found, [key])[key]

    for gone in found:
        if gone.id != chosen:
            assert placed(tuple(one for one in found if one is not gone), [key])[key] == chosen


def test_where_keys_go_is_written_down_since_other_processes_must_agree():
    assert placed(several(5), ["", "a", "user-1", "jürgen"]) == {"": "i2", "a": "i4", "user-1": "i4", "jürgen": "i4"}


def test_without_a_key_it_is_any_of_them():
    pick = StickyBalancer(random.Random(3)).prepare(several(4))

    assert min(Counter(pick().id for _ in range(4000)).values()) > 850


def test_no_more_keys_are_remembered_than_promised():
    pick = StickyBalancer(random.Random(1)).prepare(several(3))
    for number in range(REMEMBERED * 2 + 1):
        pick(key=str(number))
    (remembered,) = (cell.cell_contents for cell in pick.__closure__ if isinstance(cell.cell_contents, dict))

    assert len(remembered) == 1


def test_no_key_sticks_to_a_critical_instance_while_there_is_another():
    assert set(placed((instance("a", status=DEAD), instance("b")), KEYS[:50]).values()) == {"b"}
