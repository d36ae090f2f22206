"""The etcd3 package (0.12.0), made importable beside any protobuf from 3.20 to 7, and as a carrier for `EtcdRegistry`.

Its messages were generated for protobuf 3, whose successors refuse such modules ("Descriptors cannot be created
directly"). `install()` puts a finder in front of the import system that makes the same three modules out of the
descriptors in them: in a pool of their own, so that packages which bring the same files (aetcd, etcd-sdk-python) stay
usable beside it, and without environment variables, which would slow down every user of protobuf in the process.
"""

from __future__ import annotations

import ast
import base64
import json
import queue
import ssl
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module, metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import httpx

from consul_access.errors import InvalidSettings
from consul_access.etcd.messages import METHODS, Method, documents, http_status

__all__ = ["Etcd3Transport", "install"]

VERSION: Final = "0.12.0"
_PACKAGE: Final = "etcd3.etcdrpc"
_FILES: Final = ("kv", "auth", "rpc")
"""In the order in which they need each other."""
_MODULES: Final = {f"{_PACKAGE}.{name}_pb2": name for name in _FILES}


# --- importing it -------------------------------------------------------------------------------------------


def install() -> bool:
    """Makes `import etcd3` work, whatever protobuf is installed. It has to be called before that import.

    Returns:
        Whether etcd3 is imported in this way from now on; False when there is nothing to do, since it was imported
        already, or is another version, whose messages may be others.

    Raises:
        InvalidSettings: there is no etcd3 package.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return True
    try:
        version = metadata.version("etcd3")
    except metadata.PackageNotFoundError:
        raise InvalidSettings("there is no etcd3 package: pip install consul-access[etcd3]") from None
    if version != VERSION or any(name in sys.modules for name in _MODULES):
        return False
    sys.meta_path.insert(0, _Finder())
    return True


class _Finder(MetaPathFinder):
    """Finds the three modules of messages, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = _MODULES.get(fullname)
        if name is None:
            return None
        found = PathFinder.find_spec(fullname, path, target)
        origin = None if found is None else found.origin
        return ModuleSpec(fullname, _Messages(name), origin=origin)


class _Messages(Loader):
    """Makes a module of messages.

    Args:
        name: of the file: `kv`, `auth` or `rpc`.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002
        return None

    def exec_module(self, module: ModuleType) -> None:
        pool, message_class = _pool()
        wrapper: Callable[[Any], object] = import_module("google.protobuf.internal.enum_type_wrapper").EnumTypeWrapper
        file = pool.FindFileByName(f"{self._name}.proto")
        names = vars(module)
        names["DESCRIPTOR"] = file
        for name, message in file.message_types_by_name.items():
            names[name] = message_class(message)
        for name, enum in file.enum_types_by_name.items():
            names[name] = wrapper(enum)
            names |= {value.name: value.number for value in enum.values}


@cache
def _pool() -> tuple[Any, Callable[[Any], type[Any]]]:
    """A pool with the three files, and what makes classes of their messages."""
    pool = import_module("google.protobuf.descriptor_pool").DescriptorPool()
    for name in _FILES:
        pool.AddSerializedFile(_installed(name) or _own(name))
    factory = import_module("google.protobuf.message_factory")
    if hasattr(factory, "GetMessageClass"):
        return pool, factory.GetMessageClass
    return pool, factory.MessageFactory(pool).GetPrototype  # before protobuf 4.22


def _installed(name: str) -> bytes | None:
    """The descriptor in the source of the installed package; None when that cannot be read."""
    package = find_spec("etcd3")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        source = Path(folder) / "etcdrpc" / f"{name}_pb2.py"
        if source.is_file():
            return _descriptor(source.read_text("utf-8"))
    return None


def _descriptor(source: str) -> bytes | None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb" and isinstance(node.value, ast.Call):
            (literal,) = node.value.args
            if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                return literal.value.encode("latin-1")
    return None


def _own(name: str) -> bytes:
    from consul_access.compat.descriptors import FILES

    return zlib.decompress(base64.b64decode(FILES[name]))


# --- carrying with it ---------------------------------------------------------------------------------------


_UNAVAILABLE, _DEADLINE, _CANCELLED = 14, 4, 1
_NOT_CONNECTED: Final = ("failed to connect", "connection refused", "no route", "dns resolution", "name resolution")
_TLS: Final = ("ssl", "handshake", "certificate")
_TICK = 0.5
"""Seconds after which a quiet watch says a blank line, so that whoever reads it can also end."""
_QUIET = 4.0
"""Seconds after which the member of a quiet watch is asked whether it is still there."""
_ANSWER_SECONDS = 2.0


class Etcd3Transport(httpx.BaseTransport):
    """Carries the calls of `EtcdRegistry` over the gRPC channel of an etcd3 client, instead of etcd's JSON gateway.

    For clusters whose gateway is off, or which know their users by the CommonName of their certificates. It is for the
    face for threads. Failover and TLS are those of the channel. The client is not closed with it.

        consul_access.compat.etcd3.install()
        client = etcd3.client(host, 2379, ca_cert=..., cert_key=..., cert_cert=...)
        etcd = EtcdRegistry(host, 2379, transport=Etcd3Transport(client))

    Args:
        client: what `etcd3.client(...)` has made.

    Raises:
        InvalidSettings: it is something else.
    """

    def __init__(self, client: object) -> None:
        channel = getattr(client, "channel", None)
        if not hasattr(channel, "unary_unary"):
            raise InvalidSettings(f"client={client!r} has no gRPC channel: give what etcd3.client(...) has made")
        self._client: Any = client
        self._channel: Any = channel
        self._grpc = import_module("grpc")
        self._json = import_module("google.protobuf.json_format")
        self._messages = import_module(f"{_PACKAGE}.rpc_pb2")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request of the gateway over gRPC, and answers as the gateway does."""
        method = METHODS.get(request.url.path)
        if method is None:
            return _refusal(12, f"{request.url.path} is not carried over gRPC")
        try:
            sent = [self._message(method, body) for body in documents(request.read())]
        except (ValueError, self._json.ParseError) as error:
            return _refusal(3, str(error))
        try:
            return self._send(method, sent, request)
        except self._grpc.RpcError as error:
            return self._failed(error)
        except ValueError as error:  # the channel is closed
            raise httpx.ConnectError(str(error)) from error

    def _message(self, method: Method, body: dict[str, Any]) -> object:
        kind = getattr(self._messages, f"{method.message}Request")
        return self._json.ParseDict(body, kind(), ignore_unknown_fields=True)

    def _send(self, method: Method, sent: list[Any], request: httpx.Request) -> httpx.Response:
        answer = getattr(self._messages, f"{method.message}Response")
        make = self._channel.stream_stream if method.many else self._channel.unary_unary
        call = make(
            method.path,
            request_serializer=type(sent[0]).SerializeToString,
            response_deserializer=answer.FromString,
        )
        pairs = self._pairs(request)
        if method.goes_on:
            stream = call(iter(sent), metadata=pairs)
            return httpx.Response(200, stream=_Watch(self, stream, pairs))
        timeout = request.extensions.get("timeout", {}).get("read")
        if not method.many:
            return httpx.Response(200, json=self._told(call(sent[0], timeout=timeout, metadata=pairs)))
        stream = call(iter(sent), timeout=timeout, metadata=pairs)
        try:
            return httpx.Response(200, json={"result": self._told(next(stream))})
        finally:
            stream.cancel()

    def _pairs(self, request: httpx.Request) -> tuple[tuple[str, str], ...]:
        """The headers that mean something to etcd, as gRPC's metadata."""
        token = request.headers.get("authorization")
        pairs = (("token", token),) if token else tuple(self._client.metadata or ())
        return (*pairs, ("hasleader", "true")) if request.headers.get("grpc-metadata-hasleader") else pairs

    def _told(self, message: object) -> dict[str, Any]:
        found: dict[str, Any] = self._json.MessageToDict(message, preserving_proto_field_name=True)
        return found

    def _failed(self, error: Any) -> httpx.Response:
        """The gateway's answer to an error of etcd's; raises what httpx would for one of the connection's."""
        code, text = int(error.code().value[0]), str(error.details() or "")
        folded = text.lower()
        if code == _UNAVAILABLE and "etcdserver" not in folded:
            if any(word in folded for word in _TLS):
                raise httpx.ConnectError(text) from ssl.SSLError(text)
            if any(words in folded for words in _NOT_CONNECTED):
                raise httpx.ConnectError(text) from error
            raise httpx.ReadError(text) from error
        if code == _DEADLINE and "context" not in folded:  # our own deadline, not the server's
            raise httpx.ReadTimeout(text) from error
        if code == _CANCELLED:
            raise httpx.ReadError(text) from error
        return _refusal(code, text)

    def is_alive(self, pairs: tuple[tuple[str, str], ...]) -> bool:
        """Whether the member answers."""
        kind = self._messages.StatusRequest
        call = self._channel.unary_unary(
            "/etcdserverpb.Maintenance/Status",
            request_serializer=kind.SerializeToString,
            response_deserializer=self._messages.StatusResponse.FromString,
        )
        try:
            call(kind(), timeout=_ANSWER_SECONDS, metadata=pairs)
        except (self._grpc.RpcError, ValueError):
            return False
        return True


