"""
Locks and threads of the operating system, also where gevent has put its own in their place.

Under `gevent.monkey.patch_all` a thread is a greenlet: an event loop in it would make
every `asyncio.run` of the application fail, and block its hub. So the bridge's thread is a
native one, and what it shares with the greenlets is guarded by native locks, which are
held for microseconds.
"""

from __future__ import annotations

import _thread
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _original(name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(_thread, name) if monkey is None else monkey.get_original("_thread", name)


def threads_are_greenlets() -> bool:
    """Whether gevent has patched `threading` in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def start_thread(main: Any) -> None:
    """Start a bare native thread; raises `RuntimeError` where none can be started."""
    _original("start_new_thread")(main, ())


#: Makes a native lock. Bound at import: gevent patches the module, not what was taken from it.
Lock = _original("allocate_lock")
