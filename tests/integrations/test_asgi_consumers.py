"""Who called: what is particular to ASGI. The precedence is in `conformance.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional

import pytest
from fastapi import FastAPI, Request

from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .asgi_server import Receive, Send, http_scope, serve

if TYPE_CHECKING:
    from .conftest import Probe


async def app(scope: Any, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _resolve(scope: Any) -> Optional[str]:
    return "nobody awaits me"


class Awaitable:
    """What a resolver returns when it calls a coroutine function."""

    def __await__(self) -> Any:
        raise AssertionError("nobody awaits me")


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text for you")


@pytest.mark.parametrize(
    ("headers", "consumer"),
    [
        ([(b"x-key", b"first"), (b"x-key", b"second")], "first"),
        ([(b"x-other", b"other"), (b"x-key", b"mine")], "mine"),
        ([(b"x-key", b"")], ""),
        ([(b"x-key", b"\x80\xff")], "\x80ÿ"),
        ([], None),
    ],
)
async def test_the_first_header_of_that_name_is_the_consumer(
    probe: Probe, headers: List[Any], consumer: Optional[str]
) -> None:
    middleware = BeaconASGIMiddleware(app, probe.client, consumer_header="X-Key")
    await serve(middleware, http_scope(headers=headers))
    assert (await probe.event())["consumer"] == consumer


async def test_a_resolver_sees_what_the_application_left_in_the_scope(probe: Probe) -> None:
    inner = FastAPI()

    @inner.get("/users/{id}")
    def user(request: Request, id: int) -> str:  # noqa: A002 - a path parameter's name
        request.state.account = "acme"
        return "user"

    def resolve(scope: Dict[str, Any]) -> str:
        return f"{scope['state']['account']}/{scope['path_params']['id']}"

    await serve(BeaconASGIMiddleware(inner, probe.client, consumer_resolver=resolve), "/users/7")
    assert (await probe.event())["consumer"] == "acme/7"


@pytest.mark.parametrize("result", [Awaitable(), Unprintable()])
async def test_what_cannot_become_text_is_no_consumer(probe: Probe, result: object) -> None:
    await probe.serve(app, consumer_resolver=lambda _: result)
    assert (await probe.event())["consumer"] is None


@pytest.mark.parametrize(("result", "consumer"), [(7, "7"), (b"raw", "b'raw'"), ("", ""), (False, "False")])
async def test_what_is_no_text_becomes_text(probe: Probe, result: object, consumer: str) -> None:
    await probe.serve(app, consumer_resolver=lambda _: result)
    assert (await probe.event())["consumer"] == consumer


async def test_a_resolver_is_asked_once_per_request(probe: Probe) -> None:
    asked: List[str] = []
    middleware = BeaconASGIMiddleware(
        app, probe.client, consumer_resolver=lambda scope: asked.append(scope["path"])
    )
    for path in ("/a", "/b"):
        await serve(middleware, path)
    assert asked == ["/a", "/b"]


async def test_a_resolver_that_interrupts_is_not_held_up(probe: Probe) -> None:
    def interrupt(scope: Any) -> str:
        raise KeyboardInterrupt

    serving = probe.serve(app, consumer_resolver=interrupt)
    with pytest.raises(KeyboardInterrupt):
        serving.send(None)  # by hand: asyncio itself ends on it


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"consumer_resolver": _resolve}, "consumer_resolver"),
        ({"consumer_resolver": "acme"}, "consumer_resolver"),
        ({"consumer_header": 7}, "consumer_header"),
        ({"consumer_header": b"x-key"}, "consumer_header"),
        ({"consumer_header": "x-clé"}, "consumer_header"),
        ({"client": "test-key"}, "client"),
        ({"client": None}, "client"),
    ],
)
def test_an_option_that_cannot_be_right_is_refused_by_name(
    probe: Probe, options: Dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        BeaconASGIMiddleware(app, **{"client": probe.client, **options})
