"""
Where the drain runs: in an application's event loop, else in the bridge's thread.

Owns which host is the current one and every change of it: start, attach, take over,
stop, loss of an event loop, exit and fork. There is never more than one drain. It does
not know the client, so that a forgotten client can be collected while its events are
still on their way.
"""

from __future__ import annotations

import time
from os import getpid
from threading import get_ident

from . import bridge, hooks, uwsgi
from .errors import ClientClosed, HostUnavailable
from .host import Host
from .native import Lock, threads_are_greenlets
from .queue import EventQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, List, Optional, Tuple

    from .exporter import Exporter
    from .flushes import Flush, FlushResult
    from .report import Reporter

#: Captures between two attempts to start a thread where none could be started.
RETRY_START_AFTER = 100
#: A time-out for those who set none, in seconds.
UNLIMITED = 1e9
#: Seconds that a waiter grants beyond the deadline that it gave the drain.
GRACE = 0.5


class Lifecycle:
    """
    Hosts the drain of one client.

    `make_exporter` builds the exporter on first use; it loads asyncio and anyio, which
    neither `import beaconhq` nor a request does. The lock is held for transitions only,
    never across I/O, and the request path only tries it.
    """

    def __init__(
        self,
        capacity: int,
        make_exporter: Callable[[EventQueue], Exporter],
        reporter: Reporter,
        exit_timeout: Optional[float],
    ) -> None:
        #: Seconds for delivering the rest at interpreter exit, or None to leave it.
        self.exit_timeout = exit_timeout
        self.queue = EventQueue(capacity, self._attend)
        self.queue.arm(1)  # nobody drains yet: the first capture starts the bridge
        self.closed = False
        #: The exit hook has begun: captures are taken until `closed`, but start no thread.
        self._exiting = False
        self._make_exporter = make_exporter
        self._exporter: Optional[Exporter] = None
        self._loaded = False
        self._making = Lock()
        self._reporter = reporter
        self._lock = Lock()
        self._host: Optional[Host] = None
        hooks.register(self)

    @property
    def host(self) -> Optional[Host]:
        """The current host, or None while nobody drains."""
        return self._host

    def exporter(self) -> Exporter:
        """Return the exporter, made on first use. Not for the request path: it imports."""
        if self._exporter is None:
            with self._making:
                if self._exporter is None:
                    with hooks.loading:
                        self._exporter = self._make_exporter(self.queue)
        return self._exporter

    def install(self) -> None:
        """
        Do what some servers need before the first request, once captures are to be expected.

        Under gevent the HTTP stack loads now, on the main thread. Under uWSGI without
        threads there will be no bridge: say so.
        """
        if threads_are_greenlets():
            self._load()
        elif uwsgi.threads_are_off():
            self._reporter.defer(HostUnavailable(uwsgi.THREADS_ARE_OFF))
            hooks.warn(uwsgi.THREADS_ARE_OFF)

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            bridge.prepare(self.exporter())

    def is_backing_off(self) -> bool:
        """Whether the next POST waits for a failure's delay to pass."""
        return self._exporter is not None and self._exporter.is_backing_off()

    # -- the request path ---------------------------------------------------------------

    def _attend(self) -> None:
        """Called by a capture that reached a threshold: wake or start a host, trim. Never blocks."""
        hooks.notice_fork(self)
        if self.closed:
            self.queue.discard("closed")
            return
        self.queue.trim()
        host = self._host
        if host is None:
            self._try_start_bridge()
        elif self.queue.armed:
            self.queue.disarm()
            if not host.wake() or self._host is None:  # its loop is closed; or it ended this moment
                self._try_start_bridge(instead_of=host)

    def _try_start_bridge(self, instead_of: Optional[Host] = None) -> None:
        if self._exiting:
            return  # the exit hook sends it: a thread that starts this late can crash Python 3.9
        lock = self._lock  # a fork in here gives the child another
        if not lock.acquire(False):
            return  # someone else is changing the host, perhaps the very code that we interrupt
        try:
            if self._host is None or self._host is instead_of:
                self._recover()
                self._start_bridge()
        finally:
            lock.release()

    def _start_bridge(self) -> Optional[Host]:
        """Under the lock: start the bridge; None where no thread can be started."""
        host = Host("thread")
        hooks.keep(self)
        if uwsgi.is_forking():
            return None  # the queue stays armed: the first capture in a worker starts the bridge
        if uwsgi.threads_are_off():
            self.queue.disarm()  # as `install` said: the exit hook sends everything
            return None
        if not bridge.start(lambda: self._run_in_thread(host, is_ours=True), self._load, host):
            self._reporter.defer(HostUnavailable("no thread can be started; events wait for the exit hook"))
            self.queue.arm(self.queue.pending + RETRY_START_AFTER)
            return None
        self._host = host
        self.queue.disarm()
        if host.pid != getpid():  # forked in here: the thread is the parent's, or will not run
            self._host = None
            self.queue.arm(1)
            return None
        return host

    # -- running ------------------------------------------------------------------------

    def _run_in_thread(self, host: Host, *, is_ours: bool) -> None:
        """Run the drain in this thread until it ends: the bridge, or a caller that has no loop."""
        host.thread_id = get_ident()
        try:
            if host.pid == getpid():  # else it was started after a fork, for its parent's host
                bridge.run(self.exporter, host)
        finally:
            if is_ours:
                hooks.thread_ends()
            self._ended(host)

    async def _run_in_loop(self, host: Host, predecessor: Optional[Host]) -> None:
        """Run the drain in this event loop, once `predecessor` is through with its POST."""
        from . import loops

        end_watch = loops.watch_closing(lambda: self._lost(host))
        try:
            if predecessor is not None:
                await loops.wait_for(predecessor.finished(), None)
            if self._exporter is None or bridge.needs_preparing(self._exporter):
                await loops.run_in_thread(lambda: bridge.prepare(self.exporter()), "beaconhq-prepare")
            await self.exporter().run(host)
        except GeneratorExit:
            host.lost = True
            raise
        finally:
            if not host.is_lost():
                self._ended(host)
            end_watch()

    def _lost(self, host: Host) -> None:
        """Note that the event loop was closed; may interrupt anything, so it takes no lock."""
        if self._host is host:
            host.lost = True
            self.queue.arm(1)

    def _ended(self, host: Host) -> None:
        with self._lock:
            if self._host is host:
                self._host = None
                self._leave_to_next_host()
        host.end()

    def _leave_to_next_host(self) -> None:
        """Under the lock: nobody drains; the next capture starts the bridge."""
        if self._exporter is not None:
            self._exporter.end_flushes()
        if self.queue.pending:
            hooks.keep(self)
        else:
            hooks.release(self)
        self.queue.arm(1)

    def _recover(self) -> None:
        """Under the lock: take the events back from a host whose event loop is gone."""
        host = self._host
        if host is None:
            return
        host.lost = host.abandoned = True
        self._host = None
        self.queue.requeue()
        if self._exporter is not None:
            bridge.forget_connections(self._exporter)
        host.end()

    # -- an application's event loop ----------------------------------------------------

    async def enter(self) -> None:
        """
        Host the drain in the running event loop, or attach to the loop that does.

        Where the running loop is not asyncio's, the bridge goes on serving.
        """
        from . import loops

        loop = loops.running_loop()
        if loop is None:
            return
        hooks.notice_fork()
        with self._lock:
            host = self._host
            if host is not None and host.is_lost():
                self._recover()
                host = None
            if host is not None and host.loop is not None and not host.is_stopping():
                host.entered += host.loop is loop
                return
            successor = self._host = Host("event_loop", loop)
            self.queue.disarm()
            if host is not None:
                host.hand_over()
            successor.task = loops.start_task(self._run_in_loop(successor, host))

    async def leave(self, timeout: float) -> None:
        """Undo one `enter`: the last one out stops the drain, the others ask it to flush."""
        from . import loops

        host = self._host
        if host is not None and host.loop is not None:
            if host.loop is loops.running_loop():
                host.entered -= 1
            if host.loop is not loops.running_loop() or host.entered > 0:
                await self.flush(timeout)
                return
        await self.stop(timeout)

    # -- flush and stop -----------------------------------------------------------------

    async def flush(self, timeout: Optional[float]) -> FlushResult:
        """Try everything captured so far once; wait for it at most `timeout` seconds."""
        request, _ = self._request_flush()
        from . import loops  # with the exporter, and so under `hooks.loading`

        await loops.wait_for(request.done, timeout)
        return self.exporter().flush_result(request)

    def flush_sync(self, timeout: Optional[float]) -> FlushResult:
        """Do the same, blocking; on the thread of the drain itself it only asks and returns."""
        request, host = self._request_flush()
        from . import loops

        if host is not None and host.thread_id != get_ident():
            loops.wait_in_thread(request.done, timeout)
        untried = self._host is None and not self.is_backing_off()  # the host was about to end
        if host is None or untried:
            self._run_here(UNLIMITED if timeout is None else timeout)
        return self.exporter().flush_result(request)

    def _request_flush(self) -> Tuple[Flush, Optional[Host]]:
        """Ask the host for a flush; with events pending and no host, start one for them."""
        hooks.notice_fork()
        exporter = self.exporter()
        with self._lock:
            host = self._usable_host()  # first, as it ends the flushes that a lost host left
            request = exporter.request_flush()
            if host is not None:
                host.wake()
            else:
                host = self._start_bridge() if self.queue.pending or exporter.may_hold_more else None
                if host is None:
                    exporter.end_flushes()
        return request, host

    async def stop(self, timeout: float) -> None:
        """Send what can be sent within `timeout` seconds, then end the drain."""
        from . import loops

        host = self._request_stop(timeout)
        if host is not None:
            await loops.wait_for(host.finished(), timeout + GRACE)

    def stop_sync(self, timeout: float) -> None:
        """Do the same, blocking; on the thread of the drain itself it only asks and returns."""
        host = self._request_stop(timeout)
        if host is None:
            self._run_here(timeout)
        elif host.thread_id != get_ident():
            bridge.wait(host, timeout + GRACE)

    def _request_stop(self, timeout: float) -> Optional[Host]:
        """Ask the host to stop; with events left and no host, start one for them."""
        hooks.notice_fork()
        with self._lock:
            host = self._usable_host()
            if host is None and self.queue.pending:
                host = self._start_bridge()
            if host is None:
                return None
            host.stop(time.monotonic() + timeout)
        return host

    def _usable_host(self) -> Optional[Host]:
        """Under the lock: the current host, unless its event loop is gone."""
        if self._host is not None and self._host.is_lost():
            self._recover()
            self._leave_to_next_host()
        return self._host

    def _run_here(self, timeout: float) -> None:
        """Drain in the calling thread: for code without a loop, where no thread can be started."""
        if not self.queue.pending or bridge.is_loop_running():
            return
        with self._lock:
            if self._host is not None:
                return
            host = self._host = Host("thread")
            host.stop(time.monotonic() + timeout)
        self._run_in_thread(host, is_ours=False)

    def retire(self) -> None:
        """The client is gone: end the drain once the queue is empty. A finalizer: takes no lock."""
        host = self._host
        if host is not None:
            host.retire()

    # -- exit and fork ------------------------------------------------------------------

    def begin_exit(self, deadline: float) -> Optional[Host]:
        """At interpreter exit: ask a running host to stop by `deadline` (monotonic seconds)."""
        with self._lock:
            self._exiting = True
            host = self._host
            if host is not None and host.loop is not None and not host.loop.is_running():
                self._recover()
                return None
            if host is not None:
                host.stop(deadline)
        return host

    def finish_exit(self, host: Optional[Host], deadline: float) -> None:
        """At interpreter exit: wait for the host that was asked, send the rest from here, and close."""
        if host is not None:
            bridge.wait(host, max(0.0, deadline - time.monotonic()) + GRACE)
            host.abandoned = True  # where it still waits for its transport
        if host is None or not self.is_backing_off():  # else its last attempt has just failed
            self._run_here(max(0.0, deadline - time.monotonic()))
        self.closed = True
        self.queue.requeue()
        if self._exporter is not None:
            self._exporter.save()
        lost = self.queue.discard("closed")
        self.queue.arm(1)
        hooks.release(self)
        if lost:
            message = "dropped {count} event(s) that could not be delivered before the interpreter's exit"
            self._reporter.report(ClientClosed(message, count=lost))

    def leave_at_exit(self) -> None:
        """At interpreter exit, where nothing is to be delivered: let the bridge's thread end."""
        self.closed = True
        host = self._host
        if host is not None and host.loop is None:  # its thread may not have begun to run
            host.hand_over()
            bridge.wait(host, GRACE)

    def after_fork_in_child(self, newest: Optional[int]) -> List[object]:
        """
        Start afresh: events, host and requests are the parent's.

        All but the `newest` events, that is; None makes all of them this process's.

        Returns what must be kept for the life of the process: closing an inherited socket
        or selector would deafen the parent, which shares its epoll set.
        """
        inherited: List[object] = [self._host]
        self._lock, self._making = Lock(), Lock()
        self._host = None
        if newest is not None:
            self.queue.reset(keep=newest)
        self.queue.arm(1)
        self._reporter.reset()
        if self._exporter is not None:
            self._exporter.reset()
            inherited.append(bridge.forget_connections(self._exporter))
        return inherited
