"""Requests to a real agent as spans, on every face."""

from __future__ import annotations

import time

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode, use_span

from consul_access import ConsulAccess, RetryPolicy, TtlCheck, Unavailable
from consul_access.call import Call, path
from consul_access.integrations.opentelemetry import Telemetry


class Traced:
    """A tracer provider whose spans are kept in memory."""

    def __init__(self, **options):
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = self.provider.get_tracer("a program")

    def spans(self, name=None):
        return [span for span in self._kept.get_finished_spans() if name in (None, span.name)]

    def observe(self, client, **options):
        return Telemetry(tracer_provider=self.provider, **options).observe(getattr(client, "_inner", client))


@pytest.fixture
def traced():
    found = Traced()
    yield found
    found.provider.shutdown()


def test_a_request_within_a_span_is_its_child(face, consul, traced):
    async def story():
        async with face.access(url=consul.url) as access:
            traced.observe(access)
            with traced.tracer.start_as_current_span("checkout") as parent:
                begun = time.time_ns()
                await access.instances("orders", policy="any")
                ended = time.time_ns()
            (span,) = traced.spans("GET health.service")
            assert span.parent.span_id == parent.get_span_context().span_id
            assert span.kind is SpanKind.CLIENT
            assert span.instrumentation_scope.name == "consul_access"
            assert begun - 5_000_000 <= span.start_time <= span.end_time <= ended
            assert span.status.status_code is StatusCode.UNSET
            assert dict(span.attributes) == {
                "consul_access.operation": "health.service",
                "http.request.method": "GET",
                "http.response.status_code": 200,
                "server.address": "127.0.0.1",
                "server.port": consul.port,
                "url.full": f"{consul.url}/v1/health/service/orders",
            }

    face.run(story)


def test_every_repeat_is_a_span_and_failures_say_why(face, free_port, traced):
    async def story():
        async with face.access(port=free_port, retry=RetryPolicy(attempts=3, base=0.01)) as access:
            traced.observe(access)
            with traced.tracer.start_as_current_span("checkout"):
                with pytest.raises(Unavailable):
                    await access.services()

    face.run(story)
    spans = traced.spans("GET catalog.services")
    assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2]
    for span in spans:
        assert span.status.status_code is StatusCode.ERROR
        assert str(free_port) in span.status.description
        assert span.attributes["error.type"] == "ConnectFailed"
        assert "http.response.status_code" not in span.attributes


def test_outside_of_a_span_there_is_none_unless_it_is_asked_for(face, consul, traced):
    async def story():
        async with face.access(url=consul.url) as access:
            end = traced.observe(access)
            await access.services()
            assert traced.spans() == []
            end()
            traced.observe(access, background=True)
            await access.services()
            (span,) = traced.spans()
            assert span.parent is None

    face.run(story)


def test_what_a_client_does_in_the_background_is_nobodys_child(face, consul, traced):
    """Tasks inherit the span they were started in, and go on when it has long ended."""
    consul.register("orders", id="one", address="127.0.0.1", port=8000)

    async def story():
        async with face.access(url=consul.url) as access:
            seen = []
            access.on_exchange(seen.append)
            end = traced.observe(access)
            with traced.tracer.start_as_current_span("the first request"):
                keeper = access.registered("web", "127.0.0.1", 80, check=TtlCheck(1))
                await keeper.start()
                resolver = access.resolver("orders")
                await resolver.start()
            made = len(traced.spans())
            beats = beaten(seen)
            consul.register("orders", id="two", address="127.0.0.1", port=8000)
            await face.eventually(lambda: len(resolver.instances()) == 1 and beaten(seen) > beats + 2, 30, "beats")
            assert len(traced.spans()) == made
            assert not any("index=" in span.attributes["url.full"] for span in traced.spans() if span.parent)
            end()
            traced.observe(access, background=True)
            consul.register("orders", id="three", address="127.0.0.2", port=8000)
            await face.eventually(lambda: len(traced.spans()) > made + 2, 30, "spans of their own")
            ours = traced.spans()[made:]
            assert all(span.parent is None for span in ours)
            assert len({span.context.trace_id for span in ours}) == len(ours)
            await keeper.stop()
            await resolver.stop()

    face.run(story)


def beaten(seen):
    return sum(exchange.operation == "agent.check.update" for exchange in seen)


def test_what_is_not_sampled_has_no_children(consul):
    traced = Traced(sampler=ParentBased(ALWAYS_OFF))
    with ConsulAccess(url=consul.url) as access:
        traced.observe(access, background=True)
        with traced.tracer.start_as_current_span("not sampled"):
            access.services()
    assert traced.spans() == []
    traced.provider.shutdown()


def test_a_token_is_in_no_attribute(acl_consul, traced):
    secret = acl_consul.token
    old_way = Call("old.way", "GET", path("v1", "catalog", "services"), lambda reply: None, query=(("token", secret),))
    bad = Call("old.bad", "GET", path("v1", "nothing"), lambda reply: None, query=(("a", "1"), ("token", secret)))
    with ConsulAccess(url=acl_consul.url, token=secret) as access:
        traced.observe(access)
        with traced.tracer.start_as_current_span("checkout") as span, use_span(span):
            access.services()
            access.send(old_way)
            with pytest.raises(Exception, match="404"):
                access.send(bad)
    spans = traced.spans()
    assert len(spans) == 4
    assert all(secret not in span.to_json() for span in spans)
    (old,) = traced.spans("GET old.way")
    assert old.attributes["url.full"] == f"{acl_consul.url}/v1/catalog/services?token=REDACTED"
