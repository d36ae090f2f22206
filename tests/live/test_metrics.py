"""Clients measured by prometheus_client and by OpenTelemetry's SDK, at real registries, on every face."""

from __future__ import annotations

import gc
import inspect
import json
import subprocess
import sys
import time
import weakref

import pytest
from opentelemetry.exporter import prometheus
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from consul_access import (
    ConsulAccess,
    EjectingBalancer,
    EjectionPolicy,
    EtcdRegistry,
    InvalidInput,
    NoInstances,
    RetryPolicy,
    RoundRobinBalancer,
    TtlCheck,
    Unavailable,
)
from consul_access.integrations import _metrics
from consul_access.integrations.opentelemetry import Telemetry
from consul_access.integrations.prometheus import Metrics

REQUESTS = "http_client_request_duration_seconds"
WAITS = "consul_access_blocking_request_duration_seconds"


def _reader(registry):
    """Releases before 0.63b0 register with the process's registry alone; those before 0.64b0 do not tell the scope."""
    prometheus.REGISTRY = registry
    known = inspect.signature(PrometheusMetricReader).parameters
    wanted = {"registry": registry, "scope_info_enabled": False}
    return PrometheusMetricReader(**{name: value for name, value in wanted.items() if name in known})


class Scraped:
    """One way of measuring, read as Prometheus would read it."""

    def __init__(self, way):
        self.registry = CollectorRegistry()
        self.reader = None
        if way == "prometheus":
            self.measures = Metrics(self.registry)
        else:
            self.reader = _reader(self.registry)
            self.provider = MeterProvider([self.reader])
            self.measures = Telemetry(meter_provider=self.provider)

    def observe(self, client):
        return self.measures.observe(getattr(client, "_inner", client))

    def value(self, name, **labels):
        """The sum of the samples of that name which have at least these labels; None when there is none.

        Prometheus takes an absent label for an empty one, and exporters leave empty ones out or write them.
        """
        found = [
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and all(sample.labels.get(label, "") == value for label, value in labels.items())
        ]
        return sum(found) if found else None

    def count(self, operation, name=REQUESTS, **labels):
        return self.value(f"{name}_count", consul_access_operation=operation, **labels)

    def text(self):
        return generate_latest(self.registry).decode()

    def close(self):
        if self.reader is not None:
            self.provider.shutdown()


@pytest.fixture(params=["prometheus", "opentelemetry"])
def scraped(request):
    found = Scraped(request.param)
    yield found
    found.close()


def registered(agent, *names):
    for place, name in enumerate(names):
        agent.register("orders", id=name, address=f"127.0.0.{place + 1}", port=8000)


def test_requests_are_counted_by_operation_and_outcome(face, consul, scraped, free_port):
    registered(consul, "one")

    async def story():
        async with face.access(url=consul.url) as access:
            scraped.observe(access)
            await access.resolve("orders")
            with pytest.raises(NoInstances):
                await access.resolve("nobody")
            assert await access.deregister_service("not-there") is False
        async with face.access(port=free_port, retry=RetryPolicy(attempts=2, base=0.01)) as access:
            scraped.observe(access)
            with pytest.raises(Unavailable):
                await access.services()

    face.run(story)
    here = {"server_address": "127.0.0.1", "server_port": str(consul.port)}
    assert scraped.count("health.service", http_response_status_code="200", error_type="", **here) == 2
    assert scraped.count("agent.service", http_request_method="GET", **here) == 1
    (refused,) = {
        sample.labels["error_type"]
        for family in scraped.registry.collect()
        for sample in family.samples
        if sample.labels.get("consul_access_operation") == "agent.service"
    }
    assert refused == "UnknownService"
    assert scraped.count("catalog.services", http_response_status_code="", error_type="ConnectFailed") == 2
    assert 0 < scraped.value(f"{REQUESTS}_sum", consul_access_operation="health.service") < 30
    assert scraped.value(f"{REQUESTS}_bucket", consul_access_operation="health.service", le="+Inf") == 2


