"""A FastAPI service that registers itself: orders, of which it knows three.

    pip install consul-access fastapi uvicorn
    PORT=8081 python orders.py          # or: PORT=8081 uvicorn orders:app --port 8081

It is registered when the application has started, and out of every look-up before uvicorn closes its port.
"""

from __future__ import annotations

import os

import uvicorn
from fastapi import FastAPI, HTTPException
from starlette.routing import Route

from consul_access import HttpCheck
from consul_access.integrations.asgi import HealthRoute, lifespan

PORT = int(os.environ.get("PORT", "8081"))
HOST = os.environ.get("HOST", "0.0.0.0")  # noqa: S104 - others have to reach it
ORDERS = {1: "three apples", 2: "a pear", 3: "five plums"}


def stock() -> str | None:
    """A check of the service's own: `/health` answers 503 when it raises, and callers are sent elsewhere."""
    if not ORDERS:
        raise RuntimeError("nothing is in stock")
    return None


app = FastAPI(
    title="orders",
    routes=[Route("/health", HealthRoute({"stock": stock}))],
    lifespan=lifespan("orders", port=PORT, check=HttpCheck(path="/health", interval="2s", timeout="1s"), tags=["v1"]),
)


@app.get("/orders/{number}")
async def order(number: int) -> dict[str, str | int]:
    """One order, and which process has told it."""
    if number not in ORDERS:
        raise HTTPException(404, f"there is no order {number}")
    return {"number": number, "order": ORDERS[number], "told_by": os.getpid()}


if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=PORT)
