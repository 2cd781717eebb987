"""
A host: one run of the drain, as seen by those who may ask something of it.

Owns what is particular to that run: its kind, its event loop and thread, the request
to stop, and the signal that it has finished. Who the host is at any moment is the
lifecycle's business; what the drain does there is the exporter's.
"""

from __future__ import annotations

import math
from os import getpid
from threading import get_ident

from .native import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from concurrent.futures import Future
    from threading import Thread
    from typing import Literal, Optional

    from .loops import Wakeup

    Kind = Literal["event_loop", "thread"]


class Host:
    """One run of the drain. Everything here may be read from any thread."""

    def __init__(self, kind: Kind, loop: Optional[AbstractEventLoop] = None) -> None:
        #: "event_loop" (an application's own) or "thread" (the bridge's, or a caller's).
        self.kind = kind
        #: The process that it was made for.
        self.pid = getpid()
        #: The application's event loop, or None.
        self.loop = loop
        #: The thread that runs the drain, once it is known.
        self.thread_id = get_ident() if loop is not None else 0
        #: The bridge's thread, or None.
        self.thread: Optional[Thread] = None
        #: How many times this event loop has entered the client and not left it.
        self.entered = 1
        #: Set by the drain for as long as it can be woken.
        self.wakeup: Optional[Wakeup] = None
        #: The drain is to send what it can and end by then (monotonic seconds).
        self.stop_by = math.inf
        #: Another host waits for this one to end, after the POST under way.
        self.handing_over = False
        #: The drain is to end once the queue is empty.
        self.retiring = False
        #: The event loop was closed under the drain.
        self.lost = False
        #: Its events were taken back; whatever its coroutine still does no longer counts.
        self.abandoned = False
        #: Holds the drain's task, which its event loop only knows weakly.
        self.task: Optional[Task[None]] = None
        self._lock = Lock()
        self._ended = False
        self._finished: Optional[Future[None]] = None

    def wake(self) -> bool:
        """Wake the drain; False where its event loop is closed."""
        wakeup = self.wakeup
        return not self.lost and (wakeup is None or wakeup.set())

    def stop(self, deadline: float) -> None:
        """Ask the drain to send what it can and to end by `deadline` (monotonic seconds)."""
        self.stop_by = min(self.stop_by, deadline)
        self.wake()

    def hand_over(self) -> None:
        """Ask the drain to end after the POST under way."""
        self.handing_over = True
        self.wake()

    def retire(self) -> None:
        """Ask the drain to end once the queue is empty. Takes no lock: a finalizer calls it."""
        self.retiring = True
        self.wake()

    def is_lost(self) -> bool:
        """Whether the event loop can no longer run the drain."""
        return self.lost or (self.loop is not None and self.loop.is_closed())

    def is_stopping(self) -> bool:
        """Whether the drain is about to end."""
        return self.stop_by < math.inf or self.handing_over or self.retiring

    def finished(self) -> Future[None]:
        """Return the future that is done when the drain has ended. Not for the request path."""
        from .loops import new_future  # loads asyncio, which a capture must not

        with self._lock:
            if self._finished is None:
                self._finished = new_future()
                if self._ended:
                    self._finished.set_result(None)
            return self._finished

    def end(self) -> None:
        """Say that the drain has ended. Idempotent."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            finished = self._finished
        if finished is not None:
            finished.set_result(None)
