"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Iterator

import pytest
from process.ingest_server import RecordingIngest
from support.events import event
from support.transports import DOWN, ScriptedTransport

from beaconhq import BeaconClient
from beaconhq.spool.status import look

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.process

FIXTURE = "[pytest]\nbeaconhq_fixture = true\n"
DISABLE = "[pytest]\nbeaconhq_disable = true\n"
#: Every kind of application, with the client that the fixture hands it.
APPS = """
    import asyncio
    import httpx
    import pytest
    from beaconhq import BeaconASGIMiddleware, init_flask

    @pytest.fixture
    def fastapi_app(beacon):
        from fastapi import FastAPI
        app = FastAPI()
        app.add_middleware(BeaconASGIMiddleware, client=beacon, consumer_header="x-api-key")
        @app.get("/users/{id}")
        def user(id: int):
            return {}
        return app

    def test_fastapi_s_test_client_with_the_lifespan(beacon, fastapi_app):
        from fastapi.testclient import TestClient
        with TestClient(fastapi_app) as client:
            client.get("/users/7", headers={"x-api-key": "acme"})
            beacon.route("GET", "/users/{id}", consumer="acme").assert_called_once()

    def test_fastapi_s_test_client_without_it(beacon, fastapi_app):
        from fastapi.testclient import TestClient
        TestClient(fastapi_app).get("/users/x")
        assert beacon.route(status="4xx").called

    def test_httpx_s_asgi_transport(beacon, fastapi_app):
        async def main():
            transport = httpx.ASGITransport(fastapi_app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await client.get("/users/7")
            beacon.route("GET", "/users/{id}").assert_called_once()
        asyncio.run(main())

    def test_flask_s_test_client(beacon):
        from flask import Flask
        app = Flask(__name__)
        init_flask(app, beacon)
        @app.get("/users/<int:id>")
        def user(id):
            return {}
        app.test_client().get("/users/7")
        assert beacon.route("GET", "/users/<int:id>").call_count == 1

    def test_django_s_test_client(beacon):
        import django
        from django.conf import settings
        from django.http import HttpResponse
        from django.urls import path
        settings.configure(
            ROOT_URLCONF=(path("users/<int:id>", lambda request, id: HttpResponse()),),
            MIDDLEWARE=["beaconhq.integrations.django.BeaconDjangoMiddleware"],
            ALLOWED_HOSTS=["*"],
            BEACON_CLIENT=beacon,
        )
        django.setup()
        from django.test import Client
        Client().get("/users/7")
        beacon.route("GET", "/users/<int:id>").assert_called_once()
"""
ASYNC = """
    import pytest

    @pytest.mark.{marker}
    async def test_async(beacon):
        async with beacon:
            from beaconhq import BeaconEvent, utc_now_iso
            beacon.capture(BeaconEvent(utc_now_iso(), "GET", "/", "/", 200, 1))
            assert (await beacon.flush(10)).delivered == 1
        beacon.route("GET", "/").assert_called_once()
"""
#: An application that makes its client at import, from a conftest.py.
SHIPPING = """
    from beaconhq import BeaconClient, BeaconEvent, HttpTransport, utc_now_iso

    client = BeaconClient("k", {url!r}, {options})
    client.capture(BeaconEvent(utc_now_iso(), "GET", "/", "/", 200, 1))
"""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "BEACON_INGEST_KEY",
        "BEACON_INGEST_URL",
        "BEACON_ENABLED",
        "BEACON_SPOOL",
        "PYTEST_ADDOPTS",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ingest() -> Iterator[RecordingIngest]:
    with RecordingIngest() as server:
        yield server


def run(pytester: pytest.Pytester, *arguments: str, installed: bool = False) -> pytest.RunResult:
    """
    Run pytest with this plugin alone, or with all that are `installed`, as users have it.

    Alone it takes half the time.
    """
    if not installed:
        arguments = ("-p", "pytest_beaconhq", *arguments)
        pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=100)


