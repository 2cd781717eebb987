"""What is particular to Flask; the rules that all adapters share are in `conformance.py`."""

from __future__ import annotations

import asyncio
import contextvars
import io
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional, Tuple

import flask
import pytest
from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from flask import Blueprint, Flask, Response, current_app, g, request, send_file, stream_with_context
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from beaconhq import set_consumer
from beaconhq.integrations.asgi import BeaconASGIMiddleware
from beaconhq.integrations.flask import BeaconFlask, init_flask

from .asgi_server import serve
from .conformance import Request
from .wsgi_server import environ_of, serve_wsgi

if TYPE_CHECKING:
    from beaconhq import BeaconClient

    from .conftest import Probe


def _start_response(*_: Any) -> Any:
    return None


@pytest.fixture
def app(probe: Probe) -> Flask:
    app = Flask(__name__)
    init_flask(app, probe.client, consumer_header="X-API-Key")

    @app.get("/users/<int:user_id>")
    def user(user_id: int) -> str:
        return str(user_id)

    return app


async def test_the_route_is_the_rule_as_it_was_written(app: Flask, probe: Probe) -> None:
    app.test_client().get("/users/7")
    event = await probe.event()
    assert (event["route"], event["path"]) == ("/users/<int:user_id>", "/users/7")


async def test_the_test_client_needs_not_read_the_answer(app: Flask, probe: Probe) -> None:
    app.test_client().get("/users/7")
    app.test_client().get("/missing")
    assert [event["status"] for event in await probe.events()] == [200, 404]


async def test_an_earlier_before_request_that_answers_still_gives_an_event(probe: Probe) -> None:
    app = Flask(__name__)
    app.before_request(lambda: Response("no", 401))
    init_flask(app, probe.client)
    app.get("/users/<name>")(lambda name: name)
    app.test_client().get("/users/ann")
    event = await probe.event()
    assert (event["status"], event["route"]) == (401, "/users/<name>")


async def test_the_exception_is_known_though_an_error_handler_answered(app: Flask, probe: Probe) -> None:
    app.get("/boom")(lambda: str(1 / 0))
    app.errorhandler(500)(lambda _: ("sorry", 503))
    assert app.test_client().get("/boom").status_code == 503
    event = await probe.event()
    assert (event["status"], event["error"]) == (503, "ZeroDivisionError: division by zero")


async def test_in_testing_mode_the_exception_passes_and_gives_an_event(app: Flask, probe: Probe) -> None:
    app.get("/boom")(lambda: str(1 / 0))
    app.testing = True
    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/boom")
    event = await probe.event()
    assert (event["status"], event["route"]) == (500, "/boom")
    assert event["error"].startswith("ZeroDivisionError")


async def test_a_slash_redirect_is_unmatched(app: Flask, probe: Probe) -> None:
    app.get("/list/")(lambda: "list")
    assert app.test_client().get("/list").status_code == 308
    assert (await probe.event())["route"] == "(unmatched)"


async def test_options_and_405_have_the_rule(app: Flask, probe: Probe) -> None:
    client = app.test_client()
    client.options("/users/7")
    client.delete("/users/7")
    assert [(e["status"], e["route"]) for e in await probe.events()] == [
        (200, "/users/<int:user_id>"),
        (405, "/users/<int:user_id>"),
    ]


async def test_static_files_have_their_rule(app: Flask, probe: Probe) -> None:
    app.test_client().get("/static/missing.css")
    assert (await probe.event())["route"] == "/static/<path:filename>"


