from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, Iterator, Literal

import anyio
import anyio.lowlevel
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from beaconhq.local import server
from beaconhq.local.server import Address, ServerError, listen, resolve, serving, stop_signals, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen(resolve("127.0.0.1", 0)) as opened:
        yield opened


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url)


class TestAddress:
    @pytest.mark.parametrize(
        ("host", "loopback"),
        [
            ("127.0.0.1", True),
            ("127.8.9.10", True),
            ("localhost", True),
            ("::1", True),
            ("0.0.0.0", False),
            ("::", False),
            ("192.0.2.1", False),
            ("2001:db8::1", False),
        ],
    )
    def test_loopback(self, host: str, loopback: bool) -> None:
        assert resolve(host, 8787).is_loopback is loopback

    def test_a_link_local_address_has_a_zone(self) -> None:
        assert not Address(socket.AF_INET6, ("fe80::1%eth0", 1, 0, 0)).is_loopback

    def test_localhost_is_ipv4_where_there_is_both(self) -> None:
        assert resolve("localhost", 1).family is socket.AF_INET

    @pytest.mark.parametrize("host", ["no such host", "a..b", "x" * 300])
    def test_an_unknown_host_is_one_line(self, host: str) -> None:
        with pytest.raises(ServerError, match=r"^unknown host '.*'$"):
            resolve(host, 0)


class TestListen:
    def test_port_0_is_a_free_port(self, listener: socket.socket) -> None:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert not url_of(listener).endswith(":0")

    def test_a_port_in_use_is_one_line(self, listener: socket.socket) -> None:
        port = listener.getsockname()[1]
        with pytest.raises(ServerError) as refused:
            listen(resolve("127.0.0.1", port))
        assert str(refused.value) == f"cannot listen on 127.0.0.1 port {port}: Address already in use"

    @pytest.mark.parametrize(("host", "named"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")])
    def test_the_url_can_be_used_as_it_is(self, host: str, named: str) -> None:
        try:
            listener = listen(resolve(host, 0))
        except ServerError as error:
            pytest.skip(f"no {host} here: {error}")
        with listener:
            assert url_of(listener) == f"http://{named}:{listener.getsockname()[1]}"


class TestServing:
    async def test_it_serves_inside_the_block_and_not_after(self, listener: socket.socket) -> None:
        url = url_of(listener)
        async with serving(Starlette(routes=[Route("/", hello)]), listener):
            assert (await get(url)).text == "hello"
        with pytest.raises(httpx.ConnectError):
            await get(url)

    async def test_the_lifespan_surrounds_the_requests(self, listener: socket.socket) -> None:
        seen = []

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            seen.append("startup")
            yield
            seen.append("shutdown")

        async with serving(Starlette(lifespan=lifespan), listener, lifespan="on"):
            assert seen == ["startup"]
            await get(url_of(listener))
            assert seen == ["startup"]
        assert seen == ["startup", "shutdown"]

    async def test_an_open_request_is_finished(self, listener: socket.socket) -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request: Request) -> PlainTextResponse:
            asked.set()
            await go_on.wait()
            return PlainTextResponse("late")

        async with serving(Starlette(routes=[Route("/", slow)]), listener):
            answer = asyncio.ensure_future(get(url_of(listener)))
            await asked.wait()
            asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert (await answer).text == "late"

    async def test_an_app_that_fails_at_startup_is_an_error_not_an_exit(
        self, listener: socket.socket
    ) -> None:
        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            if not hasattr(app.state, "database"):
                raise RuntimeError("no database")
            yield

        entered = False
        with pytest.raises(ServerError, match="the app did not start"):
            async with serving(Starlette(lifespan=lifespan), listener, lifespan="on"):
                entered = True
        assert not entered

    async def test_a_server_that_does_not_stop_is_given_up(
        self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "STOP_TIMEOUT", 0.2)

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            yield
            await asyncio.Event().wait()

        with pytest.raises(ServerError, match="did not stop within"):
            async with serving(Starlette(lifespan=lifespan), listener, lifespan="on"):
                pass

    async def test_a_cancelled_block_still_shuts_the_lifespan_down(self, listener: socket.socket) -> None:
        seen = []

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            yield
            await anyio.lowlevel.checkpoint()
            seen.append("shutdown")

        with anyio.CancelScope() as scope:
            async with serving(Starlette(lifespan=lifespan), listener, lifespan="on"):
                scope.cancel()
                await anyio.sleep_forever()
        assert seen == ["shutdown"]

    @pytest.mark.parametrize(("log_level", "logged"), [("error", 2), ("critical", 0)])
    async def test_the_log_of_an_exception_in_the_app(
        self,
        listener: socket.socket,
        caplog: pytest.LogCaptureFixture,
        log_level: Literal["error", "critical"],
        logged: int,
    ) -> None:
        async def broken(request: Request) -> PlainTextResponse:
            raise RuntimeError("on purpose")

        async def broken_stream(request: Request) -> StreamingResponse:
            async def rows() -> AsyncIterator[str]:
                yield "1"
                raise RuntimeError("on purpose")

            return StreamingResponse(rows())

        app = Starlette(routes=[Route("/", broken), Route("/stream", broken_stream)])
        async with serving(app, listener, log_level=log_level):
            assert (await get(url_of(listener))).status_code == 500
            with pytest.raises(httpx.RemoteProtocolError):
                await get(f"{url_of(listener)}/stream")
        assert len([record for record in caplog.records if record.name.startswith("uvicorn")]) == logged


class TestStopSignals:
    async def test_a_signal_alone_does_not_stop_a_server(self, listener: socket.socket) -> None:
        """The demo's traffic ends before its app: whoever waits for the event decides what stops when."""
        with stop_signals() as stop:
            async with serving(Starlette(routes=[Route("/", hello)]), listener):
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.wait_for(stop.wait(), 30)
                # Three of uvicorn's ticks: it would have noticed by then.
                await anyio.sleep(0.3)
                assert (await get(url_of(listener))).text == "hello"

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    async def test_a_signal_becomes_an_event_and_the_handler_is_put_back(
        self, signum: signal.Signals
    ) -> None:
        before = signal.getsignal(signum)
        with stop_signals() as stop:
            assert not stop.is_set()
            os.kill(os.getpid(), signum)
            await asyncio.wait_for(stop.wait(), 30)
        assert signal.getsignal(signum) is before

    async def test_a_second_ctrl_c_breaks_off(self) -> None:
        with stop_signals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(stop.wait(), 30)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    async def test_what_is_ignored_stays_ignored(self) -> None:
        """`nohup beaconhq local` outlives its terminal."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with stop_signals():
                assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGHUP, before)
