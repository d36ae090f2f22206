"""The calls of `/v1/acl` that ask nothing of anybody: whether access is controlled."""

from __future__ import annotations

import pytest

from consul_access.call import Headers, Repeat, Reply
from consul_access.consul import acl, agent


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"AccessorID": "x", "SecretID": "secret"}', True),
        (403, b"ACL not found", True),
        (403, b"Permission denied", True),
        (401, b"ACL support disabled", False),
        (401, b"who are you?", None),
        (404, b"", None),
    ],
)
def test_whether_access_is_controlled_shows_in_how_a_token_is_told_about_itself(status, body, expected):
    call = acl.in_force()
    assert (call.method, call.target_path, call.repeat) == ("GET", "/v1/acl/token/self", Repeat.READ)
    assert status in call.statuses
    assert call.read(Reply(status, Headers(), body)) is expected


@pytest.mark.parametrize(
    ("narrowed", "query"),
    [
        ({}, ()),
        ({"service_id": "web-1"}, (("filter", 'ServiceID == "web-1"'),)),
        ({"service_name": "web"}, (("filter", 'ServiceName == "web"'),)),
        (
            {"service_id": "web-1", "service_name": "web"},
            (("filter", 'ServiceID == "web-1" and ServiceName == "web"'),),
        ),
    ],
)
def test_an_agents_checks_can_be_narrowed_to_a_service(narrowed, query):
    assert agent.checks(**narrowed).query == query
