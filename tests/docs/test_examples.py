"""The examples run as their first lines say, and what they report arrives."""

from __future__ import annotations

import hashlib
import re
import signal
import time
from typing import TYPE_CHECKING, Optional, Tuple

import pytest
from local.processes import PATIENCE, run, running

from .conftest import Event, Ingest
from .pages import DOCS, EXAMPLES, README
from .servers import served_by, serving, with_port

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.process

TESTED = {"fastapi_app.py", "starlette_app.py", "flask_app.py", "django_app.py", "script.py", "worker.py"}
DISABLED = {"BEACON_ENABLED": "0", "BEACON_INGEST_KEY": ""}


def test_every_example_is_tested_and_linked() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED
    index = (DOCS / "index.md").read_text("utf-8")
    assert {name for name in TESTED if f"(examples/{name})" in index} == TESTED
    assert "(docs/examples/)" in README.read_text("utf-8")


def test_the_fastapi_app(ingest: Ingest) -> None:
    with serving("fastapi_app", EXAMPLES, **ingest.environment) as visitor:
        visitor.get("/users/7", headers={"x-api-key": "acme"})
        visitor.get("/users/1001")
        health = visitor.get("/healthz").json()
        assert (health["beacon"]["host"], health["beacon"]["state"]) == ("event_loop", "running")
        assert health["beacon"]["captured"] == 2
        visitor.get("/wp-login.php")
    assert ingest.events() == [
        Event("GET", "/users/{user_id}", "/users/7", 200, "acme", None),
        Event("GET", "/users/{user_id}", "/users/1001", 404, None, None),
        Event("GET", "/healthz", "/healthz", 200, None, None),
        Event("GET", "(unmatched)", "/wp-login.php", 404, None, None),
    ]


def test_the_fastapi_app_ships_nothing_where_it_is_disabled(ingest: Ingest) -> None:
    """The "testing your app" of the README: no key is needed."""
    with serving("fastapi_app", EXAMPLES, **{**ingest.environment, **DISABLED}) as visitor:
        assert visitor.get("/users/7").status_code == 200
        beacon = visitor.get("/healthz").json()["beacon"]
        assert (beacon["state"], beacon["captured"], beacon["host"]) == ("disabled", 0, None)
    assert ingest.events() == []


def test_the_starlette_app(ingest: Ingest) -> None:
    with serving("starlette_app", EXAMPLES, **ingest.environment) as visitor:
        assert visitor.get("/shop/orders/7", headers={"x-api-key": "acme"}).json() == {"order": 7}
        visitor.get("/shop/nothing")
    consumer = hashlib.sha256(b"acme").hexdigest()[:12]
    assert ingest.events() == [
        Event("GET", "/shop/orders/{order_id}", "/shop/orders/7", 200, consumer, None),
        Event("GET", "/shop/{path}", "/shop/nothing", 404, None, None),
    ]


#: It loads the HTTP stack; on a busy machine that alone may take an exit's 5 s.
FIRST_FLUSH = "the first flush"
GUNICORN = ("-m", "gunicorn", f"--chdir={EXAMPLES}", "--bind=127.0.0.1:0", "--workers=1")


@pytest.mark.parametrize(
    ("command", "stop"),
    [
        (("-m", "flask", f"--app={EXAMPLES / 'flask_app.py'}", "run", "--port={port}"), signal.SIGINT),
        ((*GUNICORN, "flask_app:create_app()"), signal.SIGTERM),
    ],
    ids=["flask-run", "gunicorn"],
)
def test_the_flask_app(ingest: Ingest, command: Tuple[str, ...], stop: signal.Signals) -> None:
    with served_by(with_port(command), ingest.environment, stop) as visitor:
        visitor.get("/users/7", headers={"x-api-key": "secret-of-acme"})
        wait_until(lambda: len(ingest.events()) == 1, FIRST_FLUSH)
        visitor.get("/users/1001", headers={"x-api-key": "unknown"})
        assert visitor.get("/users/export").text == "0\n1\n2\n"
        health = visitor.get("/healthz").json()["beacon"]
        assert (health["host"], health["state"], health["captured"]) == ("thread", "running", 3)
        visitor.get("/wp-login.php")
    assert ingest.events() == [
        Event("GET", "/users/<int:user_id>", "/users/7", 200, "acme", None),
        Event("GET", "/users/<int:user_id>", "/users/1001", 404, None, None),
        Event("GET", "/users/export", "/users/export", 200, None, None),
        Event("GET", "/healthz", "/healthz", 200, None, None),
        Event("GET", "(unmatched)", "/wp-login.php", 404, None, None),
    ]


