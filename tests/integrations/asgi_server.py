"""
An ASGI server for tests, as strict and as patient as uvicorn.

It runs on asyncio and on trio, and keeps every message in the order in which it came,
so that two runs can be compared message by message.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    Iterable,
    List,
    MutableMapping,
    Optional,
    Tuple,
    Union,
)

import anyio

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: As loose as the frameworks' own types are different.
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

REQUEST: Message = {"type": "http.request", "body": b"", "more_body": False}
DISCONNECT: Message = {"type": "http.disconnect"}


class Answer:
    """What the server saw of one request."""

    def __init__(self) -> None:
        self.messages: List[Dict[str, Any]] = []
        #: What escaped the application.
        self.exception: Optional[BaseException] = None

    @property
    def status(self) -> int:
        """The status that was sent, 0 for none."""
        starts = [message for message in self.messages if message["type"] == "http.response.start"]
        return int(starts[0]["status"]) if starts else 0

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def http_scope(method: str = "GET", path: str = "/", **fields: Any) -> Dict[str, Any]:
    """Make the scope that uvicorn would; `fields` replace its fields."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "state": {},
        **fields,
    }


async def serve(
    app: ASGIApp,
    scope: Union[Dict[str, Any], str],
    *,
    received: Iterable[Union[Message, anyio.Event]] = (REQUEST,),
    on_send: Optional[Callable[[Message], Awaitable[None]]] = None,
) -> Answer:
    """
    Serve one request (a scope, or the path of a GET) and return what came of it.

    `received` is what the client sends; after that it stays connected and silent. An event
    among it holds back what follows until it is set.
    `on_send` is awaited with each message before it is kept; what it raises is what the
    server's `send` raises.
    """
    answer = Answer()
    inbox = list(received)

    async def receive() -> Message:
        while inbox:
            message = inbox.pop(0)
            if not isinstance(message, anyio.Event):
                return message
            await message.wait()
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        if on_send is not None:
            await on_send(message)
        answer.messages.append(dict(message))

    try:
        await app(http_scope(path=scope) if isinstance(scope, str) else scope, receive, send)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the result
        answer.exception = exc
    return answer


class LifespanServer:
    """
    Runs the lifespan protocol as a server does; asyncio only.

    `log` holds what happened in order: the types of the messages that the application
    sent, and whatever a test adds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.log: List[str] = []
        self.messages: List[Dict[str, Any]] = []
        self.state: Dict[str, Any] = {}
        self.exception: Optional[BaseException] = None
        self.app = app
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._heard = asyncio.Event()
        self._task: Optional[asyncio.Task[None]] = None

    async def startup(self) -> None:
        """Start the application; returns once it has answered or ended."""
        self._task = asyncio.create_task(self._run())
        await self._tell("lifespan.startup")

    async def shutdown(self) -> None:
        """Stop the application, where it has started; returns once it has ended."""
        assert self._task is not None
        started = self.messages and self.messages[-1]["type"] == "lifespan.startup.complete"
        if started and not self._task.done():
            await self._tell("lifespan.shutdown")
        await self._task

    async def _tell(self, kind: str) -> None:
        self._heard.clear()
        self._inbox.put_nowait({"type": kind})
        await self._heard.wait()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        try:
            await self.app(scope, self._inbox.get, self._send)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is the result
            self.exception = exc
        self.log.append("ended")
        self._heard.set()

    async def _send(self, message: Message) -> None:
        self.messages.append(dict(message))
        self.log.append(message["type"])
        self._heard.set()


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[LifespanServer]:
    """Start an application and stop it again."""
    server = LifespanServer(app)
    await server.startup()
    try:
        yield server
    finally:
        await server.shutdown()


async def outcome_of_lifespan(app: ASGIApp) -> Tuple[List[Dict[str, Any]], Optional[BaseException]]:
    """Return every message and the exception of one whole lifespan."""
    async with running(app) as server:
        pass
    return server.messages, server.exception
