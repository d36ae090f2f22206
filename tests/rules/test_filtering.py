"""Which instances a health policy keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.models.instance import Standing, standing_of
from consul_access.models.status import CheckStatus, HealthPolicy
from consul_access.rules.filtering import admits, asked_of_agent

PASSING, WARNING, CRITICAL, MAINTENANCE = CheckStatus
CHECKS = st.lists(st.tuples(st.sampled_from(CheckStatus), st.booleans()), max_size=5)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (HealthPolicy.PASSING, {PASSING}),
        (HealthPolicy.PASSING_OR_WARNING, {PASSING, WARNING}),
        (HealthPolicy.ANY, set(CheckStatus)),
        (HealthPolicy.SERVICE_CHECKS_ONLY, set(CheckStatus)),
    ],
)
def test_a_policy_keeps_these_states_of_the_whole(policy: HealthPolicy, kept: set[CheckStatus]) -> None:
    assert {status for status in CheckStatus if admits(policy, Standing(status, PASSING))} == kept


def test_only_service_checks_count_where_the_policy_says_so() -> None:
    kept = {status for status in CheckStatus if admits(HealthPolicy.SERVICE_CHECKS_ONLY, Standing(PASSING, status))}

    assert kept == {PASSING}


def test_a_node_under_maintenance_is_left_out_whatever_the_policy_but_any() -> None:
    standing = standing_of([(MAINTENANCE, False), (PASSING, True)])

    assert [policy for policy in HealthPolicy if admits(policy, standing)] == [HealthPolicy.ANY]


@given(CHECKS)
def test_a_stricter_policy_never_keeps_more(checks: list[tuple[CheckStatus, bool]]) -> None:
    standing = standing_of(checks)

    assert admits(HealthPolicy.ANY, standing)
    if admits(HealthPolicy.PASSING, standing):
        assert admits(HealthPolicy.PASSING_OR_WARNING, standing)
        assert admits(HealthPolicy.SERVICE_CHECKS_ONLY, standing)


def test_agents_are_asked_for_what_they_can_tell_and_else_for_everything() -> None:
    assert asked_of_agent(HealthPolicy.SERVICE_CHECKS_ONLY) is HealthPolicy.ANY
    for policy in (HealthPolicy.PASSING, HealthPolicy.PASSING_OR_WARNING, HealthPolicy.ANY):
        assert asked_of_agent(policy) is policy
