"""Finds testservice at Consul, calls it, and prints what it says.

    python requestservice.py [--consulip=HOST:PORT]

It may be started first: it waits until an instance is there and passes its check, and says what it is waiting for.
"""

from __future__ import annotations

import argparse
import sys

import httpx

from consul_access import ConsulAccess, ConsulAccessError, DiscoveryTransport, Progress


def tell(progress: Progress) -> None:
    """Says how far it is."""
    print(progress, file=sys.stderr)


def main() -> int:
    """Prints the greeting; gives the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--consulip", metavar="HOST:PORT", help="the agent; CONSUL_HTTP_ADDR, else 127.0.0.1:8500")
    options.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="to wait at most; 30 by default"
    )
    given = options.parse_args()

    with (
        ConsulAccess(addresses=given.consulip and [given.consulip]) as access,
        httpx.Client(transport=DiscoveryTransport(access)) as client,
    ):
        try:
            access.wait_for("testservice", timeout=given.timeout, on_progress=tell)
            response = client.get("http://testservice/")  # one healthy instance, another one if that fails
        except (ConsulAccessError, httpx.HTTPError) as error:
            print(error, file=sys.stderr)
            return 1
    print(response.text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
