"""The time stamp in a check's output, and what readers make of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import Check, Reaped
from consul_access.rules.heartbeats import MISSED, heartbeat_of, is_too_old, reapable, stamped

MOMENT = 1_795_570_200.25
moments = st.floats(0, 4e9)


def check(output, service_id="orders-1"):
    return Check.model_validate(
        {
            "CheckID": f"service:{service_id}",
            "Status": "passing",
            "Output": output,
            "ServiceID": service_id,
            "ServiceName": "orders",
            "Node": "consul-access",
        }
    )


def test_a_stamp_can_be_read_by_people():
    assert stamped(MOMENT, 10.0) == "heartbeat 2026-11-25T01:30:00.250Z, every 10 s"
    assert stamped(MOMENT, 1 / 3, "fine\nindeed") == "heartbeat 2026-11-25T01:30:00.250Z, every 0.333 s\nfine\nindeed"


@given(moments, st.floats(0.001, 1e6), st.text())
def test_what_is_stamped_is_read_again(now, every, output):
    beat = heartbeat_of(stamped(now, every, output))
    assert beat is not None
    assert now - 0.0011 <= beat.at <= now + 0.0001
    assert abs(beat.every - every) < 0.001


@given(st.text())
def test_no_output_breaks_the_reader(output):
    heartbeat_of(output)
    heartbeat_of("heartbeat " + output)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "TTL expired",
        "heartbeat",
        "heartbeat 2026-02-31T01:30:00.250Z, every 10 s",
        "heartbeat 2026-11-25T01:30:00.250Z, every day",
        "heartbeat 2026-11-25T01:30:00.250Z, every 10 sheep",
        " heartbeat 2026-11-25T01:30:00.250Z, every 10 s",
        "heartbeat ٢٠٢٦-11-25T01:30:00.250Z, every 10 s",
    ],
)
def test_what_is_no_stamp_is_none(output):
    assert heartbeat_of(output) is None
    assert not is_too_old([check(output)], 1e12, 1.0)


@given(moments, st.floats(0.1, 1e6), st.floats(-1e6, 1e6))
def test_an_instance_is_too_old_when_its_latest_heartbeat_is(now, max_age, age):
    checks = [check(stamped(max(0.0, now - age), 10.0)), check("of no interest")]
    seen = now - heartbeat_of(checks[0].output).at
    assert is_too_old(checks, now, max_age) == (seen > max_age)
    assert not is_too_old([*checks, check(stamped(now, 10.0))], now, max_age)


@given(moments, st.floats(0, 1e6))
def test_a_stamp_from_the_future_is_fresh(now, ahead):
    assert not is_too_old([check(stamped(now + ahead, 10.0))], now, 0.01)


def test_what_has_not_been_heard_of_is_reaped_and_nothing_else():
    checks = [
        check(stamped(MOMENT - 601, 10.0), "dead"),
        check(stamped(MOMENT - 599, 10.0), "alive"),
        check(stamped(MOMENT - 700, 300.0), "slow"),
        check("TTL expired", "foreign"),
        check(stamped(MOMENT - 700, 10.0), ""),
        check(stamped(MOMENT - 700, 10.0), "twice"),
        check(stamped(MOMENT - 1, 10.0), "twice"),
    ]
    (found,) = reapable(checks, MOMENT, 600.0)
    assert isinstance(found, Reaped)
    assert (found.id, found.service, found.node) == ("dead", "orders", "consul-access")
    assert found.last_heartbeat == datetime.fromtimestamp(MOMENT - 601, UTC)
    assert found.age == 601


@given(moments, st.floats(0.1, 1e4), st.floats(0, 1e5), st.floats(0, 1e5))
def test_nothing_is_reaped_before_it_missed_three_heartbeats(now, every, age, older_than):
    for found in reapable([check(stamped(max(0.0, now - age), every))], now, older_than):
        assert found.age > older_than
        assert found.age > MISSED * every - 0.01
