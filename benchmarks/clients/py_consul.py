"""py-consul, both faces, and python-consul2, which has the same module name and the same methods."""

from __future__ import annotations

import asyncio

from benchmarks.clients.measuring import Tasks, Threads


def py_consul(host: str, port: int) -> Threads:
    import consul

    client = consul.Consul(host=host, port=port)
    service = client.agent.service
    check = consul.Check.ttl("600s")
    return Threads({
        "resolve": lambda name: client.health.service(name, passing=True),
        "services": lambda _: client.catalog.services(),
        "register": lambda service_id: service.register("stormy", service_id=service_id, port=8080, check=check),
        "deregister": service.deregister,
    })  # fmt: skip


def py_consul_async(host: str, port: int) -> Tasks:
    import consul
    import consul.aio

    loop = asyncio.new_event_loop()

    async def made() -> consul.aio.Consul:
        return consul.aio.Consul(host=host, port=port)

    client = loop.run_until_complete(made())
    service = client.agent.service
    check = consul.Check.ttl("600s")
    return Tasks({
        "resolve": lambda name: client.health.service(name, passing=True),
        "services": lambda _: client.catalog.services(),
        "register": lambda service_id: service.register("stormy", service_id=service_id, port=8080, check=check),
        "deregister": service.deregister,
    }, loop)  # fmt: skip


CLIENTS = {"py-consul": py_consul, "py-consul-async": py_consul_async, "python-consul2": py_consul}
