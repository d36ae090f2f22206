"""See `tests/live/test_etcd_watch.py`; what takes a cluster is not here, as a fake is one member."""

from tests.live.test_etcd_watch import (  # noqa: F401
    test_a_key_is_watched_alone_and_the_past_can_be_told,
    test_a_watch_beyond_ones_rights_says_so,
    test_a_watch_that_is_left_half_way_leaves_no_connection,
    test_a_watch_without_a_block_begins_with_the_first_event,
    test_closing_the_client_ends_its_watches,
    test_compaction_does_not_disturb_a_watch_that_is_up_to_date,
    test_compaction_of_what_was_not_told_is_a_resync,
    test_e09_large_values_and_many_events_of_one_revision,
    test_events_are_told_as_they_happen,
    test_several_ranges_share_a_stream,
    test_watches_never_starve_calls,
    test_what_was_deleted_at_the_revision_of_a_compaction_is_not_lost,
    test_what_was_not_handed_out_yet_comes_again_in_another_watch,
)
