"""Finds the service at etcd and calls it: each line of input is one call, to one instance after the other.

    python client.py [--etcd=HOST:PORT ...]

The list of instances is followed by one watch, so a call asks nobody, and goes on while etcd is away.
"""

from __future__ import annotations

import argparse
import sys
import urllib.request

from consul_access import ConsulAccessError, EtcdRegistry


def main() -> int:
    """Calls until the input ends; gives the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--etcd", action="append", metavar="HOST:PORT", help="a member; ETCDCTL_ENDPOINTS by default")
    given = options.parse_args()

    try:
        with EtcdRegistry(endpoints=given.etcd) as etcd, etcd.resolver("hello", balancer="round_robin") as hello:
            hello.wait_ready(timeout=30)
            for _ in sys.stdin:
                instance = hello.pick()
                with urllib.request.urlopen(f"http://{instance.address}/", timeout=5) as answer:
                    print(f"{instance.address}: {answer.read().decode().strip()}", flush=True)
    except (ConsulAccessError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