class _Watch(httpx.SyncByteStream):
    """A watch as the gateway's lines.

    Args:
        transport: what it belongs to.
        stream: gRPC's answers.
        pairs: the metadata it was opened with.
    """

    def __init__(self, transport: Etcd3Transport, stream: Any, pairs: tuple[tuple[str, str], ...]) -> None:
        self._transport = transport
        self._stream = stream
        self._pairs = pairs
        self._lines: queue.SimpleQueue[bytes | httpx.TransportError] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="consul-access etcd3 watch", daemon=True).start()

    def _read(self) -> None:
        try:
            for answer in self._stream:
                told = self._transport._told(answer)  # noqa: SLF001 - both belong together
                self._lines.put(json.dumps({"result": told}).encode() + b"\n")
            self._lines.put(b"")
        except Exception as error:  # noqa: BLE001 - it is handed over, not swallowed
            self._lines.put(self._ended(error))

    def _ended(self, error: Exception) -> bytes | httpx.TransportError:
        """The line by which the gateway tells etcd's errors, or what httpx would raise for others."""
        try:
            refusal = self._transport._failed(error)  # noqa: SLF001
        except httpx.TransportError as raised:
            return raised
        except Exception as unknown:  # noqa: BLE001 - whatever it is, the watch goes on elsewhere
            return httpx.ReadError(repr(unknown))
        return json.dumps({"error": refusal.json()}).encode() + b"\n"

    def __iter__(self) -> Iterator[bytes]:
        heard = time.monotonic()
        while True:
            try:
                line = self._lines.get(timeout=_TICK)
            except queue.Empty:
                if time.monotonic() - heard > _QUIET:
                    if not self._transport.is_alive(self._pairs):
                        raise httpx.ReadTimeout("the member says nothing any more") from None
                    heard = time.monotonic()
                yield b"\n"
                continue
            if isinstance(line, httpx.TransportError):
                raise line
            if not line:
                return
            heard = time.monotonic()
            yield line

    def close(self) -> None:
        """Ends it."""
        self._stream.cancel()


def _refusal(code: int, text: str) -> httpx.Response:
    return httpx.Response(http_status(code), json={"code": code, "message": text})