@pytest.mark.parametrize(
    ("command", "stop", "host"),
    [
        ((str(EXAMPLES / "django_app.py"), "127.0.0.1:{port}"), signal.SIGINT, "thread"),
        ((*GUNICORN, "django_app:application"), signal.SIGTERM, "thread"),
        (
            ("-m", "uvicorn", "django_app:asgi_application", f"--app-dir={EXAMPLES}", "--port=0"),
            signal.SIGTERM,
            "event_loop",
        ),
    ],
    ids=["runserver", "gunicorn", "uvicorn"],
)
def test_the_django_app(ingest: Ingest, command: Tuple[str, ...], stop: signal.Signals, host: str) -> None:
    with served_by(with_port(command), ingest.environment, stop) as visitor:
        visitor.get("/users/7/", headers={"x-api-key": "acme"})
        wait_until(lambda: len(ingest.events()) == 1, FIRST_FLUSH)
        visitor.get("/users/1001/")
        assert visitor.get("/reports/2026/").json() == {"year": 2026}
        health = visitor.get("/healthz/").json()["beacon"]
        assert (health["host"], health["state"], health["captured"]) == (host, "running", 3)
        visitor.get("/wp-login.php")
    assert ingest.events() == [
        Event("GET", "/users/<int:user_id>/", "/users/7/", 200, "acme", None),
        Event("GET", "/users/<int:user_id>/", "/users/1001/", 404, None, None),
        Event("GET", "/reports/<year>/", "/reports/2026/", 200, None, None),
        Event("GET", "/healthz/", "/healthz/", 200, None, None),
        Event("GET", "(unmatched)", "/wp-login.php", 404, None, None),
    ]


def test_the_script(ingest: Ingest) -> None:
    done = run(str(EXAMPLES / "script.py"), **ingest.environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "delivered 1, dropped 0, pending 0\n"
    assert ingest.events() == [Event("JOB", "/imports/{name}", "/imports/orders", 200, "cron", None)]


def test_the_script_says_what_is_missing(ingest: Ingest) -> None:
    done = run(str(EXAMPLES / "script.py"), **{**ingest.environment, "BEACON_INGEST_KEY": ""})
    assert done.returncode == 1
    assert "ValueError: ingest_key is required: set BEACON_INGEST_KEY" in done.stderr
    assert ingest.events() == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_worker_delivers_everything_when_it_is_stopped(ingest: Ingest, signum: signal.Signals) -> None:
    with running(str(EXAMPLES / "worker.py"), **ingest.environment) as process:
        wait_until(lambda: len(ingest.events()) >= 4, "the first flush")
        assert process.stop(signum) == 0
    closing = re.fullmatch(r"([0-9]+) jobs: ([0-9]+) delivered\n", "".join(process.output))
    assert closing is not None, process.output
    assert closing[1] == closing[2]
    expected = [
        Event("JOB", "/jobs/{id}", f"/jobs/{job}", *outcome_of(job)) for job in range(int(closing[1]))
    ]
    assert ingest.events() == expected


def outcome_of(job: int) -> Tuple[int, None, Optional[str]]:
    return (500, None, f"ValueError: job {job} has no data") if job % 4 == 3 else (200, None, None)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)
