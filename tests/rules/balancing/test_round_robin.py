"""One instance after the other."""

from __future__ import annotations

import random
import threading
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from consul_access.rules.balancing import RoundRobinBalancer
from tests.support.instances import DEAD, instance, several

NAMES = st.sets(st.sampled_from("abcdefgh"), min_size=1)


def picked(pick, times):
    return [pick().id for _ in range(times)]


def test_each_has_its_turn():
    assert picked(RoundRobinBalancer().prepare(several(3)), 7) == ["i0", "i1", "i2", "i0", "i1", "i2", "i0"]


def test_it_begins_anywhere_so_that_clients_do_not_march_in_step():
    dice = random.Random(5)
    begun = Counter(RoundRobinBalancer(dice).prepare(several(4))().id for _ in range(400))

    assert len(begun) == 4
    assert min(begun.values()) > 70


def test_a_new_list_goes_on_where_the_old_one_was():
    balancer = RoundRobinBalancer()
    a, b, c, d = (instance(name) for name in "abcd")
    assert picked(balancer.prepare((a, b, c)), 1) == ["a"]

    assert picked(balancer.prepare((a, c, d)), 4) == ["c", "a", "d", "c"]


def test_an_instance_without_a_weight_has_no_turn_while_there_is_another():
    assert set(picked(RoundRobinBalancer().prepare((instance("a", status=DEAD), instance("b"))), 4)) == {"b"}


def test_what_an_instance_is_now_is_what_is_picked():
    balancer = RoundRobinBalancer()
    balancer.prepare((instance("a"), instance("b")))()
    changed = (instance("a", tags=("new",)), instance("b", tags=("new",)))

    pick = balancer.prepare(changed)

    assert {pick().tags for _ in range(2)} == {("new",)}


@given(st.lists(st.tuples(NAMES, st.integers(0, 20)), min_size=1, max_size=8))
def test_whatever_the_lists_every_round_has_each_instance_once(lists):
    balancer = RoundRobinBalancer(random.Random(1))
    for names, picks in lists:
        found = tuple(instance(name) for name in sorted(names))
        pick = balancer.prepare(found)
        assert sorted(picked(pick, len(found))) == sorted(names)
        picked(pick, picks)


@given(NAMES, st.integers(0, 10))
def test_an_unchanged_list_changes_nothing(names, before):
    found = tuple(instance(name) for name in sorted(names))
    undisturbed, disturbed = RoundRobinBalancer(), RoundRobinBalancer()
    pick, other = undisturbed.prepare(found), disturbed.prepare(found)
    picked(pick, before), picked(other, before)

    assert picked(pick, 20) == picked(disturbed.prepare(found), 20)


def test_threads_share_the_turns_without_losing_any():
    pick = RoundRobinBalancer().prepare(several(5))
    counts = []
    threads = [threading.Thread(target=lambda: counts.append(Counter(picked(pick, 10_000)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counts, Counter()) == {f"i{place}": 8000 for place in range(5)}
