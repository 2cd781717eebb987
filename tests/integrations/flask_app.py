"""The application of `conformance.py` in Flask."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Optional

from flask import Blueprint, Flask, Response, abort, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from beaconhq.integrations.flask import init_flask

from .conformance import CHUNKS, MANY, PAUSE, Call, Framework, Handled, Unprintable, name_in
from .wsgi_server import WSGIApp, wsgi_caller

if TYPE_CHECKING:
    from beaconhq import BeaconClient

HERE = Path(__file__).parent


def _chunks() -> Iterator[bytes]:
    yield from CHUNKS


def _slow_chunks() -> Iterator[bytes]:
    for chunk in CHUNKS:
        time.sleep(PAUSE)
        yield chunk


def _naming_chunks() -> Iterator[bytes]:
    name_in("stream", "/named/stream")
    yield b"named"


def _broken_chunks() -> Iterator[bytes]:
    yield CHUNKS[0]
    raise RuntimeError("half-way")


def _raising(exc: Exception) -> Any:
    def view() -> Any:
        raise exc

    return view


def _named() -> str:
    name_in("view", request.path)
    return "named"


async def _named_async() -> str:
    name_in("async-view", request.path)
    return "named"


def _order(order_id: str, team_id: str = "") -> str:
    return order_id


def _item(item_id: str) -> str:
    return item_id


def make_flask() -> Flask:
    app = Flask("conformance", static_folder=HERE, static_url_path="/static")
    v1, teams = Blueprint("v1", "conformance"), Blueprint("teams", "conformance")

    @app.before_request
    def hook() -> Optional[Response]:
        name_in("hook", request.path)
        return Response("short", 418) if request.path == "/short" else None

    @app.errorhandler(Handled)
    def handle(_: Exception) -> Response:
        return Response("handled", 409)

    for blueprint in (v1, teams):
        blueprint.get("/orders/<order_id>")(_order)
    v1.register_blueprint(teams, url_prefix="/teams/<team_id>")
    app.register_blueprint(v1, url_prefix="/v1")
    rules = {
        "/": lambda: "home",
        "/items/<item_id>": _item,
        "/boom": _raising(RuntimeError("boom")),
        "/unprintable": _raising(Unprintable()),
        "/huge": _raising(RuntimeError("x" * 20_000)),
        "/handled": _raising(Handled()),
        "/refused": lambda: abort(403),
        "/unavailable": lambda: Response("later", 503),
        "/empty": lambda: Response(status=204),
        "/unchanged": lambda: Response(status=304),
        "/slash/": lambda: "slash",
        "/länder/<name>": lambda name: name,
        "/stream": lambda: Response(_chunks()),
        "/slow-stream": lambda: Response(_slow_chunks()),
        "/long-stream": lambda: Response(b"x" for _ in range(MANY)),
        "/broken-stream": lambda: Response(_broken_chunks()),
        "/wait": lambda: "nobody reads this",
        "/named/view": _named,
        "/named/async-view": _named_async,
        "/named/hook": lambda: "named",
        "/named/middleware": lambda: "named",
        "/named/stream": lambda: Response(_naming_chunks()),
    }
    for rule, view in rules.items():
        app.add_url_rule(rule, endpoint=rule, view_func=view)
    app.add_url_rule("/items", endpoint="create", view_func=lambda: ("created", 201), methods=["POST"])
    return app


def _middleware(app: WSGIApp) -> WSGIApp:
    def middleware(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        name_in("middleware", environ["PATH_INFO"])
        name_in("nested-middleware", environ["PATH_INFO"])
        answers = environ["PATH_INFO"] == "/named/nested-middleware"
        return (Response("named") if answers else app)(environ, start_response)

    return middleware


def _build(client: Optional[BeaconClient] = None, **options: Any) -> Call:
    app, shop = make_flask(), Flask("shop")
    shop.add_url_rule("/items/<item_id>", view_func=_item)
    shop.add_url_rule("/boom", endpoint="boom", view_func=_raising(RuntimeError("boom")))
    mounted = DispatcherMiddleware(app.wsgi_app, {"/shop": shop})
    app.wsgi_app = _middleware(mounted)  # type: ignore[method-assign, assignment]
    if client is not None:
        for each in (shop, app):
            init_flask(each, client, **options)
    return wsgi_caller(app)


FRAMEWORKS = [Framework("flask", _build, parameter=r"<\1>")]
