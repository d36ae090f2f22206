"""What holds over the gateway holds over the channel of an etcd3 client: the same stories, told by another carrier."""

from __future__ import annotations

from tests.live import test_etcd_keys as keys
from tests.live import test_etcd_kubernetes as kubernetes
from tests.live import test_etcd_watch as watches

STORIES = (
    keys.test_a_key_ends_with_its_lease,
    keys.test_a_lease_that_nobody_keeps_alive_ends,
    keys.test_a_prefix_is_read_and_deleted_in_order,
    keys.test_any_bytes_can_be_keys_and_values,
    keys.test_any_other_call_can_be_sent,
    keys.test_e10_refused,
    keys.test_keys_are_written_read_replaced_and_deleted,
    keys.test_keys_of_kubernetes_are_not_written_by_mistake,
    keys.test_settings_can_be_given_whole,
    keys.test_several_operations_are_one_step,
    keys.test_the_cluster_tells_about_itself,
    keys.test_the_past_can_be_read_until_it_is_compacted,
    keys.test_values_of_1_4_mb,
    kubernetes.test_changes_are_told_as_whole_snapshots,
    kubernetes.test_the_instances_of_a_service_are_those_that_kubernetes_calls_ready,
    watches.test_a_key_is_watched_alone_and_the_past_can_be_told,
    watches.test_a_watch_without_a_block_begins_with_the_first_event,
    watches.test_compaction_does_not_disturb_a_watch_that_is_up_to_date,
    watches.test_compaction_of_what_was_not_told_is_a_resync,
    watches.test_events_are_told_as_they_happen,
)

globals().update({story.__name__: story for story in STORIES})  # pytest looks for names
