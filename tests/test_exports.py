"""The front door: what is public, what it costs to open, and that both faces are the same."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import consul_access
from consul_access import (
    AsyncCatalogSync,
    AsyncConsulAccess,
    AsyncEtcdRegistry,
    AsyncKeeper,
    AsyncKeyWatch,
    AsyncKubernetes,
    AsyncLease,
    AsyncRegistration,
    AsyncResolver,
    AsyncWatch,
    CatalogSync,
    ConsulAccess,
    EtcdRegistry,
    Keeper,
    KeyWatch,
    Kubernetes,
    Lease,
    Registration,
    Resolver,
    Watch,
)
from tests.support.registry import entry
from tests.support.scripted import ScriptedServer, answer

PACKAGE = Path(consul_access.__file__).parent


def test_every_public_name_can_be_had():
    for name in consul_access.__all__:
        assert getattr(consul_access, name) is not None
    assert set(consul_access.__all__) == set(dir(consul_access))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Consul"):
        _ = consul_access.Consul


def test_type_checkers_and_the_interpreter_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module.removeprefix("consul_access.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert seen == consul_access._ROOM_OF


def test_the_names_of_the_design_are_public():
    names = (
        "ConsulAccess AsyncConsulAccess Registry AsyncRegistry Address ServiceInstance Registration CatalogEntry "
        "HealthEntry Node Check CheckStatus HttpCheck TcpCheck GrpcCheck TtlCheck ScriptCheck AliasCheck UdpCheck "
        "H2PingCheck DockerCheck OsServiceCheck Weights HealthPolicy F RetryPolicy ConsulSettings Call Reply "
        "EtcdRegistry AsyncEtcdRegistry EtcdSettings CatalogSync AsyncCatalogSync"
    )
    for name in names.split():
        assert name in consul_access.__all__


def test_importing_the_package_loads_next_to_nothing():
    code = (
        "import sys, json; before = set(sys.modules); import consul_access;"
        "print(json.dumps(list(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    loaded = set(json.loads(done.stdout))
    assert {name for name in loaded if name.startswith("consul_access")} == {"consul_access", "consul_access._version"}
    assert not loaded & {"httpx", "pydantic", "anyio", "asyncio", "tenacity", "typing", "ssl"}


ROOMS_OF_A_LOOK_UP = {
    "", "_pairs", "_pairs.sockets", "_pairs.threads", "_sync", "_sync.announcing", "_sync.carrier", "_sync.consul",
    "_sync.finding", "_sync.observed", "_sync.registration", "_sync.sending", "_sync.streams", "_sync.transport",
    "_version", "call", "consul", "consul.asking", "consul.texts", "errors", "models", "models.address",
    "models.default", "models.effective", "models.meta", "models.query", "models.status", "observing", "rules",
    "rules.choosing", "rules.failover", "rules.filtering", "rules.retrying", "settings", "tokens", "wire",
}  # fmt: skip
"""What a first look-up needs, whatever it asks for; each of them costs every program a part of its start."""
ROOMS_OF_INSTANCES = {"consul.health", "decoding", "models.instance", "models.nullable", "models.places"}
FOREIGN = {
    "pydantic", "httpx", "httpcore", "tenacity", "anyio", "asyncio", "encodings.idna", "ssl",
    "random", "pathlib", "base64", "zlib", "hashlib", "urllib.parse", "email", "tempfile", "subprocess",
}  # fmt: skip
OF_PYDANTIC = {"pydantic_core", "typing_extensions", "datetime", "decimal", "fractions"}


def loaded_by(look_up: str) -> tuple[set[str], set[str]]:
    """Our modules that a fresh interpreter has after this look-up, and the others."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "import consul_access; access = consul_access.ConsulAccess('127.0.0.1', int(sys.argv[1]))\n"
        f"assert {look_up}\n"
        "print(*set(sys.modules) - before)"
    )
    body = json.dumps([entry(1) | {"Service": entry(1)["Service"] | {"ModifyIndex": 7}}]).encode()
    with ScriptedServer([answer(body=body)]) as server:
        command = [sys.executable, "-c", code, str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.partition(".")[0] == "consul_access"}
    return {name.partition(".")[2] for name in ours}, loaded - ours


def test_a_look_up_of_addresses_loads_what_it_needs_and_nothing_of_pydantic():
    ours, others = loaded_by("access.search_service('orders') == [('10.0.0.1', 8001)]")
    assert ours == ROOMS_OF_A_LOOK_UP | {"consul.plain"}
    assert not others & (FOREIGN | OF_PYDANTIC)


def test_a_look_up_of_instances_loads_what_it_needs_and_of_pydantic_the_core():
    ours, others = loaded_by("[one.id for one in access.instances('orders')] == ['orders-1']")
    assert ours == ROOMS_OF_A_LOOK_UP | ROOMS_OF_INSTANCES
    assert not others & FOREIGN
    assert "pydantic_core" in others


