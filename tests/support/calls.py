"""Calls that the library has no method for."""

from __future__ import annotations

from consul_access import Call, Repeat

COMPARE_AND_SET: Call[str] = Call(
    name="test.cas",
    method="PUT",
    path="/v1/kv/x",
    query=(("cas", "0"),),
    body=b"1",
    repeat=Repeat.NEVER,
    read=lambda reply: reply.text,
)
"""A write that must not be sent twice when its outcome is not known."""
