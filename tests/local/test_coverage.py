"""The routes of an app as it declares them, against the events that its requests become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient

from beaconhq import BeaconASGIMiddleware, BeaconClient, MockTransport
from beaconhq.local import app_routes
from beaconhq.local.app_routes import AppRoutes, AppRoutesError, Declared, load, read
from beaconhq.local.coverage import read_coverage

from .processes import run
from .samples import events, payload

if TYPE_CHECKING:
    from pathlib import Path

    from beaconhq.local.store import EventStore


def handler(**_: Any) -> str:
    return ""


async def answer(request: Any) -> PlainTextResponse:
    return PlainTextResponse("ok")


def fastapi_app() -> FastAPI:
    inner = APIRouter(prefix="/inner")
    inner.add_api_route("/{order_id}", handler)
    outer = APIRouter()
    outer.include_router(inner, prefix="/outer", deprecated=True)
    shop = FastAPI()
    shop.add_api_route("/products/{product_id}", handler, methods=["GET", "POST"])
    app = FastAPI()
    app.include_router(outer, prefix="/api")
    app.add_api_route("/old", handler, deprecated=True)
    app.mount("/shop/{tenant}", shop)
    return app


class TestRead:
    def test_fastapi_routers_mounts_and_deprecation(self) -> None:
        assert read(fastapi_app()) == [
            Declared("GET", "/api/outer/inner/{order_id}", deprecated=True),
            Declared("GET", "/old", deprecated=True),
            Declared("GET", "/shop/{tenant}/products/{product_id}", deprecated=False),
            Declared("POST", "/shop/{tenant}/products/{product_id}", deprecated=False),
        ]

    def test_they_are_spelled_as_the_adapter_spells_them(self) -> None:
        transport = MockTransport()
        app = fastapi_app()
        client = BeaconClient("k", transport=transport)
        with TestClient(BeaconASGIMiddleware(app, client)) as visitor:
            for path in ("/api/outer/inner/7", "/old", "/shop/acme/products/7"):
                visitor.get(path)
        sent = {(event["method"], event["route"]) for event in transport.sent_events}
        assert sent <= {(each.method, each.route) for each in read(app)}
        assert len(sent) == 3

    def test_starlette_behind_middleware(self, tmp_path: Path) -> None:
        app = Starlette(
            routes=[
                Route("/", answer),
                Route("/any", answer, methods=["DELETE", "PUT"]),
                WebSocketRoute("/ws", answer),
                Mount("/files", StaticFiles(directory=tmp_path)),
                Mount("/api", routes=[Route("/x/{y}", answer)]),
            ]
        )
        assert read(BeaconASGIMiddleware(app, BeaconClient("k", enabled=False))) == [
            Declared("GET", "/", deprecated=False),
            Declared("DELETE", "/any", deprecated=False),
            Declared("PUT", "/any", deprecated=False),
            Declared("*", "/files/{path}", deprecated=False),
            Declared("GET", "/api/x/{y}", deprecated=False),
        ]

    def test_flask(self) -> None:
        app = flask.Flask(__name__)
        app.add_url_rule("/users/<int:user_id>", view_func=handler, methods=["GET", "POST"])
        assert read(app) == [
            Declared("GET", "/users/<int:user_id>", deprecated=False),
            Declared("POST", "/users/<int:user_id>", deprecated=False),
        ]

    @pytest.mark.parametrize("app", [None, 7, "app", FastAPI, lambda: None])
    def test_anything_else_is_no_app(self, app: object) -> None:
        with pytest.raises(AppRoutesError, match="no FastAPI, Starlette, Flask or Django app"):
            read(app)


DJANGO = """
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import include, path, re_path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
django.setup()

def view(request, **kwargs):
    return HttpResponse("ok")

urlpatterns = [
    path("users/<int:user_id>/", view),
    path("api/", include([path("orders/", view), re_path(r"^re/(?P<y>[0-9]+)/$", view)])),
]
from django.core.asgi import get_asgi_application
application = get_asgi_application()
"""


@pytest.mark.process
class TestLoad:
    def test_django(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mysite.py").write_text(DJANGO)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        assert [each.route for each in load("mysite:application").routes] == [
            "/users/<int:user_id>/",
            "/api/orders/",
            "/api/re/<y>/",
        ]

    def test_an_app_that_prints_and_wants_a_key_is_read_apart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "noisy.py").write_text(
            "import atexit, os\nfrom fastapi import FastAPI\nfrom beaconhq import BeaconClient\n"
            "os.write(1, b'raw\\n'); print('[]'); atexit.register(print, 'bye')\n"
            "beacon = BeaconClient.from_env()\nclass box: app = FastAPI()\n"
            "@box.app.get('/x')\ndef x() -> None: ...\n"
            "def make(): return box.app\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.delenv("BEACON_INGEST_KEY", raising=False)
        for name in ("noisy:box.app", "noisy:make()"):
            assert load(name) == AppRoutes(name, (Declared("GET", "/x", deprecated=False),))

    @pytest.mark.parametrize(
        ("app", "reason"),
        [
            ("nosuch:app", "ModuleNotFoundError: No module named 'nosuch'"),
            ("json:app", "AttributeError: module 'json' has no attribute 'app'"),
            ("json:loads", "it is no FastAPI, Starlette, Flask or Django app"),
            ("json", "write it as module:attribute, for example main:app"),
            (":", "write it as module:attribute, for example main:app"),
        ],
    )
    def test_what_cannot_be_read_is_one_line(self, app: str, reason: str) -> None:
        done = run("-m", "beaconhq", "local", "--port", "0", "--app", app)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"beaconhq local: cannot read the routes of {app}: {reason}\n"

    def test_an_import_that_does_not_end_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "stuck.py").write_text("import time\ntime.sleep(600)\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(app_routes, "IMPORT_TIMEOUT", 0.5)
        with pytest.raises(AppRoutesError, match="not imported within"):
            load("stuck:app")


def test_what_was_called_by_whom_and_what_was_not(store: EventStore) -> None:
    declared = [("GET", "/a", False), ("POST", "/a", True), ("*", "/any", False), ("GET", "/never", True)]
    store.add(
        events(
            *[payload(route="/a", consumer=f"c{n}") for n in range(7)],
            payload(route="/a", consumer="c6"),
            payload(route="/a", method="HEAD", consumer=None),
            payload(route="/a", method="POST", consumer="old-app", ts="2026-06-04T00:00:00Z"),
            payload(route="/any", method="PUT"),
            payload(route="/gone", consumer="x"),
            payload(route="/gone", consumer="y"),
            payload(route="(unmatched)"),
        )
    )
    routes = AppRoutes("m:a", tuple(Declared(*each) for each in declared))
    coverage = store.read(lambda connection: read_coverage(connection, routes))
    assert [(each.method, each.route, each.deprecated) for each in coverage.routes] == declared
    get, post, put, never = coverage.routes
    assert (get.count, get.caller_count, len(get.callers), get.callers[0].consumer) == (9, 7, 5, "c6")
    assert (post.count, post.callers[0].consumer, post.last_seen) == (
        1,
        "old-app",
        "2026-06-04T00:00:00.000+00:00",
    )
    assert put.count == 1
    assert (never.count, never.callers, never.last_seen) == (0, (), None)
    assert coverage.foreign == (("GET", "/gone"),)
