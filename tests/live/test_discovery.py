"""httpx calls services by their names: real instances, registered at a real agent."""

from __future__ import annotations

import contextlib
import gzip
import inspect
import os
import random
import ssl
import threading
import time
import tracemalloc
from collections import Counter
from importlib.metadata import version

import anyio
import httpx
import pytest
import trustme

from consul_access import (
    AsyncConsulAccess,
    AsyncDiscoveryTransport,
    ClientClosed,
    ConsulAccess,
    DiscoveryTransport,
    InstancesFailed,
    InstancesTimedOut,
    InstancesUnreachable,
    InvalidInput,
    LeastOutstandingBalancer,
)
from consul_access.rules.naming import Wanted
from tests.support.faces import Awaited
from tests.support.instance_servers import Serving

ORDERS = Wanted("orders")
# Before, a connection that was cancelled while it was made was left to the garbage collector.
TIDY = {"anyio": (4, 16), "trio": (0, 32)}
IS_TIDY = all(tuple(map(int, version(name).split(".")[:2])) >= least for name, least in TIDY.items())
FORGIVEN = () if IS_TIDY else ("ignore::pytest.PytestUnraisableExceptionWarning",)


@pytest.fixture
def serving(consul):
    """Makes instances of `orders` and registers them."""
    with contextlib.ExitStack() as stack:

        def make(name="one", *, service="orders", context=None, **fields):
            instance = stack.enter_context(Serving(name, context=context))
            consul.register(service, id=name, address="127.0.0.1", port=instance.port, **fields)
            return instance

        yield make


@pytest.fixture
def dead(consul, free_port):
    """An instance that is registered, and nobody listens there."""
    consul.register("orders", id="dead", address="127.0.0.1", port=free_port)
    return "127.0.0.1", free_port


@contextlib.asynccontextmanager
async def calling(face, agent, timeout=5.0, **options):
    """A client, with the transport as its attribute."""
    async with face.access(url=agent.url) as access:
        if face.is_async:
            transport = AsyncDiscoveryTransport(access, **options)
            async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
                client.discovery = transport
                yield client
        else:
            transport = DiscoveryTransport(access._inner, **options)
            with httpx.Client(transport=transport, timeout=timeout) as client:
                waiting = Awaited(client)
                waiting.plain |= {"build_request"}
                waiting.discovery = transport
                yield waiting


def service(client, wanted=ORDERS):
    return client.discovery._services[wanted]


