"""What etcd's refusals mean: both generations of its gateway, and whoever answers in its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import errors
from consul_access.errors import ConsulAccessError
from consul_access.etcd.texts import fault, meaning

OLDER = '{{"error":"{text}","message":"{text}","code":{code}}}'
NEWER = '{{"code":{code}, "message":"{text}"}}'
OLDER_STREAM = '{{"error":{{"grpc_code":{code},"http_code":503,"message":"{text}","http_status":"x"}}}}'
NEWER_STREAM = '{{"error":{{"code":{code},"message":"{text}"}}}}'
SHAPES = [OLDER, NEWER, OLDER_STREAM, NEWER_STREAM]

# text, code, status at the older gateway, status at the newer one, error, whether it may have been applied
TOLD = [
    ("etcdserver: requested lease not found", 5, 404, 404, errors.UnknownLease, False),
    ("etcdserver: lease already exists", 9, 412, 400, errors.RequestRefused, False),
    ("etcdserver: mvcc: required revision has been compacted", 11, 400, 400, errors.Compacted, False),
    ("etcdserver: mvcc: required revision is a future revision", 11, 400, 400, errors.InvalidRequest, False),
    ("etcdserver: mvcc: database space exceeded", 8, 429, 429, errors.ResourceExhausted, False),
    ("etcdserver: request is too large", 3, 400, 400, errors.ResourceExhausted, False),
    ("etcdserver: key is not provided", 3, 400, 400, errors.InvalidRequest, False),
    ("etcdserver: user name is empty", 3, 400, 400, errors.TokenUnknown, False),
    ("etcdserver: invalid auth token", 16, 401, 401, errors.TokenUnknown, False),
    ("etcdserver: revision of auth store is old", 3, 400, 400, errors.TokenUnknown, False),
    ("etcdserver: authentication failed, invalid user ID or password", 3, 400, 400, errors.AuthenticationFailed, False),
    ("etcdserver: permission denied", 7, 403, 403, errors.PermissionDenied, False),
    ("etcdserver: authentication is not enabled", 9, 412, 400, errors.FeatureDisabled, False),
    ("etcdserver: no leader", 14, 503, 503, errors.NoLeader, False),
    ("etcdserver: leader changed", 14, 503, 503, errors.NoLeader, True),
    ("etcdserver: request timed out", 14, 503, 503, errors.NoLeader, True),
    ("context deadline exceeded", 2, 500, 504, errors.NoLeader, True),
    ("etcdserver: too many requests", 8, 429, 429, errors.RateLimited, False),
    ("transport is closing", 14, 503, 503, errors.Unavailable, True),
    ("etcdserver: something of the year 2030", 13, 500, 500, errors.ServerError, True),
    ("remote error: tls: bad certificate", 14, 503, 503, errors.GatewayUnusable, False),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("told", TOLD, ids=lambda told: told[0])
def test_the_text_decides_whatever_the_shape_and_the_status(shape, told):
    text, code, older, newer, error, applied = told
    body = shape.format(text=text, code=code)
    json.loads(body)
    for status in (older, newer, 500):
        meant = meaning(status, body)
        assert (meant.error, meant.applied) == (error, applied)


def test_without_a_known_text_the_code_decides_and_without_a_code_the_status():
    assert meaning(500, '{"code":7,"message":"new words"}').error is errors.PermissionDenied
    assert meaning(403, '{"message":"new words"}').error is errors.PermissionDenied
    assert meaning(502, "<html>Bad Gateway</html>").error is errors.ServerError
    assert meaning(418, "a teapot").error is errors.RequestRefused


@pytest.mark.parametrize(
    ("status", "text", "advice"),
    [
        (
            400,
            "CommonName of client sending a request against gateway will be ignored and not used as expected",
            "client certificate without one",
        ),
        (404, "404 page not found\n", "--enable-grpc-gateway=true"),
        (421, "", "--host-whitelist"),
        (
            503,
            (
                '{"error":"all SubConns are in TransientFailure, latest connection error: connection error: desc = '
                '\\"transport: authentication handshake failed: remote error: tls: bad certificate\\"","code":14}'
            ),
            "clientAuth",
        ),
    ],
)
def test_a_gateway_that_cannot_be_used_says_what_to_change(status, text, advice):
    meant = meaning(status, text)
    assert meant.error is errors.GatewayUnusable
    assert advice in meant.advice


@pytest.mark.parametrize(
    "text",
    ["connection closed", "transport: failed to write client preface: write tcp", "error reading server preface"],
)
def test_a_gateway_without_a_way_to_its_server_may_come_back_and_says_what_to_change(text):
    meant = meaning(503, json.dumps({"code": 14, "message": text}))
    assert (meant.error, meant.applied) == (errors.Unavailable, True)
    assert "clientAuth" in meant.advice


def test_an_unknown_route_is_a_version_without_it():
    assert meaning(404, "Not Found\n").error is errors.FeatureDisabled


@given(st.integers(400, 599), st.text(max_size=300))
def test_every_answer_means_something(status: int, text: str):
    meant = meaning(status, text)
    assert issubclass(meant.error, ConsulAccessError)
    assert meant.message


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["error", "message", "code", "grpc_code"]), inner)
        ),
    )
)
def test_every_json_has_a_message_and_perhaps_a_code(found: object):
    message, code = fault(json.dumps(found))
    assert isinstance(message, str)
    assert code is None or isinstance(code, int)
