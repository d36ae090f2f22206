"""What Kubernetes' API server keeps in etcd, read: its envelope, its protobuf, its JSON, and its keys.

Objects are stored as protobuf in an envelope (`k8s\\0`), as JSON (`--storage-media-type=application/json`), or
encrypted. The decoder makes of the first what the API itself answers with, so that models read one shape only. It
knows the fields that services and endpoints have (kubernetes/api, `generated.proto`) and skips all others, so that
newer versions can be read. It never writes, and no damaged value makes it fail otherwise than with `BadValue`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from pydantic_core import from_json

from consul_access.errors import BadValue, EncryptedValue, InvalidInput
from consul_access.etcd.protobuf import BYTES, VARINT, field_at, signed
from consul_access.models.keys import KeyValue

__all__ = [
    "decode",
    "endpoints_key",
    "endpoints_prefix",
    "nodes_prefix",
    "read_object",
    "service_key",
    "services_prefix",
    "slices_prefix",
]

log = logging.getLogger("consul_access")

T = TypeVar("T")

_MAGIC: Final = b"k8s\0"
_ENCRYPTED: Final = b"k8s:enc:"
_DEEPEST: Final = 16
"""How deep messages may be nested; the real ones are at 6."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


# --- keys ---------------------------------------------------------------------------------------------------


def service_key(prefix: str, namespace: str, name: str) -> str:
    """Where a Service is."""
    return f"{prefix}/services/specs/{_segment(namespace, 'namespace')}/{_segment(name, 'name')}"


def services_prefix(prefix: str, namespace: str | None) -> str:
    """Where the Services of a namespace are, or of all."""
    return f"{prefix}/services/specs/" + ("" if namespace is None else f"{_segment(namespace, 'namespace')}/")


def endpoints_key(prefix: str, namespace: str, name: str) -> str:
    """Where a service's Endpoints are."""
    return f"{prefix}/services/endpoints/{_segment(namespace, 'namespace')}/{_segment(name, 'name')}"


def endpoints_prefix(prefix: str) -> str:
    """Where the Endpoints of all namespaces are."""
    return f"{prefix}/services/endpoints/"


def slices_prefix(prefix: str, namespace: str | None) -> str:
    """Where the EndpointSlices of a namespace are, or of all; a label tells which service each belongs to."""
    return f"{prefix}/endpointslices/" + ("" if namespace is None else f"{_segment(namespace, 'namespace')}/")


def nodes_prefix(prefix: str) -> str:
    """Where the Nodes are."""
    return f"{prefix}/minions/"


def _segment(text: str, what: str) -> str:
    if not isinstance(text, str) or not text or "/" in text or not text.isprintable():
        raise InvalidInput(f"{what}={text!r} is no name of Kubernetes': write one word, such as 'default'")
    return text


# --- values -------------------------------------------------------------------------------------------------


def decode(value: bytes) -> dict[str, Any]:
    """A stored object as Kubernetes' API would answer it, as far as its fields are known here.

    Raises:
        EncryptedValue: it is encrypted at rest; the text names the provider.
        BadValue: it is no object of Kubernetes', or damaged.
    """
    if value.startswith(_ENCRYPTED):
        provider = value[len(_ENCRYPTED) : len(_ENCRYPTED) + 64].split(b":", 1)[0].decode("ascii", "replace")
        raise EncryptedValue(f"the value is encrypted at rest, by the provider {provider!r}")
    if value.startswith(_MAGIC):
        return _from_envelope(memoryview(value)[len(_MAGIC) :])
    if value[:1] == b"{":
        return _from_json(value)
    raise BadValue(f"the value is no object of Kubernetes' (it begins with {bytes(value[:8])!r})")


