"""What a sync writes and what it leaves: always towards the source, never a removal in doubt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.catalog import Check, Service
from consul_access.models.effective import NamedPort
from consul_access.models.status import CheckStatus
from consul_access.models.sync import ORIGIN, OWNER, SyncInstance, SyncList, SyncRules
from consul_access.rules.syncing import FEW, Present, pause, plan, present_of

OWN = "etcd-sync"
NAMES = ("web", "db", "mail")


def wanted_one(number: int, *, status: CheckStatus = CheckStatus.PASSING, port: int = 80) -> SyncInstance:
    name = NAMES[number % len(NAMES)]
    return SyncInstance(
        id=f"{name}-{number}",
        name=name,
        address=f"10.0.0.{number}",
        port=port,
        tags=("etcd",),
        meta={"team": "core"},
        origin=f"shop/{name}",
        status=status,
        check_id=f"shop/{name}-{number}",
    )


instances = st.dictionaries(
    st.integers(1, 30), st.tuples(st.sampled_from(list(CheckStatus)[:3]), st.sampled_from([80, 81])), max_size=20
).map(lambda found: tuple(wanted_one(number, status=status, port=port) for number, (status, port) in found.items()))


def list_of(*found: SyncInstance, doubtful: frozenset[str] = frozenset()) -> SyncList:
    return SyncList(instances=found, doubtful=doubtful, source="kubernetes")


def written(*found: SyncInstance) -> tuple[SyncInstance, ...]:
    """As these stand in the catalog once a sync has written them."""
    return plan(list_of(*found), Present(), owner=OWN).register


def applied(present: Present, wanted: SyncList, **how: object) -> Present:
    """What there is when a plan was carried out."""
    found = plan(wanted, present, owner=OWN, **how)  # type: ignore[arg-type]
    there = {one.id: one for one in present.owned} | {one.id: one for one in found.register}
    for one in found.deregister:
        del there[one.id]
    return Present(tuple(there.values()), present.foreign)


@given(before=instances, after=instances)
def test_it_ends_where_the_source_is_and_then_writes_nothing_more(before, after):
    present = Present(written(*before))
    there = applied(present, list_of(*after), may_vanish=1.0)
    assert {one.id: one for one in there.owned} == {one.id: one for one in written(*after)}
    again = plan(list_of(*after), there, owner=OWN, may_vanish=1.0)
    assert again.is_empty
    assert again.unchanged == len(after)


@given(before=instances, after=instances, may_vanish=st.floats(0, 1))
def test_nothing_is_removed_while_the_source_is_stale_and_what_is_new_still_comes(before, after, may_vanish):
    found = plan(list_of(*after), Present(written(*before)), owner=OWN, stale="away", may_vanish=may_vanish)
    assert found.deregister == ()
    gone = {one.id for one in before} - {one.id for one in after}
    assert {one.id for one in found.held} == gone
    assert found.reason == ("away" if gone else "")
    assert {one.id for one in after} - {one.id for one in before} <= {one.id for one in found.register}


@given(before=instances, after=instances, doubtful=st.sets(st.sampled_from(["shop", "shop/web", "other", "sho"])))
def test_what_could_not_be_read_in_full_stays(before, after, doubtful):
    wanted = list_of(*after, doubtful=frozenset(doubtful))
    found = plan(wanted, Present(written(*before)), owner=OWN, may_vanish=1.0)
    for one in found.deregister:
        assert "shop" not in doubtful
        assert one.origin not in doubtful
    for one in found.held:
        assert "shop" in doubtful or one.origin in doubtful
    assert bool(found.reason) == bool(found.held)


@given(before=instances, after=instances, may_vanish=st.floats(0, 1))
def test_no_more_than_the_share_vanishes_at_once(before, after, may_vanish):
    found = plan(list_of(*after), Present(written(*before)), owner=OWN, may_vanish=may_vanish)
    new = {one.id for one in after} - {one.id for one in before}
    lost = len(found.deregister) - len(new)
    assert lost <= max(FEW if after else 0, may_vanish * len(before))
    assert not (found.held and found.deregister)  # all of them or none: half a removal is nobody's intention


@given(before=instances, after=instances, foreign=st.sets(st.integers(1, 30).map(lambda n: f"web-{n}")))
def test_what_others_have_is_neither_written_nor_removed(before, after, foreign):
    present = Present(tuple(one for one in written(*before) if one.id not in foreign), frozenset(foreign))
    found = plan(list_of(*after), present, owner=OWN, may_vanish=1.0)
    assert not foreign & {one.id for one in (*found.register, *found.deregister)}
    assert set(found.foreign) == foreign
    assert {one.what for one in found.left_out} == foreign & {one.id for one in after}


def test_a_source_that_is_suddenly_empty_removes_nothing_however_little_there_is():
    present = Present(written(wanted_one(1)))
    found = plan(list_of(), present, owner=OWN)
    assert (found.deregister, len(found.held)) == ((), 1)
    assert "1 of 1 instances would vanish" in found.reason
    assert plan(list_of(), present, owner=OWN, may_vanish=1.0).deregister == present.owned


def test_a_few_may_always_go_and_pods_that_are_replaced_do_not_count():
    old = [wanted_one(number) for number in range(1, 5)]
    assert len(plan(list_of(old[0]), Present(written(*old)), owner=OWN, may_vanish=0.1).deregister) == 3
    many = [wanted_one(number) for number in range(3, 31, 3)]
    rolled = [replace(one, id=f"{one.id}-new", address="10.9.9.9") for one in many]
    found = plan(list_of(*rolled), Present(written(*many)), owner=OWN, may_vanish=0.1)
    assert (len(found.register), len(found.deregister), found.held) == (10, 10, ())


def test_the_same_name_and_address_twice_is_told_and_written_once():
    one = wanted_one(1)
    found = plan(list_of(one, replace(one, origin="other/db", port=81)), Present(), owner=OWN)
    assert [(each.port, each.origin) for each in found.register] == [(80, "shop/db")]
    assert [(each.what, each.reason) for each in found.left_out] == [
        ("db-1", "shop/db has the same name and address as other/db")
    ]


def test_several_ports_are_written_only_where_they_are_known():
    one = replace(wanted_one(1), ports=(NamedPort("http", 80), NamedPort("metrics", 9090)))
    (older,) = plan(list_of(one), Present(), owner=OWN).register
    assert (older.port, older.ports) == (80, ())
    (newer,) = plan(list_of(one), Present(), owner=OWN, ports=True).register
    assert newer.port == 0
    assert [(port.name, port.port, port.default) for port in newer.ports] == [
        ("http", 80, True),
        ("metrics", 9090, False),
    ]
    single = replace(one, ports=(NamedPort("http", 80),))
    assert plan(list_of(single), Present(), owner=OWN, ports=True).register[0].port == 80


def test_what_is_on_the_node_is_ours_by_its_mark_alone():
    meta = {OWNER: OWN, ORIGIN: "shop/web"}
    services = {
        "a": Service(id="a", name="web", address="10.0.0.1", port=80, tags=("etcd",), meta=meta),
        "b": Service(id="b", name="web", address="10.0.0.2", port=80, tags=("etcd",), meta={OWNER: "another"}),
        "c": Service(id="c", name="web"),
        "d": None,
    }
    checks = [
        Check(id="shop/a", status=CheckStatus.CRITICAL, service_id="a", name="ready", output="no", type="t"),
        Check(id="_service_maintenance:a", status=CheckStatus.CRITICAL, service_id="a"),
    ]
    found = present_of(services, checks, OWN)
    assert found.foreign == {"b", "c", "d"}
    (one,) = found.owned
    assert (one.id, one.origin, one.status, one.check_id, one.output) == (
        "a",
        "shop/web",
        CheckStatus.CRITICAL,
        "shop/a",
        "no",
    )


def test_a_check_that_is_gone_is_written_again():
    (one,) = written(wanted_one(1))
    found = plan(list_of(wanted_one(1)), Present((replace(one, status=None, check_id=""),)), owner=OWN)
    assert [each.id for each in found.register] == ["db-1"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tag": "k8s"}, "consul-k8s"),
        ({"node": "k8s-sync"}, "consul-k8s"),
        ({"node": ""}, "node is empty"),
        ({"namespaces": "shop"}, "write a list"),
        ({"node_port_addresses": "any"}, "external_first, external_only, internal_only"),
    ],
)
def test_rules_that_would_do_harm_are_refused(wrong, told):
    with pytest.raises(InvalidInput, match=told):
        SyncRules(**wrong)


@given(failures=st.integers(1, 10_000), dice=st.floats(0, 1))
def test_pauses_grow_and_stay_below_ten_seconds(failures, dice):
    assert 0 <= pause(failures, lambda low, high: low + dice * (high - low)) <= 10
    assert pause(1, lambda low, high: high) < pause(3, lambda low, high: high)
