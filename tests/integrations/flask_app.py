"""The application of `conformance.py` in Flask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Optional

from flask import Blueprint, Flask, Response, abort, request

from beaconhq.integrations.flask import init_flask

from .conformance import CHUNKS, HEAD, ROUTE_OF_405, Call, Framework, Handled, Unprintable
from .wsgi_server import wsgi_caller

if TYPE_CHECKING:
    from beaconhq import BeaconClient


def _chunks() -> Iterator[bytes]:
    yield from CHUNKS


def _broken_chunks() -> Iterator[bytes]:
    yield CHUNKS[0]
    raise RuntimeError("half-way")


def _raising(exc: Exception) -> Any:
    def view() -> Any:
        raise exc

    return view


def make_flask() -> Flask:
    app = Flask("conformance")
    orders = Blueprint("orders", "conformance", url_prefix="/v1")

    @app.before_request
    def short() -> Optional[Response]:
        return Response("short", 418) if request.path == "/short" else None

    @app.errorhandler(Handled)
    def handle(_: Exception) -> Response:
        return Response("handled", 409)

    @orders.get("/orders/<order_id>")
    def order(order_id: str) -> str:
        return order_id

    @app.get("/items/<item_id>")
    def item(item_id: str) -> str:
        return item_id

    app.register_blueprint(orders)
    rules = {
        "/": lambda: "home",
        "/boom": _raising(RuntimeError("boom")),
        "/unprintable": _raising(Unprintable()),
        "/huge": _raising(RuntimeError("x" * 20_000)),
        "/handled": _raising(Handled()),
        "/refused": lambda: abort(403),
        "/unavailable": lambda: Response("later", 503),
        "/empty": lambda: Response(status=204),
        "/stream": lambda: Response(_chunks()),
        "/broken-stream": lambda: Response(_broken_chunks()),
    }
    for rule, view in rules.items():
        app.add_url_rule(rule, endpoint=rule, view_func=view)
    app.add_url_rule("/items", endpoint="create", view_func=lambda: ("created", 201), methods=["POST"])
    return app


def _build(client: Optional[BeaconClient] = None, **options: Any) -> Call:
    app = make_flask()
    if client is not None:
        init_flask(app, client, **options)
    return wsgi_caller(app)


FRAMEWORKS = [Framework("flask", _build, parameter=r"<\1>", features=frozenset([ROUTE_OF_405, HEAD]))]
