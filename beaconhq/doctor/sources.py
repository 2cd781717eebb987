"""
Where the configuration comes from: the environment, an application, or Django's settings.

Each reader returns the client that an application would have, or None, and says in the report what is wrong.
Importing an application runs its code: what it prints goes to standard error, what it raises becomes a
finding, and its time is limited.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional

from beaconhq import BeaconClient
from beaconhq.client import ENV_ENABLED, ENV_INGEST_KEY, ENV_INGEST_URL

from .adapters import Installed, installed
from .words import say

if TYPE_CHECKING:
    from .report import Finding, Report

DJANGO_SETTINGS = "DJANGO_SETTINGS_MODULE"


class UsageError(Exception):
    """What was asked for is not there; the message says what to ask for instead."""


class _TooLongError(BaseException):
    """The import took too long. A BaseException, so that no `except Exception` on the way keeps it."""


def from_environment(report: Report) -> Optional[BeaconClient]:
    """Return what `BeaconClient.from_env()` makes; without a usable key one that can try the network."""
    found = [name for name in (ENV_INGEST_KEY, ENV_INGEST_URL, ENV_ENABLED) if name in os.environ]
    report.source = f"environment ({', '.join(found) or 'no BEACON_* variable is set'})"
    try:
        return _described(BeaconClient.from_env(), report)
    except ValueError as err:
        _explain_option(err, report)
    try:
        return BeaconClient.from_env(ingest_key="", enabled=False)
    except ValueError:
        return None


def from_app(report: Report, target: str, timeout: float) -> Optional[BeaconClient]:
    """
    Return the client of `module:attribute`: an application, a client, or `module:factory()`.

    Raises `UsageError` where there is no such thing.
    """
    report.source = f"app {target}"
    module, _, path = target.partition(":")
    if not module or not path:
        raise UsageError(f"--app takes module:attribute, such as main:app, not {target!r}")
    app = _run_foreign(lambda: _load(module, path), report, target, timeout)
    if app is None:
        return None
    adapters = installed(app)
    if adapters:
        report.findings += _judge_adapters(adapters)
        return _described(adapters[0].client, report)
    if "django.conf" in sys.modules and os.environ.get(DJANGO_SETTINGS):
        client = from_django(report, None, timeout)
        if client is not None and type(app).__module__ == "django.core.handlers.asgi":
            report.findings.append(say("no_lifespan_django"))
        return client
    clients = {
        name: each for name, each in vars(sys.modules[module]).items() if isinstance(each, BeaconClient)
    }
    has = f" ({module} has the client {next(iter(clients))!r})" if clients else ""
    report.findings.append(say("no_adapter", name=type(app).__name__, client=has))
    return next(iter(clients.values()), None)


def _load(module: str, path: str) -> Any:
    app: Any = _import(module, f"--app {module}:{path}")
    for name in path.replace("()", "").split("."):
        if not hasattr(app, name):
            raise UsageError(f"--app {module}:{path}: {module} has no attribute {name!r}")
        app = getattr(app, name)
    return app() if path.endswith("()") else app


def from_django(report: Report, module: Optional[str], timeout: float) -> Optional[BeaconClient]:
    """Return `BEACON_CLIENT` of Django's settings; raises `UsageError` without Django or settings."""
    if module:
        os.environ[DJANGO_SETTINGS] = module
    name = os.environ.get(DJANGO_SETTINGS)
    if not name:
        raise UsageError(f"--django needs the settings: --django mysite.settings, or set {DJANGO_SETTINGS}")
    report.source = f"Django settings {name}"
    try:
        django = import_module("beaconhq.integrations.django")
    except ModuleNotFoundError as err:
        raise UsageError(f"Django's settings need Django, and {err.name} is not installed here") from None

    def load() -> Any:
        _import(name, "--django")
        return getattr(django.settings, "BEACON_CLIENT", None), django.check_settings()

    client, checks = _run_foreign(load, report, name, timeout) or (None, None)
    if checks is None:
        return None
    report.findings += [say("django_settings", text=check.msg, hint=check.hint or "") for check in checks]
    if client is None and not checks:
        report.findings.append(say("no_client"))
    return _described(client, report) if isinstance(client, BeaconClient) else None


# -- foreign code -----------------------------------------------------------------------


def _import(module: str, asked_by: str) -> Any:
    """Import a module from the working directory or `sys.path`; raises `UsageError` where there is none."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return import_module(module)
    except ModuleNotFoundError as err:
        if err.name and f"{module}.".startswith(f"{err.name}."):
            raise UsageError(f"{asked_by}: there is no module {module!r} in {folder} or sys.path") from None
        raise


def _run_foreign(load: Callable[[], Any], report: Report, name: str, timeout: float) -> Any:
    """Run the application's own code; None where it failed, with a finding."""
    try:
        with contextlib.redirect_stdout(sys.stderr), _limited(timeout):
            return load()
    except UsageError:
        raise
    except _TooLongError:
        report.findings.append(say("app_import_slow", name=name, timeout=timeout))
    except (Exception, SystemExit) as err:  # noqa: BLE001 - whatever an application raises at import
        frames = list(traceback.walk_tb(err.__traceback__))
        last, line = frames[-1]
        if isinstance(err, ValueError) and last.f_globals.get("__name__", "").startswith("beaconhq."):
            _explain_option(err, report)  # of a client that is made at import
        else:
            place = f"{last.f_code.co_filename}:{line}"
            error = f"{type(err).__name__}: {err}"
            report.findings.append(say("app_import", name=name, error=error, place=place))
    return None


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TooLongError` in the block once its time is over, where signals can do that."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- without any network ----------------------------------------------------------------


def _explain_option(error: ValueError, report: Report) -> None:
    """Name the fault in a value that the client refused."""
    text = str(error)
    if text.startswith("ingest_key is required"):
        report.has_key = False
        report.findings.append(say("no_key"))
    elif text.startswith("ingest_key"):
        report.has_key = True
        report.findings.append(say("bad_key", text=text))
    elif text.startswith("ingest_url"):
        report.findings.append(say("bad_url", text=text))
    else:
        report.findings.append(say("bad_option", text=text))


def _described(client: BeaconClient, report: Report) -> BeaconClient:
    """Say what a client does without any network."""
    key = client._key  # noqa: SLF001 - of this package; it is not shown
    report.has_key = bool(key)
    report.hide(key.reveal())
    if not client.enabled:
        value = os.environ.get(ENV_ENABLED)
        where = "enabled=False" if value is None else f"{ENV_ENABLED} is {value!r}"
        report.findings.append(say("disabled", where=where))
    if client.dry_run:
        report.findings.append(say("dry_run"))
    return client


def _judge_adapters(adapters: List[Installed]) -> List[Finding]:
    first = adapters[0]
    found: List[Finding] = []
    clients = {id(each.client) for each in adapters}
    if len(clients) > 1:
        found.append(say("clients", count=len(clients), adapter=first.adapter))
    if first.nested:
        found.append(say("no_lifespan", adapter=first.adapter))
    elif first.without_lifespan:
        found.append(say("no_lifespan_django"))
    return found
