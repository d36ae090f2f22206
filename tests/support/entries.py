"""Health entries made by hand, for the tests of rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from consul_access import Check, CheckStatus, HealthEntry, Node, Weights
from consul_access.models.catalog import PortEntry, Service

REPORTED = {CheckStatus.MAINTENANCE: CheckStatus.CRITICAL}
"""How agents report what we call maintenance."""


def check(
    status: CheckStatus | str = "passing", *, own: bool = True, name: str = "", output: str = "", of: str = "web-1"
) -> Check:
    """A check; one under maintenance has the id that agents reserve for it."""
    status = CheckStatus(status)
    if status is CheckStatus.MAINTENANCE:
        name = f"_service_maintenance:{of}" if own else "_node_maintenance"
    return Check(
        id=name or (f"service:{of}" if own else "disk"),
        name=name or ("own check" if own else "disk check"),
        status=REPORTED.get(status, status),
        output=output,
        notes="new disk" if status is CheckStatus.MAINTENANCE else "",
        service_id=of if own else "",
    )


def entry(
    name: str = "web-1",
    *,
    service: str = "web",
    node: str = "n1",
    address: str = "10.0.0.5",
    node_address: str = "10.0.0.1",
    node_meta: Mapping[str, str] | None = None,
    port: int = 80,
    ports: Iterable[PortEntry] = (),
    tags: Iterable[str] = (),
    meta: Mapping[str, str] | None = None,
    weights: Weights | None = None,
    checks: Iterable[Check] = (),
    serf: CheckStatus | str | None = "passing",
) -> HealthEntry:
    """An instance; its node has an agent that is alive unless `serf` says otherwise."""
    alive = [] if serf is None else [check(serf, own=False, name="serfHealth", output="Agent not live or unreachable")]
    return HealthEntry(
        node=Node(name=node, address=node_address, datacenter="dc1", meta=dict(node_meta or {})),
        service=Service(
            id=name,
            name=service,
            address=address,
            port=port,
            ports=tuple(ports),
            tags=tuple(tags),
            meta=dict(meta or {}),
            weights=weights or Weights(),
        ),
        checks=(*alive, *checks),
    )


def entries() -> st.SearchStrategy[list[HealthEntry]]:
    """Up to four instances with up to three checks each."""
    checks = st.lists(
        st.builds(
            check,
            st.sampled_from(CheckStatus),
            own=st.booleans(),
            output=st.sampled_from(["", "TTL expired", "a\nb", "x" * 500]),
        ),
        max_size=3,
    )
    made = st.lists(st.tuples(checks, st.sampled_from(["passing", "critical", None])), max_size=4)
    return made.map(
        lambda all_: [entry(f"web-{number}", checks=own, serf=serf) for number, (own, serf) in enumerate(all_)]
    )
