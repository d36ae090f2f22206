"""Services that are waited for, listed and explained, over gRPC: the stories of tests/live/test_etcd_finding.py."""

from tests.live.test_etcd_finding import *  # noqa: F403
