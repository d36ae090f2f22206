"""The reference has every public name: the build of the documentation asks what this tells."""

from __future__ import annotations

import consul_access
from tools.reference import missing, public_modules, public_names, with_literal_blocks


def test_the_public_modules_are_those_that_users_import():
    found = public_modules()
    assert {"consul_access", "consul_access.testing", "consul_access.consul.health", "consul_access.etcd.kv"} <= set(
        found
    )
    assert {"consul_access.integrations.asgi", "consul_access.integrations.prometheus"} <= set(found)
    assert not [name for name in found if "._" in name]


def test_every_public_name_is_asked_for():
    found = public_names()
    assert {f"consul_access.{name}" for name in consul_access.__all__} <= set(found)
    assert "consul_access.testing.FakeConsul" in found


def test_a_name_that_is_not_described_is_missing():
    public = public_names()
    described = {name for names in public.values() for name in names}
    assert missing(public, described) == []
    assert missing(public, described - {"consul_access.Keeper", "consul_access._sync.keeper.Keeper"}) == [
        "consul_access.Keeper"
    ]


def test_an_error_may_be_described_where_it_is_defined():
    (names,) = [names for name, names in public_names().items() if name == "consul_access.NoLeader"]
    assert {"consul_access.NoLeader", "consul_access.errors.NoLeader"} == names


def test_indented_blocks_of_a_docstring_are_literal():
    written = ["Like this:", "", "    x = 1", "", "Or so.", "", "    y = 2", "    z = 3", "", "- item", "", "  more"]
    assert with_literal_blocks(written) == [
        "Like this::",
        "",
        "    x = 1",
        "",
        "Or so.",
        "",
        "::",
        "",
        "    y = 2",
        "    z = 3",
        "",
        "- item",
        "",
        "  more",
    ]
