"""Tells the story without the command line's extra: `python -m consul_access.testing.demo [--address ADDR]`."""

from __future__ import annotations

import argparse
import sys

from consul_access.errors import ConsulAccessError
from consul_access.testing.demo.story import DemoFailed, tell


def main() -> int:
    """Tells it; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m consul_access.testing.demo", description=tell.__doc__)
    parser.add_argument("--address", help="a real agent, as HOST:PORT or URL, instead of one made of memory")
    try:
        tell(parser.parse_args().address)
    except (ConsulAccessError, DemoFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
