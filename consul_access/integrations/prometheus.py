"""Prometheus: what clients do, and how things stand, as metrics of the `prometheus_client` package.

`Metrics().observe(access)`, and it is part of what the program exposes. What is counted is counted as it happens; how
keepers and resolvers stand is read when somebody scrapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from consul_access.integrations import _metrics as metrics
from consul_access.integrations._missing import missing

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise missing(error, "prometheus_client", "prometheus") from error

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

    from consul_access.hooks import Exchange
    from consul_access.integrations._metrics import Attributes, Client, Metric

__all__ = ["Metrics"]


class Metrics(metrics.Observing):
    """The metrics of any number of clients, in one registry of `prometheus_client`.

    Make one for a program.

    Args:
        registry: where they are registered; the default one if not given.

    The names are those that OpenTelemetry's exporters for Prometheus give the metrics of
    `consul_access.integrations.opentelemetry`, so a dashboard for one is a dashboard for the other.

    Raises:
        ValueError: the registry has such metrics already: use the first `Metrics` for further clients.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        super().__init__()
        self._durations = {
            metric: Histogram(
                metric.prometheus_name, metric.text, metric.labels, buckets=metric.buckets, registry=registry
            )
            for metric in (metrics.REQUESTS, metrics.WAITS)
        }
        self._events, self._picks, self._ejections = (
            Counter(metric.prometheus_name, metric.text, metric.labels, registry=registry)
            for metric in (metrics.EVENTS, metrics.PICKS, metrics.EJECTIONS)
        )
        self._picks_of: dict[str, Counter] = {}  # looking them up costs more than counting
        registry.register(_State(self.clients))

    def _exchanged(self, exchange: Exchange) -> None:
        metric, attributes = metrics.of_exchange(exchange)
        self._durations[metric].labels(*_values(metric, attributes)).observe(exchange.elapsed)

    def _happened(self, service: str, kind: str, times: int) -> None:
        self._events.labels(service, kind).inc(times)

    def _picked(self, service: str) -> None:
        picks = self._picks_of.get(service)
        if picks is None:
            picks = self._picks_of[service] = self._picks.labels(service)
        picks.inc()

    def _ejected(self, service: str, times: int) -> None:
        self._ejections.labels(service).inc(times)


class _State(Collector):
    """How keepers and resolvers stand at the moment of a scrape."""

    def __init__(self, clients: Callable[[], list[Client]]) -> None:
        self._clients = clients

    def describe(self) -> Iterator[Family]:
        """The names, for the registry to find out whether they are taken."""
        for gauge in metrics.GAUGES:
            yield _family(gauge.metric)

    def collect(self) -> Iterator[Family]:
        """The values."""
        clients = self._clients()
        for gauge in metrics.GAUGES:
            family = _family(gauge.metric)
            for attributes, value in gauge.read(clients):
                family.add_metric(_values(gauge.metric, attributes), value)
            yield family


def _family(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.prometheus_name, metric.text, labels=metric.labels)


def _values(metric: Metric, attributes: Attributes) -> list[str]:
    """The labels' values, in the order of the labels; what is missing is empty, which means the same to Prometheus."""
    return [str(attributes.get(attribute, "")) for attribute in metric.attributes]
