"""A registry's instances as they stand in Consul."""

from __future__ import annotations

import hashlib

from consul_access.models.instance import PortEntry, ServiceInstance, Standing
from consul_access.models.status import CheckStatus
from consul_access.models.sync import SyncRules
from consul_access.rules.registry_catalog import catalog_of_registry


def instance(**fields):
    status = fields.pop("status", CheckStatus.PASSING)
    told = {"id": "orders-1", "service": "orders", "service_address": "10.0.0.5", "service_port": 80}
    return ServiceInstance(**told | fields, standing=Standing(status, status))


def only(one, **rules):
    found = catalog_of_registry([one], SyncRules(**rules), revision=7)
    assert (found.left_out, found.source, found.revision) == ((), "etcd", 7)
    (made,) = found.instances
    return made


def test_it_keeps_what_it_has_and_gets_an_id_that_is_unique_on_the_node():
    made = only(instance(tags=("v2",), meta={"a": "b"}, passing_weight=5), prefix="x-", tag="mirror")
    digest = hashlib.sha1(b"x-orders-orders-1").hexdigest()[:12]
    assert (made.name, made.id, made.check_id) == ("x-orders", f"x-orders-{digest}", f"etcd/x-orders-{digest}")
    assert (made.address, made.port, made.tags, made.meta) == ("10.0.0.5", 80, ("mirror", "v2"), {"a": "b"})
    assert (made.weight, made.origin) == (5, "orders")
    assert only(instance(service="other")).id != only(instance()).id


def test_its_status_is_that_of_the_registry_and_maintenance_is_critical():
    for status in (CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL):
        assert only(instance(status=status)).status is status
    made = only(instance(status=CheckStatus.MAINTENANCE))
    assert (made.status, made.output) == (CheckStatus.CRITICAL, "orders-1 is registered at etcd, and maintenance")


def test_named_ports_are_kept_the_default_one_is_meant():
    made = only(instance(service_port=0, port_entries=(PortEntry(port=80, name="http"), PortEntry(port=81, name="a"))))
    assert (made.port, [(port.name, port.port) for port in made.ports]) == (80, [("http", 80), ("a", 81)])


def test_the_tag_of_consul_k8s_is_never_written():
    assert only(instance(tags=("k8s", "etcd", "v2"))).tags == ("etcd", "v2")


def test_what_cannot_be_called_or_read_is_told():
    found = catalog_of_registry(
        [instance(service_port=0), instance(service="consul")], SyncRules(), unreadable={"mail": "no JSON"}
    )
    assert found.instances == ()
    assert found.doubtful == {"mail"}
    assert [one.what for one in found.left_out] == ["mail", "orders/orders-1", "consul/orders-1"]


def test_meta_beyond_what_consul_takes_is_cut():
    assert len(only(instance(meta={f"k{number}": "v" for number in range(64)})).meta) == 61
