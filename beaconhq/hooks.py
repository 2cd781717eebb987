"""
The process's exit and fork, once for all clients.

Owns the registry of lifecycles: held weakly, and strongly only while events are
pending with them, so that a forgotten client still delivers and a closed one is
collected.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from _thread import get_native_id
from weakref import WeakSet

from . import uwsgi
from .native import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Set

    from .lifecycle import Lifecycle

#: Held while a thread of ours imports modules. A child that is forked in the middle of an
#: import inherits that module's lock, locked for ever, so a fork waits for it.
loading = Lock()
#: Held while a thread of ours looks up a host name: the C library's own locks are not made
#: for a fork in the middle of that either, and the child's first lookup would hang.
resolving = Lock()
#: Held while a spool's database is open: a child that inherited it would take SQLite's locks
#: for its own (sqlite.org, "How To Corrupt", section 2.6).
spooling = Lock()
#: Threads of ours (by the system's ids) that have ended for Python and may not have for the
#: system. OpenSSL takes a lock of its own as a thread leaves, after Python is through with it,
#: and a child that is forked in that moment would wait for it for ever.
_ending: Set[int] = set()
#: Longest wait of a fork for any of them, in seconds.
FORK_WAIT = 5.0
#: Longest wait for threads that are ending, which takes them milliseconds.
ENDING_WAIT = 1.0

_lifecycles: WeakSet[Lifecycle] = WeakSet()
_kept: Set[Lifecycle] = set()
#: What a forked child must never close; see `Lifecycle.after_fork_in_child`.
_inherited: List[object] = []
#: The locks that the fork under way holds.
_held: List[Any] = []
#: What was warned of.
_warned: Set[str] = set()
#: The process that all of this belongs to.
_pid = os.getpid()
#: Whether the fork hooks are in place.
_forks_watched = False
#: Whether this process has looked for `multiprocessing`.
_multiprocessing_joined = False


def register(lifecycle: Lifecycle) -> None:
    """Let a lifecycle take part in exit and fork for as long as it lives."""
    _lifecycles.add(lifecycle)
    if not _forks_watched:
        _watch_forks()


def keep(lifecycle: Lifecycle) -> None:
    """Hold a lifecycle: events are pending with it."""
    _kept.add(lifecycle)
    if not _multiprocessing_joined:
        _join_multiprocessing()


def release(lifecycle: Lifecycle) -> None:
    """Hold it no longer."""
    _kept.discard(lifecycle)


def _at_exit() -> None:
    """
    Deliver what is pending, all clients at the same time, within the longest of their budgets.

    First every running host is asked to stop, then each is waited for; what is left is
    sent from this thread, as no other can be started any more (3.12 and later).
    """
    notice_fork()
    now = time.monotonic()
    leaving = []
    for lifecycle in tuple(_lifecycles):
        if lifecycle.exit_timeout is None:
            lifecycle.leave_at_exit()
        else:
            leaving.append((lifecycle, now + lifecycle.exit_timeout))
    hosts = [lifecycle.begin_exit(deadline) for lifecycle, deadline in leaving]
    for (lifecycle, deadline), host in zip(leaving, hosts):
        lifecycle.finish_exit(host, deadline)


def warn(message: str) -> None:
    """Log a warning, once per process and text. For the application's start, not for a request."""
    if message not in _warned:
        import logging

        _warned.add(message)
        logging.getLogger("beaconhq").warning(message)


def _join_multiprocessing() -> None:
    """
    Take part in the exit of a `multiprocessing` child.

    Forked, it skips `atexit` (before 3.13), or clears it first (3.13 and later).
    """
    global _multiprocessing_joined  # noqa: PLW0603 - once per process
    _multiprocessing_joined = True
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _at_exit, exitpriority=0)


def _watch_forks() -> None:
    """
    Put the fork hooks in place: with the first client, as it loads `logging`.

    The last hook registered is the first to run before a fork. `logging` registers one that
    takes its lock, for which our imports would wait while the fork waits for them.
    """
    global _forks_watched  # noqa: PLW0603 - once per process
    with loading:
        if _forks_watched or not hasattr(os, "register_at_fork"):
            return
        import logging  # noqa: F401 - for its hook

        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )
        uwsgi.watch_forks(notice_fork)
        _forks_watched = True


def thread_ends() -> None:
    """Note that the calling thread, one of ours, is about to end; before anybody may learn of it."""
    _ending.difference_update([thread for thread in tuple(_ending) if not _is_there(thread)])
    _ending.add(get_native_id())


def _is_there(thread: int) -> bool:
    return os.path.exists(f"/proc/self/task/{thread}")  # noqa: PTH110 - pathlib is not loaded at import


def _wait_for_ending_threads() -> None:
    deadline = time.monotonic() + ENDING_WAIT
    while any(map(_is_there, tuple(_ending))) and time.monotonic() < deadline:
        time.sleep(0.001)
    _ending.clear()


def _before_fork() -> None:
    _wait_for_ending_threads()
    _held.extend(lock for lock in (loading, resolving, spooling) if lock.acquire(timeout=FORK_WAIT))


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    global loading, resolving, spooling
    loading, resolving, spooling = Lock(), Lock(), Lock()  # those that this fork holds
    _held.clear()
    _ending.clear()
    if not uwsgi.calls_later():
        notice_fork()


def notice_fork(capturing: Optional[Lifecycle] = None) -> None:
    """
    Start afresh if this process was forked since the last look; else do nothing.

    Called by the fork's hook, and again wherever a drain starts or wakes, as what forks
    in C may call no hook. `capturing` is the lifecycle that has just captured an event.
    """
    global loading, resolving, spooling, _pid, _multiprocessing_joined  # noqa: PLW0603
    if _pid == os.getpid():
        return
    _pid = os.getpid()
    loading, resolving, spooling = Lock(), Lock(), Lock()  # the inherited ones may be in any state
    _multiprocessing_joined = False
    takes_over = uwsgi.takes_over()
    if not takes_over:
        _kept.clear()
    for lifecycle in tuple(_lifecycles):
        newest = 1 if lifecycle is capturing else 0
        _inherited.extend(lifecycle.after_fork_in_child(None if takes_over else newest))


atexit.register(_at_exit)
