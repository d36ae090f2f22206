"""`consul-access instances NAME`: the instances of a service, with their checks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from consul_access.cli.connection import Datacenter, HttpAddr, Policy, Tags, TokenFile, named, opened, query
from consul_access.cli.output import Json, print_json, print_table, say

if TYPE_CHECKING:
    from consul_access import Entries, HealthEntry

__all__ = ["instances"]

COLUMNS = ("ID", "ADDRESS", "STATUS", "NODE", "CHECKS", "AGE")


def instances(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The service.", show_default=False, autocompletion=named)],
    *,
    policy: Policy = "passing",
    tags: Tags = None,
    cached: Annotated[bool, typer.Option("--cached", help="Lets the agent answer from its cache.")] = False,
    http_addr: HttpAddr = None,
    token_file: TokenFile = None,
    datacenter: Datacenter = None,
    json: Json = False,
) -> None:
    """Lists the instances of a service.

    Those that pass all checks, unless --policy says otherwise. AGE is how old the answer is: 0 s unless it comes from
    the agent's cache.
    """
    narrowed = query(policy, tags)
    if cached:
        narrowed["cached"] = True
    with opened(http_addr, token_file, datacenter) as access:
        found = access.health(name, **narrowed)
    if not found:
        say(f"no instance of {name!r} with policy {policy!r}; --policy any shows all that are registered")
    if json:
        print_json([_record(entry, _age(found)) for entry in found])
    else:
        print_table(COLUMNS, [_row(entry, _age(found)) for entry in found])


def _age(found: Entries[HealthEntry]) -> float:
    return found.meta.age or found.meta.last_contact or 0.0


def _row(entry: HealthEntry, age: float) -> tuple[str, ...]:
    counted = Counter(check.effective_status.value for check in entry.checks)
    checks = ", ".join(f"{number} {status}" for status, number in sorted(counted.items()))
    return entry.service.id, _address(entry) or "", entry.status.value, entry.node.name, checks, f"{age:g}s"


def _address(entry: HealthEntry) -> str | None:
    from consul_access import Address

    return str(Address(entry.host, entry.effective_port)) if entry.host and entry.effective_port else None


def _record(entry: HealthEntry, age: float) -> dict[str, object]:
    return {
        "id": entry.service.id,
        "service": entry.service.name,
        "address": _address(entry),
        "host": entry.host or None,
        "port": entry.effective_port or None,
        "status": entry.status.value,
        "node": entry.node.name,
        "datacenter": entry.node.datacenter,
        "tags": list(entry.service.tags),
        "meta": entry.service.meta,
        "checks": [
            {"id": check.id, "name": check.name, "status": check.effective_status.value, "output": check.output}
            for check in entry.checks
        ],
        "age": age,
    }