class TestWhereRequestsGo:
    def test_a_name_is_a_service_and_every_instance_is_called(self, face, consul, serving):
        instances = [serving(name) for name in ("one", "two", "three")]

        async def story():
            async with calling(face, consul, balancer="round_robin") as client:
                names = Counter()
                for _ in range(12):
                    response = await client.get("http://orders/v1/items")
                    assert response.status_code == 200
                    assert str(response.url) == "http://orders/v1/items"
                    assert response.extensions["instance"].id == response.text == response.headers["x-instance"]
                    names[response.text] += 1
                assert names == {"one": 4, "two": 4, "three": 4}

        face.run(story)
        assert {asked.host for instance in instances for asked in instance.asked} == {"orders"}

    def test_the_host_can_be_that_of_the_address(self, face, consul, serving):
        instance = serving()

        async def story():
            async with calling(face, consul, host="address") as client:
                await client.get("http://orders/")

        face.run(story)
        assert [asked.host for asked in instance.asked] == [f"127.0.0.1:{instance.port}"]

    def test_names_as_consuls_dns_has_them_narrow_by_tag_and_datacenter(self, face, consul, serving):
        serving("old", tags=["v1", "eu"])
        serving("new", tags=["v2", "eu"])

        async def story():
            async with calling(face, consul, tags=["eu"]) as client:
                for _ in range(5):
                    assert (await client.get("http://v2.orders.service.consul/")).text == "new"
                    assert (await client.get("http://v1.orders.service.dc1.consul/")).text == "old"
                with pytest.raises(InstancesUnreachable, match="no instance of 'orders'"):
                    await client.get("http://v3.orders.service.consul/")

        face.run(story)

    def test_case_does_not_matter_since_agents_do_not_care_either(self, face, consul, serving):
        serving("one", service="Orders")

        async def story():
            async with calling(face, consul) as client:
                assert (await client.get("http://ORDERS/")).text == "one"

        face.run(story)

    def test_ordinary_hosts_pass_through(self, face, consul, serving):
        instance = serving()

        async def story():
            async with calling(face, consul) as client:
                for host in ("127.0.0.1", "localhost"):
                    response = await client.get(f"http://{host}:{instance.port}/")
                    assert response.text == "one"
                    assert "instance" not in response.extensions
                with pytest.raises(httpx.ConnectError) as refused:
                    await client.get("http://127.0.0.1:1/")
                assert not isinstance(refused.value, InstancesFailed)
                assert client.discovery._services == {}
            async with calling(face, consul, services=["payments"], ordinary=face.transport(ordinary)) as client:
                assert (await client.get("http://orders/")).text == "an ordinary host"

        def ordinary(request):
            assert request.url.host == "orders"
            return httpx.Response(200, text="an ordinary host")

        face.run(story)

    def test_a_key_sticks_to_its_instance(self, face, consul, serving):
        for name in ("one", "two", "three"):
            serving(name)

        async def story():
            options = {"balancer": "sticky", "key": lambda request: request.headers.get("x-user")}
            async with calling(face, consul, **options) as client:
                names = {user: set() for user in "abcdefgh"}
                for user in list(names) * 3:
                    names[user].add((await client.get("http://orders/", headers={"x-user": user})).text)
                assert all(len(seen) == 1 for seen in names.values())
                assert len(set.union(*names.values())) > 1

        face.run(story)

    def test_an_instance_that_proves_the_services_name_is_trusted_and_no_other(self, face, consul, serving):
        authority = trustme.CA()
        good, bad = (server_context(authority, name) for name in ("orders", "payments"))
        instance = serving("one", context=good)
        serving("two", service="billing", context=bad)
        client_context = trusting(authority)

        async def story():
            async with calling(face, consul, ssl_context=client_context) as client:
                response = await client.get("https://orders/")
                assert response.text == "one"
                with pytest.raises(InstancesUnreachable, match="billing"):
                    await client.get("https://billing/")
            async with calling(face, consul, ssl_context=client_context, host="address") as client:
                with pytest.raises(InstancesUnreachable, match=r"127\.0\.0\.1"):
                    await client.get("https://orders/")

        face.run(story)
        assert instance.server_names[0] == "orders"
        assert [asked.host for asked in instance.asked] == ["orders"]


