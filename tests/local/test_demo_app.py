from __future__ import annotations

import contextlib
from typing import AsyncIterator

import httpx
import pytest

from beaconhq import BeaconClient, MockTransport
from beaconhq.local.demo_app import create_demo_app


@contextlib.asynccontextmanager
async def visiting(transport: MockTransport) -> AsyncIterator[httpx.AsyncClient]:
    beacon = BeaconClient("key", transport=transport, register_atexit=False)
    app = httpx.ASGITransport(create_demo_app(beacon), raise_app_exceptions=False)
    async with beacon, httpx.AsyncClient(transport=app, base_url="http://app") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("GET", "/api/v1/orders", 200, "/api/v1/orders"),
        ("POST", "/api/v1/orders", 201, "/api/v1/orders"),
        ("GET", "/api/v1/orders/7", 200, "/api/v1/orders/{order_id}"),
        ("GET", "/api/v1/orders/x", 422, "/api/v1/orders/{order_id}"),
        ("GET", "/shop/products/3", 200, "/shop/products/{product_id}"),
        ("GET", "/exports/2026", 200, "/exports/{year}"),
        ("GET", "/reports/1", 500, "/reports/{report_id}"),
        ("GET", "/wp-login.php", 404, "(unmatched)"),
    ],
)
async def test_each_kind_of_route_is_one_event(method: str, path: str, status: int, route: str) -> None:
    transport = MockTransport()
    async with visiting(transport) as client:
        answer = await client.request(method, path, headers={"x-api-key": "web-shop"})
    assert answer.status_code == status
    (event,) = transport.sent_events
    assert (event["method"], event["route"], event["path"]) == (method, route, path)
    assert (event["status"], event["consumer"]) == (status, "web-shop")
    assert (event["error"] is not None) == (status == 500)


async def test_the_export_is_a_stream() -> None:
    async with visiting(MockTransport()) as client:
        answer = await client.get("/exports/2026")
    assert answer.text == "2026,0\n2026,1\n2026,2\n2026,3\n2026,4\n"
    assert "content-length" not in answer.headers
