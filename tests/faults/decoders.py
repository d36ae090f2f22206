"""Everything that makes values out of bytes or texts that strangers wrote, by name: what the fuzzers feed.

A decoder takes bytes and gives something or fails with an error of this library's; anything else is a finding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from consul_access.call import Headers, Reply
from consul_access.consul import acl, agent, catalog, health, plain, status, txn
from consul_access.consul.texts import meaning as consul_meaning
from consul_access.errors import BadValue
from consul_access.etcd import auth, cluster, kv, leases
from consul_access.etcd.codecs import CODECS, instance_of
from consul_access.etcd.kubernetes import decode as decode_kubernetes
from consul_access.etcd.kubernetes import read_object
from consul_access.etcd.message_watch import MessageDecoder
from consul_access.etcd.messages import METHODS, as_json, decode, framed
from consul_access.etcd.settings import EtcdSettings
from consul_access.etcd.texts import meaning as etcd_meaning
from consul_access.etcd.watch import LineDecoder
from consul_access.models.keys import KeyMetadata, KeyValue
from consul_access.models.kubernetes import Endpoints, EndpointSlice, KubernetesNode, KubernetesService
from consul_access.models.meta import QueryMeta
from consul_access.settings import ConsulSettings
from consul_access.wire import AnswerReader, Broken, WireAnswer, unpack
from consul_access.wire_grpc import CallReader

LIMIT = 1 << 20
PREFIX = "/services/"

ENTRY = {
    "Node": {"ID": "n", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1", "Meta": {"a": "b"}},
    "Service": {
        "ID": "orders-1",
        "Service": "orders",
        "Tags": ["a"],
        "Meta": {"version": "1"},
        "Address": "10.0.0.5",
        "Port": 8080,
        "Ports": [{"Name": "http", "Port": 8080, "Default": True}],
        "TaggedAddresses": {"lan": {"Address": "10.0.0.5", "Port": 8080}},
        "Weights": {"Passing": 1, "Warning": 1},
        "ModifyIndex": 7,
    },
    "Checks": [{"CheckID": "serfHealth", "Name": "x", "Status": "passing", "Output": "", "ServiceID": ""}],
}
SERVICE = ENTRY["Service"]
PLAIN = ENTRY | {"Service": {name: value for name, value in SERVICE.items() if name != "Ports"}}
CATALOG = {
    "Node": "n1",
    "Address": "10.0.0.1",
    "ServiceID": "orders-1",
    "ServiceName": "orders",
    "ServiceAddress": "",
    "ServicePort": 8080,
    "ServiceTags": ["a"],
    "ServiceMeta": {},
    "ServiceWeights": {"Passing": 1, "Warning": 1},
}
CHECK = {"Node": "n1", "CheckID": "c", "Name": "c", "Status": "passing", "Output": "", "ServiceID": "orders-1"}
HEADER = {"cluster_id": "1", "member_id": "2", "revision": "7"}
PAIR = {"key": "YQ==", "value": "MQ==", "create_revision": "3", "mod_revision": "4", "version": "2", "lease": "5"}

Decoder = Callable[[bytes], object]


def _call(call: Any) -> Decoder:
    def read(data: bytes) -> object:
        return call.read(Reply(200, Headers([(b"X-Consul-Index", b"7")]), data, address="127.0.0.1:8500"))

    return read


def _key_value(value: bytes) -> KeyValue:
    return KeyValue(value, KeyMetadata(b"/services/orders/orders-1", mod_revision=7))


def _codec(name: str) -> Decoder:
    return lambda data: instance_of(CODECS[name], PREFIX, _key_value(data))


def _line(data: bytes) -> object:
    return list(LineDecoder(LIMIT).feed(data + b"\n"))


def read_wire(data: bytes) -> object:
    """An answer as it comes from the socket, at once and then byte by byte, and unpacked: the same both times."""
    found = []
    for pieces in ([data], [data[place : place + 1] for place in range(len(data))]):
        reader = AnswerReader(LIMIT)
        reader.expect("GET")
        complete = False
        for piece in pieces:
            if complete := reader.feed(piece):
                break
        if not complete:
            reader.feed_eof()
        answer: WireAnswer = reader.answer(None)
        found.append((answer.status, answer.headers.raw, unpack(answer, LIMIT)))
    assert found[0] == found[1]
    return found[0]


def read_calls(data: bytes) -> object:
    """The same of gRPC: what came behind the server's greeting, as an answer to a call."""
    found = []
    for pieces in ([data], [data[place : place + 1] for place in range(len(data))]):
        reader = CallReader(LIMIT)
        reader.ask(b"", b"", ends=True)
        reader.feed(bytes(3) + b"\4" + bytes(5))
        try:
            for piece in pieces:
                reader.feed(piece)
            reader.feed(b"")
        except Broken as broken:
            raise broken.error from broken
        found.append((reader.status, reader.outcome(), reader.take()))
    assert found[0] == found[1]
    return found[0]


