"""Announcing services, against a real agent of Consul 1.8.7."""

from __future__ import annotations

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import pytest

from consul_access import (
    Address,
    AliasCheck,
    CheckStatus,
    DockerCheck,
    FeatureDisabled,
    GrpcCheck,
    H2PingCheck,
    HttpCheck,
    InvalidInput,
    OsServiceCheck,
    ScriptCheck,
    TcpCheck,
    TtlCheck,
    UdpCheck,
    UnknownCheck,
    UnknownService,
    UnsupportedByAgent,
    Weights,
)
from consul_access.consul import agent, health
from tests.support.scripted import answer
from tests.support.waiting import eventually


@pytest.fixture
def healthy():
    """A service that answers its health check."""

    class Well(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Well)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_name_address_and_port_are_enough(face, consul, monkeypatch):
    monkeypatch.setenv("HOSTNAME", "box-7")

    async def story():
        async with face.access(url=consul.url) as access:
            registration = await access.register_service("hello", "10.0.0.5", 8080)
            assert registration.id == "hello-box-7-8080"
            assert registration.name == "hello"
            assert registration.agent == Address("127.0.0.1", consul.port)
            known = await registration.read()
            assert (known.name, known.address, known.port) == ("hello", "10.0.0.5", 8080)
            (check,) = (await access.send(agent.checks())).values()
            assert check.id == "service:hello-box-7-8080"
            assert check.type == "http"
            (entry,) = await access.health("hello")
            assert entry.status is CheckStatus.CRITICAL  # until the first answer

    face.run(story)


def test_a_registered_service_turns_from_critical_to_passing_and_is_found(face, consul, healthy):
    async def story():
        async with face.access(url=consul.url) as access:
            check = HttpCheck(interval="1s")
            async with await access.register_service("hello", "127.0.0.1", healthy, check=check) as registration:
                assert await access.instances("hello") == []
                eventually(lambda: consul.read("/v1/health/service/hello?passing=1"))
                assert await access.resolve("hello") == Address("127.0.0.1", healthy)
                assert await registration.read()
            assert await access.search_service("hello", policy="any") == []

    face.run(story)


