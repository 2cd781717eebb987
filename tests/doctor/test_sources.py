"""The configuration is read as an app would read it, and what is wrong with it has a name."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Callable

import pytest
from process.children import environment

from beaconhq import cli

from .conftest import KEY, Examine

if TYPE_CHECKING:
    from pathlib import Path

    from .servers import Server

Module = Callable[[str], str]

FASTAPI = """
from fastapi import FastAPI
from beaconhq import BeaconASGIMiddleware, BeaconClient

beacon = BeaconClient({key!r}, {url!r})
app = FastAPI()
app.add_middleware(BeaconASGIMiddleware, client=beacon)
wrapped = BeaconASGIMiddleware(FastAPI(), beacon)
outermost = FastAPI()
outermost.mount("/api", app)
bare = FastAPI()
def create_app():
    return app
"""
FLASK = """
from flask import Flask
from beaconhq import BeaconClient, init_flask

app = Flask(__name__)
init_flask(app, BeaconClient({key!r}, {url!r}))
"""
SETTINGS = """
from beaconhq import BeaconClient

SECRET_KEY = "x"
BEACON_CLIENT = BeaconClient({key!r}, {url!r})
MIDDLEWARE = ["beaconhq.integrations.django.BeaconDjangoMiddleware"]
"""


# -- the environment --------------------------------------------------------------------


@pytest.mark.parametrize("key", [f"{KEY}\nX-Evil: 1", f"{KEY}\u201d"])
def test_a_key_that_no_header_carries(key: str, examine: Examine, ingest: Server) -> None:
    found = examine(BEACON_INGEST_KEY=key, BEACON_INGEST_URL=ingest.url)
    assert (found.code, found.codes()) == (1, ["bad_key"])
    assert found.steps  # the network is looked at all the same


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://ingest.example", "lacks https:// in front"),
        ("https://user:hush-0123456789@ingest.example", "user name or password"),
        ("https://ingest.example/?key=hush-0123456789", "query"),
        ("hush-9876543210", "not shown"),
    ],
)
def test_a_url_that_is_none(url: str, shown: str, examine: Examine) -> None:
    found = examine(BEACON_INGEST_KEY=KEY, BEACON_INGEST_URL=url)
    assert (found.code, found.codes(), found.steps) == (1, ["bad_url"], [])
    assert shown in found.finding("bad_url")
    assert "hush-9876543210" not in found.text


def test_disabled_is_a_warning(examine: Examine, ingest: Server) -> None:
    found = examine(BEACON_ENABLED="0", BEACON_INGEST_URL=ingest.url)
    assert (found.code, found.codes("warning")) == (0, ["disabled"])
    assert "BEACON_ENABLED is '0'" in found.finding("disabled")


def test_plain_http_beyond_this_machine_is_a_warning(examine: Examine) -> None:
    found = examine(BEACON_INGEST_KEY=KEY, BEACON_INGEST_URL="http://ingest.invalid")
    assert found.codes("warning") == ["plain_http"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "app.localhost"])
def test_plain_http_on_this_machine_is_none(host: str, examine: Examine) -> None:
    found = examine("--timeout", "1", BEACON_INGEST_KEY=KEY, BEACON_INGEST_URL=f"http://{host}:9")
    assert found.codes("warning") == []


# -- an app -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["beacon", "app", "wrapped", "create_app()"])
def test_a_fastapi_app(name: str, examine: Examine, ingest: Server, module: Module) -> None:
    target = f"{module(FASTAPI.format(key=KEY, url=ingest.url))}:{name}"
    found = examine("--app", target, "--send")
    assert (found.code, found.codes(), found.codes("warning")) == (0, [], [])
    assert found.report["source"] == f"app {target}"
    assert ingest.requests[-1][2]["authorization"] == f"Bearer {KEY}"


def test_a_flask_app(examine: Examine, ingest: Server, module: Module) -> None:
    found = examine("--app", f"{module(FLASK.format(key=KEY, url=ingest.url))}:app", "--send")
    assert (found.code, found.codes(), ingest.methods) == (0, [], ["GET", "POST"])


def test_an_adapter_on_a_mounted_app_has_no_lifespan(
    examine: Examine, ingest: Server, module: Module
) -> None:
    found = examine("--app", f"{module(FASTAPI.format(key=KEY, url=ingest.url))}:outermost")
    assert (found.code, found.codes("warning")) == (0, ["no_lifespan"])
    assert "mounted" in found.finding("no_lifespan")


def test_an_app_without_an_adapter(examine: Examine, ingest: Server, module: Module) -> None:
    source = FASTAPI.format(key=KEY, url=ingest.url) + "\nimport django.conf  # without settings\n"
    found = examine("--app", f"{module(source)}:bare")
    assert (found.code, found.codes()) == (1, ["no_adapter"])
    assert "has the client 'beacon'" in found.finding("no_adapter")
    assert ingest.methods == ["GET"]  # that client's network is looked at all the same


def test_an_app_without_a_key(examine: Examine, module: Module) -> None:
    found = examine("--app", f"{module('from beaconhq import BeaconClient; BeaconClient.from_env()')}:app")
    assert (found.code, found.codes()) == (1, ["no_key"])


def test_an_app_that_cannot_be_imported(examine: Examine, module: Module) -> None:
    source = f"print('starting')\nraise RuntimeError('no database, \\x1b[31m key {KEY}')"
    found = examine("--app", f"{module(source)}:app", BEACON_INGEST_KEY=KEY)
    assert (found.code, found.codes()) == (1, ["app_import"])
    assert "raised RuntimeError: no database, ?[31m key [secret]" in found.finding("app_import")
    assert ".py:2." in found.finding("app_import")


def test_an_app_that_exits_at_import(examine: Examine, module: Module) -> None:
    found = examine("--app", f"{module('import sys; sys.exit(3)')}:app")
    assert (found.code, found.codes()) == (1, ["app_import"])


def test_an_app_whose_import_does_not_end(examine: Examine, module: Module) -> None:
    name = module("import time\ntry:\n    time.sleep(60)\nexcept Exception:\n    pass")
    found = examine("--app", f"{name}:app", "--timeout", "0.3")
    assert (found.code, found.codes()) == (1, ["app_import"])
    assert "longer than 0.3 s" in found.finding("app_import")


def test_a_dry_run_leaves_nothing_to_look_at(examine: Examine, module: Module) -> None:
    name = module("from beaconhq import BeaconClient\nbeacon = BeaconClient('', dry_run=True)")
    found = examine("--app", f"{name}:beacon")
    assert (found.code, found.codes("warning"), found.codes("note")) == (0, ["dry_run"], ["own_transport"])
    assert found.steps == []


def test_a_transport_of_its_own_is_sent_through(examine: Examine, module: Module) -> None:
    source = (
        "from beaconhq import BeaconClient\n"
        "class Broken:\n    def send(self, events):\n        raise OSError('secret text')\n"
        "beacon = BeaconClient('k', transport=Broken())"
    )
    found = examine("--app", f"{module(source)}:beacon", "--send")
    assert (found.code, found.codes(), found.steps) == (1, ["transport"], ["send"])
    assert "raised OSError" in found.finding("transport")
    assert "secret text" not in found.text


def test_a_client_factory_whose_client_traces_nothing(examine: Examine, module: Module) -> None:
    source = (
        "import httpx\nfrom beaconhq import BeaconClient\n"
        "def make(**options):\n"
        "    return httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(405)))\n"
        "beacon = BeaconClient('k', 'https://ingest.example', client_factory=make)"
    )
    found = examine("--app", f"{module(source)}:beacon")
    assert (found.code, found.steps, found.failed) == (0, ["answer"], [])


@pytest.mark.parametrize("body", ["return None", "return 202", "raise KeyError"])
def test_a_transport_that_breaks_the_contract(body: str, examine: Examine, module: Module) -> None:
    source = (
        "from beaconhq import BeaconClient\n"
        f"class Broken:\n    async def send(self, events):\n        {body}\n"
        "beacon = BeaconClient('k', transport=Broken())"
    )
    found = examine("--app", f"{module(source)}:beacon", "--send")
    assert (found.code, found.codes()) == (1, ["transport"])


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("main", "takes module:attribute"),
        (":app", "takes module:attribute"),
        ("nosuch_module:app", "no module 'nosuch_module'"),
        ("nosuch.inner:app", "no module 'nosuch.inner'"),
        ("json:nosuch", "no attribute 'nosuch'"),
    ],
)
def test_an_app_that_is_not_there_is_wrong_use(
    target: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--app", target]) == 2
    written = capsys.readouterr()
    assert (written.out, reason in written.err) == ("", True)


# -- Django: settings are once per process ----------------------------------------------


def django(
    folder: Path, settings: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    (folder / "mysettings.py").write_text(settings, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "beaconhq", "doctor", "--json", *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.process
@pytest.mark.parametrize("named", [True, False], ids=["option", "environment"])
def test_django_s_settings(named: bool, ingest: Server, tmp_path: Path) -> None:
    arguments = ["--django", "mysettings"] if named else []
    variables = {} if named else {"DJANGO_SETTINGS_MODULE": "mysettings"}
    settings = SETTINGS.format(key=KEY, url=ingest.url)
    done = django(tmp_path, settings, "--send", *arguments, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["source"], report["ok"]) == ("Django settings mysettings", True)
    assert ingest.methods == ["GET", "POST"]
    assert KEY not in done.stdout


@pytest.mark.process
def test_django_without_its_middleware(ingest: Server, tmp_path: Path) -> None:
    settings = SETTINGS.format(key=KEY, url=ingest.url).replace("MIDDLEWARE", "OTHER")
    done = django(tmp_path, settings, "--django", "mysettings")
    (finding,) = [each for each in json.loads(done.stdout)["findings"] if each["level"] == "fault"]
    assert (done.returncode, finding["code"]) == (1, "django_settings")
    assert "middleware is not listed" in finding["message"]


@pytest.mark.process
def test_django_under_asgi_without_beacon_lifespan(ingest: Server, tmp_path: Path) -> None:
    settings = SETTINGS.format(key=KEY, url=ingest.url)
    (tmp_path / "asgi.py").write_text(
        "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'mysettings'\n"
        "from django.core.asgi import get_asgi_application\n"
        "from beaconhq.integrations.asgi import BeaconLifespan\nfrom mysettings import BEACON_CLIENT\n"
        "bare = get_asgi_application()\nwrapped = BeaconLifespan(bare, client=BEACON_CLIENT)\n"
    )
    for name, expected in (("bare", ["no_lifespan"]), ("wrapped", [])):
        done = django(tmp_path, settings, "--app", f"asgi:{name}")
        report = json.loads(done.stdout)
        assert [each["code"] for each in report["findings"]] == expected, done.stderr
        assert done.returncode == 0


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--django"], ["--django", "nosuch.settings"]])
def test_django_settings_that_are_not_there_are_wrong_use(arguments: list[str], tmp_path: Path) -> None:
    done = django(tmp_path, "", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "settings" in done.stderr