def test_a_kept_registration_is_seen_through_a_loss_and_a_silence(face, agents, scraped):
    agent = agents()
    mine = {"consul_access_service_name": "orders", "consul_access_service_id": "orders-1"}

    def is_in(state):
        return scraped.value("consul_access_keeper_state", consul_access_keeper_state=state, **mine) == 1

    def events(kind):
        return scraped.value(
            "consul_access_keeper_events_total", consul_access_service_name="orders", consul_access_keeper_event=kind
        )

    async def story():
        async with face.access(url=agent.url, timeout=2) as access:
            scraped.observe(access)
            async with access.registered("orders", "127.0.0.1", 8000, id="orders-1", check=TtlCheck(3)):
                await face.eventually(lambda: is_in("registered"), 30, "it is registered")
                assert scraped.value("consul_access_keeper_state", **mine) == 1  # in one state, and in no other
                assert scraped.value("consul_access_keeper_misses", **mine) == 0
                assert scraped.value("consul_access_keeper_unconfirmed_seconds", **mine) < 30
                agent.request("PUT", "/v1/agent/service/deregister/orders-1")
                await face.eventually(lambda: events("registered_again"), 30, "it is restored")
                assert events("lost") == 1
                assert events("missed") == 0  # from the beginning, so that the first one is an increase
                agent.kill()
                await face.eventually(lambda: is_in("renewing") or is_in("pending"), 30, "it notices")
                await face.eventually(lambda: scraped.value("consul_access_keeper_misses", **mine), 30, "it counts")
                assert events("missed") >= 1
                agent.run()
                await face.eventually(lambda: is_in("registered"), 60, "it is back")
        assert scraped.value("consul_access_keeper_state", **mine) is None
        assert events("deregistered") == 1

    face.run(story)


def test_a_resolver_is_seen_with_its_size_age_and_lag(face, agents, scraped):
    agent = agents()
    registered(agent, "one", "two")
    orders = {"consul_access_service_name": "orders"}

    def read(what):
        return scraped.value(f"consul_access_resolver_{what}", **orders)

    async def story():
        async with face.access(url=agent.url, timeout=2) as access:
            scraped.observe(access)
            balancer = EjectingBalancer(
                RoundRobinBalancer(), time.monotonic, EjectionPolicy(failures=1, first=60, longest=60)
            )
            async with access.resolver("orders", balancer=balancer) as resolver:
                assert read("instances") == 2
                assert 0 <= read("age_seconds") < 60
                assert read("lag_seconds") == 0
                assert read("ejected") == 0
                for _ in range(5):
                    bad = resolver.pick()
                assert read("ejections_total") == 0
                assert read("picks_total") == 5
                resolver.report(bad, False, 0.01)
                assert read("ejected") == 1
                assert read("ejections_total") == 1
                async with access.resolver("orders", policy="any") as another:
                    assert read("instances") == 2  # of several the worst
                    assert another.pick()
                assert read("picks_total") == 6
                registered(agent, "one", "two", "three")
                await face.eventually(lambda: read("instances") == 3, 30, "it follows")
                agent.kill()
                await face.eventually(lambda: read("lag_seconds"), 30, "it notices")
                assert read("instances") == 3
                before = read("lag_seconds")
                await face.eventually(lambda: read("lag_seconds") > before, 30, "it grows")
                agent.run()
                registered(agent, "one", "two", "three")
                await face.eventually(lambda: read("lag_seconds") == 0, 60, "it is confirmed again")
            assert read("instances") is None
        assert scraped.count("health.service", WAITS, error_type="") >= 1
        assert scraped.count("health.service") >= 1

    face.run(story)


def test_etcd_is_measured_with_the_same_names(face, any_etcd, scraped):
    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd:
            scraped.observe(etcd)
            async with etcd.registered("orders", "127.0.0.1", 8000, id="orders-1"):
                async with etcd.resolver("orders") as resolver:
                    await resolver.wait_ready(10)
                    resolver.pick()
                    orders = {"consul_access_service_name": "orders"}
                    assert scraped.value("consul_access_resolver_instances", **orders) == 1
                    assert scraped.value("consul_access_resolver_lag_seconds", **orders) == 0
                    assert scraped.value("consul_access_resolver_picks_total", **orders) == 1
                    assert scraped.value("consul_access_keeper_state", **orders) == 1
            await etcd.services()

    face.run(story)
    assert scraped.value(f"{REQUESTS}_count", server_port=str(any_etcd.port), http_request_method="POST") >= 3


