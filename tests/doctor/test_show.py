"""The report as people and scripts get it, from the command as it is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any, Dict

import pytest
from process.children import environment

from beaconhq import __version__
from beaconhq.doctor import show

from .conftest import KEY, Examine

if TYPE_CHECKING:
    from .servers import Server

#: What the doctor must do without: a production image has none of the extras.
EXTRAS = ("rich", "uvicorn", "starlette", "fastapi", "flask", "django", "orjson", "pytest", "sqlite3")


def doctor(*arguments: str, before: str = "pass", **variables: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys; {before}; from beaconhq.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script, "doctor", *arguments],
        env=environment(BEACON_INGEST_KEY=KEY, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.process
def test_it_needs_no_extra(ingest: Server) -> None:
    before = f"sys.modules.update(dict.fromkeys({EXTRAS!r}))"
    done = doctor("--send", before=before, BEACON_INGEST_URL=ingest.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"beaconhq doctor {__version__}\n")
    assert ingest.methods == ["GET", "POST"]


@pytest.mark.process
def test_the_text_of_a_fault(ingest: Server) -> None:
    ingest.statuses["POST"] = 401
    done = doctor("--send", BEACON_INGEST_URL=ingest.url)
    assert (done.returncode, done.stderr) == (1, "")
    text = re.sub(r" +[0-9.]+ ms", " N ms", re.sub(r"(?m)^ +versions .*\n( {17}.*\n)*", "", done.stdout))
    text = re.sub(r"localhost: .*", "localhost: ADDRESSES", text)
    assert text == (
        f"""\
beaconhq doctor {__version__}

  configuration  environment (BEACON_INGEST_KEY, BEACON_INGEST_URL)
  ingest         {ingest.url}/v1/ingest
  key            set
  proxy          none

  ok   resolve N ms  localhost: ADDRESSES
  ok   connect N ms  localhost:{ingest.port}
  ok   answer N ms  405 to a GET without the key
  FAIL send N ms  401

fault: the ingest does not know the key: check ingest_key (401)
  Compare BEACON_INGEST_KEY (or ingest_key) with the key of your project.

1 fault(s), 0 warning(s).
"""
    )


@pytest.mark.process
def test_the_json_has_the_documented_fields(ingest: Server) -> None:
    done = doctor("--json", BEACON_INGEST_URL=ingest.url)
    report: Dict[str, Any] = json.loads(done.stdout)
    fields = "schema beaconhq ok source ingest_url has_key proxy steps findings versions"
    assert list(report) == fields.split()
    assert (report["schema"], report["ok"], report["has_key"]) == (1, True, True)
    assert [set(step) for step in report["steps"]] == [{"name", "seconds", "ok", "detail"}] * 3
    assert {"python", "httpx", "httpcore", "anyio"} <= set(report["versions"])


def test_a_version_below_the_floor_is_a_warning(
    examine: Examine, ingest: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = metadata.version
    monkeypatch.setattr(
        "beaconhq.doctor.command.version", lambda name: "4.9.0" if name == "anyio" else installed(name)
    )
    found = examine(BEACON_INGEST_KEY=KEY, BEACON_INGEST_URL=ingest.url)
    assert (found.code, found.codes("warning")) == (0, ["old_version"])
    assert "anyio 4.9.0 is older than 4.10" in found.finding("old_version")


class _Stream:
    def __init__(self, tty: bool) -> None:
        self.isatty = lambda: tty


@pytest.mark.parametrize(
    ("tty", "variables", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals(
    tty: bool, variables: Dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"TERM": "xterm", **variables})
    assert show.wants_colour(_Stream(tty)) is expected  # type: ignore[arg-type]


def test_colour_changes_nothing_but_the_colour(examine: Examine) -> None:
    found = examine(BEACON_INGEST_URL="http://127.0.0.1:9")
    coloured = show.as_text(found.report, colour=True, sent=False)
    assert coloured != found.text
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == found.text
