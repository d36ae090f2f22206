from tests.live.test_etcd_keys import *  # noqa: F403