def test_both_ways_export_the_same_names_and_labels(consul):
    """So that a dashboard for one is a dashboard for the other."""
    registered(consul, "one")
    ways = [Scraped("prometheus"), Scraped("opentelemetry")]
    with ConsulAccess(url=consul.url) as access:
        for way in ways:
            way.observe(access)
        balancer = EjectingBalancer(RoundRobinBalancer(), time.monotonic)
        with (
            access.registered("web", "127.0.0.1", 8000, check=TtlCheck(3)),
            access.resolver("orders", balancer=balancer) as resolver,
        ):
            resolver.pick()
            found = access.instances("orders")
            access.instances("orders", index=found.meta.index, wait="1ms")
            told = [
                {
                    (sample.name, frozenset(sample.labels) - {"le", "error_type"})
                    for family in way.registry.collect()
                    for sample in family.samples
                    if family.name != "target" and not sample.name.endswith("_created")
                }
                for way in ways
            ]
    assert told[0] == told[1]
    names = {name for name, _ in told[0]}
    for metric in _metrics.ALL:
        assert any(name.startswith(metric.prometheus_name) for name in names), metric.name
    ways[1].close()


def test_what_is_observed_no_more_is_not_measured_and_not_kept_alive(consul, scraped):
    registered(consul, "one")
    access = ConsulAccess(url=consul.url)
    end = scraped.observe(access)
    access.services()
    end()
    access.services()
    assert scraped.count("catalog.services") == 1
    scraped.observe(access)
    access.close()
    ref = weakref.ref(access)
    del access, end
    gc.collect()
    assert ref() is None
    assert scraped.measures.clients() == []


def test_tokens_are_nowhere_in_what_is_exported(acl_consul, scraped):
    with ConsulAccess(url=acl_consul.url, token=acl_consul.token) as access:
        scraped.observe(access)
        with access.registered("orders", "127.0.0.1", 8000, check=TtlCheck(3)), access.resolver("orders") as resolver:
            resolver.wait_ready()
            resolver.pick()
        assert scraped.count("health.service") >= 1
        assert acl_consul.token not in scraped.text()


def test_the_same_service_kept_at_two_registries_is_one_series(consul, any_etcd, scraped):
    """As when moving from one to the other; of two states both are told, of two ages the greater."""
    with ConsulAccess(url=consul.url) as access, EtcdRegistry(any_etcd.host, any_etcd.port) as etcd:
        scraped.observe(access)
        scraped.observe(etcd)
        with pytest.raises(InvalidInput, match="observed already"):
            scraped.observe(access)
        options = {"id": "orders-1", "on_event": None}
        with (
            access.registered("orders", "127.0.0.1", 8000, check=None, **options),
            etcd.registered("orders", "127.0.0.1", 8000, **options),
            access.resolver("orders"),
            etcd.resolver("orders") as resolver,
        ):
            resolver.wait_ready()
            told = [
                (sample.name, *sorted(sample.labels.items()))
                for family in scraped.registry.collect()
                for sample in family.samples
            ]
            assert len(told) == len(set(told))
            assert scraped.value("consul_access_keeper_state", consul_access_keeper_state="registered") == 1


def test_a_second_set_of_metrics_in_one_registry_is_refused():
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("prometheus_client", "prometheus", "prometheus"), ("opentelemetry", "opentelemetry", "opentelemetry")],
)
def test_what_has_to_be_installed_is_said_and_nothing_is_loaded_before(package, module, extra):
    code = (
        "import sys\n"
        "from consul_access import ConsulAccess, EtcdRegistry\n"
        "access = ConsulAccess(port=1); access.resolver('a'); access.registered('a', port=1); EtcdRegistry(port=1)\n"
        "assert not {'prometheus_client', 'opentelemetry'} & set(sys.modules)\n"
        f"sys.modules[{package!r}] = None\n"
        f"import consul_access.integrations.{module}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'consul-access[{extra}]'" in done.stderr.splitlines()[-1]


def test_opentelemetry_is_told_units_and_texts(consul):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    telemetry = Telemetry(meter_provider=provider)
    with ConsulAccess(url=consul.url) as access:
        telemetry.observe(access)
        access.services()
        data = json.loads(reader.get_metrics_data().to_json())
    (scope,) = data["resource_metrics"][0]["scope_metrics"]
    assert scope["scope"]["name"] == "consul_access"
    (metric,) = (one for one in scope["metrics"] if one["name"] == "http.client.request.duration")
    assert metric["unit"] == "s"
    (point,) = metric["data"]["data_points"]
    assert point["explicit_bounds"] == list(_metrics.REQUESTS.buckets)
    assert point["attributes"] == {
        "consul_access.operation": "catalog.services",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": consul.port,
    }
    provider.shutdown()
