"""What is particular to Django; the rules that all adapters share are in `conformance.py`."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from django.conf import settings
from django.core import checks, signals
from django.core.exceptions import MiddlewareNotUsed, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path, re_path
from django.utils.asyncio import async_unsafe
from fastapi import FastAPI
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from beaconhq import set_consumer
from beaconhq.integrations import django as adapter
from beaconhq.integrations.asgi import BeaconASGIMiddleware
from beaconhq.integrations.flask import init_flask

from .conformance import PAUSE, Call, Request
from .django_app import OURS, django_settings
from .frameworks import asgi_caller
from .wsgi_server import environ_of, serve_wsgi, wsgi_caller

if TYPE_CHECKING:
    from beaconhq import BeaconClient

    from .conftest import Event, Probe

KINDS = ["wsgi", "asgi"]


def _raise(exc: BaseException) -> Callable[..., Any]:
    def view(request: HttpRequest) -> Any:
        raise exc

    return view


def _ok(request: HttpRequest, **_: Any) -> HttpResponse:
    return HttpResponse("ok")


async def _named(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    set_consumer("acme")
    return HttpResponse()


def _named_sync(request: HttpRequest) -> HttpResponse:
    set_consumer("acme")
    return HttpResponse()


urlpatterns = [
    path("users/<int:pk>/", _ok),
    path("api/", include([path("v1/", include([path("items/<slug:item>", _ok)]))])),
    re_path(r"^re/(?P<year>[0-9]{4})/$", _ok),
    re_path(r"^plain/(\d+)/(?:page-(?P<page>\d+)/)?$", lambda request, *args, **kwargs: HttpResponse()),
    path("mixed/<int:pk>/", include([re_path(r"^x\.(?P<kind>json|xml)$", _ok)])),
    path("missing-item", _raise(Http404("no"))),
    path("suspicious", _raise(SuspiciousOperation("no"))),
    path("boom", _raise(RuntimeError("boom"))),
    path("named", _named),
    path("named-sync", _named_sync),
    path("file", lambda request: FileResponse(open(__file__, "rb"))),  # noqa: PTH123, SIM115
    path("unread", lambda request: StreamingHttpResponse(iter([b"x"]))),
]


def urls(view: Callable[[HttpRequest], Any]) -> Any:
    """Make a URL configuration of one view at the root."""

    class Urls:
        urlpatterns = [path("", view)]  # noqa: RUF012 - as Django wants it

    return Urls


def caller(kind: str) -> Call:
    """Make a handler with the settings of now."""
    return wsgi_caller(WSGIHandler()) if kind == "wsgi" else asgi_caller(ASGIHandler())


async def observe(
    probe: Probe, kind: str, request: Request, more: Optional[Dict[str, Any]] = None, **options: Any
) -> Event:
    """Serve one request with this module's URLs and return its event."""
    with override_settings(ROOT_URLCONF=__name__, **(more or {})), django_settings(probe.client, **options):
        await caller(kind)(request)
    return await probe.event()


