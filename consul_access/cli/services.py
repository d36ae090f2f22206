"""`consul-access services`: the names of all services."""

from __future__ import annotations

from consul_access.cli.connection import Datacenter, HttpAddr, TokenFile, opened
from consul_access.cli.output import Json, print_json, print_table

__all__ = ["services"]


def services(
    http_addr: HttpAddr = None, token_file: TokenFile = None, datacenter: Datacenter = None, json: Json = False
) -> None:
    """Lists all services, with the tags that their instances carry."""
    with opened(http_addr, token_file, datacenter) as access:
        found = dict(sorted(access.services().items()))
    if json:
        print_json({name: sorted(tags) for name, tags in found.items()})
    else:
        print_table(("NAME", "TAGS"), [(name, ", ".join(sorted(tags))) for name, tags in found.items()])
