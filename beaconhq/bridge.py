"""
The bridge: a daemon thread with an event loop of its own that runs the drain.

It serves whatever has no asyncio loop to offer: WSGI apps, ASGI without lifespan,
scripts, trio. It runs the same coroutine as an application's loop would, so flush,
requeue and drop cannot differ. Owns the thread; who asks for it is the lifecycle.

Nothing here imports asyncio, anyio or httpx before a thread of ours runs.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext, suppress
from threading import Thread

from . import hooks
from .native import start_greenlet, start_thread, threads_are_greenlets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .exporter import Exporter
    from .host import Host


#: Seconds that a thread gets for its last steps, once the drain in it has ended.
JOIN_TIMEOUT = 0.5


def start(main: Callable[[], None], load: Callable[[], None], host: Host) -> bool:
    """
    Start the thread; False where no thread can be started (limits, interpreter exit).

    `Thread.start` waits for the new thread and takes locks of the `threading` module,
    neither of which a capture in a signal handler may do. So a bare thread does it. Under
    gevent the bare thread itself is the bridge, as a `Thread` would be a greenlet; and
    `load`, which imports the HTTP stack, runs in a greenlet of the main thread first.
    """
    try:
        start_thread(_main_under_gevent(main, load) if threads_are_greenlets() else _named(main, host))
    except RuntimeError:
        return False
    return True


def _main_under_gevent(main: Callable[[], None], load: Callable[[], None]) -> Callable[[], None]:
    # With trio installed, httpcore's import runs `ldconfig`: gevent starts processes from the
    # main thread only.
    loaded = start_greenlet(load)

    def run() -> None:
        loaded.acquire()
        main()

    return run


def _named(main: Callable[[], None], host: Host) -> Callable[[], None]:
    return lambda: _start_named(main, host)


def _start_named(main: Callable[[], None], host: Host) -> None:
    thread = Thread(target=main, name="beaconhq-bridge", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # this one was the last before a limit, or before the interpreter's exit
        main()
    else:
        host.thread = thread


def wait(host: Host, timeout: float) -> None:
    """
    Wait, blocking, until a drain has ended and its thread with it; at most `timeout` seconds.

    The thread too, as a daemon thread that still runs while the interpreter takes itself
    apart can crash it (Python 3.9: segmentation fault).
    """
    from . import loops

    if loops.wait_in_thread(host.finished(), timeout) and host.thread is not None:
        host.thread.join(JOIN_TIMEOUT)


def run(make_exporter: Callable[[], Exporter], host: Host) -> None:
    """Run the drain in this thread until it ends; everything is loaded before its loop starts."""
    with hooks.loading:
        from . import loops
    exporter = make_exporter()
    prepare(exporter)
    loops.run_private(lambda: exporter.run(host))


def needs_preparing(exporter: Exporter) -> bool:
    """Whether `prepare` has anything to do."""
    return hasattr(exporter.transport, "prepare")


def prepare(exporter: Exporter) -> None:
    """
    Load the HTTP stack and build the TLS context: 200 to 330 ms that no event loop may spend.

    A failure (a bad proxy variable, a missing CA file) is left to the first POST, which
    meets it again, reports it and retries.
    """
    prepare_transport = getattr(exporter.transport, "prepare", None)
    if prepare_transport is None:
        return
    # A greenlet that is switched here must hold no lock that would stop the whole process.
    lock = nullcontext() if threads_are_greenlets() else hooks.loading
    with lock, suppress(Exception):  # a transport is the user's hook; see above
        prepare_transport()


def forget_connections(exporter: Exporter) -> object:
    """Let go, unclosed, of connections that belong to another process or a dead event loop."""
    forget = getattr(exporter.transport, "forget", None)
    return None if forget is None else forget()


def is_loop_running() -> bool:
    """Whether this thread runs an asyncio loop (without loading asyncio to find out)."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - documented, "for low-level use"
