"""Blocking queries: who waits for what, for how long, and what wakes them; and how many may."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.conftest import since
from tests.support.waiting import eventually

LIMIT = 200


@pytest.fixture
def waiting():
    """Runs a request aside, and tells how it ended and after how many seconds."""
    with ThreadPoolExecutor(4) as pool:

        def begin(consul, target):
            def run():
                begun = time.monotonic()
                status, headers, body = consul.exchange("GET", target)
                return status, int(headers.get("X-Consul-Index", 0)), body, time.monotonic() - begun

            future = pool.submit(run)
            time.sleep(0.15)  # for the request to arrive; if it comes too late it finds the change at once
            return future

        yield begin


def index_of(consul, target):
    return int(consul.exchange("GET", target)[1]["X-Consul-Index"])


@pytest.mark.parametrize("path", ["health/service/web", "health/checks/web", "catalog/service/web", "catalog/services"])
def test_a_change_wakes_and_its_index_is_higher(consul, waiting, path):
    consul.register("web")
    target = f"/v1/{path}"
    known = eventually(
        lambda: len(consul.exchange("GET", "/v1/health/service/web")[2]) > 9 and index_of(consul, target)
    )
    asked = waiting(consul, f"{target}?index={known}&wait=15s")
    assert not asked.done()
    consul.register("web", id="another", tags=["t"], check={"TTL": "1h"})
    status, index, _, took = asked.result()
    assert (status, index > known) == (200, True)
    assert took < 10


def test_a_ttl_that_is_reported_and_one_that_ends_both_wake(consul, waiting):
    consul.register("web", check={"TTL": "1500ms"})
    known = index_of(consul, "/v1/health/service/web")
    reported = waiting(consul, f"/v1/health/service/web?index={known}&wait=15s")
    consul.request("PUT", "/v1/agent/check/pass/service:web")
    _, index, body, took = reported.result()
    assert b"passing" in body
    assert took < 5
    ended = waiting(consul, f"/v1/health/service/web?index={index}&wait=15s")
    _, _, body, took = ended.result()
    assert b"TTL expired" in body
    assert 0.5 < took < 10


def test_index_zero_answers_at_once(consul):
    begun = time.monotonic()
    assert consul.request("GET", "/v1/health/service/web?index=0&wait=10s")[0] == 200
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("ahead", [0, 1000])
def test_the_same_index_and_one_of_the_future_wait_their_time_and_a_little_more(consul, ahead):
    consul.register("web")
    known = index_of(consul, "/v1/health/service/web")
    begun = time.monotonic()
    _, headers, _ = consul.exchange("GET", f"/v1/health/service/web?index={known + ahead}&wait=800ms")
    assert 0.8 <= time.monotonic() - begun < 5
    assert int(headers["X-Consul-Index"]) == known


def test_other_services_and_other_outputs_wake_nobody(consul, waiting):
    consul.register("web", check={"TTL": "1h", "Status": "passing"})
    consul.request("PUT", "/v1/agent/check/pass/service:web?note=before")
    known = index_of(consul, "/v1/health/service/web")
    asked = waiting(consul, f"/v1/health/service/web?index={known}&wait=1s")
    consul.register("other")
    consul.request("PUT", "/v1/agent/check/pass/service:web?note=after")
    _, index, _, took = asked.result()
    assert (index, took >= 1) == (known, True)


@pytest.mark.parametrize("path", ["health/checks/web", "health/state/passing"])
def test_a_check_that_is_told_again_and_says_the_same_wakes_who_waits_for_checks(consul, waiting, path):
    """Since 1.9 it wakes nobody."""
    consul.register("web", check={"TTL": "1h", "Status": "passing"})
    eventually(lambda: len(consul.read("/v1/health/checks/web")) == 1)
    before = consul.read("/v1/health/checks/web")
    known = index_of(consul, f"/v1/{path}")
    wakes = not since(1, 9)
    asked = waiting(consul, f"/v1/{path}?index={known}&wait={'15s' if wakes else '1s'}")
    services = waiting(consul, f"/v1/health/service/web?index={index_of(consul, '/v1/health/service/web')}&wait=1s")
    consul.register("web", check={"TTL": "1h", "Status": "passing"})
    _, index, _, took = asked.result()
    assert (index > known, took < 10 if wakes else took < 1) == (wakes, wakes)
    assert consul.read("/v1/health/checks/web") == before
    assert services.result()[3] >= 1  # and nobody who waits for the service


def test_an_instance_that_takes_another_name_is_gone_for_who_waits_for_the_former_one(consul, waiting):
    """A view (1.10 and later) is told so at once. Before, it may be woken too early, or not at all."""
    consul.register("web", id="one")
    target = "/v1/health/service/web"
    # A young agent tells of itself a moment later, which wakes too.
    eventually(lambda: (found := consul.read(target)) and found[0]["Node"]["Meta"])
    known = index_of(consul, target)
    asked = waiting(consul, f"{target}?index={known}&wait={'15s' if since(1, 10) else '1s'}")
    consul.register("other", id="one")
    status, _, body, took = asked.result()
    assert (status, took < 10) == (200, True)
    assert body.strip() == b"[]" or not since(1, 10)
    assert consul.read(target) == []


@pytest.mark.parametrize("path", ["catalog/node/{0}", "health/node/{0}", "health/checks/nothing"])
def test_who_waits_for_one_node_or_service_is_not_woken_by_another_though_the_index_moves(consul, waiting, path):
    target = f"/v1/{path.format('apart')}"
    for number in (1, 2):  # far from the other's name, as a server looks again at what is near
        node = {"Node": ("apart", "zone-9")[number - 1], "Address": "10.0.0.9"}
        service, check = {"ID": f"s{number}", "Service": f"s{number}"}, {"CheckID": f"c{number}", "Name": "c"}
        if number == 2:
            known = index_of(consul, target)
            asked = waiting(consul, f"{target}?index={known}&wait=1s")
        consul.request("PUT", "/v1/catalog/register", node | {"Service": service, "Check": check})
    try:
        assert asked.result()[3] >= 1
        assert index_of(consul, target) > known
    finally:
        for name in ("apart", "zone-9"):
            consul.request("PUT", "/v1/catalog/deregister", {"Node": name})


def test_the_last_instances_end_wakes_with_nothing(consul, waiting):
    consul.register("web")
    known = index_of(consul, "/v1/health/service/web")
    asked = waiting(consul, f"/v1/health/service/web?index={known}&wait=15s")
    consul.request("PUT", "/v1/agent/service/deregister/web")
    _, index, body, took = asked.result()
    assert (body.strip(), index > known) == (b"[]", True)
    assert took < 10


def test_a_service_that_changes_its_name_turns_the_index_of_the_old_one_back(consul):
    for name in ("gone", "web"):
        consul.register(name, id="one")
    known = index_of(consul, "/v1/health/service/web")
    consul.register("else", id="one")
    assert consul.read("/v1/health/service/web") == []
    assert index_of(consul, "/v1/health/service/web") < known


@pytest.mark.parametrize("path", ["catalog", "health"])
def test_names_that_differ_by_case_alone_share_an_index(consul, path):
    consul.register("web")
    known = index_of(consul, f"/v1/{path}/service/Web")
    assert index_of(consul, f"/v1/{path}/service/web") == known
    consul.register("other")
    assert index_of(consul, f"/v1/{path}/service/Web") == known
    consul.register("Web", id="another")
    assert index_of(consul, f"/v1/{path}/service/web") == index_of(consul, f"/v1/{path}/service/Web") > known


def test_a_check_that_goes_over_to_another_service_does_not_wake_who_looks_at_the_former(consul):
    for name in ("a", "b"):
        entry = {"Node": "apart", "Address": "10.0.0.9", "Service": {"ID": name, "Service": name}}
        assert consul.request("PUT", "/v1/catalog/register", entry)[0] == 200
    check = {"CheckID": "c", "Name": "c", "Status": "passing"}
    found = {}
    for owner in ("b", "a"):
        entry = {"Node": "apart", "Address": "10.0.0.9", "SkipNodeUpdate": True, "Check": check | {"ServiceID": owner}}
        assert consul.request("PUT", "/v1/catalog/register", entry)[0] == 200
        found[owner] = (len(consul.read("/v1/health/service/b")[0]["Checks"]), index_of(consul, "/v1/health/service/b"))
    consul.request("PUT", "/v1/catalog/deregister", {"Node": "apart"})
    (before, index), (after, later) = found.values()
    assert (before, after, later) == (1, 0, index)


def test_an_agents_own_service_is_waited_for_by_its_hash(consul, waiting):
    consul.register("web", port=80)
    _, headers, _ = consul.exchange("GET", "/v1/agent/service/web")
    known = headers["X-Consul-Contenthash"]
    asked = waiting(consul, f"/v1/agent/service/web?hash={known}&wait=15s")
    consul.register("web", port=81)
    _, _, body, took = asked.result()
    assert b"81" in body
    assert took < 10
    asked = waiting(consul, f"/v1/agent/service/web?hash={known}&wait=15s")
    assert asked.result()[3] < 5  # another hash is no reason to wait


def test_connections_above_the_limit_are_refused_and_the_others_stay(agents):
    consul = agents()
    request = b"GET /v1/health/service/web?index=1000000&wait=3s HTTP/1.1\r\nHost: x\r\n\r\n"
    sockets = [socket.create_connection(("127.0.0.1", consul.port), timeout=20) for _ in range(LIMIT)]
    try:
        for sock in sockets:
            sock.sendall(request)
        first = sockets[0].recv(12)
        assert first == b"HTTP/1.1 200"  # by then all were taken
        refused = [outcome(consul.port, request) for _ in range(10)]
        version = consul_version_of(sockets[1], consul)
        assert refused == [b"" if version < (1, 9) else b"HTTP/1.1 429"] * 10
    finally:
        for sock in sockets:
            sock.close()
    eventually(lambda: taken(consul))


def outcome(port, request):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(request)
            return sock.recv(12)
    except ConnectionError:
        return b""


def taken(consul):
    try:
        return consul.request("GET", "/v1/status/leader")[0] == 200
    except OSError:
        return False


def consul_version_of(sock, consul):
    """Over a connection that there is already: another would be one too many."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    sock.sendall(b"GET /v1/agent/members HTTP/1.1\r\nHost: x\r\n\r\n")
    data = b""
    while b'"build":' not in data.replace(b" ", b""):
        data += sock.recv(65536)
    build = data.replace(b" ", b"").partition(b'"build":"')[2]
    return tuple(int(part) for part in build.split(b":")[0].split(b".")[:2])


def test_many_wait_at_once_and_all_are_woken(consul):
    consul.register("web")
    known = index_of(consul, "/v1/health/service/web")
    woken = []

    def wait():
        woken.append(consul.exchange("GET", f"/v1/health/service/web?index={known}&wait=15s")[0])

    threads = [threading.Thread(target=wait) for _ in range(50)]
    for thread in threads:
        thread.start()
    consul.register("web", id="another")
    for thread in threads:
        thread.join(20)
    assert woken == [200] * 50
