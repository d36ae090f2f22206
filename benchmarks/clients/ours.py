"""This library, both faces."""

from __future__ import annotations

from benchmarks.clients.measuring import Tasks, Threads


def ours(host: str, port: int) -> Threads:
    from consul_access import ConsulAccess, TtlCheck

    access, check = ConsulAccess(host, port), TtlCheck(600)
    return Threads({
        "resolve": access.instances,
        "services": lambda _: access.services(),
        "register": lambda service_id: access.register_service("stormy", port=8080, id=service_id, check=check),
        "deregister": access.deregister_service,
    })  # fmt: skip


def ours_async(host: str, port: int) -> Tasks:
    from consul_access import AsyncConsulAccess, TtlCheck

    access, check = AsyncConsulAccess(host, port), TtlCheck(600)
    return Tasks({
        "resolve": access.instances,
        "services": lambda _: access.services(),
        "register": lambda service_id: access.register_service("stormy", port=8080, id=service_id, check=check),
        "deregister": access.deregister_service,
    })  # fmt: skip


CLIENTS = {"ours": ours, "ours-async": ours_async}
