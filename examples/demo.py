"""The story of `make demo`, at a real Consul agent of its own: `python examples/demo.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from consul_access.testing import ConsulAgent
from consul_access.testing.demo.story import tell
from tools import servers

if __name__ == "__main__":
    with ConsulAgent(servers.consul()) as agent:
        tell(agent.address)
