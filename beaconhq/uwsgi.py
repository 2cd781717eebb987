"""
What is different under uWSGI: it forks behind Python's back, and its threads may be off.

uWSGI forks in C, so `os.register_at_fork` does not fire and no fork waits for a thread of
ours. Its master therefore gets no thread: what was captured while the application was
loaded is taken over by one worker, the first that draws. Elsewhere nothing here applies:
the module `uwsgi` exists only inside of a uWSGI process.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

THREADS_ARE_OFF = (
    "uWSGI runs without threads: events wait in memory and are sent when a worker ends; "
    "start it with --enable-threads to have them sent as they come"
)

#: The end of a pipe with a byte in it, or None: whichever worker reads the byte takes over
#: what the master captured.
_lot: Optional[int] = None


def _api() -> Any:
    api = sys.modules.get("uwsgi")
    return api if hasattr(api, "masterpid") else None


def threads_are_off() -> bool:
    """
    Whether Python's threads stand still between requests.

    Without `--enable-threads` uWSGI keeps the interpreter's lock while it waits. Since
    2.0.27 or so threads are always on; `uwsgi.has_threads` tells for every version.
    """
    return not getattr(_api(), "has_threads", True)


def is_forking() -> bool:
    """Whether this is the process that workers are forked from, so that it must start no thread."""
    api = _api()
    if api is None:
        return False
    master: int = api.masterpid()
    # Without a master the process that loads the application forks once it is loaded.
    return master == os.getpid() or (master == 0 and api.worker_id() == 0)


def watch_forks(after_fork: Callable[[], None]) -> None:
    """
    Call `after_fork` in every worker, before what is to be called there already.

    `uwsgidecorators` sets the same hook. Where it is imported later, and so takes the
    place of ours, the pid tells: see `hooks.notice_fork`.
    """
    global _lot
    api = _api()
    if api is None:
        return
    earlier: Optional[Callable[[], None]] = getattr(api, "post_fork_hook", None)

    def post_fork_hook() -> None:
        try:
            after_fork()
        finally:
            if earlier is not None:
                earlier()

    api.post_fork_hook = post_fork_hook
    if api.masterpid() == os.getpid():
        _lot, write = os.pipe()
        os.set_blocking(_lot, False)
        os.write(write, b"1")
        os.close(write)


def calls_later() -> bool:
    """
    Whether `after_fork` is still to be called in this child of the master.

    With `--py-call-uwsgi-fork-hooks` Python's own hooks run too, before uWSGI says which
    worker this is.
    """
    return _lot is not None and _api().worker_id() == 0


def takes_over() -> bool:
    """Whether this process, just forked, takes over what the master captured: one of all does."""
    global _lot
    lot, _lot = _lot, None
    if lot is None:
        return False
    try:
        return _api().worker_id() > 0 and os.read(lot, 1) == b"1"  # else a child of the application's own
    except BlockingIOError:
        return False
    finally:
        os.close(lot)
