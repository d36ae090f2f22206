"""A port read from what listens at it."""

from __future__ import annotations

import asyncio
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from consul_access import InvalidInput
from consul_access.models.listening import listening_at


def test_a_bound_socket():
    with socket.create_server(("127.0.0.1", 0)) as bound:
        assert listening_at(bound) == bound.getsockname()


def test_an_ipv6_socket():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as bound:
        assert listening_at(bound) == ("::1", bound.getsockname()[1])


def test_a_server_of_the_standard_library():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        assert listening_at(server) == server.server_address


def test_a_server_of_asyncio():
    async def story():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        assert listening_at(server) == server.sockets[0].getsockname()
        server.close()
        with pytest.raises(InvalidInput):
            listening_at(server)

    asyncio.run(story())


def test_what_listens_at_no_port_is_refused():
    with socket.socket() as unbound, socket.socket(socket.AF_UNIX) as unix:
        for wrong in (unbound, unix, object(), [80]):
            with pytest.raises(InvalidInput, match="listens at no port"):
                listening_at(wrong)
