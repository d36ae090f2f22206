"""Finds the real servers that tests, demo and benchmarks run against, and fetches them where a machine has none.

How is said in `consul_access.testing.real.binaries`.

    python -m tools.servers consul        prints the path of a Consul 1.8 binary
    python -m tools.servers etcd          prints the path of an etcd 3.4 binary
    python -m tools.servers etcd-newer    prints the path of an etcd 3.5 binary, whose gateway is that of 3.6
    python -m tools.servers prometheus    prints the path of a Prometheus binary, for `make screenshots`
"""

from __future__ import annotations

import sys
from pathlib import Path

from consul_access.testing.real.binaries import CONSUL, ETCD, Package, ServerMissing, find

ETCD_NEWER = Package("etcd-server", "trixie", "usr/bin/etcd", "ETCD_NEWER_BIN", any_version=False)
PROMETHEUS = Package("prometheus", "bookworm", "usr/bin/prometheus", "PROMETHEUS_BIN")


def consul() -> Path:
    """A Consul agent."""
    return find(CONSUL, fetch=True)


def etcd() -> Path:
    """An etcd server."""
    return find(ETCD, fetch=True)


def etcd_newer() -> Path:
    """An etcd server with the gateway of 3.6."""
    return find(ETCD_NEWER, fetch=True)


def prometheus() -> Path:
    """A Prometheus server."""
    return find(PROMETHEUS, fetch=True)


if __name__ == "__main__":
    known = {"consul": CONSUL, "etcd": ETCD, "etcd-newer": ETCD_NEWER, "prometheus": PROMETHEUS}
    if len(sys.argv) != 2 or sys.argv[1] not in known:
        sys.exit(__doc__)
    try:
        print(find(known[sys.argv[1]], fetch=True))
    except ServerMissing as error:
        sys.exit(f"{error}")
