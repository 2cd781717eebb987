"""
One application in every framework, and what each request to it must become.

`CASES` is the table; a framework takes part by building the application below and
saying how its templates look (`Framework`, in `frameworks.py`). Routes stand here as
`/items/{item_id}`. `DIFFERENCES` is all that is not the same everywhere, and why. Both are
shown in docs/conformance.md, which `conformance_page.py` writes.

    GET  /                      200 "home"
    GET  /items/{item_id}       200, the id
    POST /items                 201
    GET  /v1/orders/{order_id}  200, from a router, blueprint or include with the prefix /v1
    GET  /boom                  raises RuntimeError("boom")
    GET  /unprintable           raises Unprintable()
    GET  /huge                  raises RuntimeError("x" * 20000)
    GET  /handled               raises Handled(), which a handler turns into 409
    GET  /refused               raises the framework's own exception for 403
    GET  /unavailable           503 without an exception
    GET  /empty                 204
    GET  /stream                200, CHUNKS one by one
    GET  /broken-stream         200, CHUNKS[0], then raises RuntimeError("half-way")
    GET  /short                 418 from a hook or middleware, before any routing
    GET  /unchanged             304
    GET  /slash/                200; without the last slash a redirect
    GET  /länder/{name}         200
    GET  /static/{path}         the files of this folder
    GET  /slow-stream           200, CHUNKS with PAUSE seconds before each
    GET  /long-stream           200, 500 chunks, as long as the client is there
    GET  /wait                  200, unless the client leaves and the framework tells
    GET  /v1/teams/{team_id}/orders/{order_id}    the same, a level deeper
    GET  /shop/items/{item_id}  200, from an application mounted at /shop with the same client
    GET  /shop/boom             raises RuntimeError("boom") there
    GET  /named/view            calls set_consumer("named") in a view that is a plain function;
                                /named/async-view, /named/hook, /named/middleware,
                                /named/nested-middleware and /named/stream do so there
"""

from __future__ import annotations

import re
from typing import Any, Awaitable, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import django

from beaconhq import set_consumer

CHUNKS = (b"one,", b"two,", b"three")
#: Seconds before each chunk of the slow stream.
PAUSE = 0.02
#: Chunks of a stream that is cut short by the client. It ends where nobody cuts it short.
MANY = 500
#: The consumer that `/named/...` names.
NAMED = "named"


def name_in(place: str, path: str) -> None:
    """Name the consumer, if the path asks for it in this place."""
    if path == f"/named/{place}":
        set_consumer(NAMED)


class Unprintable(Exception):  # noqa: N818 - the name is part of the event
    def __str__(self) -> str:
        raise ValueError("no text for you")


class Handled(Exception):  # noqa: N818 - as above
    pass


class Request(NamedTuple):
    method: str
    path: str
    headers: Tuple[Tuple[str, bytes], ...] = ()
    #: When the client leaves: "before" the answer, "during" it, after its first chunk, or never.
    leaves: str = ""


class Answer(NamedTuple):
    """What the client got; `exception` is what the server got besides."""

    status: int
    headers: List[Tuple[str, str]]
    body: bytes
    exception: Optional[BaseException] = None


#: Sends one request to an application.
Call = Callable[[Request], Awaitable[Answer]]


class Framework(NamedTuple):
    """`build(client, **adapter_options)` makes the application; no client: without the adapter."""

    #: The family, as `Difference` names it, and the way to install the adapter.
    name: str
    build: Callable[..., Call]
    #: How a template shows a parameter, for `re.sub`.
    parameter: str = r"{\1}"

    def template(self, route: str) -> str:
        return re.sub(r"{(\w+)}", self.parameter, route)


class Case(NamedTuple):
    """A request, the options under which it is made, and the event that it becomes."""

    behaviour: str
    request: Request
    route: str
    status: int
    error: Optional[str] = None
    consumer: Optional[str] = None
    #: The path of the event, where it is not that of the request.
    path: Optional[str] = None
    adapter: Mapping[str, Any] = {}
    client: Mapping[str, Any] = {}
    #: Seconds that the answer takes at least.
    lasts: float = 0.0

    def event(self, framework: Framework) -> Dict[str, Any]:
        """Return the event without its times."""
        event = {
            "method": self.request.method,
            "route": framework.template(self.route),
            "path": self.path or self.request.path,
            "status": self.status,
            "consumer": self.consumer,
            "error": self.error,
        }
        for difference in DIFFERENCES:
            if difference.concerns(self, framework):
                event.update(difference.instead)
        return event


class Difference(NamedTuple):
    """What an event holds instead, in some frameworks, and why that is right."""

    behaviour: str
    #: Beginnings of the frameworks' names.
    frameworks: Tuple[str, ...]
    instead: Mapping[str, Any]
    why: str
    #: Whether it is so in the versions that are installed.
    here: bool = True
    versions: str = ""

    def concerns(self, case: Case, framework: Framework) -> bool:
        return self.here and self.behaviour == case.behaviour and framework.name.startswith(self.frameworks)


