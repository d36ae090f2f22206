"""The calls of `/v1/acl` that ask nothing of anybody: whether access is controlled."""

from __future__ import annotations

import pytest

from consul_access.call import Headers, Repeat, Reply
from consul_access.consul import acl, agent
from consul_access.errors import BadAnswer
from consul_access.models.rights import Right


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


RIGHTS = (Right("service", "write", "orders"), Right("node", "read"))


def test_what_a_token_may_do_is_told_right_by_right():
    call = acl.granted(RIGHTS)
    assert (call.method, call.target_path, call.repeat) == ("POST", "/v1/internal/acl/authorize", Repeat.READ)
    answer = b'[{"Resource": "service", "Allow": true}, {"Resource": "node", "Allow": false}]'
    assert call.read(Reply(200, Headers(), answer)) == {RIGHTS[0]: True, RIGHTS[1]: False}
    assert [str(right) for right in RIGHTS] == ["service:write of 'orders'", "node:read"]


@pytest.mark.parametrize(("status", "body"), [(401, b"ACL support disabled"), (404, b""), (405, b"")])
def test_an_agent_need_not_tell_what_a_token_may_do(status, body):
    call = acl.granted(RIGHTS)
    assert status in call.statuses
    assert call.read(Reply(status, Headers(), body)) is None


def test_an_answer_about_other_rights_is_not_believed():
    with pytest.raises(BadAnswer):
        acl.granted(RIGHTS).read(Reply(200, Headers(), b'[{"Resource": "service", "Allow": true}]'))
