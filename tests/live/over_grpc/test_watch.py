"""Watches whose members die, freeze and lose each other, over gRPC: the stories of tests/live/test_etcd_watch.py."""

from tests.live.test_etcd_watch import *  # noqa: F403
