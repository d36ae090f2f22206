"""A gRPC server whose health and registration keep step; asked by a real agent, which runs the gRPC check itself."""

from __future__ import annotations

import asyncio
import builtins
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from consul_access import AsyncConsulAccess, ConnectFailed, ConsulAccess, GrpcCheck, InvalidInput
from consul_access.integrations.grpc import AsyncRegistered, Registered
from tests.support.serving import Server, leaves_in_order, leaves_in_order_while_it_starts, passing
from tests.support.waiting import eventually

CHECK = GrpcCheck(interval="1s")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
HANDLERS = """
import os
import grpc
from consul_access import GrpcCheck

def answer(request, context):
    return b"42"

async def async_answer(request, context):
    return b"42"

def handlers(answer):
    return grpc.method_handlers_generic_handler("orders.Orders", {"Get": grpc.unary_unary_rpc_method_handler(answer)})

where = f"127.0.0.1:{os.environ['PORT']}"
settings = {"id": "orders-1", "drain": float(os.environ["DRAIN"]), "check": GrpcCheck(interval="1s")}
"""
THREADS = """
from concurrent.futures import ThreadPoolExecutor
from handlers import *
from consul_access.integrations.grpc import Registered

server = grpc.server(ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((handlers(answer),))
port = server.add_insecure_port(where)
with Registered(server, "orders", "127.0.0.1", port, **settings):
    server.wait_for_termination()
"""
TASKS = """
import asyncio
import grpc.aio
from handlers import *
from consul_access.integrations.grpc import AsyncRegistered

async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers(async_answer),))
    port = server.add_insecure_port(where)
    async with AsyncRegistered(server, "orders", "127.0.0.1", port, **settings):
        await server.wait_for_termination()

asyncio.run(main())
"""


class Caller:
    """Calls over one channel for each port, as clients do."""

    def __init__(self):
        self.channels = {}
        self.making = threading.Lock()

    def __call__(self, port):
        with self.making:
            if port not in self.channels:
                self.channels[port] = grpc.insecure_channel(f"127.0.0.1:{port}")
        assert self.channels[port].unary_unary("/orders.Orders/Get")(b"", timeout=10) == b"42"

    def close(self):
        for channel in self.channels.values():
            channel.close()


@pytest.fixture
def caller():
    made = Caller()
    yield made
    made.close()


@pytest.fixture
def channel():
    """Makes channels, closed at the end."""
    made = []

    def make(port):
        made.append(grpc.insecure_channel(f"127.0.0.1:{port}"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=[THREADS, TASKS], ids=["threads", "tasks"])
def server(request, tmp_path, counting, free_port):
    files = {"handlers.py": HANDLERS, "program.py": request.param}
    return Server(tmp_path, ["program.py"], files, counting.address, free_port)


def test_it_leaves_the_registry_first_and_then_ends(server, consul, counting, caller):
    assert leaves_in_order(server, consul, counting, call=caller) == -signal.SIGTERM


def test_it_leaves_in_order_while_it_is_still_starting(server, consul, counting):
    assert leaves_in_order_while_it_starts(server, consul, counting) == -signal.SIGTERM


def test_health_says_not_serving_before_the_drain(consul, channel):
    """The agent's own check hears it, too; so do clients that watch the health service."""
    server = grpc.server(ThreadPoolExecutor(8))
    port = server.add_insecure_port("127.0.0.1:0")
    heard = []

    def states():
        return [status for status, _ in heard]

    with ConsulAccess(url=consul.url) as access:

        def on_event(event):
            if event.kind in {"draining", "deregistered"}:
                stub = health_pb2_grpc.HealthStub(channel(port))
                request = health_pb2.HealthCheckRequest(service="orders.Orders")
                heard.append((stub.Check(request, timeout=10).status, event.kind))

        with Registered(
            server,
            "orders",
            "127.0.0.1",
            port,
            access=access,
            services=["orders.Orders"],
            check=CHECK,
            drain=0.2,
            on_event=on_event,
        ) as registered:
            stub = health_pb2_grpc.HealthStub(channel(port))
            for service in ("", "orders.Orders"):
                assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status == SERVING
            eventually(lambda: passing(consul) == [registered.keeper.id], what="the agent's gRPC check passes")
            registered.health.set("", NOT_SERVING)
            eventually(lambda: passing(consul) == [], what="the agent's gRPC check fails")
            registered.health.set("", SERVING)
            eventually(lambda: passing(consul) != [])
    assert [kind for _, kind in heard] == ["draining", "deregistered"]
    assert set(states()) == {NOT_SERVING}
    assert consul.read("/v1/agent/services") == {}


def test_the_check_asks_the_health_service_unless_told_otherwise(consul):
    async def story():
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        async with AsyncConsulAccess(url=consul.url) as access:
            async with AsyncRegistered(server, "orders", "127.0.0.1", port, access=access, drain=0) as registered:
                (check,) = registered.keeper.definition.checks
                assert check == GrpcCheck()
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    stub = health_pb2_grpc.HealthStub(channel)
                    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING
        assert consul.read("/v1/agent/services") == {}

    asyncio.run(story())


def test_in_catalog_mode_there_is_a_heartbeat_instead_of_a_check_by_an_agent(consul):
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    with ConsulAccess(url=consul.url) as access:
        with Registered(server, "orders", "127.0.0.1", port, access=access, drain=0, mode="catalog", node="no-agent"):
            (entry,) = consul.read("/v1/health/service/orders?passing")
            assert entry["Node"]["Node"] == "no-agent"
    assert consul.read("/v1/catalog/service/orders") == []


def test_one_that_cannot_be_registered_does_not_serve(free_port, channel):
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    with ConsulAccess(port=free_port) as access, pytest.raises(ConnectFailed):
        Registered(server, "orders", "127.0.0.1", port, access=access).start()
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel(port)).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_what_cannot_be_right_is_refused():
    with pytest.raises(InvalidInput, match="grace"):
        Registered(grpc.server(ThreadPoolExecutor(1)), "orders", port=80, grace=-1)
    with pytest.raises(InvalidInput, match="'tag' is no argument"):
        Registered(grpc.server(ThreadPoolExecutor(1)), "orders", port=80, tag=["blue"])


@pytest.mark.parametrize("kind", [Registered, AsyncRegistered])
def test_without_the_package_it_says_what_to_install(monkeypatch, kind):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("grpc_health"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("grpc_health")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install 'consul-access\[grpc\]'"):
        kind(None, "orders", port=80)
