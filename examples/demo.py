"""The story of `make demo`, at a real Consul agent of its own: `python examples/demo.py`."""

from __future__ import annotations
