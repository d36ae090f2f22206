"""The example programs, run as a reader runs them, beside a real Consul and a real etcd."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from consul_access import EtcdRegistry
from tests.live.test_etcd_kubernetes import SETS, fill
from tests.support.serving import ROOT, Server, get
from tests.support.waiting import eventually
from tools.ports import free_ports

EXAMPLES = ROOT / "examples"
GREETING = "Hello World from testservice!\n"


@pytest.fixture
def start(tmp_path):
    """Starts an example as a process of its own, in a folder of its own."""
    with contextlib.ExitStack() as stack:
        count = 0

        def starts(program, *arguments, agent="127.0.0.1:1", port=0, **environ):
            nonlocal count
            count += 1
            folder = tmp_path / str(count)
            folder.mkdir()
            command = [str(EXAMPLES / program), *arguments]
            environ = {"HOST": "127.0.0.1", "PYTHONUNBUFFERED": "1"} | environ
            return stack.enter_context(Server(folder, command, {}, agent, port, **environ))

        yield starts


def run(program, *arguments, within=60, text=None, **environ):
    """Runs an example to its end."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / program), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def statuses(agent, service):
    return {check["CheckID"]: check["Status"] for check in agent.read(f"/v1/health/checks/{service}")}


def passing(agent, service):
    """Ports by id."""
    found = agent.read(f"/v1/health/service/{service}?passing")
    return {entry["Service"]["ID"]: entry["Service"]["Port"] for entry in found}


def until(condition, server, within=60):
    """Waits for it while the program runs; tells what the program said otherwise."""

    def holds():
        assert server.process.poll() is None, server.log
        return condition()

    try:
        return eventually(holds, within=within)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{server.log}") from None


class TestTheTwoOfTheFirstGuide:
    def test_testservice_then_requestservice_print_the_greeting(self, start, consul, record_property):
        service = start("testservice/testservice.py", f"--consulip={consul.address}", "--host=127.0.0.1", "--port=0")
        begun = time.monotonic()
        done = run("requestservice/requestservice.py", f"--consulip={consul.address}")
        assert (done.returncode, done.stdout) == (0, GREETING), (done.stderr, service.log)
        record_property("from start to greeting", f"{time.monotonic() - begun:.2f} s")

    def test_requestservice_may_be_first_and_says_what_it_waits_for(self, start, consul, tmp_path):
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            asking = subprocess.Popen(
                [sys.executable, str(EXAMPLES / "requestservice/requestservice.py"), f"--consulip={consul.address}"],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=err,
            )
        try:
            eventually(lambda: "unknown service" in (tmp_path / "err").read_text(), within=30)
            start("testservice/testservice.py", "--host=127.0.0.1", "--port=0", agent=consul.address)
            assert asking.wait(60) == 0
        finally:
            asking.kill()
            asking.wait()
        assert (tmp_path / "out").read_text() == GREETING

    def test_their_options_are_those_of_the_guide(self):
        for program in ("testservice", "requestservice"):
            told = run(f"{program}/{program}.py", "--help").stdout
            assert "--consulip HOST:PORT" in told
            assert ("8080 by default" in told) == (program == "testservice")

    def test_requestservice_says_why_when_nobody_comes(self, consul):
        done = run("requestservice/requestservice.py", f"--consulip={consul.address}", "--timeout=0.5")
        assert done.returncode == 1
        assert "unknown service" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr

    def test_testservice_serves_without_consul_and_registers_when_that_is_there(self, start, agents, free_port):
        agent = agents()
        agent.kill()
        pod = {"POD_IP": "127.0.0.1", "POD_NAME": "testservice-7d4b9-x2x", "NODE_NAME": "worker-1"}
        service = start(
            "testservice/testservice.py", "--host=127.0.0.1", f"--port={free_port}", agent=agent.address, **pod
        )
        until(lambda: "listens at port" in service.log, service)
        assert get(free_port)[1].decode() == GREETING
        agent.run()
        until(
            lambda: passing(agent, "testservice") == {f"testservice-testservice-7d4b9-x2x-{free_port}": free_port},
            service,
        )
        (entry,) = agent.read("/v1/catalog/service/testservice")
        assert entry["ServiceAddress"] == "127.0.0.1"
        assert entry["ServiceMeta"] == {"pod_name": "testservice-7d4b9-x2x", "node_name": "worker-1"}
        assert "Traceback" not in service.log

    def test_testservice_serves_on_until_it_is_out_of_every_look_up(self, start, consul):
        service = start("testservice/testservice.py", "--host=127.0.0.1", "--port=0", agent=consul.address)
        (port,) = until(lambda: passing(consul, "testservice"), service).values()
        assert get(port)[1].decode() == GREETING
        assert get(port, "/health")[0] == 200
        service.process.terminate()
        eventually(lambda: not passing(consul, "testservice"), within=30)
        assert get(port)[1].decode() == GREETING  # who has looked before is still answered
        assert service.process.wait(30) == -signal.SIGTERM
        assert consul.read("/v1/agent/services") == {}


