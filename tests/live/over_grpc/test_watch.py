from tests.live.test_etcd_watch import *  # noqa: F403
