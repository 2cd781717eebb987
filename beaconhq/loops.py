"""
Plumbing between threads and event loops: waking, waiting, starting.

Owns no state of the client. Everything that touches `asyncio` directly is here; the
rest of the package speaks anyio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import math
import socket
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread, current_thread
from typing import Any, Awaitable, Callable, Coroutine, Optional

import anyio

from . import hooks
from .native import original, threads_are_greenlets
from .quiet import quiet

#: Seconds between two looks of a greenlet that waits for the bridge.
GREENLET_POLL = 0.005


def new_future() -> Future[None]:
    """Return a future that a cancelled waiter cannot cancel for the others."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


class Wakeup:
    """Lets any thread wake the one coroutine that waits in the event loop of its making."""

    def __init__(self, on_wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = anyio.Event()
        self._on_wake = on_wake

    def set(self) -> bool:
        """
        Wake the waiter; returns False where the event loop is closed.

        Costs about 8 us, so it is called once per batch. It takes no lock of ours.
        """
        try:
            self._loop.call_soon_threadsafe(self._fire)
        except RuntimeError:
            return False
        return True

    def time(self) -> float:
        """Return the event loop's clock in seconds: what the deadlines of scopes are held against."""
        return self._loop.time()

    def _fire(self) -> None:
        # A plain callback of the loop: only the concrete event may be used here, as anyio
        # 4.10 cannot look up its backend outside a task.
        self._on_wake()
        self._event.set()

    async def wait(self, timeout: float) -> None:
        """Wait until woken, at most `timeout` seconds."""
        with anyio.move_on_after(timeout):
            await self._event.wait()
        self._event = anyio.Event()


async def wait_for(future: Future[None], timeout: Optional[float]) -> bool:
    """
    Wait for a thread's future from any event loop; False when `timeout` seconds ran out.

    Under a loop that is not asyncio's a worker thread waits: rare, and the same for all.
    """
    loop = running_loop()
    if loop is not None:
        done = loop.create_future()

        def tell(_: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
                loop.call_soon_threadsafe(settle)

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        future.add_done_callback(tell)
        await asyncio.wait([done], timeout=timeout)
        return done.done()
    with anyio.move_on_after(timeout):
        await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)
        return True
    return False


def wait_in_thread(future: Future[None], timeout: Optional[float]) -> bool:
    """Wait for a future, blocking this thread; False when `timeout` seconds ran out."""
    if not threads_are_greenlets():
        done, _ = concurrent.futures.wait([future], timeout)
        return bool(done)
    # A greenlet cannot be woken by a native thread without its hub: it looks now and then.
    deadline = time.monotonic() + timeout if timeout is not None else math.inf
    while not future.done() and time.monotonic() < deadline:
        time.sleep(GREENLET_POLL)
    return future.done()


def running_loop() -> Optional[asyncio.AbstractEventLoop]:
    """Return the asyncio loop that runs in this thread, or None (no loop, or trio's)."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _ClosingWatch:
    """Freed, and so heard of, when the event loop that holds it is closed."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close

    def __call__(self) -> None:
        """Run as a timer that is a year away."""

    def __del__(self) -> None:
        self._on_close()


def watch_closing(on_close: Callable[[], None]) -> Callable[[], None]:
    """
    Call `on_close` when the running loop is closed; returns what ends the watch.

    A loop that is closed tells nobody, and the task in it is only found dead by the
    garbage collector. But it drops its timers at once, and nobody else holds this one.
    `on_close` may run in any thread, and also when the watch ends: it must be harmless.
    """
    loop = asyncio.get_running_loop()
    timer = weakref.ref(loop.call_later(365 * 86400, _ClosingWatch(on_close)))

    def end() -> None:
        handle = timer()
        if handle is not None:
            handle.cancel()

    return end


def start_task(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """
    Start a task of the running loop in an empty context.

    No request's context variables (a trace, a session) outlive it in there.
    """
    loop = asyncio.get_running_loop()
    task: asyncio.Task[None] = contextvars.Context().run(loop.create_task, coroutine)
    if hasattr(task, "set_name"):
        task.set_name("beaconhq-drain")
    return task


def start_in_thread(work: Callable[[], None], name: str) -> Future[None]:
    """
    Start `work` in a thread of its own that ends with it; the future is done when `work` is.

    Not a pooled worker: while an event loop hosts the drain, no thread of ours stays. Where
    no thread can be started (limits, or the interpreter goes down) `work` is done here.
    """
    done = new_future()

    def run() -> None:
        error: Optional[BaseException] = None
        try:
            work()
        except BaseException as err:  # noqa: BLE001 - carried over to the waiter
            error = err
        if current_thread() is thread:
            hooks.thread_ends()
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    thread = Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        run()
    return done


async def run_in_thread(work: Callable[[], None], name: str) -> None:
    """Run `work` in a thread of its own, and wait; raises what it raises."""
    done = start_in_thread(work, name)
    await wait_for(done, None)
    done.result()


class PrivateLoop(asyncio.SelectorEventLoop):
    """
    An event loop that looks up host names in its own thread.

    asyncio's resolver uses a thread pool that is closed at interpreter exit, so that a
    final POST to a host *name* fails with "cannot schedule new futures after shutdown"
    (Python 3.9 to 3.13). Only the drain runs here, so blocking it harms nobody.
    """

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Look up a host name, blocking."""
        with hooks.resolving:
            look_up: Callable[..., list[Any]] = original(socket, "getaddrinfo")  # gevent's starts threads
            return look_up(host, port, family, type, proto, flags)


def run_private(main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function to its end in a private loop of this thread."""
    with quiet():  # asyncio logs the making of a loop
        anyio.run(main, backend="asyncio", backend_options={"loop_factory": PrivateLoop})