class TestFastApi:
    def test_the_shop_calls_orders_wherever_they_are(self, start, agents):
        agent = agents()
        first, second, third = free_ports(3)
        orders = [start("fastapi_orders/orders.py", agent=agent.address, port=port) for port in (first, second)]
        shop = start("fastapi_shop/shop.py", agent=agent.address, port=third)
        until(lambda: len(passing(agent, "orders")) == 2, orders[0])
        until(lambda: passing(agent, "shop") == {f"shop-{os.uname().nodename}-{third}": third}, shop)
        with httpx.Client(base_url=f"http://127.0.0.1:{third}", timeout=20) as client:

            def buys(number=1):
                answer = client.get(f"/buy/{number}")
                assert answer.status_code == 200, (answer.text, shop.log)
                assert answer.json()["bought"] == "three apples"
                return int(answer.json()["from"].rpartition(":")[2])

            until(lambda: len(client.get("/").json()["orders_at"]) == 2, shop)
            seen = set()
            until(lambda: seen.add(buys()) or seen == {first, second}, shop)
            assert client.get("/buy/99").status_code == 404

            orders[0].process.kill()  # without a word: the registry still names it, and no customer notices
            assert {buys() for _ in range(20)} == {second}

            agent.kill()  # nor that Consul is away
            assert {buys() for _ in range(20)} == {second}

            def measured(metric):
                page = client.get("/metrics/").text
                return float(page.split(f'{metric}{{consul_access_service_name="orders"}} ')[1].split()[0])

            assert measured("consul_access_resolver_picks_total") >= 40
            until(lambda: measured("consul_access_resolver_lag_seconds") > 0, shop)

    def test_orders_leaves_the_look_ups_before_its_port_is_closed(self, start, consul, free_port):
        orders = start("fastapi_orders/orders.py", agent=consul.address, port=free_port)
        until(lambda: passing(consul, "orders"), orders)
        assert get(free_port, "/health")[0] == 200
        orders.process.terminate()
        eventually(lambda: not passing(consul, "orders"), within=30)
        assert get(free_port, "/orders/2")[0] == 200
        orders.process.wait(30)
        assert consul.read("/v1/agent/services") == {}


