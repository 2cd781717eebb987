"""
Finding the client in an application: which adapter holds it, and whether the drain is hosted there.

Looks at objects only. It imports no framework (an adapter that is not loaded cannot be installed) and runs
nothing of the application: no lifespan, no request.
"""

from __future__ import annotations

import sys
from typing import Any, Iterator, List, NamedTuple, Set, Tuple

from beaconhq import BeaconClient

#: Layers of middleware and depth of mounts that are looked through.
_DEEPEST = 50


class Installed(NamedTuple):
    """One adapter that is installed in an application."""

    client: BeaconClient
    adapter: str
    #: On a mounted sub-application, whose lifespan no framework runs.
    nested: bool = False
    #: Around an application that does not answer the lifespan protocol.
    without_lifespan: bool = False


def installed(app: Any) -> List[Installed]:
    """Return the adapters of an application, the outermost first; `BeaconClient`s count as themselves."""
    if isinstance(app, BeaconClient):
        return [Installed(app, "BeaconClient")]
    return [*_of_flask(app), *_of_asgi(app, set(), nested=False)]


def _of_flask(app: Any) -> Iterator[Installed]:
    flask = sys.modules.get("beaconhq.integrations.flask")
    extensions = getattr(app, "extensions", None)
    if flask is not None and isinstance(extensions, dict):
        for extension in extensions.get(flask.EXCHANGES, ()):
            yield Installed(extension._recorder._client, "init_flask")  # noqa: SLF001 - one package


def _of_asgi(app: Any, seen: Set[int], *, nested: bool) -> Iterator[Installed]:
    asgi = sys.modules.get("beaconhq.integrations.asgi")
    if asgi is None:
        return
    layers = list(_layers(app, seen))
    lifespan = any(isinstance(layer, asgi.BeaconLifespan) for layer in layers)
    # Django's handler raises at the lifespan's scope.
    deaf = bool(layers) and type(layers[-1]).__module__.startswith("django.") and not lifespan
    for layer in layers:
        if isinstance(layer, (asgi.BeaconASGIMiddleware, asgi.BeaconLifespan)):
            yield Installed(layer._client, type(layer).__name__, nested, deaf)  # noqa: SLF001
        for cls, client in _of_starlette(layer):
            if isinstance(cls, type) and issubclass(cls, asgi.BeaconASGIMiddleware):
                yield Installed(client, cls.__name__, nested)
        for route in getattr(layer, "routes", None) or ():
            yield from _of_asgi(getattr(route, "app", None), seen, nested=True)


def _layers(app: Any, seen: Set[int]) -> Iterator[Any]:
    """Yield an application and what it wraps (`.app`, as middleware calls it)."""
    for _ in range(_DEEPEST):
        if app is None or id(app) in seen or len(seen) > _DEEPEST * _DEEPEST:
            return
        seen.add(id(app))
        yield app
        app = getattr(app, "app", None) or getattr(app, "application", None)


def _of_starlette(app: Any) -> Iterator[Tuple[Any, Any]]:
    """Yield class and client of the middleware that is listed with a Starlette or FastAPI app."""
    for middleware in getattr(app, "user_middleware", None) or ():
        arguments = [*getattr(middleware, "args", ()), None]
        client = getattr(middleware, "kwargs", {}).get("client", arguments[0])
        if isinstance(client, BeaconClient):
            yield getattr(middleware, "cls", None), client
