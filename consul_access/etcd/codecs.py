"""How an instance is written at etcd: key and value. One key is one instance.

`native` holds all that is known of an instance. The other formats are those of Go's gRPC resolver
(https://pkg.go.dev/go.etcd.io/etcd/client/v3/naming/endpoints) and of kratos (go-kratos/kratos, contrib/registry/etcd),
for services written with these; what they have no place for is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from pydantic_core import ValidationError, from_json, to_json

from consul_access.errors import BadValue, ConsulAccessError, InvalidInput, InvalidSettings
from consul_access.etcd.coding import MALFORMED
from consul_access.models.address import Address
from consul_access.models.instance import PortEntry, ServiceInstance, Standing
from consul_access.models.status import CheckStatus

if TYPE_CHECKING:
    from consul_access.models.definition import ServiceDefinition
    from consul_access.models.keys import KeyValue

__all__ = ["CODECS", "DEFAULT_PREFIX", "GoNaming", "Kratos", "Native", "ServiceCodec", "codec_named", "instance_of"]

SCHEMA: Final = 1
"""The version of `native` values. A reader leaves values of a later one out."""
DEFAULT_PREFIX: Final = "/consul-access/v1/services/"
_ESCAPED: Final = "%2F"
_DELETED: Final = 1


class ServiceCodec(Protocol):
    """One way to write instances."""

    prefix: str
    """Where they are unless another prefix is given; empty where the format has no such place."""

    def key(self, prefix: str, service: str, id: str) -> bytes:  # noqa: A002 - the registry's own word
        """The key of an instance.

        Raises:
            InvalidInput: the format has no such key.
        """
        ...

    def names(self, prefix: str, key: bytes) -> tuple[str, str] | None:
        """Service and id of a key; None for one that belongs to no instance."""
        ...

    def encode(self, definition: ServiceDefinition, status: CheckStatus, output: str, since: str) -> bytes | None:
        """The value of an instance; None when the format cannot say this status, so that there must be no key.

        Args:
            definition: the instance.
            status: how it is.
            output: what it says about that.
            since: when it was registered, as text.
        """
        ...

    def decode(self, value: bytes, service: str, id: str) -> Mapping[str, Any] | None:  # noqa: A002
        """A `ServiceInstance`'s fields; None for a value that stands for no instance.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: it is no value of this format.
        """
        ...


class Native:
    """This library's own format: `PREFIX NAME/ID`, and JSON with everything that is known."""

    prefix = DEFAULT_PREFIX

    def key(self, prefix: str, service: str, id: str) -> bytes:  # noqa: A002
        return f"{prefix}{_escaped(service)}/{_escaped(id)}".encode()

    def names(self, prefix: str, key: bytes) -> tuple[str, str] | None:
        found = _parts(prefix, key)
        return None if found is None else (_unescaped(found[0]), _unescaped(found[1]))

    def encode(self, definition: ServiceDefinition, status: CheckStatus, output: str, since: str) -> bytes | None:
        fields: dict[str, Any] = {
            "schema": SCHEMA,
            "id": definition.id,
            "name": definition.name,
            "address": definition.address or "",
            "port": definition.port or 0,
            "ports": dict(definition.ports),
            "tags": list(definition.tags),
            "meta": dict(definition.meta),
            "registered_at": since,
        }
        if definition.weights is not None:
            fields["weights"] = {"passing": definition.weights.passing, "warning": definition.weights.warning}
        if status is not CheckStatus.PASSING or output:
            fields["health"] = {"status": status.value, "output": output}
        return to_json(fields)

    def decode(self, value: bytes, service: str, id: str) -> Mapping[str, Any] | None:  # noqa: A002
        found = _object(value)
        schema = found.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise ValueError("it names no schema")
        if schema > SCHEMA:
            raise ValueError(f"it is of schema {schema}, and this version reads {SCHEMA}: update the library")
        if (found["name"], found["id"]) != (service, id):
            raise ValueError(f"it speaks of {found['id']!r} of {found['name']!r}")
        weights = found.get("weights", {})
        health = found.get("health", {})
        status = CheckStatus(health.get("status", "passing"))
        return {
            "service_address": found["address"],
            "service_port": found.get("port", 0),
            "port_entries": tuple(
                PortEntry(port=port, name=name, default=not place)
                for place, (name, port) in enumerate(found.get("ports", {}).items())
            ),
            "tags": tuple(found.get("tags", ())),
            "meta": found.get("meta", {}),
            "passing_weight": weights.get("passing", 1),
            "warning_weight": weights.get("warning", 1),
            "standing": Standing(status, status),
        }


