"""`FakeConsul` through the library, on both faces, in this process and on a port; its clock, its agents, its tokens."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import anyio
import pytest

from consul_access import (
    Address,
    ConnectFailed,
    HttpCheck,
    InvalidInput,
    LoginToken,
    NoInstances,
    PermissionDenied,
    TokenUnknown,
    TtlCheck,
    UnknownCheck,
    UnknownService,
    UnsupportedByAgent,
)
from consul_access.testing import FakeConsul, SimulatedClock
from tests.support.waiting import eventually


@pytest.fixture
def clock():
    return SimulatedClock(automatic=True)


@pytest.fixture
def fake(clock):
    with FakeConsul(clock=clock) as made:
        yield made


def statuses(fake, name="web"):
    return [check["Status"] for check in fake.request("GET", f"/v1/health/checks/{name}").json()]


def instances(fake, name="web", query=""):
    return [entry["Service"]["ID"] for entry in fake.request("GET", f"/v1/health/service/{name}{query}").json()]


def register(fake, name="web", body="", token=None):
    answer = fake.request("PUT", "/v1/agent/service/register", f'{{"Name": "{name}"{body}}}'.encode(), token=token)
    assert answer.status == 200, answer.body


def test_services_are_announced_and_found_in_the_same_process(face, fake):
    async def story():
        async with face.access(transport=fake.transport()) as access:
            async with await access.register_service("web", "10.0.0.5", 80, check=TtlCheck("1h")) as web:
                with pytest.raises(NoInstances):
                    await access.resolve("web")
                await web.pass_check()
                assert await access.resolve("web") == Address("10.0.0.5", 80)
                with pytest.raises(UnknownCheck):
                    await access.pass_check("nope")
            assert await access.search_service("web", policy="any") == []
            with pytest.raises(UnknownService):
                await access.agent_service("web")

    face.run(story)


def test_one_transport_serves_clients_of_every_kind(fake):
    from consul_access import AsyncConsulAccess, ConsulAccess

    transport = fake.transport()
    with ConsulAccess(transport=transport) as access:
        access.register_service("web", "10.0.0.5", 80, check=None)

    async def look():
        async with AsyncConsulAccess(transport=transport) as tasks:
            assert await tasks.resolve("web") == Address("10.0.0.5", 80)

    anyio.run(look, backend="asyncio")
    anyio.run(look, backend="trio")


def test_a_blocking_read_wakes_in_whatever_it_waits(face):
    fake = FakeConsul()

    async def story():
        async with face.access(transport=fake.transport()) as access:
            before = await access.instances("web")
            later = threading.Timer(0.2, register, (fake,))
            later.start()
            begun = time.monotonic()
            changed = await access.instances("web", index=before.meta.index, wait="30s")
            assert len(changed) == 1
            assert time.monotonic() - begun < 10
            later.join()

    face.run(story)


def test_a_cancelled_read_leaves_nothing_behind():
    from consul_access import AsyncConsulAccess

    fake = FakeConsul()

    async def story():
        async with AsyncConsulAccess(transport=fake.transport()) as access:
            before = await access.instances("web")
            with anyio.move_on_after(0.05):
                await access.instances("web", index=before.meta.index, wait="30s")
            assert not fake.shared.wakers
            assert fake._open == 0

    for backend in ("asyncio", "trio"):
        anyio.run(story, backend=backend)


@pytest.mark.parametrize("name", ["FakeConsul", "FakeEtcd"])
def test_a_fake_is_quick_to_start_because_it_loads_starts_and_opens_nothing(name):
    """How quick it is, `benchmarks/testing_kit.py` measures."""
    code = f"""
import sys, threading
opened = []
watched = ("socket.", "subprocess.", "open")
sys.addaudithook(lambda event, _: opened.append(event) if event.startswith(watched) else None)
from consul_access.testing import {name}
loaded, threads = set(sys.modules), threading.active_count()
opened.clear()
{name}()
heavy = {{"httpx", "httpcore", "anyio", "asyncio", "pydantic", "tenacity", "trio", "ssl", "socket"}}
print(sorted(heavy & loaded), sorted(set(sys.modules) - loaded), opened, threading.active_count() - threads)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[] [] [] 0\n"