class TestFailing:
    def test_a_dead_instance_costs_no_request_and_is_left_out(self, face, consul, serving, dead):
        serving("one")

        async def story():
            async with calling(face, consul) as client:
                for _ in range(40):
                    assert (await client.get("http://orders/")).text == "one"
                assert service(client).left_out == {dead}
                begun = time.monotonic()
                while service(client).left_out and time.monotonic() - begun < 10:
                    assert (await client.get("http://orders/")).text == "one"
                await face.eventually(lambda: not service(client).left_out, within=5)

        face.run(story)

    def test_post_is_repeated_when_nobody_has_seen_it(self, face, consul, serving, dead):
        instance = serving("one")

        async def story():
            async with calling(face, consul, ejection=None, balancer="round_robin") as client:
                for _ in range(6):
                    assert (await client.post("http://orders/items", content=b'{"a":1}')).text == "one"
                assert (await client.post("http://orders/items", content=pieces(face))).text == "one"
                assert (await client.post("http://orders/items", content=pieces(face))).text == "one"

        face.run(story)
        assert [asked.body for asked in instance.asked] == [b'{"a":1}'] * 6 + [b"onetwo"] * 2

    def test_post_that_was_sent_is_not_sent_again(self, face, consul, serving):
        instances = [serving("one"), serving("two")]

        async def story():
            async with calling(face, consul) as client:
                with pytest.raises(InstancesFailed, match="POST http://orders/break: no instance") as failed:
                    await client.post("http://orders/break", json={"a": 1})
                assert len(failed.value.failures) == 1
                assert not isinstance(failed.value, InstancesUnreachable)
                with pytest.raises(InstancesTimedOut):
                    await client.post("http://orders/slow?seconds=1", timeout=0.2)
                assert (await client.post("http://orders/status/503")).status_code == 503

        face.run(story)
        assert sorted(asked.path for one in instances for asked in one.asked) == ["/break", "/slow", "/status/503"]

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_what_is_harmless_twice_is_asked_of_others_and_all_are_listed(self, face, consul, serving, method):
        instances = [serving("one"), serving("two"), serving("three"), serving("four")]

        async def story():
            async with calling(face, consul) as client:
                with pytest.raises(httpx.TransportError) as failed:
                    await client.request(method, "http://orders/break", content=b"body")
                error = failed.value
                assert isinstance(error, InstancesFailed)
                assert error.request.url == "http://orders/break"
                assert len({one.instance_id for one in error.failures}) == 3
                for one in error.failures:
                    assert f"{one.address} ({one.instance_id}): RemoteProtocolError" in str(error)

        face.run(story)
        assert [asked.body for one in instances for asked in one.asked] == [b"body"] * 3

    def test_a_body_that_has_begun_and_cannot_begin_again_is_not_repeated(self, face, consul, serving):
        instances = [serving("one"), serving("two")]

        async def story():
            async with calling(face, consul) as client:
                with pytest.raises(InstancesFailed) as failed:
                    await client.put("http://orders/break", content=pieces(face))
                assert len(failed.value.failures) == 1

        face.run(story)
        assert [asked.body for one in instances for asked in one.asked] == [b"onetwo"]

    def test_one_that_says_it_cannot_serve_is_passed_over(self, face, consul, serving):
        draining, _ = serving("one"), serving("two")
        draining.status = 503

        async def story():
            async with calling(face, consul, balancer="round_robin") as client:
                for _ in range(20):
                    response = await client.get("http://orders/")
                    assert (response.status_code, response.text) == (200, "two")
                assert len(draining.asked) == 5  # then it was left out
                response = await client.get("http://orders/status/503")
                assert response.status_code == 503
            async with calling(face, consul, failing=()) as client:
                assert {(await client.get("http://orders/")).status_code for _ in range(30)} == {200, 503}

        face.run(story)

    def test_a_frozen_instance_is_given_up_for_another(self, face, consul, serving):
        async def story():
            async with calling(face, consul, timeout=0.3, balancer="round_robin") as client:
                begun = time.monotonic()
                with pytest.raises(InstancesTimedOut) as failed:
                    await client.get("http://orders/slow?seconds=2")
                assert time.monotonic() - begun < 2
                assert len({one.instance_id for one in failed.value.failures}) == 3

        for name in ("one", "two", "three"):
            serving(name)
        face.run(story)

    def test_an_answer_that_breaks_in_the_middle_is_asked_for_again_as_long_as_it_was_not_handed_over(
        self, face, consul, serving
    ):
        instances = [serving(name) for name in ("one", "two", "three")]

        async def story():
            async with calling(face, consul) as client:
                with pytest.raises(InstancesFailed, match="peer closed connection without sending") as failed:
                    await client.get("http://orders/cut")
                assert len({one.instance_id for one in failed.value.failures}) == 3
                for options in ({"whole": 99}, {"whole": 0}):
                    async with calling(face, consul, **options) as streaming:
                        with pytest.raises(httpx.RemoteProtocolError) as broken:
                            await streaming.get("http://orders/cut")
                        assert not isinstance(broken.value, InstancesFailed)

        face.run(story)
        assert sum(len(one.asked) for one in instances) == 5

    def test_a_body_that_breaks_counts_against_its_instance(self, face, consul, serving):
        bad = serving("bad")
        serving("good")

        async def story():
            async with calling(face, consul, balancer="round_robin", whole=0) as client:
                for _ in range(10):
                    with pytest.raises(httpx.RemoteProtocolError):
                        await client.get("http://orders/cut")
                assert len(service(client).left_out) == 1  # at most one of two

        face.run(story)
        assert len(bad.asked) in (4, 5, 6)

    def test_without_an_instance_it_says_so_and_finds_one_as_soon_as_there_is_one(self, face, consul, serving):
        async def story():
            async with calling(face, consul) as client:
                with pytest.raises(InstancesUnreachable, match="there is no instance of 'orders'") as failed:
                    await client.get("http://orders/")
                assert failed.value.failures == ()
                assert isinstance(failed.value, httpx.ConnectError)
                serving("one")
                await face.eventually(lambda: service(client).resolver.instances())
                assert (await client.get("http://orders/")).text == "one"

        face.run(story)

    def test_without_an_agent_it_says_so(self, face, free_port):
        async def story():
            class Nowhere:
                url = f"http://127.0.0.1:{free_port}"

            async with calling(face, Nowhere) as client:
                with pytest.raises(InstancesUnreachable, match="nothing is known of 'orders' yet"):
                    await client.get("http://orders/")

        face.run(story)

    def test_after_its_end_it_says_so(self, face, consul, serving):
        serving("one")

        async def story():
            async with calling(face, consul) as client:
                await client.get("http://orders/")
                transport = client.discovery
                known = service(client)
                assert repr(transport).endswith("orders: 1>")
            assert repr(transport).endswith("closed>")
            with pytest.raises(ClientClosed):
                known.resolver.pick()
            send = transport.handle_async_request if face.is_async else Awaited(transport).handle_request
            with pytest.raises(ClientClosed, match="transport is closed"):
                await send(httpx.Request("GET", "http://orders/"))

        face.run(story)