async def test_a_stream_lasts_to_its_last_byte(
    app: Flask, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    for module in ("flask", "_record"):
        monkeypatch.setattr(f"beaconhq.integrations.{module}.perf_counter", lambda: now[0])

    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            now[0] += 1
            yield b"x"

    app.get("/stream")(lambda: Response(chunks()))
    answer = serve_wsgi(app, environ_of(Request("GET", "/stream")))
    assert answer.body == b"xxx"
    assert (await probe.event())["duration_ms"] == 3000


async def test_a_stream_that_the_client_leaves_has_the_status_that_was_sent(app: Flask, probe: Probe) -> None:
    closed: List[str] = []

    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append("yes")

    app.get("/stream")(lambda: Response(stream_with_context(chunks())))
    body = app(environ_of(Request("GET", "/stream")), _start_response)
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    event = await probe.event()
    assert (event["status"], event["error"], closed) == (200, None, ["yes"])


async def test_a_file_stays_the_server_s_file_wrapper(app: Flask, probe: Probe) -> None:
    class ServersWrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter([self.file.read()])

        def close(self) -> None:
            self.file.close()

    app.get("/file")(lambda: send_file(io.BytesIO(b"content"), "text/plain"))
    environ = {**environ_of(Request("GET", "/file")), "wsgi.file_wrapper": ServersWrapper}
    body = app(environ, _start_response)
    assert type(body) is ServersWrapper, "else the server does not use sendfile"
    assert probe.client.stats()["captured"] == 0
    assert b"".join(body) == b"content"
    body.close()
    assert (await probe.event())["route"] == "/file"


async def test_a_resolver_has_the_request_s_context(probe: Probe) -> None:
    app = Flask(__name__)

    def who(of: Any) -> str:
        assert current_app.name == __name__
        return f"{g.user} {request.args['team']} {of.method}"

    init_flask(app, probe.client, consumer_resolver=who)

    @app.get("/")
    def view() -> str:
        g.user = "ann"
        return ""

    app.test_client().get("/?team=red")
    assert (await probe.event())["consumer"] == "ann red GET"


@pytest.mark.parametrize("kind", ["view", "before_request", "async view", "failing view"])
async def test_the_consumer_may_be_named_from_anywhere(app: Flask, probe: Probe, kind: str) -> None:
    async def async_view() -> str:
        await asyncio.sleep(0)
        set_consumer("acme")
        return ""

    def view() -> str:
        set_consumer("acme")
        return str(1 / 0) if kind == "failing view" else ""

    if kind == "before_request":
        app.before_request(lambda: set_consumer("acme"))
    app.get("/")(async_view if kind == "async view" else view)
    serve = app.test_client().get
    await asyncio.get_running_loop().run_in_executor(None, lambda: serve("/", headers={"X-API-Key": "h"}))
    assert (await probe.event())["consumer"] == "acme"


async def test_the_context_is_as_it_was(app: Flask, probe: Probe) -> None:
    before = dict(contextvars.copy_context())
    app.test_client().get("/users/7")
    assert dict(contextvars.copy_context()) == before


async def test_several_applications_share_one_client(probe: Probe) -> None:
    extension = BeaconFlask(probe.client)
    for name in ("one", "two"):
        app = Flask(name)
        extension.init_app(app)
        app.get(f"/{name}")(lambda: "")
        app.test_client().get(f"/{name}")
    assert [event["route"] for event in await probe.events()] == ["/one", "/two"]


async def test_installed_twice_it_reports_once(app: Flask, probe: Probe) -> None:
    init_flask(app, probe.client)
    app.test_client().get("/users/7")
    assert len(await probe.events()) == 1


async def test_two_clients_report_once_each(
    app: Flask, probe: Probe, make_client: Callable[..., BeaconClient]
) -> None:
    other = make_client(dry_run=True)
    init_flask(app, other)
    app.test_client().get("/users/7")
    await other.flush()
    assert (await probe.event())["route"] == "/users/<int:user_id>"
    assert other.stats()["delivered"] == 1


@pytest.mark.parametrize("outer", [True, False])
async def test_an_application_mounted_by_a_dispatcher_has_the_mount_in_its_route(
    app: Flask, probe: Probe, outer: bool
) -> None:
    root = Flask("root")
    root.wsgi_app = DispatcherMiddleware(root.wsgi_app, {"/api": app})  # type: ignore[method-assign]
    if outer:
        init_flask(root, probe.client)
    serve_wsgi(root, environ_of(Request("GET", "/api/users/7")))
    event = await probe.event()
    assert event["route"] == ("/api/users/<int:user_id>" if outer else "/users/<int:user_id>")
    assert event["path"] == "/api/users/7"


@pytest.mark.parametrize("option", [{"consumer_header": 7}, {"consumer_resolver": "name"}])
def test_an_option_that_cannot_be_right_is_refused(probe: Probe, option: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        BeaconFlask(probe.client, **option)


# -- what is as it is without us --------------------------------------------------------


def _diary(app: Flask) -> List[str]:
    """Note every hook and signal of a request, in order, and what context it runs in."""
    entries: List[str] = []

    def note(name: str) -> Callable[..., None]:
        def noting(*_: Any, **__: Any) -> None:
            entries.append(f"{name} {flask.has_request_context()} {flask.has_app_context()}")

        diary.append(noting)  # signals hold their receivers weakly
        return noting

    def after(response: Response) -> Response:
        note("after_request")()
        return response

    diary: List[Any] = app.extensions.setdefault("diary", [])
    app.before_request(note("before_request"))
    app.after_request(after)
    app.teardown_request(lambda exc: note(f"teardown_request {exc!r}")())
    app.teardown_appcontext(lambda exc: note(f"teardown_appcontext {exc!r}")())
    for name in ("request_started", "request_finished", "request_tearing_down", "got_request_exception"):
        getattr(flask, name).connect(note(name), app)
    return entries


def _app_with_everything() -> Flask:
    app = Flask(__name__)

    def chunks(*, fails: bool) -> Iterator[str]:
        yield request.path
        if fails:
            raise RuntimeError("half-way")

    app.add_url_rule("/", "plain", lambda: "plain")
    app.add_url_rule("/boom", "boom", lambda: str(1 / 0))
    for name, fails in (("stream", False), ("broken", True)):
        app.add_url_rule(
            f"/{name}",
            name,
            lambda fails=fails: Response(stream_with_context(chunks(fails=fails))),
        )
    return app


@pytest.mark.parametrize("propagate", [None, True, False])
@pytest.mark.parametrize("at", ["/", "/boom", "/stream", "/broken", "/missing"])
async def test_hooks_signals_and_teardown_come_in_the_same_order(
    probe: Probe, at: str, propagate: Optional[bool]
) -> None:
    def serve(*, observed: bool) -> Tuple[List[str], Any]:
        app = _app_with_everything()
        app.config["PROPAGATE_EXCEPTIONS"] = propagate
        entries = _diary(app)
        if observed:
            init_flask(app, probe.client)
        environ = environ_of(Request("GET", at))
        answer = serve_wsgi(app, environ)
        return entries, (*answer[:3], repr(answer.exception))

    assert serve(observed=True) == serve(observed=False)
    event = await probe.event()
    failed = {"/boom": "ZeroDivisionError: division by zero", "/broken": "RuntimeError: half-way"}
    assert event["error"] == failed.get(at)


async def test_a_test_client_keeps_the_context_of_its_last_request(app: Flask, probe: Probe) -> None:
    with app.test_client() as client:
        client.get("/users/7?page=2")
        assert request.args["page"] == "2"
    assert not flask.has_request_context()
    assert len(await probe.events()) == 1


async def test_context_variables_reach_the_view_and_come_back(app: Flask, probe: Probe) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    @app.get("/context")
    def view() -> str:
        seen = variable.get()
        variable.set("from the view")
        return seen

    def serve() -> Tuple[bytes, str]:
        variable.set("from the server")
        return serve_wsgi(app, environ_of(Request("GET", "/context"))).body, variable.get()

    assert contextvars.copy_context().run(serve) == (b"from the server", "from the view")


async def test_the_length_of_a_list_stays_known_to_the_server(app: Flask, probe: Probe) -> None:
    """wsgiref and waitress take the length of the answer from a list of one chunk."""
    inner = app.wsgi_app

    def answers(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/listed":
            return inner(environ, start_response)
        start_response("200 OK", [])
        return [b"listed"]

    app.wsgi_app = answers  # type: ignore[method-assign]
    init_flask(app, probe.configure())
    body = app(environ_of(Request("GET", "/listed")), _start_response)
    assert body == [b"listed"]
    assert (await probe.event())["route"] == "(unmatched)"


@pytest.mark.parametrize("status", ["\u00b200 OK", " 20 OK", "1_0 OK", "+20 OK", "OK", ""])
async def test_what_is_no_status_is_a_500(app: Flask, probe: Probe, status: str) -> None:
    def answers(environ: Any, start_response: Any) -> Any:
        start_response(status, [])
        return [b"answered"]

    app.wsgi_app = answers  # type: ignore[method-assign]
    init_flask(app, probe.client)
    assert app(environ_of(Request("GET", "/odd")), _start_response) == [b"answered"]
    assert (await probe.event())["status"] == 500


async def test_a_status_that_the_server_refuses_was_not_sent(app: Flask, probe: Probe) -> None:
    inner = app.wsgi_app

    def restarts(environ: Any, start_response: Any) -> Any:
        yield from inner(environ, start_response)
        try:
            start_response("500 TOO LATE", [], exc_info=None)
        except RuntimeError:
            yield b"!"

    def once(status: str, headers: Any, exc_info: Any = None) -> Any:
        if status.startswith("500"):
            raise RuntimeError("the head was sent")

    app.wsgi_app = restarts  # type: ignore[method-assign]
    init_flask(app, probe.configure())
    assert b"".join(app(environ_of(Request("GET", "/users/7")), once)) == b"7!"
    assert (await probe.event())["status"] == 200


# -- extensions and mounts --------------------------------------------------------------


async def test_an_application_factory_makes_applications_of_one_extension(probe: Probe) -> None:
    beacon = BeaconFlask(probe.client, consumer_header="X-API-Key")

    def create_app(name: str) -> Flask:
        app = Flask(name)
        beacon.init_app(app)
        orders, items = Blueprint("orders", name), Blueprint("items", name)
        items.get("/items/<int:item_id>")(lambda order_id, item_id: f"{order_id} {item_id}")
        orders.register_blueprint(items, url_prefix="/<order_id>")
        app.register_blueprint(orders, url_prefix=f"/{name}")
        return app

    apps = {name: create_app(name) for name in ("one", "two")}
    for name, app in apps.items():
        app.test_client().get(f"/{name}/7/items/8", headers={"X-API-Key": name})
    assert [(event["route"], event["consumer"]) for event in await probe.events()] == [
        ("/one/<order_id>/items/<int:item_id>", "one"),
        ("/two/<order_id>/items/<int:item_id>", "two"),
    ]


async def test_an_extension_that_signals_a_404_reports_no_failure(app: Flask, probe: Probe) -> None:
    """Flask-RESTful sends the signal for whatever it turns into an answer."""

    @app.errorhandler(NotFound)
    def answer(exc: NotFound) -> Tuple[str, int]:
        flask.got_request_exception.send(app, exception=exc)
        return "no", 404

    app.test_client().get("/nothing")
    event = await probe.event()
    assert (event["status"], event["error"]) == (404, None)


@pytest.mark.parametrize("first", ["proxy", "beacon"])
async def test_the_prefix_of_a_proxy_is_not_part_of_the_route(probe: Probe, first: str) -> None:
    """Whichever of the two is around the other: the prefix comes with the request, as it likes."""
    app = Flask(__name__)
    app.add_url_rule("/users/<int:user_id>", view_func=lambda user_id: f"{user_id}")
    if first == "beacon":
        init_flask(app, probe.client)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    if first == "proxy":
        init_flask(app, probe.client)
    request = Request("GET", "/users/7", (("x-forwarded-prefix", b"/anything"),))
    serve_wsgi(app, environ_of(request))
    assert (await probe.event())["route"] == "/users/<int:user_id>"


async def test_a_foreign_application_in_a_mount_is_one_route(app: Flask, probe: Probe) -> None:
    def legacy(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/legacy": legacy})  # type: ignore[method-assign]
    init_flask(app, probe.configure(), consumer_header="X-API-Key")
    request = Request("GET", "/legacy/a/b", (("x-api-key", b"acme"),))
    assert serve_wsgi(app, environ_of(request)).body == b"/a/b"
    event = await probe.event()
    assert (event["route"], event["path"], event["consumer"]) == (
        "/legacy/<path:path>",
        "/legacy/a/b",
        "acme",
    )


@pytest.mark.parametrize("same", [True, False])
async def test_below_an_asgi_application_the_outermost_reports(
    app: Flask, probe: Probe, make_client: Callable[..., BeaconClient], same: bool
) -> None:
    """Flask in FastAPI, by a2wsgi; another client reports for itself and learns the same consumer."""

    @app.get("/named")
    def named() -> str:
        set_consumer("acme")
        return ""

    other = probe.client if same else make_client(dry_run=True)
    outer = FastAPI()
    bridge: Any = WSGIMiddleware  # whose types are its own
    outer.mount("/flask", bridge(app))
    outer.add_middleware(BeaconASGIMiddleware, client=other)
    await serve(outer, "/flask/named")
    await other.flush()
    (inner,) = await probe.events()
    assert inner["consumer"] == "acme"
    assert inner["route"] == ("/flask/{path}" if same else "/named")
    if not same:
        (event,) = other.transport.sent_events  # type: ignore[attr-defined]
        assert (event["route"], event["consumer"]) == ("/flask/{path}", "acme")
