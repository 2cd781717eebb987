"""
The order of things: read the configuration, try the network, show what was found.

Owns what is true of the machine and of the client without any network, and the exit code: 0 without a fault,
1 with one, 2 where what was asked for is not there.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Dict, Optional, Tuple
from urllib.parse import urlsplit

from beaconhq import BeaconClient, HttpTransport
from beaconhq.options import sends_in_clear

from . import faults, show
from .network import attempt
from .report import Report
from .sources import DJANGO_SETTINGS, UsageError, from_app, from_django, from_environment
from .words import say

#: Reported where they are installed: what the SDK runs on, next to and under.
PACKAGES = (
    "httpx", "httpcore", "anyio", "orjson", "starlette", "fastapi", "flask", "django", "uvicorn", "gunicorn",
    "gevent",
)  # fmt: skip


def run(*, app: Optional[str], django: Optional[str], send: bool, timeout: float, as_json: bool) -> int:
    """
    Run the doctor and return the exit code.

    `app` is `module:attribute`; `django` is the settings' module, "" for that of the environment, None for no
    Django; `timeout` bounds the import of the application and the network, each, in seconds.
    """
    report = Report()
    report.versions = _versions(report)
    try:
        client = _read(report, app, django, timeout)
    except UsageError as err:
        sys.stderr.write(f"beaconhq doctor: {err}\n")
        return 2
    if client is not None:
        _examine(client, report, send=send, timeout=timeout)
    shown = report.to_json()
    if as_json:
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        sys.stdout.write(show.as_text(shown, colour=show.wants_colour(sys.stdout), sent=send))
    sys.stdout.flush()
    return 1 if report.faults else 0


def _read(
    report: Report, app: Optional[str], django: Optional[str], timeout: float
) -> Optional[BeaconClient]:
    report.hide(os.environ.get("BEACON_INGEST_KEY"))
    if app is not None:
        return from_app(report, app, timeout)
    if django is not None or os.environ.get(DJANGO_SETTINGS):
        return from_django(report, django, timeout)
    return from_environment(report)


def _examine(client: BeaconClient, report: Report, *, send: bool, timeout: float) -> None:
    report.ingest_url = client.ingest_url
    parts = urlsplit(client.ingest_url)
    if sends_in_clear(client.ingest_url):
        report.findings.append(say("plain_http", host=parts.hostname))
    send = _may_send(client, report) if send else False
    transport = client.transport
    if not isinstance(transport, HttpTransport):
        report.findings.append(say("own_transport", name=type(transport).__name__))
        if not send:
            return
    found = attempt(client, send=send, timeout=timeout)
    report.proxy = found.proxy
    report.steps = found.steps
    report.findings += faults.judge(found, timeout, client.timeout)


def _may_send(client: BeaconClient, report: Report) -> bool:
    if report.has_key or not isinstance(client.transport, HttpTransport):
        return True
    report.findings.append(say("not_sent"))
    return False


def _versions(report: Report) -> Dict[str, str]:
    """Return the versions of what is installed, and warn of those that are too old."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for name, floor in _floors().items():
        if name in found and _numbers(found[name]) < _numbers(floor):
            report.findings.append(say("old_version", name=name, version=found[name], floor=floor))
    return found


def _floors() -> Dict[str, str]:
    try:
        needed = requires("beaconhq") or []
    except PackageNotFoundError:  # run from a checkout
        return {}
    matches = (re.match(r"([\w-]+)>=([0-9.]+)", each) for each in needed)
    return {match[1]: match[2] for match in matches if match}


def _numbers(text: str) -> Tuple[int, ...]:
    return tuple(int(number) for number in re.findall("[0-9]+", text)[:3])