def _get(path: str, *headers: Tuple[str, bytes], leaves: str = "") -> Request:
    return Request("GET", path, headers, leaves)


def _raise(_: object) -> Optional[str]:
    raise LookupError("no such consumer")


_KEY = ("x-api-key", b"acme")
_ITEM = "/items/{item_id}"

CASES = [
    Case("the root is a route", _get("/"), "/", 200),
    Case("the route is the template", _get("/items/7"), _ITEM, 200),
    Case("a prefix is part of the template", _get("/v1/orders/7"), "/v1/orders/{order_id}", 200),
    Case("the method is kept", Request("POST", "/items"), "/items", 201),
    Case("HEAD is a method of its own", Request("HEAD", "/items/7"), _ITEM, 200),
    Case("HEAD of a stream", Request("HEAD", "/stream"), "/stream", 200),
    Case(
        "the query string is not part of the path", _get("/items/7?key=secret"), _ITEM, 200, path="/items/7"
    ),
    Case("the path is decoded", _get("/items/caf%C3%A9%20au%20lait"), _ITEM, 200, path="/items/café au lait"),
    Case(
        "a path is cut to what the ingest takes",
        _get("/" + "a" * 5000),
        "(unmatched)",
        404,
        path="/" + "a" * 4095,
    ),
    Case("a scanner's path is unmatched", _get("/wp-login.php"), "(unmatched)", 404),
    Case("a method that is not allowed keeps the template", Request("DELETE", "/items/7"), _ITEM, 405),
    Case("a middleware or hook that answers early is unmatched", _get("/short"), "(unmatched)", 418),
    Case("a redirect to the path with a slash is unmatched", _get("/slash"), "(unmatched)", 307),
    Case("an answer without a body is an answer", _get("/empty"), "/empty", 204),
    Case("so is a 304", _get("/unchanged"), "/unchanged", 304),
    Case(
        "a template may be Unicode",
        _get("/l%C3%A4nder/%E6%97%A5%E6%9C%AC"),
        "/länder/{name}",
        200,
        path="/länder/日本",
    ),
    # -- prefixes and mounts
    Case(
        "prefixes add up, with their parameters",
        _get("/v1/teams/3/orders/7"),
        "/v1/teams/{team_id}/orders/{order_id}",
        200,
    ),
    Case(
        "a mounted application with the same client is reported once, by the outermost",
        _get("/shop/items/7"),
        "/shop/items/{item_id}",
        200,
    ),
    Case(
        "an exception in a mounted application is a 500 with its text",
        _get("/shop/boom"),
        "/shop/boom",
        500,
        "RuntimeError: boom",
    ),
    Case("below a mount nothing matched", _get("/shop/nothing"), "/shop/{path}", 404),
    Case("static files are one route", _get("/static/__init__.py"), "/static/{path}", 200),
    Case("static files that are not there are too", _get("/static/no/such.css"), "/static/{path}", 404),
    # -- streams
    Case("a stream is one event", _get("/stream"), "/stream", 200),
    Case("a stream lasts to its last byte", _get("/slow-stream"), "/slow-stream", 200, lasts=3 * PAUSE),
    Case("a client that leaves before the answer is a 499", _get("/wait", leaves="before"), "/wait", 499),
    Case(
        "a client that leaves during a stream keeps the status that was sent",
        _get("/long-stream", leaves="during"),
        "/long-stream",
        200,
    ),
    # -- failures
    Case("an unhandled exception is a 500 with its text", _get("/boom"), "/boom", 500, "RuntimeError: boom"),
    Case(
        "an exception's text is left out on request",
        _get("/boom"),
        "/boom",
        500,
        "RuntimeError",
        client={"capture_error_text": False},
    ),
    Case("an exception without text is its type", _get("/unprintable"), "/unprintable", 500, "Unprintable"),
    Case("a huge error text is cut", _get("/huge"), "/huge", 500, ("RuntimeError: " + "x" * 20_000)[:8192]),
    Case("a handled exception is no error", _get("/handled"), "/handled", 409),
    Case("the framework's own exception is an answer", _get("/refused"), "/refused", 403),
    Case(
        "a 5xx without an exception names the status", _get("/unavailable"), "/unavailable", 503, "HTTP 503"
    ),
    Case(
        "an exception half-way keeps the status that was sent",
        _get("/broken-stream"),
        "/broken-stream",
        200,
        "RuntimeError: half-way",
    ),
    # -- consumers
    Case(
        "the consumer is read from the header",
        _get("/", _KEY),
        "/",
        200,
        consumer="acme",
        adapter={"consumer_header": "x-api-key"},
    ),
    Case(
        "the header's name has no case",
        _get("/", _KEY),
        "/",
        200,
        consumer="acme",
        adapter={"consumer_header": "X-API-Key"},
    ),
    Case(
        "the header is latin-1",
        _get("/", ("x-api-key", b"caf\xe9")),
        "/",
        200,
        consumer="café",
        adapter={"consumer_header": "x-api-key"},
    ),
    Case(
        "without the header there is no consumer",
        _get("/"),
        "/",
        200,
        adapter={"consumer_header": "x-api-key"},
    ),
    Case("no header is read unasked", _get("/", _KEY), "/", 200),
    Case(
        "the adapter's resolver comes first",
        _get("/", _KEY),
        "/",
        200,
        consumer="adapter",
        adapter={"consumer_header": "x-api-key", "consumer_resolver": lambda _: "adapter"},
        client={"consumer_resolver": lambda _: "client"},
    ),
    Case(
        "the client's resolver comes before the header",
        _get("/", _KEY),
        "/",
        200,
        consumer="client",
        adapter={"consumer_header": "x-api-key", "consumer_resolver": lambda _: None},
        client={"consumer_resolver": lambda _: "client"},
    ),
    Case(
        "resolvers that know nobody leave it to the header",
        _get("/", _KEY),
        "/",
        200,
        consumer="acme",
        adapter={"consumer_header": "x-api-key", "consumer_resolver": lambda _: None},
        client={"consumer_resolver": lambda _: None},
    ),
    Case(
        "what a resolver returns becomes text",
        _get("/"),
        "/",
        200,
        consumer="42",
        adapter={"consumer_resolver": lambda _: 42},
    ),
    Case(
        "a resolver that raises means no consumer",
        _get("/", _KEY),
        "/",
        200,
        adapter={"consumer_header": "x-api-key", "consumer_resolver": _raise},
        client={"consumer_resolver": lambda _: "client"},
    ),
    Case(
        "a consumer is cut to what the ingest takes",
        _get("/"),
        "/",
        200,
        consumer="x" * 256,
        adapter={"consumer_resolver": lambda _: "x" * 300},
    ),
    Case(
        "a failed request has a consumer too",
        _get("/boom", _KEY),
        "/boom",
        500,
        "RuntimeError: boom",
        consumer="acme",
        adapter={"consumer_header": "x-api-key"},
    ),
    Case(
        "an early answer has a consumer too",
        _get("/short", _KEY),
        "(unmatched)",
        418,
        consumer="acme",
        adapter={"consumer_header": "x-api-key"},
    ),
    # -- set_consumer
    *(
        Case(
            f"set_consumer in {where} comes before resolvers and header",
            _get(f"/named/{place}", _KEY),
            "(unmatched)" if place == "nested-middleware" else f"/named/{place}",
            200,
            consumer=NAMED,
            adapter={"consumer_header": "x-api-key", "consumer_resolver": lambda _: "adapter"},
            client={"consumer_resolver": lambda _: "client"},
        )
        for place, where in {
            "view": "a plain view",
            "async-view": "an async view",
            "hook": "a hook or dependency",
            "middleware": "a middleware inside ours",
            "nested-middleware": "a middleware that answers by itself",
            "stream": "a stream",
        }.items()
    ),
]

