from tests.live.test_etcd_finding import *  # noqa: F403
