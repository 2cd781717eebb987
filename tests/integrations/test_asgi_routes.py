"""
Which route a request is counted under, with the middleware added and wrapped around.

Each test serves one request through the raw server, so `path` and `root_path` are exactly
those that uvicorn would pass.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Dict, List

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from beaconhq.integrations import _asgi_route
from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .asgi_server import ASGIApp, Receive, Send, http_scope, serve

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from beaconhq import BeaconClient

    from .conftest import Probe

PREFLIGHT = [
    (b"host", b"testserver"),
    (b"origin", b"https://elsewhere.example"),
    (b"access-control-request-method", b"GET"),
]

every_framework = pytest.mark.parametrize("make_app", [Starlette, FastAPI])


@pytest.fixture(params=["added", "wrapped"])
def probe(request: pytest.FixtureRequest, probe: Probe) -> Probe:
    probe.wrap = request.param == "wrapped"
    return probe


async def ok(request: Request) -> Response:
    return PlainTextResponse("ok")


async def other(request: Request) -> Response:
    return PlainTextResponse("other")


class Opaque:
    """Hides what it wraps."""

    def __init__(self, app: ASGIApp) -> None:
        self._hidden = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._hidden(scope, receive, send)


async def bare_app(scope: Any, receive: Receive, send: Send) -> None:
    await PlainTextResponse("bare")(scope, receive, send)


async def _route(probe: Probe, app: Any, path: str, method: str = "GET", **fields: Any) -> str:
    route: str = (await probe.observe(app, method, path, **fields))["route"]
    return route


# -- plain templates --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/users/7", "/users/{id}"),
        ("/users/7/posts/9", "/users/{id}/posts/{post}"),
        ("/files/a/b/c.txt", "/files/{name}"),
        ("/", "/"),
    ],
)
@every_framework
async def test_the_template_has_names_and_no_convertors(
    probe: Probe, make_app: Any, path: str, template: str
) -> None:
    routes = [
        Route("/", ok),
        Route("/users/{id:int}", ok),
        Route("/users/{id:int}/posts/{post}", ok),
        Route("/files/{name:path}", ok),
    ]
    assert await _route(probe, make_app(routes=routes), path) == template


async def test_a_class_based_endpoint_has_its_template(probe: Probe) -> None:
    class Thing(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            return PlainTextResponse("thing")

    assert (
        await _route(probe, Starlette(routes=[Route("/things/{id}", Thing)]), "/things/1") == "/things/{id}"
    )


async def test_a_method_that_the_class_lacks_keeps_the_template(probe: Probe) -> None:
    class Thing(HTTPEndpoint):
        pass

    event = await probe.observe(Starlette(routes=[Route("/things/{id}", Thing)]), "PUT", "/things/1")
    assert (event["route"], event["status"]) == ("/things/{id}", 405)


@every_framework
async def test_one_function_under_two_paths_has_both_templates(probe: Probe, make_app: Any) -> None:
    app = make_app(routes=[Route("/a/{x}", ok), Route("/b/{x}", ok), Route("/a/fixed/{y}", ok)])
    installed = probe.install(app)
    for path in ("/a/1", "/b/1", "/a/fixed/1"):
        await serve(installed, path)
    assert [event["route"] for event in await probe.events()] == ["/a/{x}", "/b/{x}", "/a/fixed/{y}"]


@every_framework
async def test_one_function_under_two_paths_behind_a_root_path_has_both_templates(
    probe: Probe, make_app: Any
) -> None:
    app = make_app(routes=[Route("/a/{x}", ok), Route("/b/{x}", ok)])
    assert await _route(probe, app, "/proxy/b/1", root_path="/proxy") == "/b/{x}"


@every_framework
@pytest.mark.parametrize("path", ["/v1/a/1", "/v1/b/1"])
async def test_a_path_rewritten_for_a_while_still_gives_a_template(
    probe: Probe, make_app: Any, path: str
) -> None:
    inner = make_app(routes=[Route("/a/{x}", ok), Route("/b/{x}", ok)])

    async def rewriting(scope: Any, receive: Receive, send: Send) -> None:
        scope["path"] = path[3:]
        await inner(scope, receive, send)
        scope["path"] = path

    await probe.serve(rewriting, path)
    assert (await probe.event())["route"] in ("/a/{x}", "/b/{x}")


@every_framework
async def test_one_function_in_two_mounts_has_the_names_of_each(probe: Probe, make_app: Any) -> None:
    app = make_app(
        routes=[
            Mount("/one", app=make_app(routes=[Route("/{first}", ok)])),
            Mount("/two", app=make_app(routes=[Route("/{second}", ok)])),
        ]
    )
    assert await _route(probe, app, "/two/x") == "/two/{second}"


async def test_one_function_takes_two_methods_of_one_path(probe: Probe) -> None:
    app = FastAPI()
    app.get("/items/{id}")(_plain)
    app.put("/items/{id}")(_plain)
    assert await _route(probe, app, "/items/1", "PUT") == "/items/{id}"


@every_framework
@pytest.mark.parametrize("endpoint", [ok, other], ids=["known-function", "new-function"])
async def test_a_route_added_after_the_first_request_is_known(
    probe: Probe, make_app: Any, endpoint: Any
) -> None:
    app = make_app(routes=[Route("/early/{x}", ok)])
    installed = probe.install(app)
    await serve(installed, "/early/1")
    app.router.routes.append(Route("/late/{x}", endpoint))
    await serve(installed, "/late/1")
    assert [event["route"] for event in await probe.events()] == ["/early/{x}", "/late/{x}"]


@every_framework
async def test_a_route_added_to_a_mount_after_the_first_request_is_known(probe: Probe, make_app: Any) -> None:
    sub = make_app(routes=[Route("/early", ok)])
    installed = probe.install(make_app(routes=[Mount("/sub", app=sub)]))
    await serve(installed, "/sub/early")
    sub.router.routes.append(Route("/late/{x}", other))
    await serve(installed, "/sub/late/1")
    assert [event["route"] for event in await probe.events()] == ["/sub/early", "/sub/late/{x}"]


# -- FastAPI ----------------------------------------------------------------------------


def _plain() -> Dict[str, str]:
    return {"plain": "yes"}


def _two_levels() -> FastAPI:
    app, outer, inner = FastAPI(), APIRouter(prefix="/outer"), APIRouter()
    inner.get("/leaf/{id}")(_plain)
    outer.include_router(inner, prefix="/inner/{group}")
    outer.get("")(_plain)
    app.include_router(outer, prefix="/api")
    return app


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/api/outer/inner/g/leaf/1", "/api/outer/inner/{group}/leaf/{id}"),
        ("/api/outer", "/api/outer"),
    ],
)
async def test_nested_prefixes_are_part_of_the_template(probe: Probe, path: str, template: str) -> None:
    assert await _route(probe, _two_levels(), path) == template


async def test_a_method_not_allowed_under_a_prefix_keeps_the_template(probe: Probe) -> None:
    event = await probe.observe(_two_levels(), "DELETE", "/api/outer/inner/g/leaf/1")
    assert (event["route"], event["status"]) == ("/api/outer/inner/{group}/leaf/{id}", 405)


async def test_an_unknown_path_under_a_prefix_is_unmatched(probe: Probe) -> None:
    assert await _route(probe, _two_levels(), "/api/outer/inner/g/nothing") == "(unmatched)"


async def test_a_router_included_twice_has_both_templates(probe: Probe) -> None:
    app, router = FastAPI(), APIRouter()
    router.get("/leaf/{id}")(_plain)
    router.add_route("/raw/{id}", ok)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    installed = probe.install(app)
    paths = ["/v2/leaf/1", "/v1/leaf/1", "/v2/raw/1", "/v1/raw/1"]
    for path in paths:
        await serve(installed, path)
    assert [event["route"] for event in await probe.events()] == [path[:-1] + "{id}" for path in paths]


async def test_one_function_in_the_application_and_in_a_router_has_both_templates(probe: Probe) -> None:
    app, router = FastAPI(), APIRouter()
    router.get("/{name}")(_plain)
    app.get("/direct/{id}")(_plain)
    app.include_router(router, prefix="/included")
    installed = probe.install(app)
    for path in ("/direct/1", "/included/1"):
        await serve(installed, path)
    assert [event["route"] for event in await probe.events()] == ["/direct/{id}", "/included/{name}"]


async def test_a_router_included_after_the_first_request_is_known(probe: Probe) -> None:
    app, router = FastAPI(), APIRouter()
    router.get("/{name}")(_plain)
    router.add_route("/raw/{id}", ok)
    app.add_api_route("/early", _plain)
    installed = probe.install(app)
    await serve(installed, "/early")
    app.include_router(router, prefix="/late")
    for path in ("/late/1", "/late/raw/1"):
        await serve(installed, path)
    assert [event["route"] for event in await probe.events()] == ["/early", "/late/{name}", "/late/raw/{id}"]


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
async def test_the_documentation_of_fastapi_has_its_routes(probe: Probe, path: str) -> None:
    assert await _route(probe, FastAPI(), path) == path


async def test_a_validation_error_keeps_the_template(probe: Probe) -> None:
    app = FastAPI()

    @app.get("/items/{id}")
    def item(id: int) -> int:  # noqa: A002 - a path parameter's name
        return id

    event = await probe.observe(app, "GET", "/items/seven")
    assert (event["route"], event["status"], event["error"]) == ("/items/{id}", 422, None)


@pytest.mark.skipif(not hasattr(FastAPI, "frontend"), reason="FastAPI.frontend() is newer than this FastAPI")
@pytest.mark.parametrize("root_path", ["", "/proxy"])
async def test_a_frontend_of_fastapi_is_one_route(probe: Probe, tmp_path: Path, root_path: str) -> None:
    (tmp_path / "index.html").write_text("hello")
    app, router = FastAPI(), APIRouter()
    router.frontend("/ui", directory=str(tmp_path))
    app.include_router(router, prefix="/app")
    installed = probe.install(app)
    for path in ("/app/ui/index.html", "/app/ui/", "/app/ui/no/such.js"):
        await serve(installed, http_scope(path=root_path + path, root_path=root_path))
    events = await probe.events()
    assert [event["status"] for event in events] == [200, 200, 404]
    assert {event["route"] for event in events} == {"/app/ui/{path}"}


# -- nothing matched --------------------------------------------------------------------


@every_framework
async def test_a_path_that_nothing_matches_is_unmatched(probe: Probe, make_app: Any) -> None:
    event = await probe.observe(make_app(), "GET", "/.env")
    assert (event["route"], event["path"], event["status"]) == ("(unmatched)", "/.env", 404)


@every_framework
async def test_a_redirect_to_the_path_with_a_slash_is_unmatched(probe: Probe, make_app: Any) -> None:
    event = await probe.observe(make_app(routes=[Route("/a/", ok)]), "GET", "/a")
    assert (event["route"], event["status"]) == ("(unmatched)", 307)


@every_framework
async def test_a_preflight_that_a_middleware_answers_is_unmatched(probe: Probe, make_app: Any) -> None:
    app = make_app(routes=[Route("/a", ok)])
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    event = await probe.observe(app, "OPTIONS", "/a", headers=PREFLIGHT)
    assert (event["route"], event["method"], event["status"]) == ("(unmatched)", "OPTIONS", 200)


@every_framework
async def test_a_preflight_answered_around_the_application_is_unmatched(probe: Probe, make_app: Any) -> None:
    app = make_app()
    installed = BeaconASGIMiddleware(CORSMiddleware(app, allow_origins=["*"]), probe.client)
    app.router.routes.append(Route("/a", ok))
    await serve(installed, http_scope("OPTIONS", "/scan/1", headers=PREFLIGHT))
    assert (await probe.event())["route"] == "(unmatched)"


async def test_an_application_without_a_router_shows_the_concrete_path(probe: Probe) -> None:
    await serve(BeaconASGIMiddleware(bare_app, probe.client), "/any/where")
    assert (await probe.event())["route"] == "/any/where"


# -- mounts -----------------------------------------------------------------------------


def _sub(make_app: Any) -> Any:
    return make_app(routes=[Route("/", ok), Route("/leaf/{id}", ok), Route("/other/{id}", other)])


@pytest.mark.parametrize("make_outer", [Starlette, FastAPI])
@pytest.mark.parametrize("make_inner", [Starlette, FastAPI, Router])
@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/sub/leaf/1", "/sub/leaf/{id}"),
        ("/sub/other/1", "/sub/other/{id}"),
        ("/sub/", "/sub/"),
        ("/sub/nothing/at/all", "/sub/{path}"),
    ],
)
async def test_a_mount_is_part_of_the_template(
    probe: Probe, make_outer: Any, make_inner: Any, path: str, template: str
) -> None:
    app = make_outer(routes=[Mount("/sub", app=_sub(make_inner))])
    assert await _route(probe, app, path) == template


async def test_fastapi_in_fastapi_has_both_prefixes(probe: Probe) -> None:
    app, sub = FastAPI(), _two_levels()
    app.mount("/sub", sub)
    assert await _route(probe, app, "/sub/api/outer/inner/g/leaf/1") == (
        "/sub/api/outer/inner/{group}/leaf/{id}"
    )


async def test_the_documentation_of_a_mounted_fastapi_has_its_routes(probe: Probe) -> None:
    app = FastAPI()
    app.mount("/sub", FastAPI())
    assert await _route(probe, app, "/sub/docs") == "/sub/docs"


async def test_mounts_in_mounts_add_up(probe: Probe) -> None:
    inner = Mount("/inner", app=_sub(Starlette))
    app = Starlette(routes=[Mount("/outer", app=Starlette(routes=[inner]))])
    assert await _route(probe, app, "/outer/inner/leaf/1") == "/outer/inner/leaf/{id}"


@pytest.mark.parametrize(
    ("mount", "path", "template"),
    [
        ("/tenants/{tenant}", "/tenants/acme/leaf/1", "/tenants/{tenant}/leaf/{id}"),
        ("/tenants/{tenant}", "/tenants/tenants/leaf/1", "/tenants/{tenant}/leaf/{id}"),
        ("/tenants/{tenant}", "/tenants/1/leaf/1", "/tenants/{tenant}/leaf/{id}"),
        ("/tenants/{tenant}", "/tenants/acme/nothing", "/tenants/{tenant}/{path}"),
        ("/tenants/{id}", "/tenants/acme/leaf/1", "/tenants/{id}/leaf/{id}"),
        ("/v{version:int}", "/v007/leaf/1", "/v{version}/leaf/{id}"),
        ("/by/{ratio:float}", "/by/1.50/leaf/1", "/by/{ratio}/leaf/{id}"),
        ("/at/{place:path}", "/at/some/where/", "/at/{place}/"),
    ],
)
async def test_a_parameter_of_a_mount_keeps_its_name(
    probe: Probe, mount: str, path: str, template: str
) -> None:
    mounts = [Mount("/static", app=bare_app), Mount("/sites/{site}", app=bare_app)]
    app = Starlette(routes=[*mounts, Mount(mount, app=_sub(Starlette))])
    assert await _route(probe, app, path) == template


async def test_a_parameter_of_a_mount_in_a_mount_keeps_its_name(probe: Probe) -> None:
    inner = Mount("/users/{id}", app=_sub(Router))
    app = Starlette(routes=[Mount("/tenants/{id}", routes=[inner])])
    path = "/tenants/acme/users/anna/leaf/1"
    assert await _route(probe, app, path) == "/tenants/{id}/users/{id}/leaf/{id}"


async def test_a_parameter_of_a_mount_that_is_hidden_keeps_its_name(probe: Probe) -> None:
    hidden = Opaque(Starlette(routes=[Mount("/tenants/{tenant}", app=_sub(Starlette))]))
    app = Starlette(routes=[Mount("/opaque", app=hidden)])
    # Starlette before 1.0 does not say which route below it was.
    assert await _route(probe, app, "/opaque/tenants/acme/leaf/1") in (
        "/opaque/tenants/{tenant}/leaf/{id}",
        "/opaque/tenants/{tenant}/{path}",
    )


async def test_a_value_that_looks_like_a_mount_stays_out_of_it(probe: Probe) -> None:
    app = Starlette(routes=[Mount("/sub", app=_sub(Starlette))])
    assert await _route(probe, app, "/sub/leaf/sub") == "/sub/leaf/{id}"


async def test_a_mount_inside_an_included_router_has_both_prefixes(probe: Probe) -> None:
    app, router = FastAPI(), APIRouter()
    router.mount("/sub", FastAPI(routes=[Route("/leaf/{id}", ok)]))
    app.include_router(router, prefix="/api/{version}")
    event = await probe.observe(app, "GET", "/api/v1/sub/leaf/1")
    if event["status"] == 404:
        pytest.skip("this FastAPI leaves out the mounts of an included router")
    assert event["route"] == "/api/{version}/sub/leaf/{id}"


@pytest.mark.parametrize(("path", "status"), [("/assets/a.txt", 200), ("/assets/deep/b.txt", 404)])
@every_framework
async def test_static_files_are_one_route_found_or_not(
    probe: Probe, tmp_path: Path, make_app: Any, path: str, status: int
) -> None:
    (tmp_path / "a.txt").write_text("hello")
    app = make_app(routes=[Route("/", ok), Mount("/assets", app=StaticFiles(directory=str(tmp_path)))])
    event = await probe.observe(app, "GET", path)
    assert (event["route"], event["path"], event["status"]) == ("/assets/{path}", path, status)


async def test_a_foreign_application_in_a_mount_is_one_route(probe: Probe) -> None:
    assert await _route(probe, Starlette(routes=[Mount("/legacy", app=bare_app)]), "/legacy/x/y") == (
        "/legacy/{path}"
    )


async def test_a_wrapper_around_a_mounted_application_is_looked_through(probe: Probe) -> None:
    wrapped = CORSMiddleware(_sub(Starlette), allow_origins=["*"])
    assert await _route(probe, Starlette(routes=[Mount("/sub", app=wrapped)]), "/sub/leaf/1") == (
        "/sub/leaf/{id}"
    )


async def test_an_application_mounted_in_itself_has_its_templates(probe: Probe) -> None:
    app = Starlette(routes=[Route("/leaf/{id}", ok)])
    app.mount("/again", app)
    assert await _route(probe, app, "/again/leaf/1") == "/again/leaf/{id}"


@every_framework
async def test_a_host_takes_nothing_from_the_template(probe: Probe, make_app: Any) -> None:
    inner = Starlette(routes=[Route("/leaf/{id}", ok), Mount("/sub", app=_sub(Starlette))])
    app = make_app(routes=[Host("{site}.example", app=inner), Route("/leaf/{name}", other)])
    installed = probe.install(app)
    headers = [(b"host", b"sub.example")]
    for path in ("/leaf/1", "/sub/leaf/1", "/nothing"):
        await serve(installed, http_scope(path=path, headers=headers))
    await serve(installed, "/leaf/1")
    routes = [event["route"] for event in await probe.events()]
    assert routes == ["/leaf/{id}", "/sub/leaf/{id}", "(unmatched)", "/leaf/{name}"]


# -- root_path --------------------------------------------------------------------------


@every_framework
@pytest.mark.parametrize("path", ["/leaf/1", "/sub/leaf/1"])
async def test_the_root_path_of_the_server_is_not_part_of_the_route(
    probe: Probe, make_app: Any, path: str
) -> None:
    app = make_app(routes=[Route("/leaf/{id}", ok), Mount("/sub", app=_sub(Starlette))])
    event = await probe.observe(app, "GET", "/proxy" + path, root_path="/proxy")
    assert (event["route"], event["path"]) == (path[:-1] + "{id}", "/proxy" + path)


@pytest.mark.parametrize("path", ["/leaf/1", "/docs", "/prefix/leaf/1"])
async def test_the_root_path_of_fastapi_is_not_part_of_the_route(probe: Probe, path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        app = FastAPI(root_path="/proxy", routes=[Route("/leaf/{id}", ok)])
    router = APIRouter()
    router.get("/leaf/{id}")(_plain)
    app.include_router(router, prefix="/prefix")
    event = await probe.observe(app, "GET", path)
    assert (event["route"], event["status"]) == (path.replace("/1", "/{id}"), 200)


# -- where the middleware stands --------------------------------------------------------


@pytest.mark.parametrize("make_outer", [Starlette, FastAPI])
@pytest.mark.parametrize("make_inner", [Starlette, FastAPI])
async def test_inside_a_sub_application_the_mount_is_part_of_the_template(
    probe: Probe, make_outer: Any, make_inner: Any
) -> None:
    app = make_outer(routes=[Mount("/tenants/{tenant}", app=probe.install(_sub(make_inner)))])
    await serve(app, "/tenants/acme/leaf/1")
    event = await probe.event()
    assert (event["route"], event["path"]) == ("/tenants/{tenant}/leaf/{id}", "/tenants/acme/leaf/1")


async def test_one_client_in_application_and_sub_application_reports_once(probe: Probe) -> None:
    sub = probe.install(_sub(Starlette), consumer_resolver=lambda _: "inner")
    app = probe.install(Starlette(routes=[Mount("/sub", app=sub)]), consumer_resolver=lambda _: "outer")
    await serve(app, "/sub/leaf/1")
    event = await probe.event()
    assert (event["route"], event["consumer"]) == ("/sub/leaf/{id}", "outer")


async def test_two_clients_report_once_each(probe: Probe, make_client: Any) -> None:
    second: BeaconClient = make_client(dry_run=True)
    sub = BeaconASGIMiddleware(_sub(Starlette), second)
    await serve(probe.install(Starlette(routes=[Mount("/sub", app=sub)])), "/sub/leaf/1")
    await second.flush()
    sent: List[Dict[str, Any]] = second.transport.sent_events  # type: ignore[attr-defined]
    assert [event["route"] for event in sent] == ["/sub/leaf/{id}"]
    assert (await probe.event())["route"] == "/sub/leaf/{id}"


async def test_one_middleware_serves_two_requests_at_once(probe: Probe) -> None:
    inner = _sub(Starlette)

    async def nested(request: Request) -> Response:
        await serve(installed, "/leaf/2")
        return PlainTextResponse("nested")

    inner.router.routes.append(Route("/nested/{id}", nested))
    installed: ASGIApp = probe.install(inner)
    await serve(installed, "/nested/1")
    assert [event["route"] for event in await probe.events()] == ["/leaf/{id}", "/nested/{id}"]


def _refers_to_itself(make_app: Any) -> Any:
    app = make_app()

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(str(app))

    app.router.routes.append(Route("/closure/{id}", endpoint))
    return app


@every_framework
async def test_an_application_that_is_let_go_is_collected(probe: Probe, make_app: Any) -> None:
    app = _refers_to_itself(make_app)
    assert await _route(probe, app, "/closure/1") == "/closure/{id}"
    watch = weakref.ref(app)
    del app
    gc.collect()
    assert watch() is None


# -- what it costs ----------------------------------------------------------------------


async def test_routes_are_read_once_and_never_per_request(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reads: List[Any] = []
    read = _asgi_route._RouteMap._read

    def counted(routes: _asgi_route._RouteMap) -> None:
        reads.append(routes)
        read(routes)

    monkeypatch.setattr(_asgi_route._RouteMap, "_read", counted)
    app = FastAPI(
        routes=[
            Route("/leaf/{id}", ok),
            Mount("/files", app=StaticFiles(directory=str(tmp_path))),
            Mount("/tenants/{tenant}", app=_sub(FastAPI)),
            Mount("/opaque", app=Opaque(_sub(FastAPI))),
        ]
    )
    installed = probe.install(app)
    paths = ["/leaf/1", "/files/no", "/tenants/acme/leaf/1", "/opaque/leaf/1", "/opaque/nothing", "/nothing"]
    for path in paths:
        await serve(installed, path)
    settled = len(reads)
    for path in paths * 3:
        await serve(installed, path)
    assert settled <= 3  # at first, and for each endpoint that nobody shows
    assert len(reads) == settled


def test_endpoints_made_for_one_request_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endpoint:
        pass

    monkeypatch.setattr(_asgi_route, "_MAX_STRANGERS", 3)
    reader, router = _asgi_route.RouteReader(bare_app), Router()
    alive = weakref.WeakSet[Endpoint]()
    for _ in range(10):
        endpoint = Endpoint()
        alive.add(endpoint)
        assert reader.read({"router": router, "endpoint": endpoint}) == "(unmatched)"
    del endpoint
    assert len(alive) == 3


def test_a_wrapper_around_itself_ends() -> None:
    class Loop:
        @property
        def app(self) -> Loop:
            return self

    assert _asgi_route.RouteReader(Loop()).read({"path": "/x"}) == "/x"