_SILENT = (
    "a WSGI server learns that the client has left when it writes, and tells nobody; the view's answer is "
    "what is known"
)

DIFFERENCES = [
    Difference(
        "HEAD of a stream",
        ("fastapi",),
        {"status": 405},
        "FastAPI adds no HEAD to the methods of a route; the others do",
    ),
    Difference(
        "a redirect to the path with a slash is unmatched",
        ("flask",),
        {"status": 308},
        "the framework's own status, reported as it was sent",
    ),
    Difference(
        "a redirect to the path with a slash is unmatched",
        ("django",),
        {"status": 301},
        "as above",
    ),
    Difference(
        "below a mount nothing matched",
        ("flask",),
        {"route": "/shop/<path:path>"},
        "as Flask would write that rule",
    ),
    Difference(
        "below a mount nothing matched",
        ("django",),
        {"route": "(unmatched)"},
        "Django mounts no applications: `include()` makes one list of all patterns, and none of them matched",
    ),
    Difference(
        "static files are one route",
        ("flask",),
        {"route": "/static/<path:filename>"},
        "the rule that Flask itself adds",
    ),
    Difference(
        "static files that are not there are too",
        ("flask",),
        {"route": "/static/<path:filename>"},
        "as above",
    ),
    Difference(
        "a client that leaves before the answer is a 499", ("flask", "django-wsgi"), {"status": 200}, _SILENT
    ),
    Difference(
        "a client that leaves before the answer is a 499",
        ("django-asgi",),
        {"status": 200},
        "Django listens for the disconnect only since 5.0",
        here=django.VERSION < (5, 0),
        versions="before 5.0",
    ),
]
