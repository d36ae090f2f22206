"""Ports of the loopback interface that nobody uses right now."""

from __future__ import annotations

from consul_access.testing.real.process import free_ports

__all__ = ["free_ports"]