class TestBodies:
    @pytest.mark.parametrize("mib", [200])
    def test_a_body_passes_through_piece_by_piece(self, face, consul, serving, mib, record_property):
        """200 MiB down, 64 MiB up, and never more of it in memory than a few pieces."""
        serving("one")
        sizes = Counter()

        async def down(client):
            request = client.build_request("GET", f"http://orders/stream?mib={mib}")
            response = await client.send(request, stream=True)
            stream = parts(face, response)
            async for part in stream:
                sizes["down"] += len(part)
            await ended(response)

        async def story():
            async with calling(face, consul) as client:
                await client.get("http://orders/")
                tracemalloc.start()
                try:
                    await down(client)
                    up = await client.put(
                        "http://orders/hash", content=many(face, 1024), headers={"Content-Length": str(1024 * 65_536)}
                    )
                    _, peak = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
                record_property("peak of memory", f"{peak / 2**20:.1f} MiB")
                assert up.text.startswith(f"{1024 * 65_536} ")
                assert peak < 16 * 2**20

        face.run(story)
        assert sizes["down"] == mib * 2**20

    def test_a_request_has_ended_when_its_response_is_closed(self, face, consul, serving):
        serving("one")
        balancers = []

        def made():
            balancers.append(LeastOutstandingBalancer(random.Random(1)))
            return balancers[-1]

        async def story():
            async with calling(face, consul, balancer=made) as client:
                response = await client.send(client.build_request("GET", "http://orders/stream?mib=64"), stream=True)
                (balancer,) = balancers
                outstanding = balancer._outstanding.of(response.extensions["instance"].address)
                assert len(outstanding) == 1
                await ended(response)
                assert len(outstanding) == 0
                for path in ("/", "/status/503", "/cut", "/break"):
                    with contextlib.suppress(httpx.TransportError):
                        await client.get(f"http://orders{path}")
                assert len(outstanding) == 0

        face.run(story)


def parts(face, response):
    """The body, as it comes."""
    return response.aiter_raw() if face.is_async else aiter_of(response.iter_raw())


async def ended(response):
    """Closes a response of either face."""
    if isinstance(response.stream, httpx.AsyncByteStream):
        await response.aclose()
    else:
        response.close()


async def aiter_of(iterable):
    for part in iterable:
        yield part


