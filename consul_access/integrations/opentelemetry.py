"""OpenTelemetry: requests to the registry as spans and metrics, and how things stand as metrics.

`Telemetry().observe(access)`. Only the API package is needed; without an SDK nothing is recorded, and nothing costs
more than a call that does nothing. Names follow the semantic conventions for HTTP clients
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/); what they have no name for begins with `consul_access.`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from consul_access._version import __version__
from consul_access.hooks import masked
from consul_access.integrations import _metrics as metrics
from consul_access.integrations._missing import missing

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    raise missing(error, "opentelemetry-api", "opentelemetry") from error

if TYPE_CHECKING:
    from consul_access.hooks import Exchange
    from consul_access.integrations._metrics import Client, Gauge

__all__ = ["Telemetry"]

SCOPE: Final = "consul_access"
"""This library sends tokens in headers only; somebody's own `Call` may not."""


class Telemetry(metrics.Observing):
    """Spans and metrics of any number of clients.

    Make one for a program.

    Args:
        tracer_provider: makes the tracer; the global one if not given.
        meter_provider: makes the meter; the global one if not given.
        background: also makes spans of requests that belong to no span of the program's own, each a trace of its own:
            heartbeats, the watches' requests (which last for minutes), and calls made outside of any span.

    A request made within a recording span becomes a child of it, with its true beginning and end. A repeated request
    makes several, told apart by `http.request.resend_count`.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        background: bool = False,
    ) -> None:
        super().__init__()
        self._background = background
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
        meter = get_meter(SCOPE, __version__, meter_provider)
        self._durations = {
            metric: meter.create_histogram(
                metric.name, metric.unit, metric.text, explicit_bucket_boundaries_advisory=metric.buckets
            )
            for metric in (metrics.REQUESTS, metrics.WAITS)
        }
        self._events, self._picks, self._ejections = (
            meter.create_counter(metric.name, metric.unit, metric.text)
            for metric in (metrics.EVENTS, metrics.PICKS, metrics.EJECTIONS)
        )
        for gauge in metrics.GAUGES:
            _observable(meter, gauge, self.clients)

    def _exchanged(self, exchange: Exchange) -> None:
        metric, attributes = metrics.of_exchange(exchange)
        self._durations[metric].record(exchange.elapsed, attributes)
        within = self._parent(exchange)
        if within is not None:
            self._trace(exchange, attributes, within)

    def _happened(self, service: str, kind: str, times: int) -> None:
        self._events.add(times, {metrics.SERVICE: service, metrics.EVENT: kind})

    def _picked(self, service: str) -> None:
        self._picks.add(1, {metrics.SERVICE: service})

    def _ejected(self, service: str, times: int) -> None:
        self._ejections.add(times, {metrics.SERVICE: service})

    # --- spans --------------------------------------------------------------------------------------------

    def _parent(self, exchange: Exchange) -> Context | None:
        """What the request's span belongs to; None when there is to be none.

        Tasks inherit the span that they were started in, and background tasks outlive it by far: one that has ended
        records no more, and is nobody's parent.
        """
        current = trace.get_current_span()
        if current.is_recording() and not exchange.blocking:
            return trace.set_span_in_context(current)
        if not self._background:
            return None
        return Context() if _has_ended(current) or exchange.blocking else trace.set_span_in_context(current)

    def _trace(self, exchange: Exchange, attributes: metrics.Attributes, within: Context) -> None:
        ended = time.time_ns()
        told = attributes | {
            metrics.METHOD: exchange.method,
            "url.full": f"{exchange.server}{exchange.path}",
        }
        if exchange.attempt > 1:
            told["http.request.resend_count"] = exchange.attempt - 1
        span = self._tracer.start_span(
            f"{exchange.method} {exchange.operation}",
            within,
            SpanKind.CLIENT,
            told,
            start_time=ended - int(exchange.elapsed * 1e9),
        )
        if exchange.error is not None:
            span.set_status(Status(StatusCode.ERROR, masked(str(exchange.error))))
        span.end(ended)


def _has_ended(span: Span) -> bool:
    """Whether there was one, which is over; one that is merely not sampled keeps its children from being so."""
    context = span.get_span_context()
    return not span.is_recording() and context.is_valid and context.trace_flags.sampled


def _observable(meter: Meter, gauge: Gauge, clients: Callable[[], list[Client]]) -> None:
    """The gauge as an instrument, which is read when somebody collects."""

    def observed(_: CallbackOptions) -> Iterator[Observation]:
        for attributes, value in gauge.read(clients()):
            yield Observation(value, attributes)

    meter.create_observable_gauge(gauge.metric.name, [observed], gauge.metric.unit, gauge.metric.text)
