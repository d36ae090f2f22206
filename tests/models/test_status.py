"""How checks add up, and which policies there are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.instance import check_status, standing_of
from consul_access.models.status import CheckStatus, HealthPolicy, aggregate, health_policy

PASSING, WARNING, CRITICAL, MAINTENANCE = CheckStatus
WORST_FIRST = [MAINTENANCE, CRITICAL, WARNING, PASSING]
STATUSES = st.sampled_from(CheckStatus)


def test_no_checks_at_all_count_as_passing() -> None:
    assert aggregate([]) is PASSING


@pytest.mark.parametrize(("worse", "better"), list(itertools.combinations(WORST_FIRST, 2)))
def test_the_worse_of_two_states_wins_in_either_order(worse: CheckStatus, better: CheckStatus) -> None:
    assert aggregate([worse, better]) is worse
    assert aggregate([better, worse]) is worse


@given(st.lists(STATUSES, min_size=1), STATUSES)
def test_a_further_check_never_makes_an_instance_better(statuses: list[CheckStatus], further: CheckStatus) -> None:
    before, after = aggregate(statuses), aggregate([*statuses, further])

    assert before in statuses
    assert WORST_FIRST.index(after) <= WORST_FIRST.index(before)


@pytest.mark.parametrize("check_id", ["_node_maintenance", "_service_maintenance:web-1", "_service_maintenance:"])
def test_maintenance_is_told_by_the_id_of_the_check(check_id: str) -> None:
    assert check_status(check_id, CRITICAL) is MAINTENANCE


@pytest.mark.parametrize(
    "check_id", ["", "serfHealth", "service:web-1", "_node_maintenance2", "x_service_maintenance:"]
)
def test_other_ids_leave_a_critical_check_critical(check_id: str) -> None:
    assert check_status(check_id, CRITICAL) is CRITICAL


def test_a_check_of_the_node_counts_for_the_whole_and_not_for_the_service_itself() -> None:
    standing = standing_of([(CRITICAL, False), (WARNING, True)])

    assert standing.overall is CRITICAL
    assert standing.own is WARNING


def test_a_node_under_maintenance_counts_for_the_service_itself_too() -> None:
    assert standing_of([(MAINTENANCE, False), (PASSING, True)]).own is MAINTENANCE


@pytest.mark.parametrize("policy", list(HealthPolicy))
def test_a_policy_can_be_given_by_name(policy: HealthPolicy) -> None:
    assert health_policy(policy.value) is policy
    assert health_policy(policy) is policy


@pytest.mark.parametrize("value", ["", "healthy", "PASSING", "passing ", None, 1, [], {}])
def test_an_unknown_policy_is_refused_and_the_known_ones_are_named(value: object) -> None:
    with pytest.raises(InvalidInput, match="'service_checks_only'"):
        health_policy(value)  # type: ignore[arg-type]