def pieces(face):
    """A body that can be sent only once."""
    return aiter_of([b"one", b"two"]) if face.is_async else iter([b"one", b"two"])


def many(face, number):
    parts = (b"y" * 65_536 for _ in range(number))
    return aiter_of(parts) if face.is_async else parts


def server_context(authority, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class TestComingAndGoing:
    def test_connections_to_an_instance_that_is_gone_are_closed_when_its_last_request_ends(self, face, consul, serving):
        going = serving("going")

        async def story():
            async with calling(face, consul) as client:
                response = await client.send(client.build_request("GET", "http://orders/stream?mib=64"), stream=True)
                await client.get("http://orders/")
                assert len(going.connections) == 2
                serving("staying")
                consul.request("PUT", "/v1/agent/service/deregister/going")
                await face.eventually(lambda: [one.id for one in service(client).resolver.instances()] == ["staying"])
                assert (await client.get("http://orders/")).text == "staying"
                assert [pool.address.port for pool in service(client).pools.values()] != [going.port]
                assert len(service(client).pools) == 1
                size = 0
                async for part in parts(face, response):
                    size += len(part)
                assert size == 64 * 2**20  # it was left to end in peace
                await ended(response)
                await face.eventually(lambda: not going.connections)

        face.run(story)

    def test_every_instance_is_replaced_under_load_and_no_safe_request_fails(
        self, face, consul, serving, record_property
    ):
        """Every second one is stopped while it is still registered, as when a machine dies."""
        begun = time.monotonic()
        replacing = Replacing(consul, serving)
        seen = Counter()

        async def caller(client):
            while not replacing.done.is_set():
                response = await client.get("http://orders/v1/items")
                assert response.status_code == 200
                seen[response.text] += 1

        async def story():
            async with calling(face, consul) as client:
                if face.is_async:
                    async with anyio.create_task_group() as group:
                        for _ in range(4):
                            group.start_soon(caller, client)
                else:
                    run_threads([lambda: run_sync(caller(client)) for _ in range(4)])
                present = {one.address for one in service(client).resolver.instances()}
                await client.get("http://orders/")
                assert {pool.address for pool in service(client).pools.values()} <= present

        with replacing:
            face.run(story)
        assert replacing.error is None
        assert len([name for name in seen if seen[name]]) >= 8
        record_property("requests", sum(seen.values()))
        record_property("requests a second", f"{sum(seen.values()) / (time.monotonic() - begun):.0f}")

    @pytest.mark.filterwarnings(*FORGIVEN)
    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_requests_cancelled_at_any_moment_leave_nothing_behind(self, consul, serving, backend, record_property):
        """In a request's first milliseconds httpcore may lose a place for ever: with one pool for all, none is left."""
        serving("one")
        dice = random.Random(11)
        cancelled = Counter()

        async def short(client):
            with anyio.move_on_after(dice.uniform(0, 0.002)) as scope:
                await client.get("http://orders/slow?seconds=0.001")
            cancelled[scope.cancelled_caught] += 1

        async def story():
            async with AsyncConsulAccess(url=consul.url) as access:
                transport = AsyncDiscoveryTransport(access, limits=httpx.Limits(max_connections=4))
                async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
                    await client.get("http://orders/")
                    for _ in range(60):
                        async with anyio.create_task_group() as group:
                            for _ in range(6):
                                group.start_soon(short, client)
                    for _ in range(8):
                        assert (await client.get("http://orders/")).text == "one"
                    known = transport._services[ORDERS]
                    assert len(known.pools) == 1
                    assert all(not pool._requests for pool in known.pools.values())
                    balancer = known._ejecting._inner
                    assert all(not calls for calls in balancer._outstanding._calls.values())

        anyio.run(story, backend=backend)
        record_property("cancelled, not cancelled", f"{cancelled[True]}, {cancelled[False]}")
        assert cancelled[True] > 100

    def test_a_forked_child_opens_connections_of_its_own(self, consul, serving):
        names = {os.getpid(): "parent"}
        serving("one")
        with ConsulAccess(url=consul.url) as access, httpx.Client(transport=DiscoveryTransport(access)) as client:
            client.get("http://orders/")  # a connection is open
            child = os.fork()
            mine = names.get(os.getpid(), "child")
            try:
                said = {client.get(f"http://orders/echo/{mine}").text for _ in range(200)}
            except BaseException:  # a child must not go on with the tests
                if not child:
                    os._exit(2)
                raise
            if not child:
                os._exit(0 if said == {"/echo/child"} else 1)
            _, status = os.waitpid(child, 0)
        assert said == {"/echo/parent"}
        assert os.waitstatus_to_exitcode(status) == 0

    def test_a_transport_for_each_instance_can_be_given_and_packed_answers_pass_as_they_are(self, face, consul):
        consul.register("orders", id="one", address="10.0.0.5", port=80)
        seen = []

        def handler(request):
            seen.append(request)
            packed = gzip.compress(b"forty-two")
            return httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=packed)

        async def story():
            async with calling(face, consul, connections=lambda: face.transport(handler)) as client:
                response = await client.get("http://orders/a%2Fb?q=1", timeout=httpx.Timeout(7, connect=0.5))
                assert response.text == "forty-two"
                await client.get("http://orders/", timeout=None)

        face.run(story)
        assert str(seen[0].url) == "http://10.0.0.5/a%2Fb?q=1"
        assert seen[0].extensions["timeout"] == {"connect": 0.5, "read": 7, "write": 7, "pool": 7}
        assert seen[1].extensions["timeout"] == {"connect": 2.0, "read": None, "write": None, "pool": None}


