"""A member of etcd that speaks gRPC, well or badly: each call meets the next step of a script."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError

from consul_access.etcd.messages import framed
from tests.support.listening import Listening
from tests.support.scripted2 import frame

ANSWERED = ((":status", "200"), ("content-type", "application/grpc"))


@dataclass
class Called:
    """One call: what it says, and the means to answer it."""

    connection: Connection
    number: int
    headers: dict[str, str]
    body: bytes = b""
    on: int = 0
    """Which connection it came over, counted from 1."""
    has_begun: bool = field(default=False, init=False)

    @property
    def path(self) -> str:
        return self.headers[":path"]

    def begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self.connection.machine.send_headers(self.number, ANSWERED)

    def message(self, message: bytes) -> None:
        self.begin()
        self.connection.machine.send_data(self.number, framed(message))

    def end(self, code: int = 0, text: str = "") -> None:
        trailers = (("grpc-status", str(code)), ("grpc-message", text))
        told = trailers if self.has_begun else (*ANSWERED, *trailers)
        self.connection.machine.send_headers(self.number, told, end_stream=True)


Step: TypeAlias = Callable[[Called], None]


def answered(message: bytes) -> Step:
    """The message, and that all is well."""

    def step(called: Called) -> None:
        called.message(message)
        called.end()

    return step


def refused(code: int, text: str) -> Step:
    """What etcd answers instead."""
    return lambda called: called.end(code, text)


def unseen(called: Called) -> None:
    """The call was not looked at."""
    called.connection.machine.reset_stream(called.number, ErrorCodes.REFUSED_STREAM)


def leaving(called: Called) -> None:
    """Neither was this one, and there will be no others on this connection."""
    called.connection.raw(frame(7, 0, 0, struct.pack(">II", max(0, called.number - 2), 0)))
    raise EOFError


def given_up(called: Called) -> None:
    """The call is given up after it was looked at."""
    called.connection.machine.reset_stream(called.number, ErrorCodes.CANCEL)


def hung_up(called: Called) -> None:
    """The connection ends."""
    raise EOFError


def cut_off(message: bytes) -> Step:
    """It ends in the middle of the answer."""

    def step(called: Called) -> None:
        called.begin()
        called.connection.machine.send_data(called.number, framed(message)[:-1])
        called.connection.flush()
        raise EOFError

    return step


def never(called: Called) -> None:
    """No answer at all."""


def noise(data: bytes) -> Step:
    """These bytes, which are no frames."""
    return lambda called: called.connection.raw(data)


def proxied(status: int, body: bytes) -> Step:
    """What something in between answers."""

    def step(called: Called) -> None:
        called.connection.machine.send_headers(called.number, ((":status", str(status)), ("content-type", "text/html")))
        called.connection.machine.send_data(called.number, body, end_stream=True)

    return step


class Connection:
    """One connection of a client."""

    def __init__(self, server: GrpcServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self.machine = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.calls: dict[int, Called] = {}

    def flush(self) -> None:
        data = self.machine.data_to_send()
        if data:
            self.sock.sendall(data)

    def raw(self, data: bytes) -> None:
        """Bytes as they are, beside all rules."""
        self.flush()
        self.sock.sendall(data)

    def serve(self) -> None:
        self.machine.initiate_connection()
        self.flush()
        while data := self.sock.recv(65536):
            for event in self.machine.receive_data(data):
                self._happened(event)
            self.flush()

    def _happened(self, event: object) -> None:
        match event:
            case RequestReceived():
                self.calls[event.stream_id] = Called(self, event.stream_id, dict(event.headers), on=self.number)
            case DataReceived():
                called = self.calls[event.stream_id]
                called.body += event.data
                self.machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if called.path.endswith("/Watch"):  # it goes on, on both sides
                    self.server.meet(called)
            case StreamEnded():
                self.server.meet(self.calls.pop(event.stream_id))


class GrpcServer(Listening):
    """The member; it lives as long as its block.

    Args:
        steps: what the calls meet, one after the other; the last of them all further ones.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = list(steps)
        self.calls: list[Called] = []
        self._open: list[socket.socket] = []
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        self._listen(listener)

    def meet(self, called: Called) -> None:
        self.calls.append(called)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        step(called)

    def _serve(self, sock: socket.socket, number: int) -> None:
        self._open.append(sock)
        with sock, contextlib.suppress(OSError, EOFError, ProtocolError):  # a client may go away at any moment
            Connection(self, sock, number).serve()

    def _hang_up(self) -> None:
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
