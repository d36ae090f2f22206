from tests.live.test_etcd_registry import *  # noqa: F403
