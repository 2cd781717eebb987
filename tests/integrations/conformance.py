"""
One application in every framework, and what each request to it must become.

`CASES` is the table; a framework takes part by building the application below and
saying how its templates look (`Framework`, in `frameworks.py`). Routes stand here as
`/items/{item_id}`.

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
"""

from __future__ import annotations

import re
from typing import Any, Awaitable, Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

CHUNKS = (b"one,", b"two,", b"three")

#: The framework knows the route of a request whose method that route does not take.
ROUTE_OF_405 = "the route of a 405"
#: The framework answers a HEAD where there is a GET.
HEAD = "HEAD"


class Unprintable(Exception):  # noqa: N818 - the name is part of the event
    def __str__(self) -> str:
        raise ValueError("no text for you")


class Handled(Exception):  # noqa: N818 - as above
    pass


class Request(NamedTuple):
    method: str
    path: str
    headers: Tuple[Tuple[str, bytes], ...] = ()


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

    name: str
    build: Callable[..., Call]
    #: How a template shows a parameter, for `re.sub`.
    parameter: str = r"{\1}"
    features: FrozenSet[str] = frozenset()

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
    #: What the framework must be capable of.
    needs: FrozenSet[str] = frozenset()

    def event(self, framework: Framework) -> Dict[str, Any]:
        """Return the event without its times."""
        return {
            "method": self.request.method,
            "route": framework.template(self.route),
            "path": self.path or self.request.path,
            "status": self.status,
            "consumer": self.consumer,
            "error": self.error,
        }


def _get(path: str, *headers: Tuple[str, bytes]) -> Request:
    return Request("GET", path, headers)


def _raise(_: object) -> Optional[str]:
    raise LookupError("no such consumer")


_KEY = ("x-api-key", b"acme")
_ITEM = "/items/{item_id}"

CASES = [
    Case("the root is a route", _get("/"), "/", 200),
    Case("the route is the template", _get("/items/7"), _ITEM, 200),
    Case("a prefix is part of the template", _get("/v1/orders/7"), "/v1/orders/{order_id}", 200),
    Case("the method is kept", Request("POST", "/items"), "/items", 201),
    Case("HEAD is a method of its own", Request("HEAD", "/items/7"), _ITEM, 200, needs=frozenset([HEAD])),
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
    Case(
        "a method that is not allowed keeps the template",
        Request("DELETE", "/items/7"),
        _ITEM,
        405,
        needs=frozenset([ROUTE_OF_405]),
    ),
    Case("a hook that answers early is unmatched", _get("/short"), "(unmatched)", 418),
    Case("an answer without a body is an answer", _get("/empty"), "/empty", 204),
    Case("a stream is one event", _get("/stream"), "/stream", 200),
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
]