class TestFixture:
    def test_it_records_with_every_framework(self, pytester: pytest.Pytester) -> None:
        pytester.makeini(FIXTURE)
        pytester.makepyfile(APPS)
        run(pytester).assert_outcomes(passed=5)

    @pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
    def test_it_serves_async_tests(self, plugin: str, pytester: pytest.Pytester) -> None:
        pytester.makeini(FIXTURE)
        pytester.makepyfile(ASYNC.format(marker=plugin))
        others = ["-p", "no:asyncio"] if plugin == "anyio" else []
        result = run(pytester, *others, installed=True)
        assert result.ret == 0
        assert result.parseoutcomes()["passed"] >= 1  # anyio: also under trio, where that is installed

    def test_a_failure_shows_the_events_and_no_frame_of_ours(self, pytester: pytest.Pytester) -> None:
        pytester.makeini(FIXTURE)
        pytester.makepyfile("""
            from beaconhq import BeaconEvent, utc_now_iso

            def test_it(beacon):
                beacon.capture(BeaconEvent(utc_now_iso(), "GET", "/a", "/a", 200, 1))
                beacon.route("GET", "/b").assert_called_once()
        """)
        result = run(pytester)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["E *AssertionError: expected 1 event of GET /b, found 0 of 1 event", "E *GET /a 200"]
        )
        result.stdout.no_fnmatch_line("*recording.py*")

    def test_one_of_the_application_s_own_wins(self, pytester: pytest.Pytester) -> None:
        pytester.makeini(FIXTURE)
        pytester.makeconftest("import pytest\n@pytest.fixture\ndef beacon():\n    return 'mine'")
        pytester.makepyfile("def test_it(beacon):\n    assert beacon == 'mine'")
        run(pytester).assert_outcomes(passed=1)

    def test_without_the_option_there_is_none(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_it(beacon):\n    pass")
        result = run(pytester)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*fixture 'beacon' not found*"])


class TestSwitch:
    @pytest.mark.parametrize(
        "options", ["flush_interval=600", "flush_interval=0.05", "transport=HttpTransport({url!r}, 'k')"]
    )
    def test_nothing_ships(self, options: str, pytester: pytest.Pytester, ingest: RecordingIngest) -> None:
        """Not at import, in a test, at a flush, nor at exit."""
        pytester.makeini(DISABLE)
        pytester.makeconftest(SHIPPING.format(url=ingest.url, options=options.format(url=ingest.url)))
        pytester.makepyfile("""
            from conftest import BeaconEvent, client, utc_now_iso

            def test_it():
                client.flush_sync(10)
                assert client.stats()["delivered"] == 1
                client.capture(BeaconEvent(utc_now_iso(), "GET", "/", "/", 200, 1))
        """)
        result = run(pytester)
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["beaconhq: nothing is shipped (beaconhq_disable)"])
        assert ingest.connections == 0

    def test_without_it_the_same_run_ships(self, pytester: pytest.Pytester, ingest: RecordingIngest) -> None:
        """So that the test above can fail."""
        pytester.makeconftest(SHIPPING.format(url=ingest.url, options=""))
        pytester.makepyfile("def test_it():\n    pass")
        run(pytester).assert_outcomes(passed=1)
        assert ingest.paths == ["/"]

    def test_what_waits_in_a_spool_stays_there(
        self, pytester: pytest.Pytester, ingest: RecordingIngest
    ) -> None:
        """It is a real process's, and would count as delivered."""
        folder = pytester.path / "spool"
        left = BeaconClient("k", ingest.url, transport=ScriptedTransport(then=DOWN), spool=folder)
        left.capture(event())
        left.shutdown()
        assert [each.events for each in look(folder)] == [1]
        pytester.makeini(DISABLE)
        pytester.makeconftest(SHIPPING.format(url=ingest.url, options=f"spool={str(folder)!r}"))
        pytester.makepyfile("""
            from conftest import client

            def test_it():
                client.flush_sync(10)
                assert client.stats()["recovered"] == 0
        """)
        run(pytester).assert_outcomes(passed=1)
        assert [each.events for each in look(folder)] == [1]

    def test_an_app_that_needs_a_key_needs_none(self, pytester: pytest.Pytester) -> None:
        pytester.makeini(DISABLE)
        pytester.makeconftest("from beaconhq import BeaconClient\nclient = BeaconClient.from_env()")
        pytester.makepyfile("""
            from conftest import client
            from beaconhq.testing import recording
            from beaconhq import BeaconEvent, utc_now_iso

            def test_it():
                assert client.stats()["state"] == "disabled"
                with recording(client) as recorded:
                    client.capture(BeaconEvent(utc_now_iso(), "GET", "/", "/", 200, 1))
                recorded.route("GET", "/").assert_called_once()
        """)
        run(pytester).assert_outcomes(passed=1)

    def test_a_process_that_a_test_starts_is_disabled(
        self, pytester: pytest.Pytester, ingest: RecordingIngest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BEACON_INGEST_URL", ingest.url)
        monkeypatch.setenv("BEACON_INGEST_KEY", "k")
        monkeypatch.setenv("BEACON_ENABLED", "1")
        pytester.makeini(DISABLE)
        pytester.makepyfile("""
            import subprocess, sys

            def test_it():
                script = "from beaconhq import BeaconClient; print(BeaconClient.from_env().enabled)"
                assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\\n"
        """)
        run(pytester).assert_outcomes(passed=1)

    def test_after_the_run_nothing_ships_still(
        self, pytester: pytest.Pytester, ingest: RecordingIngest
    ) -> None:
        """For those who call `pytest.main()` in a process that goes on; its exit delivers what is left."""
        pytester.makeini(DISABLE)
        pytester.makepyfile("def test_it():\n    pass")
        script = textwrap.dedent(SHIPPING.format(url=ingest.url, options="")) + (
            "import os, pytest\n"
            "assert pytest.main(['-q', '-p', 'no:cacheprovider']) == 0\n"
            "assert 'BEACON_ENABLED' not in os.environ\n"
            "client.capture(BeaconEvent(utc_now_iso(), 'GET', '/late', '/late', 200, 1))\n"
        )
        result = pytester.run(sys.executable, "-c", script, timeout=100)
        assert result.ret == 0, result.stderr.str()
        assert "/late" not in ingest.paths

    def test_it_holds_in_the_workers_of_xdist(
        self, pytester: pytest.Pytester, ingest: RecordingIngest
    ) -> None:
        pytest.importorskip("xdist")
        pytester.makeini(DISABLE)
        pytester.makeconftest(SHIPPING.format(url=ingest.url, options=""))
        pytester.makepyfile("""
            import pytest
            from conftest import client

            @pytest.mark.parametrize("number", range(4))
            def test_it(number):
                assert client.flush_sync(10).pending == 0
        """)
        run(pytester, "-n", "2", installed=True).assert_outcomes(passed=4)
        assert ingest.connections == 0


class TestInert:
    def test_other_runs_load_nothing_of_beaconhq(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("""
            import sys

            def test_it(pytestconfig):
                assert pytestconfig.pluginmanager.hasplugin("beaconhq")
                assert [name for name in sys.modules if name.partition(".")[0] == "beaconhq"] == []
        """)
        run(pytester, installed=True).assert_outcomes(passed=1)

    def test_the_sdk_loads_no_pytest(self, tmp_path: Path) -> None:
        script = "import sys, beaconhq, beaconhq.testing; print('pytest' in sys.modules)"
        done: Any = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ,
            check=True,
        )
        assert done.stdout == "False\n"

    def test_the_options_are_documented(self, pytester: pytest.Pytester) -> None:
        result = run(pytester, "--help")
        result.stdout.fnmatch_lines(["*beaconhq_fixture (bool):*", "*beaconhq_disable (bool):*"])