@pytest.mark.parametrize(
    ("at", "route"),
    [
        ("/users/7/", "/users/<int:pk>/"),
        ("/api/v1/items/a-b", "/api/v1/items/<slug:item>"),
        ("/re/2026/", "/re/<year>/"),
        ("/plain/7/", "/plain/<var>/"),
        ("/mixed/7/x.json", "/mixed/<int:pk>/x.<kind>"),
        ("/users/7", "(unmatched)"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_routes_are_readable_templates(probe: Probe, kind: str, at: str, route: str) -> None:
    assert (await observe(probe, kind, Request("GET", at)))["route"] == route


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("at", "status", "error"),
    [
        ("/missing-item", 404, None),
        ("/suspicious", 400, None),
        ("/boom", 500, "RuntimeError: boom"),
        ("/nowhere", 404, None),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_each_exception_is_one_event_with_its_real_status(
    probe: Probe, kind: str, at: str, status: int, error: Optional[str], debug: bool
) -> None:
    event = await observe(probe, kind, Request("GET", at), {"DEBUG": debug})
    assert (event["status"], event["error"]) == (status, error)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_exception_that_django_lets_pass_is_a_500(probe: Probe, kind: str) -> None:
    event = await observe(probe, kind, Request("GET", "/boom"), {"DEBUG_PROPAGATE_EXCEPTIONS": True})
    assert (event["status"], event["error"]) == (500, "RuntimeError: boom")


@pytest.mark.parametrize("at", ["/named", "/named-sync"])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_consumer_may_be_named_in_a_view_of_either_kind(probe: Probe, kind: str, at: str) -> None:
    request = Request("GET", at, (("x-api-key", b"header"),))
    assert (await observe(probe, kind, request, consumer_header="X-API-Key"))["consumer"] == "acme"


def resolve(request: HttpRequest) -> str:
    return f"{request.method} {request.path}"


@pytest.mark.parametrize("resolver", [resolve, f"{__name__}.resolve"], ids=["function", "path"])
async def test_a_resolver_is_a_function_or_its_dotted_path(probe: Probe, resolver: Any) -> None:
    event = await observe(probe, "wsgi", Request("GET", "/users/7/"), consumer_resolver=resolver)
    assert event["consumer"] == "GET /users/7/"


async def test_listed_twice_it_reports_once(probe: Probe) -> None:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[OURS, OURS], BEACON_CLIENT=probe.client):
        await wsgi_caller(WSGIHandler())(Request("GET", "/users/7/"))
    assert len(await probe.events()) == 1


async def test_a_file_stays_the_server_s_file_wrapper_and_ends_with_its_close(probe: Probe) -> None:
    class ServersWrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            self.file = file

        def close(self) -> None:
            self.file.close()

    with override_settings(ROOT_URLCONF=__name__), django_settings(probe.client):
        environ = {**environ_of(Request("GET", "/file")), "wsgi.file_wrapper": ServersWrapper}
        body: Any = WSGIHandler()(environ, lambda *_: None)
        assert type(body) is ServersWrapper
        assert probe.client.stats()["captured"] == 0
        body.close()
    assert (await probe.event())["route"] == "/file"


async def test_a_stream_that_nobody_reads_gives_an_event_when_it_is_closed(probe: Probe) -> None:
    with override_settings(ROOT_URLCONF=__name__), django_settings(probe.client):
        body: Any = WSGIHandler()(environ_of(Request("GET", "/unread")), lambda *_: None)
        body.close()
    assert (await probe.event())["status"] == 200


async def test_under_asgi_it_takes_no_thread_and_views_run_at_the_same_time(probe: Probe) -> None:
    arrived: List[int] = []
    threads: List[int] = []
    both = asyncio.Event()

    async def view(request: HttpRequest) -> HttpResponse:
        threads.append(threading.get_ident())
        arrived.append(1)
        if len(arrived) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 10)
        return HttpResponse()

    with override_settings(ROOT_URLCONF=urls(view), MIDDLEWARE=[OURS], BEACON_CLIENT=probe.client):
        call = asgi_caller(ASGIHandler())
        await asyncio.gather(call(Request("GET", "/")), call(Request("GET", "/")))
    assert set(threads) == {threading.get_ident()}
    assert len(await probe.events()) == 2


async def test_a_request_that_is_cancelled_is_a_499(probe: Probe) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(60)
        return HttpResponse()

    with override_settings(BEACON_CLIENT=probe.client):
        middleware = adapter.BeaconDjangoMiddleware(view)
        request = HttpRequest()
        request.method, request.path = "GET", "/slow"
        task = asyncio.ensure_future(middleware(request))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await probe.event())["status"] == 499


# -- settings ---------------------------------------------------------------------------


def test_without_a_client_the_middleware_is_not_used() -> None:
    with pytest.raises(MiddlewareNotUsed, match="BEACON_CLIENT"):
        adapter.BeaconDjangoMiddleware(_ok)


def test_a_setting_that_cannot_be_right_is_refused() -> None:
    with override_settings(BEACON_CLIENT="key"), pytest.raises(ValueError, match="BeaconClient"):
        adapter.BeaconDjangoMiddleware(_ok)


@pytest.mark.parametrize(
    ("half", "found"),
    [
        ({"MIDDLEWARE": [OURS]}, ["beaconhq.W001"]),
        ({"BEACON_CONSUMER_HEADER": "X-API-Key"}, ["beaconhq.W001"]),
        ({"BEACON_CLIENT": "key", "MIDDLEWARE": [OURS]}, ["beaconhq.W002"]),
        ({"BEACON_CLIENT": None}, []),
    ],
)
def test_the_system_check_names_settings_that_are_half_right(half: Any, found: List[str]) -> None:
    with override_settings(**half):
        assert [message.id for message in checks.run_checks() if "beaconhq" in str(message.id)] == found


def test_the_system_check_is_content_with_whole_settings(make_client: Callable[..., BeaconClient]) -> None:
    client = make_client(dry_run=True)
    with override_settings(BEACON_CLIENT=client):
        assert [message.id for message in adapter.check_settings()] == ["beaconhq.W003"]
    with override_settings(BEACON_CLIENT=client, MIDDLEWARE=[OURS]):
        assert adapter.check_settings() == []


def test_the_application_may_be_listed_among_the_installed() -> None:
    from django.apps import apps

    with override_settings(INSTALLED_APPS=["beaconhq.integrations.django.BeaconConfig"]):
        assert apps.get_app_config("beaconhq").verbose_name == "Beacon"
    assert settings.configured


def test_serving_goes_through_the_handler(probe: Probe) -> None:
    with override_settings(ROOT_URLCONF=__name__), django_settings(probe.client):
        assert serve_wsgi(WSGIHandler(), environ_of(Request("GET", "/users/7/"))).body == b"ok"


# -- what is as it is without us --------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody")


async def _in_context(request: HttpRequest) -> HttpResponse:
    seen = variable.get()
    await asyncio.sleep(0)
    variable.set("the view")
    return HttpResponse(seen)


async def test_context_variables_reach_an_async_view_and_come_back_as_without_us(probe: Probe) -> None:
    async def serve(client: Optional[BeaconClient]) -> Tuple[bytes, str]:
        variable.set("the server")
        with override_settings(ROOT_URLCONF=urls(_in_context), MIDDLEWARE=[OURS], BEACON_CLIENT=client):
            return (await caller("asgi")(Request("GET", "/"))).body, variable.get()

    # Tasks of their own, so that nothing stays behind in that of the test.
    bare = await asyncio.create_task(serve(None))
    assert await asyncio.create_task(serve(probe.client)) == bare
    # Whether it comes back is Django's business: from 5.0 to 6.0 a view has a task of its own.
    assert bare[0] == b"the server"


def sync_only(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Make a middleware as they were before Django 3.1."""
    return lambda request: get_response(request)  # noqa: PLW0108 - a plain function


SYNC = f"{__name__}.sync_only"


@pytest.mark.parametrize("middleware", [[SYNC, OURS], [OURS, SYNC], [SYNC, OURS, SYNC]])
@pytest.mark.parametrize("at", ["/named", "/named-sync", "/boom"])
@pytest.mark.parametrize("kind", KINDS)
async def test_sync_middleware_may_stand_around(
    probe: Probe, kind: str, at: str, middleware: List[str]
) -> None:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=middleware, BEACON_CLIENT=probe.client):
        await caller(kind)(Request("GET", at))
    event = await probe.event()
    boom = at == "/boom"
    assert (event["route"], event["status"]) == (at, 500 if boom else 200)
    assert (event["consumer"], event["error"]) == ((None, "RuntimeError: boom") if boom else ("acme", None))


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_client_django_serves_as_if_it_were_not_listed(kind: str) -> None:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[OURS], BEACON_CLIENT=None):
        answer = await caller(kind)(Request("GET", "/users/7/"))
    assert (answer.status, answer.body) == (200, b"ok")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_debug_page_shows_nothing_of_the_request_that_is_ours(probe: Probe, kind: str) -> None:
    with override_settings(ROOT_URLCONF=__name__, DEBUG=True), django_settings(probe.client):
        answer = await caller(kind)(Request("GET", "/boom"))
    assert b"RuntimeError" in answer.body
    assert b"beaconhq.exchanges" not in answer.body


@pytest.mark.parametrize("kind", KINDS)
async def test_signals_come_in_the_same_order(probe: Probe, kind: str) -> None:
    def serve_with(client: Optional[BeaconClient]) -> Any:
        with override_settings(ROOT_URLCONF=__name__), django_settings(client):
            return caller(kind)

    seen: List[str] = []
    receivers = {
        name: (lambda name=name, **_: seen.append(name))
        for name in ("request_started", "got_request_exception", "request_finished")
    }
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        for at in ("/users/7/", "/boom", "/unread"):
            runs = []
            for client in (None, probe.client):
                seen.clear()
                await serve_with(client)(Request("GET", at))
                runs.append(list(seen))
            assert runs[0] == runs[1], at
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    assert len(await probe.events()) == 3


# -- streams of the other kind ----------------------------------------------------------


async def _letters() -> AsyncIterator[bytes]:
    for letter in (b"a", b"b"):
        await asyncio.sleep(PAUSE)
        set_consumer("streamed")
        yield letter


def _letters_sync() -> Iterator[bytes]:
    for letter in (b"a", b"b"):
        time.sleep(PAUSE)
        set_consumer("streamed")
        yield letter


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("chunks", [_letters, _letters_sync])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_of_either_kind_lasts_to_its_last_byte(probe: Probe, kind: str, chunks: Any) -> None:
    """Django itself consumes the kind that is not its server's, with a warning."""
    view = urls(lambda request: StreamingHttpResponse(chunks()))
    with override_settings(ROOT_URLCONF=view, MIDDLEWARE=[OURS], BEACON_CLIENT=probe.client):
        answer = await caller(kind)(Request("GET", "/"))
    event = await probe.event()
    assert (answer.body, event["status"], event["consumer"]) == (b"ab", 200, "streamed")
    assert event["duration_ms"] >= 2 * PAUSE * 1000 - 1


# -- mounted in others, and asked by Django's own clients -------------------------------


async def test_below_an_asgi_application_the_outermost_reports(probe: Probe) -> None:
    outer = FastAPI()
    with override_settings(ROOT_URLCONF=__name__), django_settings(probe.client):
        outer.mount("/django", ASGIHandler())
        outer.add_middleware(BeaconASGIMiddleware, client=probe.client)
        answer = await asgi_caller(outer)(Request("GET", "/django/named"))
    assert answer.status == 200
    event = await probe.event()
    assert (event["route"], event["consumer"]) == ("/django/{path}", "acme")


async def test_two_clients_around_and_in_django_report_once_each(
    probe: Probe, make_client: Callable[..., BeaconClient]
) -> None:
    other, outer = make_client(dry_run=True), FastAPI()
    with override_settings(ROOT_URLCONF=__name__), django_settings(probe.client):
        outer.mount("/django", ASGIHandler())
        outer.add_middleware(BeaconASGIMiddleware, client=other)
        for at in ("/django/named", "/django/boom"):
            await asgi_caller(outer)(Request("GET", at))
    await other.flush()
    inner = await probe.events()
    assert [event["route"] for event in inner] == ["/named", "/boom"]
    assert [event["error"] for event in inner] == [None, "RuntimeError: boom"]
    events = other.transport.sent_events  # type: ignore[attr-defined]
    assert [event["consumer"] for event in events] == ["acme", None]


async def test_below_a_flask_application_the_outermost_reports(probe: Probe) -> None:
    outer = Flask("outer")
    with override_settings(ROOT_URLCONF=__name__), django_settings(probe.client):
        mounted = DispatcherMiddleware(outer.wsgi_app, {"/django": WSGIHandler()})
        outer.wsgi_app = mounted  # type: ignore[method-assign]
        init_flask(outer, probe.client)
        await wsgi_caller(outer)(Request("GET", "/django/named"))
    event = await probe.event()
    assert (event["route"], event["consumer"]) == ("/django/<path:path>", "acme")


async def test_the_test_clients_of_django_give_events(probe: Probe) -> None:
    with override_settings(ROOT_URLCONF=__name__), django_settings(probe.client):
        with pytest.raises(RuntimeError, match="boom"):
            await asyncio.get_running_loop().run_in_executor(None, Client().get, "/boom")
        await AsyncClient().get("/users/7/")
    assert [event["route"] for event in await probe.events()] == ["/boom", "/users/<int:pk>/"]


@pytest.mark.parametrize(("kind", "consumer"), [("wsgi", "from a query"), ("asgi", None)])
async def test_a_resolver_may_query_under_wsgi_only(probe: Probe, kind: str, consumer: Optional[str]) -> None:
    """Django refuses it in an event loop; the request goes on, without a consumer (docs/django.md)."""
    query = async_unsafe(lambda request: "from a query")
    event = await observe(probe, kind, Request("GET", "/users/7/"), consumer_resolver=query)
    assert (event["status"], event["consumer"]) == (200, consumer)