class TestTime:
    def test_a_ttl_ends_when_the_clock_says_so(self, fake, clock):
        register(fake, body=', "Check": {"TTL": "15s", "Status": "passing"}')
        clock.advance(14.9)
        assert statuses(fake) == ["passing"]
        clock.advance(0.2)
        assert statuses(fake) == ["critical"]

    def test_waiting_takes_no_time_with_an_automatic_clock(self, fake, clock):
        begun = time.monotonic()
        fake.request("GET", "/v1/health/service/x?index=1000&wait=5m")
        assert 300 <= clock.now() <= 300 * 17 / 16
        assert time.monotonic() - begun < 5

    def test_a_clock_that_stands_still_keeps_whoever_waits(self):
        clock = SimulatedClock()
        fake = FakeConsul(clock=clock)
        with pytest.raises(TimeoutError):
            fake.request("GET", "/v1/health/service/x?index=1000&wait=5m", timeout=0.1)
        with pytest.raises(InvalidInput):
            clock.advance(-1)

    def test_critical_for_too_long_is_removed_with_the_next_sweep(self, fake, clock):
        register(fake, body=', "Check": {"TTL": "1s", "Status": "passing", "DeregisterCriticalServiceAfter": "10s"}')
        clock.advance(1)
        assert statuses(fake) == ["critical"]
        clock.advance(59)  # a minute is the least
        assert instances(fake) == ["web"]
        clock.advance(31)
        assert instances(fake) == []

    def test_what_never_passed_or_is_in_maintenance_is_not_removed(self, fake, clock):
        register(
            fake,
            "never",
            body=', "Check": {"HTTP": "http://x", "Interval": "10s", "DeregisterCriticalServiceAfter": "10s"}',
        )
        register(
            fake, "away", body=', "Check": {"TTL": "10h", "Status": "passing", "DeregisterCriticalServiceAfter": "10s"}'
        )
        fake.request("PUT", "/v1/agent/service/maintenance/away?enable=true")
        clock.advance(600)
        assert instances(fake, "never") == ["never"]
        assert instances(fake, "away") == ["away"]

    def test_an_output_alone_reaches_the_servers_late(self, fake, clock):
        register(fake, body=', "Check": {"TTL": "10h", "Status": "passing"}')
        fake.request("PUT", "/v1/agent/check/pass/service:web?note=new")
        read = lambda: fake.request("GET", "/v1/health/checks/web").json()[0]["Output"]  # noqa: E731
        assert read() == ""
        clock.advance(125)  # also the comparison with the catalog leaves it alone
        assert read() == ""
        clock.advance(326)
        assert read() == "new"

    def test_what_was_taken_out_of_the_catalog_comes_back_and_what_nobody_holds_goes(self, fake, clock):
        register(fake)
        body = f'{{"Node": "{fake.node}", "ServiceID": "web"}}'.encode()
        assert fake.request("PUT", "/v1/catalog/deregister", body).json() is True
        stray = f'{{"Node": "{fake.node}", "Address": "127.0.0.1", "Service": {{"Service": "stray"}}}}'.encode()
        fake.request("PUT", "/v1/catalog/register", stray)
        assert (instances(fake), instances(fake, "stray")) == ([], ["stray"])
        clock.advance(121)
        assert (instances(fake), instances(fake, "stray")) == (["web"], [])

    def test_the_same_seed_makes_the_same_ids(self):
        assert FakeConsul(seed=7).agent.node.id == FakeConsul(seed=7).agent.node.id != FakeConsul(seed=8).agent.node.id


