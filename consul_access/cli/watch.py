"""`consul-access watch NAME...`: the instances of services, as they change."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from consul_access.cli.connection import Datacenter, HttpAddr, Policy, Tags, TokenFile, named, opened, query
from consul_access.cli.output import Json, print_json, print_line, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from consul_access import ServiceInstance, ServiceSnapshot

__all__ = ["watch"]

COLUMNS = ("SERVICE", "ID", "ADDRESS", "STATUS", "NODE", "AGE")


def watch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="The services.", show_default=False, autocompletion=named)
    ],
    *,
    policy: Policy = "passing",
    tags: Tags = None,
    http_addr: HttpAddr = None,
    token_file: TokenFile = None,
    datacenter: Datacenter = None,
    json: Json = False,
) -> None:
    """Shows the instances of services as they change, until Ctrl-C.

    At a terminal it is a table; otherwise a line for each change: + has come, - is gone, ~ is different, and ! or *
    when Consul cannot confirm the list any more, or can again. With --json it is a JSON document in each line.
    """
    with opened(http_addr, token_file, datacenter) as access:
        for name in names:
            access.instances(name, **query(policy, tags))  # says at once what the watch would patiently wait for
        snapshots = access.watch(names, **query(policy, tags))
        if json:
            for snapshot in snapshots:
                print_json(_record(snapshot), lines=True)
        elif sys.stdout.isatty():
            _live(snapshots)
        else:
            _lines(snapshots)


def _lines(snapshots: Iterable[ServiceSnapshot]) -> None:
    stale: set[str] = set()
    for snapshot in snapshots:
        for line in _changes(snapshot, was_stale=snapshot.service in stale):
            print_line(line)
        sys.stdout.flush()
        (stale.add if snapshot.is_stale else stale.discard)(snapshot.service)


def _changes(snapshot: ServiceSnapshot, *, was_stale: bool) -> Iterator[str]:
    for sign, changed in (
        ("+", snapshot.diff.added),
        ("-", snapshot.diff.removed),
        ("~", [change.after for change in snapshot.diff.changed]),
    ):
        for instance in changed:
            place = _address(instance) or "-"
            yield f"{sign} {snapshot.service} {instance.id} {place} {instance.status.value} {instance.node or '-'}"
    if snapshot.is_stale and not was_stale:
        yield f"! {snapshot.service} {snapshot.reason}"
    if was_stale and not snapshot.is_stale:
        yield f"* {snapshot.service}"


def _live(snapshots: Iterable[ServiceSnapshot]) -> None:
    from rich.console import Console
    from rich.live import Live

    known: dict[str, ServiceSnapshot] = {}
    with Live(console=Console(highlight=False), refresh_per_second=1, get_renderable=lambda: _page(known)) as live:
        for snapshot in snapshots:
            known[snapshot.service] = snapshot
            live.refresh()


def _page(known: dict[str, ServiceSnapshot]) -> RenderableType:
    now = time.monotonic()
    rows = []
    for name, snapshot in sorted(known.items()):
        age = f"{snapshot.at(now).age:.0f}s" if snapshot.is_stale else "live"
        rows += [(name, each.id, _address(each) or "", each.status.value, each.node, age) for each in snapshot] or [
            (name, "", "", "", "", age)
        ]
    return table(COLUMNS, rows)


def _address(instance: ServiceInstance) -> str | None:
    return str(instance.address) if instance.is_callable else None


def _record(snapshot: ServiceSnapshot) -> dict[str, object]:
    return {
        "service": snapshot.service,
        "index": snapshot.index,
        "age": round(snapshot.age, 3),
        "source": snapshot.source,
        "stale_since": snapshot.stale_since.isoformat() if snapshot.stale_since is not None else None,
        "reason": snapshot.reason,
        "instances": [_instance(instance) for instance in snapshot],
        "added": [instance.id for instance in snapshot.diff.added],
        "removed": [instance.id for instance in snapshot.diff.removed],
        "changed": [change.after.id for change in snapshot.diff.changed],
    }


def _instance(instance: ServiceInstance) -> dict[str, object]:
    return {
        "id": instance.id,
        "address": _address(instance),
        "host": instance.host or None,
        "port": instance.port or None,
        "status": instance.status.value,
        "node": instance.node,
        "datacenter": instance.datacenter,
        "tags": list(instance.tags),
        "meta": instance.meta,
    }
