"""Users, over gRPC: the stories of tests/live/test_etcd_login.py."""

from tests.live.test_etcd_login import *  # noqa: F403