class TestAgents:
    def test_the_same_id_at_two_agents_is_two_instances(self, fake):
        other = fake.join("node-2", address="10.0.0.2")
        register(fake)
        register(other)
        for agent in (fake, other):
            assert instances(agent) == ["web", "web"]
        assert [member["Name"] for member in fake.request("GET", "/v1/agent/members").json()] == ["node-1", "node-2"]

    def test_deregistering_at_another_agent_does_nothing_and_says_200(self, fake):
        other = fake.join("node-2")
        register(fake)
        assert other.request("PUT", "/v1/agent/service/deregister/web").status == 200
        assert instances(other) == ["web"]

    def test_an_agent_that_dies_is_seen_to_fail_after_a_while_and_brings_its_services_back(self, fake, clock):
        other = fake.join("node-2")
        register(other)
        other.kill()
        with pytest.raises(ConnectionRefusedError):
            other.request("GET", "/v1/agent/self")
        assert instances(fake, query="?passing") == ["web"]
        clock.advance(6)
        assert (instances(fake, query="?passing"), instances(fake)) == ([], ["web"])
        other.start()
        assert instances(fake, query="?passing") == ["web"]

    def test_an_agent_that_leaves_is_gone_at_once_and_comes_back(self, fake):
        other = fake.join("node-2")
        register(other)
        other.leave()
        assert (instances(fake), repr(other)) == ([], "<FakeConsul 1.8.7 at node-2, 1 services, down>")
        other.start()
        assert instances(fake) == ["web"]

    def test_a_restart_without_data_at_once_is_never_told_to_the_catalog(self, fake, clock):
        other = fake.join("node-2")
        register(other)
        other.faults.restart(keep=False)
        register(other, "new")
        assert (instances(fake), instances(fake, "new")) == (["web"], [])

    def test_after_its_failure_was_seen_a_restart_without_data_removes_what_it_had(self, fake, clock):
        other = fake.join("node-2")
        register(other)
        other.kill()
        clock.advance(6)
        other.start(keep=False)
        assert instances(fake) == []
        register(other, "new")
        assert instances(fake, "new") == ["new"]

    def test_a_node_has_its_name_alone(self, fake):
        with pytest.raises(InvalidInput, match="node-1"):
            fake.join("node-1")

    def test_a_check_can_be_made_to_turn_out_somehow(self, face, fake):
        async def story():
            async with face.access(transport=fake.transport()) as access:
                await access.register_service("web", "10.0.0.5", 80, id="web", check=HttpCheck())
                assert await access.search_service("web") == []
                fake.set_check("service:web", "passing", "well")
                assert await access.search_service("web") == [("10.0.0.5", 80)]

        face.run(story)
        with pytest.raises(InvalidInput, match="service:web"):
            fake.set_check("nope", "passing")


