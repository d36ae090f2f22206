"""Members that are worth a try."""

from __future__ import annotations

from consul_access.models.address import Address, Target
from consul_access.rules.discovering import candidates
from consul_access.rules.failover import Failover

SEED = Target(Address("10.0.0.1", 2379))
SECURE = Target(Address("10.0.0.1", 2379), tls=True)


def test_known_members_and_impossible_addresses_are_left_out():
    urls = ["http://10.0.0.1:2379", "http://0.0.0.0:2379", "", "http://bad host", "http://10.0.0.2:2379"]
    assert candidates([*urls, "http://10.0.0.2:2379"], [SEED]) == [Target(Address("10.0.0.2", 2379))]


def test_https_is_never_joined_by_http():
    assert candidates(["http://10.0.0.2:2379"], [SECURE]) == []
    assert candidates(["https://10.0.0.2:2379"], [SECURE]) == [Target(Address("10.0.0.2", 2379), tls=True)]


def test_what_was_configured_stays_and_is_preferred():
    failover = Failover([SEED])
    failover.add([SEED, Target(Address("10.0.0.2", 2379))])
    assert failover.targets == (SEED, Target(Address("10.0.0.2", 2379)))
    assert failover.order(0.0)[0] == SEED