class GoNaming:
    """The format of Go's gRPC resolver: a program that dials `etcd:///PREFIX NAME` finds the instances.

    It holds an address, and the meta as `Metadata`. An instance that does not pass has no key.
    """

    prefix = ""

    def key(self, prefix: str, service: str, id: str) -> bytes:  # noqa: A002
        return _plain_key(prefix, service, id, "go_naming")

    def names(self, prefix: str, key: bytes) -> tuple[str, str] | None:
        return _parts(prefix, key)

    def encode(self, definition: ServiceDefinition, status: CheckStatus, output: str, since: str) -> bytes | None:  # noqa: ARG002
        if status is not CheckStatus.PASSING:
            return None
        return to_json({"Op": 0, "Addr": str(_only_address(definition)), "Metadata": dict(definition.meta) or None})

    def decode(self, value: bytes, service: str, id: str) -> Mapping[str, Any] | None:  # noqa: A002, ARG002
        found = _object(value)
        if found.get("Op", 0) == _DELETED:
            return None
        host, port = _split(found["Addr"])
        metadata = found.get("Metadata")
        meta = metadata if isinstance(metadata, dict) else {}
        return {
            "service_address": host,
            "service_port": port,
            "meta": {key: one for key, one in meta.items() if isinstance(one, str)},
        }


class Kratos:
    """The format of kratos: `PREFIX NAME/ID`, and JSON with URLs.

    The port is the one of the URL whose scheme is `http`, further ones are named by theirs. Tags and weights have no
    place there. An instance that does not pass has no key.
    """

    prefix = "/microservices/"

    def key(self, prefix: str, service: str, id: str) -> bytes:  # noqa: A002
        return _plain_key(prefix, service, id, "kratos")

    def names(self, prefix: str, key: bytes) -> tuple[str, str] | None:
        return _parts(prefix, key)

    def encode(self, definition: ServiceDefinition, status: CheckStatus, output: str, since: str) -> bytes | None:  # noqa: ARG002
        if status is not CheckStatus.PASSING:
            return None
        first = _only_address(definition)
        urls = [f"{name}://{Address(first.host, port)}?isSecure=false" for name, port in definition.ports.items()]
        return to_json(
            {
                "id": definition.id,
                "name": definition.name,
                "version": definition.meta.get("version", ""),
                "metadata": dict(definition.meta),
                "endpoints": urls or [f"http://{first}?isSecure=false"],
            }
        )

    def decode(self, value: bytes, service: str, id: str) -> Mapping[str, Any] | None:  # noqa: A002, ARG002
        found = _object(value)
        places = [urlsplit(url) for url in found["endpoints"]]
        first = next((place for place in places if place.scheme == "http"), places[0])
        version = found.get("version")
        return {
            "service_address": first.hostname or "",
            "service_port": first.port or 0,
            "port_entries": tuple(
                PortEntry(port=place.port or 0, name=place.scheme, default=place is first) for place in places
            ),
            "meta": (found.get("metadata") or {}) | ({"version": version} if version else {}),
        }


CODECS: Final[Mapping[str, ServiceCodec]] = {"native": Native(), "go_naming": GoNaming(), "kratos": Kratos()}
"""The formats, by name."""


def codec_named(name: str) -> ServiceCodec:
    """The format of that name.

    Raises:
        InvalidSettings: there is none.
    """
    if name not in CODECS:
        raise InvalidSettings(f"codec={name!r} is unknown: write one of {', '.join(map(repr, CODECS))}")
    return CODECS[name]


def instance_of(codec: ServiceCodec, prefix: str, item: KeyValue) -> ServiceInstance | None:
    """The instance that a key and its value stand for; None when they stand for none.

    Raises:
        BadValue: they should, and cannot be read.
    """
    names = codec.names(prefix, item.key)
    if names is None:
        return None
    service, id = names  # noqa: A001 - the registry's own word
    try:
        fields = codec.decode(item.value, service, id)
        if fields is None:
            return None
        return ServiceInstance(id=id, service=service, modify_index=item.metadata.mod_revision, **fields)
    except (ValidationError, ConsulAccessError, *MALFORMED) as error:
        reason = _said(error)
        raise BadValue(f"the value of {item.key.decode('utf-8', 'backslashreplace')!r} is no instance: {reason}") from (
            error
        )


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _object(value: bytes) -> dict[str, Any]:
    found = from_json(value)
    if not isinstance(found, dict):
        raise TypeError("it is no JSON object")
    return found


def _parts(prefix: str, key: bytes) -> tuple[str, str] | None:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    service, slash, id = text.removeprefix(prefix).rpartition("/")  # noqa: A001
    return (service, id) if text.startswith(prefix) and slash and service and id else None


def _plain_key(prefix: str, service: str, id: str, codec: str) -> bytes:  # noqa: A002
    for what, value in (("name", service), ("id", id)):
        if "/" in value:
            raise InvalidInput(f"{what}={value!r} holds a '/', which parts name and id in the keys of {codec!r}")
    return f"{prefix}{service}/{id}".encode()


def _escaped(text: str) -> str:
    return text.replace("/", _ESCAPED)  # '%' itself is in no name and in no id


def _unescaped(text: str) -> str:
    return text.replace(_ESCAPED, "/")


def _only_address(definition: ServiceDefinition) -> Address:
    port = definition.port or next(iter(definition.ports.values()), None)
    if definition.address is None or port is None:
        raise InvalidInput(f"{definition.id!r} needs an address and a port: this format holds nothing else")
    return Address(definition.address, port)


def _split(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        raise ValueError(f"{text!r} is no host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
