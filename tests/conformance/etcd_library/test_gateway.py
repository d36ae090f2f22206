"""See `tests/live/test_etcd_gateway.py`."""

from tests.live.test_etcd_gateway import *  # noqa: F403
