"""
The routes that an app declares, spelled as its events spell them; for `beaconhq local --app module:attr`.

The app is imported in a process of its own (`python -m beaconhq.local.app_routes module:attr`, which prints
JSON): whatever it starts, patches or prints at import stays out of the ingest. It is not served and gets no
request. FastAPI, Starlette, Flask and Django apps are known.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

#: Seconds that importing the app may take.
IMPORT_TIMEOUT = 60.0
#: Stands for every method where the framework does not say which.
ANY_METHOD = "*"

_NOT_KNOWN = "it is no FastAPI, Starlette, Flask or Django app"
_REST = "/{path}"


class AppRoutesError(Exception):
    """The routes cannot be read; `str()` of it is one line for the user."""


class Declared(NamedTuple):
    """One route of the app."""

    method: str  #: or `ANY_METHOD`
    route: str
    deprecated: bool


class AppRoutes(NamedTuple):
    """The routes of one app, in its own order."""

    app: str  #: "module:attr"
    routes: Tuple[Declared, ...]


def load(app: str) -> AppRoutes:
    """Import `module:attr` in a process of its own and return its routes. Raises `AppRoutesError`."""
    environment = {
        **os.environ,
        # The import alone must neither need a key nor send anything.
        "BEACON_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", __name__, app]
    try:
        done = subprocess.run(  # noqa: S603 - the app that the user named
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=IMPORT_TIMEOUT,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise AppRoutesError(
            f"cannot read the routes of {app}: not imported within {IMPORT_TIMEOUT:g} s"
        ) from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else f"the import ended with {done.returncode}"
        raise AppRoutesError(f"cannot read the routes of {app}: {reason}")
    routes = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    return AppRoutes(app, tuple(Declared(*route) for route in routes))


def read(app: Any) -> List[Declared]:
    """Return the routes of an imported app. Raises `AppRoutesError` where it is of no known framework."""
    rules = getattr(getattr(app, "url_map", None), "iter_rules", None)
    if rules is not None:
        found = list(_flask(rules()))
    elif type(app).__module__.startswith("django.core.handlers."):
        found = list(_django())
    else:
        from beaconhq.integrations._asgi_route import _routes_of

        routes = _routes_of(app)
        if not isinstance(routes, (list, tuple)) or not routes:
            raise AppRoutesError(_NOT_KNOWN)
        found = list(_asgi(routes, "", deprecated=False))
    return list(dict.fromkeys(found))


def _asgi(routes: Iterable[Any], prefix: str, *, deprecated: bool) -> Iterator[Declared]:
    from beaconhq.integrations._asgi_route import _is_leaf, _routes_of

    for route in routes:
        old = deprecated or bool(getattr(route, "deprecated", None))
        if _is_leaf(route):
            if route.endpoint.__module__ != "fastapi.applications" and hasattr(
                route, "methods"
            ):  # no websocket
                for method in _own(route.methods):
                    yield Declared(method, (prefix + route.path_format) or "/", old)
            continue
        # FastAPI since 0.137 keeps an included router and its prefix apart.
        included = getattr(route, "include_context", None)
        below = _routes_of(route)
        if included is not None:
            old = old or bool(included.deprecated)
            yield from _asgi(below, prefix + included.prefix, deprecated=old)
        elif hasattr(route, "path_format"):
            mount = prefix + route.path_format[: -len(_REST)]
            if below:
                yield from _asgi(below, mount, deprecated=old)
            else:
                yield Declared(ANY_METHOD, mount + _REST, old)
        else:
            yield from _asgi(below, prefix, deprecated=old)


def _flask(rules: Iterable[Any]) -> Iterator[Declared]:
    for rule in rules:
        if rule.endpoint != "static":
            for method in _own(rule.methods):
                yield Declared(method, rule.rule, deprecated=False)


def _django() -> Iterator[Declared]:
    from django.urls import get_resolver

    from beaconhq.integrations.django import _readable

    for route in _django_routes(get_resolver().url_patterns, ""):
        yield Declared(ANY_METHOD, _readable(route), deprecated=False)


def _django_routes(patterns: Iterable[Any], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        own = str(pattern.pattern)
        # As Django joins them for `resolver_match.route`.
        route = prefix + (own[1:] if prefix and own.startswith("^") else own)
        below = getattr(pattern, "url_patterns", None)
        if below is None:
            yield route
        else:
            yield from _django_routes(below, route)


def _own(methods: Optional[Iterable[str]]) -> List[str]:
    """Return the methods that somebody wrote down: frameworks add HEAD and OPTIONS by themselves."""
    if methods is None:
        return [ANY_METHOD]
    named = set(methods)
    return sorted(named - {"HEAD", "OPTIONS"}) or sorted(named)


def _import(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise AppRoutesError("write it as module:attribute, for example main:app")
    found: Any = importlib.import_module(module)
    # As for `beaconhq doctor --app`: module:attribute, or module:factory().
    for part in attribute.replace("()", "").split("."):
        found = getattr(found, part)
    return found() if attribute.endswith("()") else found


def _main(name: str) -> None:
    # What the app prints must not mix with the answer.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answer:
        try:
            routes: List[Declared] = read(_import(name))
        except AppRoutesError as error:
            sys.exit(str(error))
        json.dump(routes, answer)


if __name__ == "__main__":
    _main(sys.argv[1])
