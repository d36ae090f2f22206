"""Which host names mean a service."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.rules.naming import ServiceNames, Wanted

LABELS = st.text("abcdefgh0123456789-", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("orders", Wanted("orders")),
        ("order-service", Wanted("order-service")),
        ("my_service", Wanted("my_service")),
        ("orders.service.consul", Wanted("orders")),
        ("orders.service.dc2.consul", Wanted("orders", "", "dc2")),
        ("v2.orders.service.consul", Wanted("orders", "v2")),
        ("v2.orders.service.dc2.consul", Wanted("orders", "v2", "dc2")),
        ("v1.2.orders.service.consul", Wanted("orders", "v1.2")),
        ("service.service.consul", Wanted("service")),
        ("localhost", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("", None),
        ("example.org", None),
        ("orders.example.org", None),
        ("orders.service.example.org", None),
        ("node1.node.consul", None),
        ("service.consul", None),
        (".service.consul", None),
        ("consul.service.consul.example.org", None),
        ("_orders._tcp.service.consul", None),
        ("orders..service.consul", None),
    ],
)
def test_a_name_without_a_dot_is_a_service_and_so_is_consuls_own_form(host, wanted):
    assert ServiceNames().wanted(host) == wanted


@pytest.mark.parametrize("host", ["orders", "orders.service.consul"])
def test_a_url_with_a_port_names_an_ordinary_host(host):
    assert ServiceNames(["orders"]).wanted(host, 8080) is None


def test_with_a_list_only_its_names_are_services_as_they_are_spelt_there():
    names = ServiceNames(["Orders", "billing.v2"])

    assert names.wanted("orders") == Wanted("Orders")
    assert names.wanted("billing.v2") == Wanted("billing.v2")
    assert names.wanted("orders.service.consul") == Wanted("Orders")
    assert names.wanted("payments") is None
    assert names.wanted("payments.service.consul") == Wanted("payments")


def test_the_domain_of_the_dns_can_be_another():
    names = ServiceNames(domains=["corp.example", ".consul."])

    assert names.wanted("orders.service.corp.example") == Wanted("orders")
    assert names.wanted("orders.service.consul") == Wanted("orders")


@pytest.mark.parametrize("given", [{"services": "orders"}, {"services": [""]}, {"domains": "consul"}])
def test_what_cannot_be_meant_is_refused(given):
    with pytest.raises(InvalidInput, match="services="):
        ServiceNames(**given)


@given(LABELS, st.lists(LABELS, max_size=2), st.sampled_from(["", "dc1", "eu-west"]))
def test_what_is_written_as_consuls_dns_has_it_is_read_back(service, tag, datacenter):
    host = ".".join([*tag, service, "service", *([datacenter] if datacenter else []), "consul"])

    assert ServiceNames().wanted(host) == Wanted(service, ".".join(tag), datacenter)


@given(st.text(max_size=30))
def test_any_text_is_a_service_or_not(host):
    wanted = ServiceNames().wanted(host.lower())

    assert wanted is None or wanted.service
