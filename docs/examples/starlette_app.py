"""
A Starlette app with a lifespan of its own, whose callers are known by the hash of their key.

    export BEACON_INGEST_URL=http://127.0.0.1:8787 BEACON_INGEST_KEY=dev   # `beaconhq local`
    uvicorn starlette_app:app
"""

import hashlib
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from beaconhq import BeaconASGIMiddleware, BeaconClient

beacon = BeaconClient.from_env()


def hash_of_key(scope):
    """Return the consumer of a request: the key itself need not leave the process."""
    key = dict(scope["headers"]).get(b"x-api-key")
    return None if key is None else hashlib.sha256(key).hexdigest()[:12]


async def read_order(request: Request):
    return JSONResponse({"order": request.path_params["order_id"]})


@asynccontextmanager
async def lifespan(_app):
    # Open what your app needs here.
    yield
    await beacon.aclose()


app = Starlette(
    routes=[Mount("/shop", routes=[Route("/orders/{order_id:int}", read_order)])],
    lifespan=lifespan,
)
app.add_middleware(BeaconASGIMiddleware, client=beacon, consumer_resolver=hash_of_key)