class TestAccess:
    RULES = 'service "web" { policy = "write" } node_prefix "" { policy = "read" }'

    def test_tokens_may_do_what_their_rules_say(self, face):
        fake = FakeConsul(acl=True)
        token = fake.token(self.RULES)

        async def story():
            async with face.access(transport=fake.transport(), token=token) as access:
                await access.register_service("web", "10.0.0.5", 80, check=None)
                assert await access.services() == {"web": []}
                with pytest.raises(PermissionDenied, match="not do this"):
                    await access.register_service("db", "10.0.0.5", 80, check=None)
                fake.revoke(token)
                with pytest.raises(TokenUnknown):
                    await access.services()
            async with face.access(transport=fake.transport(), token=fake.master_token) as access:
                assert set(await access.services()) == {"consul", "web"}
            async with face.access(transport=fake.transport()) as access:
                assert await access.services() == {}

        face.run(story)

    def test_a_login_gives_a_token_and_a_logout_takes_it(self, face, tmp_path):
        fake = FakeConsul(acl="root")
        fake.accept_login("kubernetes", "jwt", self.RULES)
        for name in ("jwt", "other"):
            (tmp_path / name).write_text(name)

        async def story():
            async with face.access(
                transport=fake.transport(), token=LoginToken(bearer_file=tmp_path / "jwt")
            ) as access:
                await access.register_service("web", "10.0.0.5", 80, check=None)
                assert len(fake.cluster.access.tokens) == 3
            assert len(fake.cluster.access.tokens) == 2
            async with face.access(
                transport=fake.transport(), token=LoginToken(bearer_file=tmp_path / "other")
            ) as access:
                with pytest.raises(PermissionDenied):
                    await access.services()

        face.run(story)

    def test_rules_can_be_json_and_the_closest_counts(self):
        fake = FakeConsul(acl=True)
        token = fake.token('{"service_prefix": {"": {"policy": "write"}, "secret": {"policy": "deny"}}}')
        register(fake, token=token)
        answer = fake.request("PUT", "/v1/agent/service/register", b'{"Name": "secret-1"}', token=token)
        assert (answer.status, answer.body) == (403, b"Permission denied: Missing service:write on secret-1")

    def test_what_a_deleted_token_registered_stays_in_the_catalog(self, clock):
        fake = FakeConsul(acl="root", clock=clock)
        token = fake.token(self.RULES)
        register(fake, token=token)
        fake.revoke(token)
        assert fake.request("PUT", "/v1/agent/service/deregister/web", token="root").status == 200
        clock.advance(200)
        assert fake.request("GET", "/v1/agent/services", token="root").json() == {}
        assert len(fake.request("GET", "/v1/health/service/web", token="root").json()) == 1

    def test_without_acls_there_are_no_tokens(self, fake):
        assert fake.master_token is None
        with pytest.raises(InvalidInput, match="acl=True"):
            fake.token(self.RULES)


