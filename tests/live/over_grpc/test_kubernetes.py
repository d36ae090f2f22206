"""Kubernetes' services, over gRPC: the stories of tests/live/test_etcd_kubernetes.py."""

from tests.live.test_etcd_kubernetes import *  # noqa: F403
