"""
Locks and threads of the operating system, also where gevent has put its own in their place.

Under `gevent.monkey.patch_all` a thread is a greenlet: an event loop in it would make
every `asyncio.run` of the application fail, and block its hub. So the bridge's thread is a
native one, and what it shares with the greenlets is guarded by native locks, which are
held for microseconds, and never while a greenlet may be switched.
"""

from __future__ import annotations

import _thread
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def original(module: Any, name: str) -> Any:
    """Return what a module held under this name before gevent patched it."""
    monkey = sys.modules.get("gevent.monkey")
    return getattr(module, name) if monkey is None else monkey.get_original(module.__name__, name)


def threads_are_greenlets() -> bool:
    """Whether gevent has patched `threading` in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def start_thread(main: Any) -> None:
    """Start a bare native thread; raises `RuntimeError` where none can be started."""
    original(_thread, "start_new_thread")(main, ())


def start_greenlet(work: Callable[[], None]) -> Any:
    """
    Run `work` in a greenlet of the main thread; returns a native lock that is free when it is done.

    Called in another thread, which has no hub that anybody runs, it does nothing.
    """
    gevent = sys.modules["gevent"]
    done = Lock()
    if gevent.get_hub().main_hub:
        done.acquire()

        def run() -> None:
            try:
                work()
            finally:
                done.release()

        gevent.spawn(run)
    return done


#: Makes a native lock. Bound at import: gevent patches the module, not what was taken from it.
Lock = original(_thread, "allocate_lock")
