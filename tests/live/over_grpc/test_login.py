from tests.live.test_etcd_login import *  # noqa: F403
