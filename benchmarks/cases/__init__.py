"""What is measured, in the order of the page."""

from __future__ import annotations

from benchmarks.cases import (
    balancing,
    callers,
    catalog,
    connections,
    etcd,
    keeping,
    lookup,
    memory,
    picking,
    propagation,
    rereading,
    retrying,
    starting,
    storm,
    testing_kit,
    watches,
)

__all__ = ["CASES"]

CASES = (
    lookup.CASE,
    callers.CASE,
    catalog.CASE,
    connections.CASE,
    starting.CASE,
    retrying.CASE,
    picking.CASE,
    memory.CASE,
    rereading.CASE,
    propagation.CASE,
    watches.CASE,
    balancing.CASE,
    keeping.CASE,
    storm.CASE,
    etcd.CASE,
    testing_kit.CASE,
)
