"""
A FastAPI app that reports every request.

    export BEACON_INGEST_URL=http://127.0.0.1:8787 BEACON_INGEST_KEY=dev   # `beaconhq local`
    uvicorn fastapi_app:app
"""

from fastapi import APIRouter, FastAPI, HTTPException

from beaconhq import BeaconASGIMiddleware, BeaconClient

beacon = BeaconClient.from_env()
router = APIRouter()


@router.get("/{user_id}")
def read_user(user_id: int):
    if user_id > 1000:
        raise HTTPException(404, "no such user")
    return {"id": user_id}


app = FastAPI()
app.include_router(router, prefix="/users")
app.add_middleware(BeaconASGIMiddleware, client=beacon, consumer_header="x-api-key")


@app.get("/healthz")
def read_health():
    return {"beacon": beacon.stats()}
