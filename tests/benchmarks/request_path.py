"""
Cases of the request path: each makes the callables that serve requests, by variant.

The process of `beaconhq` also holds `bare`, `noop`, `mincap` and `beaconhq+consumer`, so
that a floor and what it is held against run in the same process.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Tuple

from . import floors
from .instruments import Beacon, Subject, make_subject
from .workload import AsgiCaller, Call, RawASGI, django_setup, fastapi_app, flask_app, wsgi_call

#: Routes of the WSGI cases, whose routers find a route in constant time.
ROUTES = 20


class Calls:
    """What a worker serves: a callable for each variant, and what to do between rounds."""

    def __init__(self) -> None:
        self.variants: Dict[str, Call] = {}
        self.subjects: List[Subject] = []

    def between_rounds(self) -> None:
        for subject in self.subjects:
            subject.between_rounds()

    def add(self, name: str, subject: Subject, call: Call) -> None:
        self.variants[name] = call
        self.subjects.append(subject)


def _ours(ingest: str) -> List[Tuple[str, Beacon]]:
    return [
        ("beaconhq", Beacon(ingest, parked=True)),
        ("beaconhq+consumer", Beacon(ingest, parked=True, consumer=True)),
    ]


def asgi(subject: str, ingest: str, routes: int, *, leaves_route: bool = True) -> Calls:
    caller, calls = AsgiCaller(routes), Calls()
    raw = RawASGI(routes, leaves_route=leaves_route)
    if subject != "beaconhq":
        one = make_subject(subject, ingest, parked=True)
        calls.add(subject, one, caller.call(one.asgi(raw)))
        return calls
    bare = Subject(ingest, parked=True)
    calls.add("bare", bare, caller.call(raw))
    calls.add("noop", bare, caller.call(floors.NoopASGI(raw)))
    calls.add("mincap", bare, caller.call(floors.MincapASGI(raw)))
    for name, beacon in _ours(ingest):
        calls.add(name, beacon, caller.call(beacon.asgi(raw)))
    return calls


def asgi_before_starlette_1(subject: str, ingest: str, routes: int) -> Calls:
    return asgi(subject, ingest, routes, leaves_route=False)


def fastapi(subject: str, ingest: str, routes: int) -> Calls:
    caller, calls = AsgiCaller(routes), Calls()

    def add(name: str, one: Subject, floor: Any = None) -> None:
        app = fastapi_app(routes)
        if floor is not None:
            app.add_middleware(floor)
        app = one.fastapi(app)
        start_lifespan(caller, app)
        calls.add(name, one, caller.call(app))

    if subject != "beaconhq":
        add(subject, make_subject(subject, ingest, parked=True))
        return calls
    bare = Subject(ingest, parked=True)
    add("bare", bare)
    add("noop", bare, floors.NoopASGI)
    add("mincap", bare, floors.MincapASGI)
    for name, beacon in _ours(ingest):
        add(name, beacon)
    return calls


def start_lifespan(caller: AsgiCaller, app: Any) -> None:
    """Start an application as a server would; it stays started."""
    import asyncio

    async def start() -> None:
        started = asyncio.Event()
        starting = [{"type": "lifespan.startup"}]

        async def receive() -> Any:
            if starting:
                return starting.pop()
            await asyncio.Event().wait()
            return None

        async def send(message: Any) -> None:
            started.set()

        _kept.append(asyncio.ensure_future(app({"type": "lifespan", "state": {}}, receive, send)))
        await started.wait()

    caller.loop.run_until_complete(start())


#: Lifespans that run until the process ends.
_kept: List[Any] = []


def flask(subject: str, ingest: str, routes: int) -> Calls:
    calls = Calls()

    def add(name: str, one: Subject, floor: Any = None) -> None:
        app = flask_app(routes)
        one.flask(app)
        if floor is not None:
            app.wsgi_app = floor(app)
        calls.add(name, one, wsgi_call(app, routes))

    if subject != "beaconhq":
        add(subject, make_subject(subject, ingest, parked=True))
        return calls
    bare = Subject(ingest, parked=True)
    add("bare", bare)
    add("noop", bare, lambda app: floors.NoopWSGI(app.wsgi_app))
    add("mincap", bare, floors.MincapFlask)
    for name, beacon in _ours(ingest):
        add(name, beacon)
    return calls


def django_wsgi(subject: str, ingest: str, routes: int) -> Calls:
    from django.core.handlers.wsgi import WSGIHandler

    return _django(subject, ingest, routes, lambda: wsgi_call(WSGIHandler(), routes), "")


def django_asgi(subject: str, ingest: str, routes: int) -> Calls:
    from django.core.handlers.asgi import ASGIHandler

    os.environ["BENCH_ASYNC"] = "1"
    caller = AsgiCaller(routes)
    return _django(subject, ingest, routes, lambda: caller.call(ASGIHandler()), "_async")


def _django(subject: str, ingest: str, routes: int, make_call: Callable[[], Call], suffix: str) -> Calls:
    settings, calls = django_setup(routes), Calls()

    def add(name: str, one: Subject, floor: str = "") -> None:
        settings.MIDDLEWARE = [f"{floors.__name__}.{floor}{suffix}"] if floor else []
        one.django(settings)
        calls.add(name, one, make_call())

    if subject != "beaconhq":
        add(subject, make_subject(subject, ingest, parked=True))
        return calls
    bare = Subject(ingest, parked=True)
    add("bare", bare)
    add("noop", bare, "noop_django")
    add("mincap", bare, "mincap_django")
    add("beaconhq", Beacon(ingest, parked=True))
    return calls


CASES: Dict[str, Callable[[str, str, int], Calls]] = {
    "asgi": asgi,
    "asgi-old": asgi_before_starlette_1,
    "fastapi": fastapi,
    "flask": flask,
    "django-wsgi": django_wsgi,
    "django-asgi": django_asgi,
}
