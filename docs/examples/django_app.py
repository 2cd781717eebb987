"""
A Django project in one file that reports every request, under WSGI and under ASGI.

    export BEACON_INGEST_URL=http://127.0.0.1:8787 BEACON_INGEST_KEY=dev   # `beaconhq local`
    python django_app.py                    # Django's development server
    gunicorn django_app:application         # WSGI
    uvicorn django_app:asgi_application     # ASGI
"""

import asyncio
import os
import sys

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import Http404, JsonResponse
from django.urls import include, path, re_path

from beaconhq import BeaconClient
from beaconhq.integrations.asgi import BeaconLifespan

beacon = BeaconClient.from_env()

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    BEACON_CLIENT=beacon,
    BEACON_CONSUMER_HEADER="X-API-Key",
    # For `manage.py check` only.
    INSTALLED_APPS=["beaconhq.integrations.django.BeaconConfig"],
    MIDDLEWARE=[
        "beaconhq.integrations.django.BeaconDjangoMiddleware",  # near the top
        "django.middleware.common.CommonMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "for-development-only"),
)


def read_user(request, user_id):
    if user_id > 1000:
        raise Http404
    return JsonResponse({"id": user_id})


async def read_report(request, year):
    await asyncio.sleep(0.01)  # no thread is taken under ASGI
    return JsonResponse({"year": int(year)})


def read_health(request):
    return JsonResponse({"beacon": beacon.stats()})


urlpatterns = [
    path("users/", include([path("<int:user_id>/", read_user)])),
    re_path(r"^reports/(?P<year>[0-9]{4})/$", read_report),
    path("healthz/", read_health),
]

application = get_wsgi_application()
# Django has no lifespan. This one drains in the server's event loop, and before the server ends.
asgi_application = BeaconLifespan(get_asgi_application(), client=beacon)

if __name__ == "__main__":
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", *sys.argv[1:]])
