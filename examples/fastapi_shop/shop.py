"""A FastAPI service that calls another one by its name, `http://orders/...`, wherever its instances are just now.

    pip install consul-access[prometheus] fastapi uvicorn
    PORT=8082 python shop.py

The list of instances is followed in the background: no request asks Consul, and requests go on while Consul is away.
An instance that fails is left out, and a GET that met it is repeated at another one. All of it is measured: Prometheus
finds `/metrics`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, TypedDict

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from prometheus_client import make_asgi_app
from starlette.routing import Mount, Route

from consul_access import AsyncConsulAccess, AsyncDiscoveryTransport, AsyncResolver, HttpCheck
from consul_access.integrations.asgi import HealthRoute, lifespan
from consul_access.integrations.prometheus import Metrics

PORT = int(os.environ.get("PORT", "8082"))
HOST = os.environ.get("HOST", "0.0.0.0")  # noqa: S104 - others have to reach it

access = AsyncConsulAccess()  # one for the whole program; nothing is sent before it is used
Metrics().observe(access)


class State(TypedDict):
    """What requests need."""

    client: httpx.AsyncClient
    orders: AsyncResolver


@contextlib.asynccontextmanager
async def own(_app: FastAPI) -> AsyncIterator[State]:
    """What the application needs for as long as it runs; the shop is registered within it."""
    async with (
        access,
        httpx.AsyncClient(transport=AsyncDiscoveryTransport(access), timeout=5.0) as client,
        access.resolver("orders") as orders,
    ):
        yield {"client": client, "orders": orders}


app = FastAPI(
    title="shop",
    routes=[Route("/health", HealthRoute()), Mount("/metrics", make_asgi_app())],
    lifespan=lifespan(
        "shop", port=PORT, within=own, access=access, check=HttpCheck(path="/health", interval="2s", timeout="1s")
    ),
)


@app.get("/")
async def window(request: Request) -> dict[str, Any]:
    """What can be bought, and from whom: the resolver's list, as it is now."""
    return {"orders_at": [str(instance.address) for instance in request.state.orders.instances()]}


@app.get("/buy/{number}")
async def buy(request: Request, number: int) -> dict[str, Any]:
    """Asks one instance of orders; the failures of all that were tried are in the error."""
    try:
        answer = await request.state.client.get(f"http://orders/orders/{number}")
    except httpx.TransportError as error:
        raise HTTPException(503, str(error)) from error
    if answer.status_code == 404:
        raise HTTPException(404, answer.json()["detail"])
    return {"bought": answer.json()["order"], "from": str(answer.extensions["instance"].address)}


if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=PORT)
