"""What one writes with httpx alone: dictionaries, and no retries."""

from __future__ import annotations

import httpx

from benchmarks.clients.measuring import Tasks, Threads

CHECK = {"TTL": "600s"}


def path(service: str) -> str:
    return f"/v1/health/service/{service}"


def blocking(host: str, port: int) -> Threads:
    client = httpx.Client(base_url=f"http://{host}:{port}")

    def register(service_id: str) -> object:
        definition = {"Name": "stormy", "ID": service_id, "Port": 8080, "Check": CHECK}
        return client.put("/v1/agent/service/register", json=definition).raise_for_status()

    return Threads({
        "resolve": lambda service: client.get(path(service), params={"passing": "1"}).json(),
        "services": lambda _: client.get("/v1/catalog/services").json(),
        "register": register,
        "deregister": lambda service_id: client.put(f"/v1/agent/service/deregister/{service_id}").raise_for_status(),
    })  # fmt: skip


def awaited(host: str, port: int) -> Tasks:
    client = httpx.AsyncClient(base_url=f"http://{host}:{port}")

    async def resolve(service: str) -> object:
        return (await client.get(path(service), params={"passing": "1"})).json()

    async def services(_: str) -> object:
        return (await client.get("/v1/catalog/services")).json()

    return Tasks({"resolve": resolve, "services": services})


CLIENTS = {"httpx": blocking, "httpx-async": awaited}
