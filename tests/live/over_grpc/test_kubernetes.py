from tests.live.test_etcd_kubernetes import *  # noqa: F403