class TestServing:
    def test_a_server_lives_as_long_as_its_block(self, fake, free_port):
        with fake.serve(free_port) as server:
            assert server.url == f"http://127.0.0.1:{free_port}"
            from consul_access import ConsulAccess

            with ConsulAccess(url=server.url) as access:
                assert access.services() == {"consul": []}
        with ConsulAccess(url=f"http://127.0.0.1:{free_port}") as access, pytest.raises(ConnectFailed):
            access.services()

    def test_while_its_agent_is_down_it_refuses_connections_on_the_same_port(self, fake):
        from consul_access import ConsulAccess

        with fake.serve() as server, ConsulAccess(url=server.url) as access:
            register(fake)
            fake.kill()
            with pytest.raises(ConnectFailed):
                access.services()
            fake.start()
            assert set(access.services()) == {"consul", "web"}

    @pytest.mark.parametrize("clock", [None, SimulatedClock()], ids=["real time", "time that stands still"])
    def test_whoever_waits_when_the_server_ends_is_left_at_once(self, clock):
        fake, before = FakeConsul(clock=clock), set(threading.enumerate())
        with fake.serve() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(b"GET /v1/health/service/web?index=1000&wait=10m HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: fake.shared.wakers, what="the request waits")
            server.close()
            assert sock.recv(1) == b""
        assert not [one for one in threading.enumerate() if one not in before and one.name.startswith("fake")]

    def test_whoever_goes_away_frees_the_place(self, fake):
        import socket

        with FakeConsul() as own, own.serve() as server:
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(b"GET /v1/health/service/x?index=1000&wait=5m HTTP/1.1\r\nHost: x\r\n\r\n")
                eventually(lambda: own.shared.wakers)
            eventually(lambda: own._open == 0 and not own.shared.wakers)

    def test_bodies_in_pieces_and_old_clients(self, fake):
        import socket

        with fake.serve() as server:
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
                head = b"PUT /v1/agent/service/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                sock.sendall(head + b"Expect: 100-continue\r\n\r\n")
                assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
                sock.sendall(b'8\r\n{"Name":\r\n6;x=y\r\n"web"}\r\n0\r\n\r\n')
                assert sock.recv(12) == b"HTTP/1.1 200"
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
                sock.sendall(b"GET http://x/v1/catalog/services HTTP/1.0\r\n\r\n")
                assert b"".join(iter(lambda: sock.recv(4096), b"")).endswith(b'{"consul":[],"web":[]}')
            for nonsense in (b"what?\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
                with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
                    sock.sendall(nonsense)
                    assert b"".join(iter(lambda: sock.recv(4096), b"")).startswith(b"HTTP/1.1 400 ")


class TestVersions:
    @pytest.mark.parametrize("version", ["1.7.0", "2", "one", ""])
    def test_some_cannot_be_imitated(self, version):
        with pytest.raises(InvalidInput, match=r"1\.21"):
            FakeConsul(version)

    @pytest.mark.parametrize(
        ("version", "status", "text"),
        [
            ("1.8", 200, b""),
            ("1.10", 200, b""),
            ("1.21", 404, b'Unknown service ID "zzz". Ensure that the service ID is passed, not the service name.'),
        ],
    )
    def test_deregistering_what_is_unknown(self, version, status, text):
        answer = FakeConsul(version).request("PUT", "/v1/agent/service/deregister/zzz")
        assert (answer.status, answer.body) == (status, text)

    @pytest.mark.parametrize(
        ("version", "status", "text"),
        [
            ("1.8", 500, b'Unknown service {"zzz" {}}'),
            ("1.10", 500, b'Unknown service "zzz"'),
            ("1.21", 404, b'Unknown service ID "zzz". Ensure that the service ID is passed, not the service name.'),
        ],
    )
    def test_with_acls(self, version, status, text):
        answer = FakeConsul(version, acl="root").request("PUT", "/v1/agent/service/deregister/zzz", token="root")
        assert (answer.status, answer.body) == (status, text)

    @pytest.mark.parametrize(
        ("version", "status", "text"),
        [
            ("1.8", 500, b'CheckID "x" does not have associated TTL'),
            ("1.10", 500, b'CheckID "x" does not have associated TTL'),
            ("1.21", 404, b'Unknown check ID "x". Ensure that the check ID is passed, not the check name.'),
        ],
    )
    def test_reporting_what_is_unknown(self, version, status, text):
        answer = FakeConsul(version).request("PUT", "/v1/agent/check/pass/x")
        assert (answer.status, answer.body) == (status, text)

    @pytest.mark.parametrize(
        ("field", "value", "known"),
        [
            ("SocketPath", '"/x"', {"1.10", "1.21"}),
            ("Namespace", '"n"', set()),
            ("Locality", "{}", {"1.21"}),
            ("Ports", "[]", set()),
            ("Check", '{"H2PING": "x:1", "Interval": "1s"}', {"1.10", "1.21"}),
            ("Check", '{"HTTP": "http://x", "Interval": "1s", "TLSServerName": "x"}', {"1.10", "1.21"}),
            (
                "Check",
                '{"HTTP": "http://x", "Interval": "1s", "DisableRedirects": true}',
                {"1.10", "1.10.10", "1.9.17", "1.21"},
            ),
            ("Check", '{"TTL": "1s", "FailuresBeforeWarning": 1}', {"1.21"}),
            ("Check", '{"UDP": "x:1", "Interval": "1s"}', {"1.21"}),
            ("Check", '{"OSService": "x", "Interval": "1s"}', {"1.21"}),
            ("Check", '{"TTL": "1h", "grpc_use_tls": true}', {"1.9.16", "1.9.17", "1.10", "1.21"}),
            ("Check", '{"TTL": "1h", "tls_server_name": "x"}', {"1.10", "1.21"}),
            ("Check", '{"TTL": "1h", "h2ping_use_tls": true}', {"1.21"}),
            ("Check", '{"TTL": "1h", "disable_redirects": true}', set()),
        ],
    )
    def test_fields_are_known_from_some_version_on(self, field, value, known):
        for version in ("1.8", "1.9.17", "1.9.16", "1.10.10", "1.10", "1.21"):
            answer = FakeConsul(version).request(
                "PUT", "/v1/agent/service/register", f'{{"Name": "w", "{field}": {value}}}'.encode()
            )
            if version in known or (version == "1.10.10" and "1.10" in known):
                assert answer.status == 200, (version, answer.body)
            else:
                assert answer.body.startswith(b'Request decode failed: json: unknown field "'), (version, answer.body)

    def test_the_library_agrees(self, face):
        async def story():
            for version, is_known in (("1.8", False), ("1.10", True)):
                async with face.access(transport=FakeConsul(version).transport()) as access:
                    if is_known:
                        await access.register_service(
                            "web", "x", 80, check=HttpCheck("https://x/", tls_server_name="y")
                        )
                    else:
                        with pytest.raises(UnsupportedByAgent):
                            await access.register_service(
                                "web", "x", 80, check=HttpCheck("https://x/", tls_server_name="y")
                            )

        face.run(story)

    def test_shapes_and_headers_of_1_10(self):
        fake = FakeConsul("1.10")
        register(fake, body=', "SocketPath": "/x"')
        answer = fake.request("GET", "/v1/health/service/web")
        (entry,) = answer.json()
        assert ("Port" not in entry["Service"], entry["Service"]["SocketPath"]) == (True, "/x")
        assert entry["Checks"][0]["ExposedPort"] == 0
        assert answer.header("X-Consul-Default-ACL-Policy") == "allow"
        assert fake.request("GET", "/v1/agent/services").json()["web"]["Datacenter"] == "dc1"

    @pytest.mark.parametrize(
        ("version", "pace"),
        [("1.8", (None, None)), ("1.10", ("", "")), ("1.11.11", ("1m30s", "1m30s")), ("1.14.11", ("1m30s", "1.5s"))],
    )
    def test_the_pace_of_a_check_is_told_of_those_alone_first_and_then_of_all(self, version, pace):
        fake = FakeConsul(version)
        check = '"HTTP": "http://x", "Interval": "90s", "Timeout": "1500ms"'
        register(fake, body=f', "Check": {{{check}}}')
        fake.request("PUT", "/v1/agent/check/register", f'{{"Name": "alone", {check}}}'.encode())
        told = {one["CheckID"]: one for one in fake.request("GET", "/v1/agent/checks").json().values()}
        assert (told["service:web"].get("Interval"), told["service:web"].get("Timeout")) == pace
        alone = (None, None) if version == "1.8" else ("1m30s", "1.5s")
        assert (told["alone"].get("Interval"), told["alone"].get("Timeout")) == alone

    def test_filtered_answers_are_told_of_from_1_11_on(self):
        for version, told in (("1.8", None), ("1.10", None), ("1.21", "true")):
            fake = FakeConsul(version, acl="root")
            register(fake, token="root")
            token = fake.token('service "other" { policy = "read" }')
            answer = fake.request("GET", "/v1/health/service/web", token=token)
            assert (answer.json(), answer.header("X-Consul-Results-Filtered-By-ACLs")) == ([], told)

    def test_streamed_views_wait_exactly(self, clock):
        for version, most in (("1.8", 10 * 17 / 16), ("1.10", 10.0)):
            fake = FakeConsul(version, clock=clock)
            begun = clock.now()
            fake.request("GET", "/v1/health/service/x?index=1000&wait=10s")
            assert 10 <= clock.now() - begun <= most + 1e-6

    def test_young_agents_have_a_version_page_and_want_json(self):
        assert FakeConsul("1.8").request("GET", "/v1/agent/version").status == 404
        young = FakeConsul("1.21")
        assert young.request("GET", "/v1/agent/version").json()["HumanVersion"] == "1.21.4"
        from consul_access.testing.common.exchange import Request

        asked = Request("PUT", "/v1/agent/service/register", {"content-type": "text/plain"}, b'{"Name": "web"}')
        with young.course(asked) as course:
            assert course.wait(5).status == 415