def test_registering_again_with_the_same_id_replaces_service_and_checks(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            both = [TtlCheck("1h", id="a"), TtlCheck("1h", id="b")]
            await access.register_service("web", "10.0.0.5", 80, id="web-1", checks=both)
            await access.register_service("web", "10.0.0.5", 81, id="web-1", checks=both[:1])
            assert [instance.port for instance in await access.instances("web", policy="any")] == [81]
            assert [check.id for check in await access.send(health.checks("web"))] == ["a"]
            kept = await access.register_service(
                "web", "10.0.0.5", 81, id="web-1", check=TtlCheck("1h", id="c"), replace_existing_checks=False
            )
            assert {check.id for check in await access.send(health.checks("web"))} == {"a", "c"}
            assert kept.id == "web-1"

    face.run(story)


KNOWN = {
    "http": HttpCheck(
        "https://[::1]:8443/x",
        method="post",
        headers={"X-A": "1", "X-B": ["2", "3"]},
        body="{}",
        tls_skip_verify=True,
        output_max_size=100,
        interval="1m30s",
        timeout=2.5,
        success_before_passing=2,
        failures_before_critical=3,
        deregister_critical_service_after="10m",
        name="http",
        notes="note",
        status="warning",
    ),
    "own http": HttpCheck(path="/ready", scheme="https"),
    "tcp": TcpCheck("[::1]:80"),
    "own tcp": TcpCheck(),
    "grpc": GrpcCheck("127.0.0.1:80", service="pkg.Svc", use_tls=True, tls_skip_verify=True),
    "ttl": TtlCheck(ttl=30),
    "script": ScriptCheck(["/bin/true"], interval="10s"),
    "alias": AliasCheck(service="other"),
}


@pytest.mark.parametrize("check", KNOWN.values(), ids=KNOWN)
def test_every_kind_of_check_that_the_agent_knows_is_accepted(face, consul, check):
    async def story():
        async with face.access(url=consul.url) as access:
            registration = await access.register_service("web", "10.0.0.5", 8080, check=check)
            checks = await access.send(agent.checks())
            assert f"service:{registration.id}" in checks

    face.run(story)


YOUNGER = {
    "UDP": (UdpCheck(), "1.13"),
    "H2PING": (H2PingCheck(), "1.10"),
    "OSService": (OsServiceCheck(service="nginx"), "1.14"),
    "TLSServerName": (HttpCheck("https://x.example/", tls_server_name="y.example"), "1.10"),
    "DisableRedirects": (HttpCheck(disable_redirects=True), "1.9.17"),
    "FailuresBeforeWarning": (HttpCheck(failures_before_warning=1), "1.11"),
    "TCPUseTLS": (TcpCheck(use_tls=True), "1.16.2"),
}


@pytest.mark.parametrize(("check", "version"), YOUNGER.values(), ids=YOUNGER)
def test_what_the_agents_version_does_not_know_is_named_before_anything_is_registered(face, consul, check, version):
    exchanges = []
    own = consul.read("/v1/agent/self")["Config"]["Version"]
    knows = _numbers(own) >= _numbers(version)

    async def story():
        refused = pytest.raises(UnsupportedByAgent, match=rf"{version}.*{re.escape(own)}")
        async with face.access(url=consul.url) as access:
            access.on_exchange(exchanges.append)
            with contextlib.nullcontext() if knows else refused:
                await access.register_service("web", "10.0.0.5", 8080, check=check)

    face.run(story)
    registered = ["agent.service.register"] if knows else []
    assert [exchange.operation for exchange in exchanges] == ["agent.self", *registered]


def _numbers(version):
    return [int(number) for number in version.split(".")]


@pytest.mark.parametrize("field", [{"ports": {"http": 80}}, {"namespace": "n"}, {"partition": "p"}])
def test_ports_namespaces_and_partitions_are_refused_for_this_agent(face, consul, field):
    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(UnsupportedByAgent):
                await access.register_service("web", "10.0.0.5", check=None, **field)
            assert await access.services() == {"consul": []}

    face.run(story)


def test_a_check_that_the_agents_configuration_forbids_is_named(face, acl_consul):
    async def story():
        async with face.access(url=acl_consul.url, token=acl_consul.token) as access:
            for check in (ScriptCheck(["/bin/true"]), DockerCheck("abc", ["/bin/true"])):
                with pytest.raises(FeatureDisabled, match="Scripts are disabled"):
                    await access.register_service("web", "10.0.0.5", 80, check=check)

    face.run(story)


def test_everything_about_a_service_arrives(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            await access.register_service(
                "web",
                "10.0.0.5",
                8080,
                id="web-1",
                tags=["a", "b"],
                meta={"version": "2"},
                weights=Weights(passing=7, warning=2),
                tagged_addresses={"wan": Address("198.51.100.7", 80)},
                enable_tag_override=True,
                check=None,
            )
            (instance,) = await access.instances("web")
            assert (instance.tags, instance.meta, instance.weight) == (("a", "b"), {"version": "2"}, 7)
            known = await access.agent_service("web-1")
            assert known.tagged_addresses["wan"].address == "198.51.100.7"
            assert known.enable_tag_override
            assert known.content_hash

    face.run(story)


def test_without_an_address_a_service_beside_the_agent_is_found_at_the_agents(face, consul, healthy):
    async def story():
        async with face.access(url=consul.url) as access:
            registration = await access.register_service("web", port=healthy, check=HttpCheck(interval="1s"))
            assert (await registration.read()).address == ""
            eventually(lambda: consul.read("/v1/health/service/web?passing=1"))
            assert await access.resolve("web") == Address("127.0.0.1", healthy)

    face.run(story)


@pytest.mark.parametrize("variable", ["CONSUL_ACCESS_ADVERTISE", "POD_IP"])
def test_the_environment_can_tell_the_address(face, consul, monkeypatch, variable):
    monkeypatch.setenv(variable, "10.9.8.7")

    async def story():
        async with face.access(url=consul.url) as access:
            await access.register_service("web", port=80, check=None)
            assert await access.resolve("web") == Address("10.9.8.7", 80)

    face.run(story)


def test_a_ttl_check_is_reported(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            web = await access.register_service("web", "10.0.0.5", 80, check=TtlCheck("1h"))
            check_id = f"service:{web.id}"
            reports = ((web.pass_check, "passing"), (web.warn_check, "warning"), (web.fail_check, "critical"))
            for report, status in reports:
                await report(output=f"now {status}")
                (check,) = await access.send(health.checks("web"))
                assert (check.status, check.output) == (status, f"now {status}")
            for report, status in (
                (access.pass_check, "passing"),
                (access.warn_check, "warning"),
                (access.fail_check, "critical"),
            ):
                await report(check_id)
                (check,) = await access.send(health.checks("web"))
                assert check.status == status
            await web.pass_check(output="é" * 5000)
            assert (await access.send(agent.checks()))[check_id].status == "passing"

    face.run(story)


def test_reporting_a_check_that_the_agent_does_not_know_is_named(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            web = await access.register_service("web", "10.0.0.5", 80, check=TcpCheck())
            for unknown in ("nope", f"service:{web.id}"):
                with pytest.raises(UnknownCheck):
                    await access.pass_check(unknown)
            with pytest.raises(InvalidInput, match="0 TTL checks"):
                await web.pass_check()

    face.run(story)


def test_deregistering_tells_whether_there_was_something(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            web = await access.register_service("web", "10.0.0.5", 80, check=None)
            assert await web.deregister() is True
            assert await web.deregister() is False
            assert await access.deregister_service("never/was there") is False
            with pytest.raises(UnknownService):
                await web.read()

    face.run(story)


def test_maintenance_hides_a_service_and_brings_it_back(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            web = await access.register_service("web", "10.0.0.5", 80, check=None)
            await access.maintenance(web.id, True, "new disk & more")
            await access.maintenance(web.id, True)  # twice is no error
            assert await access.search_service("web") == []
            (entry,) = await access.health("web")
            assert entry.status is CheckStatus.MAINTENANCE
            await web.maintenance(False)
            assert len(await access.search_service("web")) == 1
            with pytest.raises(UnknownService):
                await access.maintenance("nope", True)

    face.run(story)


def test_an_alias_of_an_unknown_node_is_refused_because_it_would_crash_the_agent(face, agents):
    """The agent is this test's own: 1.8.7 freezes for up to a minute when an alias of a node is removed again."""
    consul = agents()

    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(InvalidInput, match="no-such-node"):
                await access.register_service("web", "10.0.0.5", 80, check=AliasCheck(node="no-such-node"))
            await access.register_service("web", "10.0.0.5", 80, check=AliasCheck(node=consul.node))
            assert len(await access.instances("web", policy="any")) == 1

    face.run(story)
    assert consul.process.poll() is None


def test_an_alias_of_an_unknown_node_does_crash_the_agent(agents):
    """What the test above is about, seen once: should it ever pass, the check before registering can go."""
    consul = agents()
    body = {"Name": "web", "ID": "web", "Port": 80, "Check": {"AliasNode": "no-such-node"}}
    with contextlib.suppress(OSError):  # it may be gone before it has answered
        consul.request("PUT", "/v1/agent/service/register", body)
    assert eventually(lambda: consul.process.poll() is not None)
    assert "nil pointer dereference" in consul.log()


def test_registering_often_by_a_hosts_name_opens_no_further_connections(face, scripted):
    server = scripted([answer(body=b"")])

    async def story():
        async with face.access("localhost", server.port) as access:
            for _ in range(20):
                await access.register_service("web", "10.0.0.5", 80, check=None)

    face.run(story)
    assert server.connections == 1


BAD = {
    "a negative port": {"port": -1},
    "a port that is too high": {"port": 70000},
    "a port as text": {"port": "80"},
    "a URL as address": {"address": "http://evil"},
    "every address": {"address": "0.0.0.0"},
    "an address with a port": {"address": "10.0.0.5:80"},
    "a network": {"address": "10.0.0.0/24"},
    "an empty name": {"name": ""},
    "the servers' name": {"name": "consul"},
    "an id with dots": {"id": "a/../b"},
    "an id with a line end": {"id": "a\nb"},
    "one text as tags": {"tags": "abc"},
    "a reserved meta key": {"meta": {"consul-x": "1"}},
    "a number as meta": {"meta": {"x": 1}},
    "a long meta value": {"meta": {"x": "é" * 257}},
    "too much meta": {"meta": {f"k{number}": "" for number in range(65)}},
    "weights of nothing": {"weights": Weights(passing=0)},
    "no port for the check": {"port": None},
    "two ways of giving checks": {"check": TtlCheck("1h"), "checks": [TtlCheck("1h")]},
    "a check id twice": {"checks": [TtlCheck("1h", id="a"), TtlCheck("1h", id="a")], "check": None},
}


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD)
def test_what_an_agent_would_accept_wrongly_is_refused_and_nothing_is_sent(face, scripted, wrong):
    server = scripted([])

    async def story():
        async with face.access(url=server.url) as access:
            with pytest.raises(InvalidInput):
                await access.register_service(**({"name": "web", "address": "10.0.0.5", "port": 80} | wrong))

    face.run(story)
    assert server.requests == []


def test_leaving_the_block_by_an_error_deregisters_and_the_error_stays(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(RuntimeError, match="mine"):
                async with await access.register_service("web", "10.0.0.5", 80, check=None):
                    raise RuntimeError("mine")
            assert "web" not in await access.services()

    face.run(story)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_block_deregisters_all_the_same(consul, backend):
    from consul_access import AsyncConsulAccess

    async def story():
        async with AsyncConsulAccess(url=consul.url) as access:
            with anyio.move_on_after(0.2):
                async with await access.register_service("web", "10.0.0.5", 80, check=None):
                    assert "web" in await access.services()
                    await anyio.sleep_forever()
            assert "web" not in await access.services()

    anyio.run(story, backend=backend)


def test_a_registration_stays_with_the_agent_that_it_was_made_at(face, consul, agents):
    """Two agents behind one name, as behind a load balancer: the handle asks the right one."""
    other = agents()

    async def story():
        async with face.access(addresses=[f"localhost:{consul.port}", f"localhost:{other.port}"]) as access:
            web = await access.register_service("web", "10.0.0.5", 80, check=None)
            assert web.agent.host in {"127.0.0.1", "::1"}
            access._transport._failover.failed(access.settings.targets[0], 1e12)
            assert "web" not in await access.services()  # the other agent answers now
            assert await web.deregister() is True
        assert "web" not in consul.read("/v1/agent/services")

    face.run(story)
