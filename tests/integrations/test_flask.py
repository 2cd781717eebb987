"""What is particular to Flask; the rules that all adapters share are in `conformance.py`."""

from __future__ import annotations

import asyncio
import contextvars
import io
from typing import TYPE_CHECKING, Any, Callable, Iterator, List

import pytest
from flask import Flask, Response, current_app, g, request, send_file, stream_with_context
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from beaconhq import set_consumer
from beaconhq.integrations.flask import BeaconFlask, init_flask

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
