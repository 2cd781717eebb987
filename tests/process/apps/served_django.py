"""The Django application behind the server tests, for WSGI and ASGI, with and without a lifespan."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

from beaconhq import BeaconClient
from beaconhq.integrations.asgi import BeaconLifespan

beacon = BeaconClient(
    ingest_key="test-key",
    ingest_url=os.environ["INGEST_URL"],
    flush_interval=float(os.environ.get("FLUSH_INTERVAL", "600")),
    shutdown_timeout=30,
)
settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["beaconhq.integrations.django.BeaconDjangoMiddleware"],
    BEACON_CLIENT=beacon,
    BEACON_CONSUMER_RESOLVER=lambda request: str(os.getpid()),
)
django.setup()


def read_item(request: Any, item: str) -> JsonResponse:
    return JsonResponse(item, safe=False)


async def read_item_async(request: Any, item: str) -> JsonResponse:
    return JsonResponse(item, safe=False)


def read_slowly(request: Any, item: str) -> JsonResponse:
    time.sleep(1)
    return JsonResponse(item, safe=False)


async def read_slowly_async(request: Any, item: str) -> JsonResponse:
    await asyncio.sleep(1)
    return JsonResponse(item, safe=False)


def look_at_process(request: Any) -> JsonResponse:
    return JsonResponse({"pid": os.getpid(), "beacon": beacon.stats()})


IS_ASYNC = "DJANGO_ASYNC" in os.environ
urlpatterns = [
    path("items/<item>", read_item_async if IS_ASYNC else read_item),
    path("slow/<item>", read_slowly_async if IS_ASYNC else read_slowly),
    path("inside/process", look_at_process),
]

wsgi = get_wsgi_application()
asgi = get_asgi_application()
with_lifespan = BeaconLifespan(asgi, client=beacon)