def read_messages(data: bytes) -> object:
    """An answer of any of etcd's methods, which the first byte chooses, and a watch's messages."""
    try:
        method = list(METHODS.values())[data[0] % len(METHODS)] if data else METHODS["/v3/watch"]
        answer = decode(method.answer, memoryview(data)[1:])
        json.dumps(as_json(method.answer, answer))
    except BadValue:
        answer = {}
    return answer, MessageDecoder(LIMIT).feed(data), MessageDecoder(LIMIT).feed(framed(data))


RAW: Mapping[str, Decoder] = {"wire": read_wire, "calls": read_calls, "messages": read_messages}
"""What reads bytes that are no JSON."""


def _headers(data: bytes) -> object:
    """Headers of an answer to a blocking query."""
    names = (b"X-Consul-Index", b"X-Consul-LastContact", b"X-Consul-KnownLeader", b"Age", b"X-Cache", b"Retry-After")
    meta = QueryMeta(Headers([(name, data) for name in names]))
    return [getattr(meta, name) for name in dir(type(meta)) if not name.startswith("_")]


def _kubernetes(kind: Any) -> Decoder:
    def read(data: bytes) -> object:
        assert decode_kubernetes(data)
        return read_object(_key_value(data), kind.from_api)

    return read


def _texts(meaning: Callable[[int, str], object]) -> Decoder:
    return lambda data: [meaning(code, data.decode("utf-8", "replace")) for code in (200, 403, 429, 500, 503)]