def test_the_worker_does_jobs_and_tells_consul_how_it_is(start, consul, tmp_path):
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    worker = start("worker/worker.py", str(jobs), "--ttl=1.5", "--many=1", "--patience=4", agent=consul.address)

    def status():
        return next(iter(statuses(consul, "worker").values()), None)

    until(lambda: status() == "passing", worker)
    (jobs / "one.part").write_text("a job of five words")
    (jobs / "one.part").rename(jobs / "one.job")
    until((jobs / "one.done").exists, worker)
    assert (jobs / "one.done").read_text() == "5\n"

    for name in ("bad.job", "worse.job"):
        (jobs / name).mkdir()  # nobody can read these
    until(lambda: status() == "warning", worker)
    until(lambda: status() == "critical", worker)
    (check,) = consul.read("/v1/health/checks/worker")
    assert "stuck: " in check["Output"]
    for name in ("bad.job", "worse.job"):
        (jobs / name).rmdir()
    until(lambda: status() == "passing", worker)

    worker.process.send_signal(signal.SIGSTOP)  # hung, as a whole: nobody reports
    until(lambda: status() == "critical", worker)
    worker.process.send_signal(signal.SIGCONT)
    until(lambda: status() == "passing", worker)

    worker.process.terminate()
    assert worker.process.wait(30) == 0, worker.log
    assert consul.read("/v1/agent/services") == {}


def test_services_at_etcd_are_called_in_turn_and_gone_when_they_end(start, any_etcd):
    etcd = f"--etcd={any_etcd.address}"
    services = [start("etcd_registry/service.py", etcd) for _ in range(2)]
    for service in services:
        until(lambda service=service: "listens at" in service.log, service)
    addresses = {service.log.split("listens at ")[1].strip() for service in services}
    done = run("etcd_registry/client.py", etcd, text="\n\n\n\n")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line.split(": ")[0] for line in lines} == addresses
    assert {line.split(": ")[1] for line in lines} == {"Hello from a service at etcd!"}
    assert len(lines) == 4
    for service in services:
        service.process.terminate()
    assert [service.process.wait(30) for service in services] == [0, 0], services[0].log
    with EtcdRegistry(any_etcd.host, any_etcd.port) as client:
        assert client.get_prefix("/consul-access/") == []


def test_a_clusters_services_are_told_and_followed(start, any_etcd):
    fill(any_etcd, "protobuf")
    etcd = f"--etcd={any_etcd.address}"
    done = run("kubernetes_etcd/services.py", "shop", etcd)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"empty", "ext", "lb", "manual", "web"}
    done = run("kubernetes_etcd/services.py", "default", "iiip-redis-core", etcd)
    assert [line.split()[1].startswith("redis-") for line in done.stdout.splitlines()] == [True, True]
    assert all(line.split()[0].endswith(":6379") for line in done.stdout.splitlines())

    watching = start("kubernetes_etcd/services.py", "default", "iiip-redis-core", "--watch", etcd)
    until(lambda: ": 2 ready" in watching.log, watching)
    for entry in SETS["protobuf"]["entries"]:
        if "/default/iiip-redis-core" in entry["key"] and "/specs/" not in entry["key"]:
            any_etcd.delete(entry["key"])
    until(lambda: ": 0 ready" in watching.log, watching)
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(30) == 130
    assert run("kubernetes_etcd/services.py", "no/namespace", etcd).returncode == 1


def test_a_clusters_etcd_is_read_by_mutual_tls_as_kubeadm_sets_it_up(etcd_server, certificates):
    server = etcd_server("3.5", authority=certificates, client_certificates=True)
    fill(server, "protobuf")
    certificate, key = certificates.client(common_name="kube-etcd-healthcheck-client")
    files = (f"--ca={certificates.file}", f"--cert={certificate}", f"--key={key}")
    done = run("kubernetes_etcd/services.py", "shop", f"--etcd={server.address}", *files)
    assert done.returncode == 0, done.stderr
    assert "web  NodePort  10.96.255.176  http:80, metrics:9090" in done.stdout
    done = run("kubernetes_etcd/services.py", "shop", f"--etcd={server.address}", files[0])
    assert done.returncode == 1
    assert "cert_cert" in done.stderr


def test_every_example_is_on_the_page():
    page = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.is_dir() and not path.name.startswith("__"):
            assert f"({path.name}" in page, path.name
    programs = [path for path in EXAMPLES.rglob("*.py") if "__pycache__" not in path.parts]
    assert all(Path(path).read_text().startswith('"""') for path in programs)
