"""A token is in its header and nowhere else: not in an error, a log, a repr, nor in what error trackers collect."""

from __future__ import annotations

import json
import logging
import traceback

import pytest

from consul_access import ConsulAccessError, RetryPolicy
from tests.support.scripted import answer, drip_headers, endless, garbage, never, reset, truncate

TOKEN = "canary-4b1d9e07"
PASSWORD = "canary-77aa10c2"
WAYS_TO_FAIL = {
    "reset": reset(),
    "cut off": truncate(b"[1]"),
    "silence": never(),
    "dripping headers": drip_headers(0.02),
    "not HTTP": garbage(b"SSH-2.0-OpenSSH\r\n"),
    "not JSON": answer(body=b"<html>"),
    "a redirect": answer(302, headers={"Location": "http://elsewhere.example/"}),
    "forbidden": answer(403, b"Permission denied"),
    "unknown token": answer(403, b"ACL not found"),
    "no leader": answer(500, b"No cluster leader"),
    "too large": endless(40 * 1024 * 1024),
}


def collected(error: BaseException | None) -> str:
    """What an error tracker sends to its server: every error on the way, and the local variables of every frame."""
    found = []
    while error is not None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = [frame for frame in told.stack if "/tests/" not in frame.filename]  # those have the secret themselves
        assert frames
        found += [str(error), repr(error), repr(vars(error)), *(f"{frame.name} {frame.locals}" for frame in frames)]
        error = error.__cause__ or error.__context__
    return "\n".join(found)


@pytest.mark.parametrize("step", WAYS_TO_FAIL.values(), ids=WAYS_TO_FAIL)
def test_no_error_shows_the_token_even_with_local_variables(face, scripted, caplog, step):
    server = scripted([step])
    caplog.set_level(logging.DEBUG)
    told = []

    async def story():
        async with face.access(url=server.url, token=TOKEN, timeout=0.2, retry=RetryPolicy(base=0.01)) as access:
            for call in (access.instances, access.health, access.deregister_service):
                try:
                    await call("orders")
                except ConsulAccessError as error:
                    told.append(collected(error))
            told.append(repr(access))

    face.run(story)
    assert len(told) == 4 or step is WAYS_TO_FAIL["not JSON"]  # a deregistration reads no answer
    assert any(request.headers["x-consul-token"] == TOKEN for request in server.requests)
    assert TOKEN not in "\n".join(told) + caplog.text


@pytest.mark.parametrize("step", WAYS_TO_FAIL.values(), ids=WAYS_TO_FAIL)
def test_no_error_shows_a_password_or_what_it_was_exchanged_for(face, scripted, caplog, step):
    logged_in = answer(body=json.dumps({"token": TOKEN}).encode())
    server = scripted([logged_in, step, logged_in, step])
    caplog.set_level(logging.DEBUG)
    told = []

    async def story():
        given = {"user": "ann", "password": PASSWORD, "timeout": 0.2, "retry": RetryPolicy(base=0.01)}
        async with face.etcd("127.0.0.1", server.port, **given) as client:
            for _ in range(2):
                try:
                    await client.get("a")
                except ConsulAccessError as error:
                    told.append(collected(error))
            told.append(repr(client))

    face.run(story)
    assert len(told) > 1
    assert any(TOKEN in request.headers.get("authorization", "") for request in server.requests)
    for secret in (TOKEN, PASSWORD):
        assert secret not in "\n".join(told) + caplog.text
