"""A forked child has connections of its own; it disturbs nobody's."""

from __future__ import annotations

import os

from consul_access import EtcdRegistry


def test_a_forked_child_opens_connections_of_its_own(any_etcd):
    with EtcdRegistry(any_etcd.host, any_etcd.port) as etcd:
        etcd.put("a", "1")
        child = os.fork()
        if child == 0:
            try:
                value, _ = etcd.get("a")
                os._exit(0 if value == b"1" else 1)
            finally:
                os._exit(2)
        assert etcd.get("a")[0] == b"1"
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        etcd.put("a", "2")
        assert etcd.get("a")[0] == b"2"