def _consul_settings(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    return [str(target) for target in ConsulSettings.load(environ={"CONSUL_HTTP_ADDR": text}).targets]


def _etcd_settings(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    return [str(target) for target in EtcdSettings.load(endpoints=text, environ={}).targets]


DECODERS: dict[str, tuple[Decoder, Any]] = {
    "health.instances": (_call(health.instances("orders")), [ENTRY]),
    "plain.addresses": (_call(plain.addresses("orders")), [PLAIN]),
    "health.instances any": (_call(health.instances("orders", policy="any")), [ENTRY]),
    "health.service": (_call(health.service("orders")), [ENTRY]),
    "health.checks": (_call(health.checks("orders")), [CHECK]),
    "catalog.service": (_call(catalog.service("orders")), [CATALOG]),
    "catalog.services": (_call(catalog.services()), {"orders": ["a"], "consul": []}),
    "catalog.nodes": (_call(catalog.nodes()), [ENTRY["Node"]]),
    "catalog.node": (_call(catalog.node("n1")), {"Node": ENTRY["Node"], "Services": {"orders-1": SERVICE}}),
    "catalog.datacenters": (_call(catalog.datacenters()), ["dc1"]),
    "agent.self": (_call(agent.about()), {"Config": {"NodeName": "n1", "Version": "1.8.7"}, "Member": {"Addr": "::1"}}),
    "agent.services": (_call(agent.services()), {"orders-1": SERVICE}),
    "agent.service": (_call(agent.service("orders-1")), {**SERVICE, "ContentHash": "abc"}),
    "agent.checks": (_call(agent.checks()), {"c": CHECK}),
    "agent.members": (_call(agent.members()), [{"Name": "n1", "Addr": "10.0.0.1", "Status": 1}]),
    "agent.health": (
        _call(agent.service_health("orders-1")),
        {"AggregatedStatus": "passing", "Service": SERVICE, "Checks": [CHECK]},
    ),
    "status.leader": (_call(status.leader()), "10.0.0.1:8300"),
    "status.peers": (_call(status.peers()), ["10.0.0.1:8300"]),
    "txn": (_call(txn.apply(txn.remove("n1", "orders-1"))), {"Results": [], "Errors": None}),
    "acl.login": (
        _call(acl.login("kubernetes", SecretStr("x"))),
        {"AccessorID": "a", "SecretID": "b", "Policies": None},
    ),
    "kv.get": (_call(kv.get(kv.Get("a"))), {"header": HEADER, "kvs": [PAIR], "count": "1", "more": True}),
    "kv.put": (_call(kv.put(kv.Put("a", "1"))), {"header": HEADER, "prev_kv": PAIR}),
    "kv.delete": (_call(kv.delete(kv.Delete("a"))), {"header": HEADER, "deleted": "1", "prev_kvs": [PAIR]}),
    "kv.txn": (
        _call(kv.txn([kv.Compare.missing("a")], [kv.Put("a", "1")], [kv.Get("a")])),
        {"header": HEADER, "succeeded": True, "responses": [{"response_put": {"header": HEADER}}]},
    ),
    "lease.keepalive of one": (_call(leases.keepalive(7)), {"result": {"header": HEADER, "ID": "7", "TTL": "5"}}),
    "lease.grant": (_call(leases.grant(5)), {"header": HEADER, "ID": "7", "TTL": "5"}),
    "lease.keepalive": (_call(leases.keepalive_all([7, 8])), {"result": {"header": HEADER, "ID": "7", "TTL": "5"}}),
    "lease.time_to_live": (_call(leases.time_to_live(7, keys=True)), {"ID": "7", "TTL": "5", "keys": ["YQ=="]}),
    "cluster.members": (
        _call(cluster.members()),
        {"header": HEADER, "members": [{"ID": "1", "name": "m", "clientURLs": ["http://10.0.0.1:2379"]}]},
    ),
    "cluster.status": (_call(cluster.status()), {"header": HEADER, "version": "3.5.16", "leader": "2", "dbSize": "9"}),
    "auth.authenticate": (_call(auth.authenticate("ann", SecretStr("x"))), {"header": HEADER, "token": "t.1"}),
    "watch": (_line, {"result": {"header": HEADER, "watch_id": "1", "events": [{"type": "DELETE", "kv": PAIR}]}}),
    "codec native": (
        _codec("native"),
        {"schema": 1, "id": "orders-1", "name": "orders", "address": "10.0.0.5", "port": 80, "tags": ["a"]},
    ),
    "codec go": (_codec("go_naming"), {"Op": 0, "Addr": "10.0.0.5:80", "Metadata": {"a": 1}}),
    "codec kratos": (
        _codec("kratos"),
        {"id": "orders-1", "name": "orders", "version": "1", "metadata": {}, "endpoints": ["http://10.0.0.5:80"]},
    ),
    "Service": (_kubernetes(KubernetesService), {"kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": []}}),
    "Endpoints": (
        _kubernetes(Endpoints),
        {"kind": "Endpoints", "metadata": {"name": "a"}, "subsets": [{"addresses": [{"ip": "10.0.0.5"}]}]},
    ),
    "EndpointSlice": (
        _kubernetes(EndpointSlice),
        {"kind": "EndpointSlice", "metadata": {"name": "a"}, "endpoints": [{"addresses": ["::1"]}], "ports": [{}]},
    ),
    "Node": (_kubernetes(KubernetesNode), {"kind": "Node", "metadata": {"name": "a"}, "status": {"addresses": []}}),
    "headers": (_headers, 7),
    "texts of consul": (_texts(consul_meaning), "rpc error making call: EOF"),
    "texts of etcd": (_texts(etcd_meaning), {"code": 14, "message": "etcdserver: no leader"}),
    "CONSUL_HTTP_ADDR": (_consul_settings, "http://[::1]:8500/prefix"),
    "endpoints": (_etcd_settings, "http://10.0.0.1:2379,10.0.0.2:2379"),
}


def as_bytes(sample: object) -> bytes:
    """A sample as it is sent: settings as they are written, all else as JSON."""
    return sample.encode() if isinstance(sample, str) and sample.startswith("http") else json.dumps(sample).encode()
