"""discovery-client, with aiohttp as it comes."""

from __future__ import annotations

import asyncio

from benchmarks.clients.measuring import Tasks


def discovery_client(host: str, port: int) -> Tasks:
    from discovery.client import Consul
    from discovery.engine.aiohttp import AIOHTTPEngine

    client = Consul(AIOHTTPEngine(host, port))

    def definition(service_id: str) -> dict[str, object]:
        return {"Name": "stormy", "ID": service_id, "Port": 8080, "Check": {"TTL": "600s"}}

    return Tasks({
        "resolve": lambda name: client.health.service_instances(name, passing=True),
        "services": lambda _: client.catalog.list_services(),
        "register": lambda service_id: client.services.register(definition(service_id)),
        "deregister": client.services.deregister,
    }, asyncio.new_event_loop())  # fmt: skip


CLIENTS = {"discovery-client": discovery_client}