def _from_json(value: bytes) -> dict[str, Any]:
    try:
        found = from_json(value)
    except ValueError as error:
        raise BadValue(f"the value is damaged JSON ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        raise BadValue("the value is JSON, but no object of Kubernetes'")
    return found


def _from_envelope(data: memoryview) -> dict[str, Any]:
    unknown = _message(data, _UNKNOWN, 0)
    kind = unknown.get("typeMeta", {})
    api_version, name = kind.get("apiVersion", ""), kind.get("kind", "")
    if not name or unknown.get("contentEncoding") or unknown.get("contentType"):
        raise BadValue("the envelope tells no kind, or a content that is not protobuf")
    schema = _SCHEMAS.get((api_version, name), _ANYTHING)
    found = _message(unknown.get("raw", memoryview(b"")), schema, 0)
    for always in _NULL_WHEN_EMPTY.get(name, ()):
        found.setdefault(always, None)
    return found | {"apiVersion": api_version, "kind": name}


def read_object(item: KeyValue, read: Callable[[Mapping[str, Any]], T]) -> T | None:
    """An object as a model; None, and a line in the log, when it is damaged."""
    try:
        found = decode(item.value)
        found["metadata"] = {**found.get("metadata", {}), "resourceVersion": str(item.metadata.mod_revision)}
        return read(found)
    except EncryptedValue as error:
        error.operation = item.key.decode("utf-8", "backslashreplace")
        raise
    except (BadValue, TypeError) as error:
        log.warning("%s cannot be read and is left out: %s", item.key.decode("utf-8", "backslashreplace"), error)
        return None


# --- protobuf -----------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    """A field: its name in JSON, what it holds, and whether a zero is told (Go's pointers) or left out."""

    name: str
    kind: str
    schema: Mapping[int, _Field] = MappingProxyType({})
    keep: bool = False
    many: bool = False


_Schema: TypeAlias = Mapping[int, _Field]

_WIRE: Final = {"int": VARINT, "bool": VARINT}
"""How a field's kind is written; all others are bytes."""


def _message(data: memoryview, schema: _Schema, depth: int) -> dict[str, Any]:
    """A message as a dict."""
    if depth > _DEEPEST:
        raise BadValue(f"messages are nested more than {_DEEPEST} deep")
    found: dict[str, Any] = {}
    position = 0
    while position < len(data):
        number, wire, value, position = field_at(data, position)
        field = schema.get(number)
        if field is None:
            continue
        if wire != _WIRE.get(field.kind, BYTES):
            raise BadValue(f"the field {field.name!r} has the wire type {wire}")
        _add(found, field, _read(field, value, depth))
    return found


def _add(found: dict[str, Any], field: _Field, value: Any) -> None:
    if field.kind == "map":
        found.setdefault(field.name, {}).update(value)
    elif field.many:
        found.setdefault(field.name, []).append(value)
    elif value or field.keep or isinstance(value, dict):
        found[field.name] = value


def _read(field: _Field, value: Any, depth: int) -> Any:
    """A field's value as JSON has it."""
    if field.kind == "text":
        return _text(value, field.name)
    if field.kind == "int":
        return signed(value)
    if field.kind == "bool":
        return bool(value)
    if field.kind == "message":
        return _message(value, field.schema, depth + 1)
    if field.kind == "bytes":
        return value
    return _SPECIAL[field.kind](_message(value, _PARTS[field.kind], depth + 1))


def _text(value: memoryview, name: str) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise BadValue(f"the field {name!r} is not UTF-8") from error


def _pair(parts: dict[str, Any]) -> dict[str, str]:
    return {parts.get("key", ""): parts.get("value", "")}


def _time(parts: dict[str, Any]) -> str:
    try:
        moment = _EPOCH + timedelta(seconds=parts.get("seconds", 0))
    except OverflowError as error:
        raise BadValue("a time is out of range") from error
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _number_or_text(parts: dict[str, Any]) -> int | str:
    text: int | str = parts.get("strVal", "") if parts.get("type", 0) else parts.get("intVal", 0)
    return text


def _text_field(name: str, *, keep: bool = False, many: bool = False) -> _Field:
    return _Field(name, "text", keep=keep, many=many)


def _int_field(name: str, *, keep: bool = False) -> _Field:
    return _Field(name, "int", keep=keep)


def _bool_field(name: str, *, keep: bool = False) -> _Field:
    return _Field(name, "bool", keep=keep)


def _one(name: str, schema: _Schema) -> _Field:
    return _Field(name, "message", schema)


def _several(name: str, schema: _Schema) -> _Field:
    return _Field(name, "message", schema, many=True)


_SPECIAL: Final = {"map": _pair, "time": _time, "int-or-string": _number_or_text}
_PARTS: Final[dict[str, _Schema]] = {
    "map": {1: _text_field("key"), 2: _text_field("value")},
    "time": {1: _int_field("seconds")},
    "int-or-string": {1: _int_field("type"), 2: _int_field("intVal"), 3: _text_field("strVal")},
}

_UNKNOWN: Final[_Schema] = {
    1: _one("typeMeta", {1: _text_field("apiVersion"), 2: _text_field("kind")}),
    2: _Field("raw", "bytes"),
    3: _text_field("contentEncoding"),
    4: _text_field("contentType"),
}
_OWNER: Final[_Schema] = {
    1: _text_field("kind", keep=True),
    3: _text_field("name", keep=True),
    4: _text_field("uid", keep=True),
    5: _text_field("apiVersion", keep=True),
    6: _bool_field("controller", keep=True),
    7: _bool_field("blockOwnerDeletion", keep=True),
}
_META: Final[_Schema] = {
    1: _text_field("name"),
    2: _text_field("generateName"),
    3: _text_field("namespace"),
    4: _text_field("selfLink"),
    5: _text_field("uid"),
    6: _text_field("resourceVersion"),
    7: _int_field("generation"),
    8: _Field("creationTimestamp", "time", keep=True),
    9: _Field("deletionTimestamp", "time", keep=True),
    10: _int_field("deletionGracePeriodSeconds", keep=True),
    11: _Field("labels", "map"),
    12: _Field("annotations", "map"),
    13: _several("ownerReferences", _OWNER),
    14: _text_field("finalizers", many=True),
}
_REFERENCE: Final[_Schema] = {
    1: _text_field("kind"),
    2: _text_field("namespace"),
    3: _text_field("name"),
    4: _text_field("uid"),
    5: _text_field("apiVersion"),
    6: _text_field("resourceVersion"),
    7: _text_field("fieldPath"),
}
_SERVICE_PORT: Final[_Schema] = {
    1: _text_field("name"),
    2: _text_field("protocol"),
    3: _int_field("port", keep=True),
    4: _Field("targetPort", "int-or-string", keep=True),
    5: _int_field("nodePort"),
    6: _text_field("appProtocol", keep=True),
}
_SERVICE_SPEC: Final[_Schema] = {
    1: _several("ports", _SERVICE_PORT),
    2: _Field("selector", "map"),
    3: _text_field("clusterIP"),
    4: _text_field("type"),
    5: _text_field("externalIPs", many=True),
    7: _text_field("sessionAffinity"),
    8: _text_field("loadBalancerIP"),
    9: _text_field("loadBalancerSourceRanges", many=True),
    10: _text_field("externalName"),
    11: _text_field("externalTrafficPolicy"),
    12: _int_field("healthCheckNodePort"),
    13: _bool_field("publishNotReadyAddresses"),
    14: _one("sessionAffinityConfig", {1: _one("clientIP", {1: _int_field("timeoutSeconds", keep=True)})}),
    16: _text_field("topologyKeys", many=True),
    17: _text_field("ipFamilyPolicy", keep=True),
    18: _text_field("clusterIPs", many=True),
    19: _text_field("ipFamilies", many=True),
    20: _bool_field("allocateLoadBalancerNodePorts", keep=True),
    21: _text_field("loadBalancerClass", keep=True),
    22: _text_field("internalTrafficPolicy", keep=True),
    23: _text_field("trafficDistribution", keep=True),
}
_INGRESS_PORT: Final[_Schema] = {
    1: _int_field("port", keep=True),
    2: _text_field("protocol", keep=True),
    3: _text_field("error", keep=True),
}
_INGRESS: Final[_Schema] = {
    1: _text_field("ip"),
    2: _text_field("hostname"),
    3: _text_field("ipMode", keep=True),
    4: _several("ports", _INGRESS_PORT),
}
_SERVICE: Final[_Schema] = {
    1: _one("metadata", _META),
    2: _one("spec", _SERVICE_SPEC),
    3: _one("status", {1: _one("loadBalancer", {1: _several("ingress", _INGRESS)})}),
}
_ADDRESS: Final[_Schema] = {
    1: _text_field("ip", keep=True),
    2: _one("targetRef", _REFERENCE),
    3: _text_field("hostname"),
    4: _text_field("nodeName", keep=True),
}
_CORE_PORT: Final[_Schema] = {
    1: _text_field("name"),
    2: _int_field("port", keep=True),
    3: _text_field("protocol"),
    4: _text_field("appProtocol", keep=True),
}
_SUBSET: Final[_Schema] = {
    1: _several("addresses", _ADDRESS),
    2: _several("notReadyAddresses", _ADDRESS),
    3: _several("ports", _CORE_PORT),
}
_NODE: Final[_Schema] = {
    1: _one("metadata", _META),
    3: _one("status", {5: _several("addresses", {1: _text_field("type"), 2: _text_field("address")})}),
}
_ENDPOINTS: Final[_Schema] = {1: _one("metadata", _META), 2: _several("subsets", _SUBSET)}

# The two kinds of EndpointPort number protocol and port the other way round.
_SLICE_PORT: Final[_Schema] = {
    1: _text_field("name", keep=True),
    2: _text_field("protocol", keep=True),
    3: _int_field("port", keep=True),
    4: _text_field("appProtocol", keep=True),
}
_CONDITIONS: Final[_Schema] = {
    1: _bool_field("ready", keep=True),
    2: _bool_field("serving", keep=True),
    3: _bool_field("terminating", keep=True),
}
_FOR: Final[_Schema] = {1: _text_field("name", keep=True)}
_HINTS: Final[_Schema] = {1: _several("forZones", _FOR), 2: _several("forNodes", _FOR)}
_ENDPOINT_COMMON: Final[_Schema] = {
    1: _text_field("addresses", many=True),
    2: _one("conditions", _CONDITIONS),
    3: _text_field("hostname", keep=True),
    4: _one("targetRef", _REFERENCE),
    6: _text_field("nodeName", keep=True),
}
# Field 7 is the zone in v1 and the hints in v1beta1, and both are written alike.
_ENDPOINT_V1: Final[_Schema] = {
    **_ENDPOINT_COMMON,
    5: _Field("deprecatedTopology", "map"),
    7: _text_field("zone", keep=True),
    8: _one("hints", _HINTS),
}
_ENDPOINT_V1BETA1: Final[_Schema] = {**_ENDPOINT_COMMON, 5: _Field("topology", "map"), 7: _one("hints", _HINTS)}


def _slice(endpoint: _Schema) -> _Schema:
    return {
        1: _one("metadata", _META),
        2: _several("endpoints", endpoint),
        3: _several("ports", _SLICE_PORT),
        4: _text_field("addressType", keep=True),
    }


_SCHEMAS: Final[Mapping[tuple[str, str], _Schema]] = {
    ("v1", "Service"): _SERVICE,
    ("v1", "Endpoints"): _ENDPOINTS,
    ("v1", "Node"): _NODE,
    ("discovery.k8s.io/v1", "EndpointSlice"): _slice(_ENDPOINT_V1),
    ("discovery.k8s.io/v1beta1", "EndpointSlice"): _slice(_ENDPOINT_V1BETA1),
}
_NULL_WHEN_EMPTY: Final = {"EndpointSlice": ("endpoints", "ports")}
"""What the API tells as null when there is none of it."""
_ANYTHING: Final[_Schema] = {1: _one("metadata", _META)}
"""Every kind has its metadata in field 1."""