class Replacing:
    """Replaces four instances one after the other, in a thread of its own."""

    def __init__(self, agent, serving):
        self.agent, self.serving = agent, serving
        self.done = threading.Event()
        self.error = None
        self.running = [serving(f"old-{number}") for number in range(4)]
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def run(self):
        try:
            for number, old in enumerate(self.running):
                time.sleep(0.3)
                self.serving(f"new-{number}")
                time.sleep(0.3)
                if number % 2:
                    old.stop()
                    time.sleep(0.3)
                self.agent.request("PUT", f"/v1/agent/service/deregister/old-{number}")
                if not number % 2:
                    time.sleep(0.3)
                    old.stop()
            time.sleep(0.5)
        except Exception as error:  # noqa: BLE001 - it is looked at in the test's thread
            self.error = error
        finally:
            self.done.set()


def run_sync(story):
    with contextlib.suppress(StopIteration):
        story.send(None)


def run_threads(functions):
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class TestArguments:
    @pytest.mark.parametrize(
        ("wrong", "text"),
        [
            ({"attempts": 0}, "attempts=0"),
            ({"connect": 0}, "connect=0"),
            ({"host": "mine"}, "host='mine'"),
            ({"balancer": "best"}, "'power_of_two'"),
            ({"services": "orders"}, "services="),
        ],
    )
    def test_what_cannot_be_right_is_refused(self, wrong, text):
        with ConsulAccess(port=1) as access, pytest.raises(InvalidInput, match=text):
            DiscoveryTransport(access, **wrong)

    def test_the_client_has_to_be_of_the_same_face(self):
        with ConsulAccess(port=1) as access, pytest.raises(InvalidInput, match="AsyncConsulAccess"):
            AsyncDiscoveryTransport(access)

        async def story():
            async with AsyncConsulAccess(port=1) as access:
                with pytest.raises(InvalidInput, match="of the type ConsulAccess here, not AsyncConsulAccess"):
                    DiscoveryTransport(access)

        anyio.run(story)

    def test_both_faces_take_the_same_arguments_and_say_the_same_about_them(self):
        tasks, threads = (inspect.signature(kind) for kind in (AsyncDiscoveryTransport, DiscoveryTransport))

        assert str(tasks).replace("Async", "").replace("_async", "_sync") == str(threads)
        assert inspect.getdoc(AsyncDiscoveryTransport).replace("Async", "") == inspect.getdoc(DiscoveryTransport)
        for name in threads.parameters:
            assert f"    {name}: " in inspect.getdoc(DiscoveryTransport)
