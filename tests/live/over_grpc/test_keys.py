"""Keys, leases and transactions, over gRPC: the stories of tests/live/test_etcd_keys.py."""

from tests.live.test_etcd_keys import *  # noqa: F403
