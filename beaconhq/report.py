"""
Telling the truth about delivery: the one place that calls the user's `on_error`.

Always in the drain (or the exit hook), outside every lock, never on the request path.
The same error again and again is told now and then, with how often it happened and how
many events it cost: an ingest that is down for an hour is no reason for 100 log lines.
"""

from __future__ import annotations

import time
from collections import deque
from math import inf

from .errors import EventsDropped, InsecureUrl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Deque, Dict, Optional, Tuple, Type

    from .errors import BeaconError

    Kind = Tuple[Type[BeaconError], str]

#: Seconds for which an error is kept back after its first report.
FIRST_SILENCE = 60.0
#: The silence doubles with each report, up to this many seconds.
LONGEST_SILENCE = 3600.0
#: Kinds of errors that are told apart; past that the one that is known longest is forgotten.
MAX_KINDS = 32
#: Errors that wait for the drain; past that the oldest leave.
MAX_DEFERRED = 100


class _History:
    """One kind of error: when it was reported, and what happened since."""

    __slots__ = ("loss", "lost", "reported_at", "silence", "times")

    def __init__(self, silence: float) -> None:
        self.reported_at = -inf
        #: Seconds after `reported_at` in which it is kept back.
        self.silence = silence
        #: How often it happened, how many events that cost, and the last such error.
        self.times = 0
        self.lost = 0
        self.loss: Optional[EventsDropped] = None


class Reporter:
    """
    Hands errors to `on_error` and remembers the last one for `stats()`.

    An error whose type or text is new is reported at once. After that it is kept back
    for `silence` seconds, which double with each report, and are `silence` again once
    something was delivered. The next report has in `times` and `count` what was kept back.
    """

    def __init__(
        self,
        on_error: Callable[[BaseException], None],
        silence: float = FIRST_SILENCE,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_error = on_error
        self._silence = silence
        self._clock = clock
        self._deferred: Deque[BeaconError] = deque(maxlen=MAX_DEFERRED)
        self.reset()

    def reset(self) -> None:
        """Forget what happened: in a forked child that is its parent's. What is deferred was never told."""
        #: Type and text of the last error, or None.
        self.last_error: Optional[str] = None
        for error in self._deferred:
            self._remember(error)
        self._kinds: Dict[Kind, _History] = {}

    def report(self, error: BeaconError) -> None:
        """Report one error, or keep it back; whatever the hook raises stays here."""
        self._remember(error)
        history = self._history_of(error)
        history.times += 1
        if isinstance(error, EventsDropped):
            history.lost += error.count
            history.loss = error
        if self._clock() >= history.reported_at + history.silence:
            self._tell(error, history)

    def report_losses(self, *, at_once: bool = False) -> None:
        """Report the losses that were kept back: those whose silence is over, or all."""
        if not self._kinds:
            return
        now = self._clock()
        for history in tuple(self._kinds.values()):
            if history.loss is not None and (at_once or now >= history.reported_at + history.silence):
                self._tell(history.loss, history)

    def delivered(self) -> None:
        """Note a delivery: a failure after it is news again."""
        for history in self._kinds.values():
            history.silence = self._silence

    def defer(self, error: BeaconError) -> None:
        """Note an error where `on_error` is never called (a request, a thread beside the drain)."""
        self._remember(error)
        self._deferred.append(error)

    def report_deferred(self) -> None:
        """Report what was deferred, once."""
        while self._deferred:
            self.report(self._deferred.popleft())

    def _remember(self, error: BeaconError) -> None:
        self.last_error = f"{type(error).__name__}: {error}"

    def _history_of(self, error: BeaconError) -> _History:
        kind = (type(error), str(error.args[0]) if error.args else "")
        history = self._kinds.get(kind)
        if history is None:
            if len(self._kinds) >= MAX_KINDS:
                oldest = self._kinds.pop(next(iter(self._kinds)))
                if oldest.loss is not None:
                    self._tell(oldest.loss, oldest)
            history = self._kinds[kind] = _History(self._silence)
        return history

    def _tell(self, error: BeaconError, history: _History) -> None:
        error.times = history.times
        if isinstance(error, EventsDropped):
            error.count = history.lost
        if history.reported_at > -inf:
            history.silence = min(2 * history.silence, max(LONGEST_SILENCE, self._silence))
        history.reported_at = self._clock()
        history.times, history.lost, history.loss = 0, 0, None
        # Where nobody listens this one goes to the log: no count in `stats()` would show it.
        unheard = self.on_error is ignore and isinstance(error, InsecureUrl)
        try:
            (log_warning if unheard else self.on_error)(error)
        except (KeyboardInterrupt, SystemExit):
            raise  # Ctrl-C may strike anywhere, also in here
        except BaseException:  # noqa: BLE001, S110 - nothing else of the user's hook may end the drain
            pass  # also `CancelledError`, which is no `Exception`: nobody can cancel a plain function


def ignore(error: BaseException) -> None:
    """Do nothing: the default `on_error`."""


def log_warning(error: BaseException) -> None:
    """Log at WARNING on logger `beaconhq`: the default `on_error` with `debug=True`."""
    import logging  # only with `debug`: 8 ms that `import beaconhq` must not take

    logging.getLogger("beaconhq").warning("%s: %s", type(error).__name__, error)