def test_following_a_service_loads_no_pydantic_also_when_the_servers_are_asked_who_leads():
    code = (
        "import sys, consul_access\n"
        "from consul_access import consul\n"
        "from consul_access.call import Headers, Reply\n"
        "assert consul.status.leader().read(Reply(200, Headers(), b'\"10.0.0.1:8300\"')) == '10.0.0.1:8300'\n"
        "assert consul.status.peers().read(Reply(200, Headers(), b'[\"10.0.0.1:8300\"]')) == ['10.0.0.1:8300']\n"
        "with consul_access.ConsulAccess(url=sys.argv[1]) as access, access.resolver('web') as resolver:\n"
        "    assert str(resolver.pick().address) == '10.0.0.5:80'\n"
        "print({'pydantic', 'httpx', 'tenacity'} & set(sys.modules))"
    )
    entry = {"Node": {}, "Service": {"ID": "web-1", "Service": "web", "Address": "10.0.0.5", "Port": 80}, "Checks": []}
    found = answer(body=json.dumps([entry]).encode(), headers={"X-Consul-Index": "5"})
    with ScriptedServer([found]) as server:
        command = [sys.executable, "-c", code, server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "set()"


def test_an_etcd_client_loads_neither_pydantic_nor_httpx_nor_tenacity_and_for_threads_no_event_loop():
    code = (
        "import sys, consul_access\n"
        "etcd = consul_access.EtcdRegistry(port=1, retry=consul_access.RetryPolicy.none())\n"
        "etcd._gateway._request; etcd.watch_key('a')\n"
        "from consul_access.etcd import kv; kv.get(kv.Get('a'))\n"
        "print({'pydantic', 'httpx', 'httpcore', 'tenacity', 'anyio', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "set()"


FACES = [
    (AsyncConsulAccess, ConsulAccess),
    (AsyncRegistration, Registration),
    (AsyncKeeper, Keeper),
    (AsyncResolver, Resolver),
    (AsyncWatch, Watch),
    (AsyncEtcdRegistry, EtcdRegistry),
    (AsyncKeyWatch, KeyWatch),
    (AsyncLease, Lease),
    (AsyncKubernetes, Kubernetes),
    (AsyncCatalogSync, CatalogSync),
]
AT_ONCE = {
    AsyncConsulAccess: {
        "on_exchange",
        "on_ejection",
        "on_keeper_event",
        "on_pick",
        "registered",
        "watch",
        "watch_services",
        "on_change",
        "resolver",
    },
    AsyncEtcdRegistry: {
        "listing",
        "on_exchange",
        "on_ejection",
        "on_keeper_event",
        "on_pick",
        "watch_key",
        "watch_prefix",
        "registered",
        "watch",
        "watch_services",
        "on_change",
        "resolver",
    },
    AsyncKubernetes: {"watch", "listing"},
    AsyncCatalogSync: {"approve"},
    AsyncResolver: {"pick", "instances", "snapshot", "started", "report"},
}
"""What waits for nothing, and so is awaited on neither face."""


def public(kind: type) -> dict[str, inspect.Signature]:
    members = inspect.getmembers(kind, lambda value: inspect.isfunction(value) or isinstance(value, property))
    return {
        name: inspect.signature(value if inspect.isfunction(value) else value.fget)
        for name, value in members
        if not name.startswith("_") or name == "__init__"
    }


def without_colour(text: str) -> str:
    return text.replace("Async", "").replace("aclose", "close").replace("_async", "_sync")


@pytest.mark.parametrize(("tasks", "threads"), FACES)
def test_both_faces_have_the_same_methods_with_the_same_arguments(tasks, threads):
    theirs = {without_colour(name): without_colour(str(signature)) for name, signature in public(tasks).items()}
    ours = {name: str(signature) for name, signature in public(threads).items()}
    assert theirs == ours
    assert len(ours) >= 2


@pytest.mark.parametrize(("tasks", "threads"), FACES)
def test_both_faces_are_documented_alike_and_awaited_where_they_wait(tasks, threads):
    for name in public(tasks):
        mine, theirs = getattr(tasks, name), getattr(threads, without_colour(name))
        if isinstance(mine, property):
            continue
        assert mine.__doc__ or name == "__init__"
        assert without_colour(mine.__doc__ or "") == (theirs.__doc__ or "")
        assert not inspect.iscoroutinefunction(theirs)
        assert inspect.iscoroutinefunction(mine) or name in {"__init__", *AT_ONCE.get(tasks, ())}


def test_every_public_thing_is_documented_in_one_sentence_first():
    for name in consul_access.__all__:
        value = getattr(consul_access, name)
        if inspect.isclass(value):
            first = (value.__doc__ or "").strip().split("\n\n")[0]
            assert first.endswith((".", "::", ":", "?")), name
