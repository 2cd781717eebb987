"""
The sample app of `beaconhq demo`: one route of each kind that a FastAPI app has.

Owns the app only; the SDK is added to it exactly as the README's quickstart does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, AsyncIterator, Dict

from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse

from beaconhq import BeaconASGIMiddleware

if TYPE_CHECKING:
    from beaconhq import BeaconClient

#: The header that names the caller.
CONSUMER_HEADER = "x-api-key"

_ROWS_PER_EXPORT = 5


class ReportError(RuntimeError):
    """What `/reports/{report_id}` raises on purpose."""


def create_demo_app(beacon: BeaconClient) -> FastAPI:
    """Build the app: a router with a prefix, a mounted sub-app, a stream and an endpoint that raises."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(BeaconASGIMiddleware, client=beacon, consumer_header=CONSUMER_HEADER)
    app.include_router(_orders, prefix="/api/v1")
    app.mount("/shop", _shop)
    app.add_api_route("/exports/{year}", _export)
    app.add_api_route("/reports/{report_id}", _report)
    return app


_orders = APIRouter()
_shop = FastAPI(openapi_url=None)


@_orders.get("/orders")
async def _list_orders() -> Dict[str, str]:
    await _work(12)
    return {"orders": "many"}


@_orders.get("/orders/{order_id}")
async def _read_order(order_id: int) -> Dict[str, int]:
    await _work(order_id % 10)
    return {"order": order_id}


@_orders.post("/orders", status_code=201)
async def _create_order() -> Dict[str, str]:
    await _work(20)
    return {"order": "new"}


@_shop.get("/products/{product_id}")
async def _read_product(product_id: int) -> Dict[str, int]:
    await _work(product_id % 5)
    return {"product": product_id}


async def _export(year: int) -> StreamingResponse:
    return StreamingResponse(_rows(year), media_type="text/csv")


async def _rows(year: int) -> AsyncIterator[str]:
    for row in range(_ROWS_PER_EXPORT):
        await _work(8)
        yield f"{year},{row}\n"


async def _report(report_id: int) -> None:
    raise ReportError(f"report {report_id} has no data")


async def _work(milliseconds: int) -> None:
    await asyncio.sleep(milliseconds / 1000)
