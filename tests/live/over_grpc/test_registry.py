"""Registrations that outlive their process's freezing, others' meddling, and members that die, over gRPC."""

from tests.live.test_etcd_registry import (  # noqa: F401 - told here as well
    cluster,
    test_a_key_that_others_have_touched_is_ours_again,
    test_a_member_that_is_frozen_is_left,
    test_a_store_that_was_lost_empties_no_list_and_keepers_fill_it_again,
    test_a_thousand_registrations_in_one_process,
    test_e06_a_quorum_that_is_lost_is_flagged_and_everything_is_there_when_it_is_back,
    test_e07_a_frozen_process_is_registered_again_when_it_goes_on,
    test_heartbeats_keep_it_for_longer_than_its_lease_and_write_nothing,
    test_it_can_begin_while_etcd_is_away,
    test_members_and_leaders_that_are_killed_are_not_noticed,
    test_n07_what_a_resolver_told_is_what_was_in_the_store,
    test_one_key_an_instance_under_its_own_lease_with_a_schema,
    test_several_formats_are_written_in_one_step_and_end_together,
    told,
)
