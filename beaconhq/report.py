"""
Telling the truth about delivery: the one place that calls the user's `on_error`.

Always in the drain (or the exit hook), outside every lock, never on the request path.
"""

from __future__ import annotations

from contextlib import suppress

from .errors import InsecureUrl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, Optional, Type

    from .errors import BeaconError


class Reporter:
    """Hands errors to `on_error` and remembers the last one for `stats()`."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self.on_error = on_error
        #: Type and text of the last error, or None.
        self.last_error: Optional[str] = None
        self._deferred: Dict[Type[BeaconError], BeaconError] = {}

    def report(self, error: BeaconError) -> None:
        """Report one error; whatever the hook raises stays here."""
        self.last_error = f"{type(error).__name__}: {error}"
        # Where nobody listens this one goes to the log: no count in `stats()` would show it.
        unheard = self.on_error is ignore and isinstance(error, InsecureUrl)
        with suppress(Exception):  # the user's hook must not end the drain
            (log_warning if unheard else self.on_error)(error)

    def defer(self, error: BeaconError) -> None:
        """Note an error on the request path, where `on_error` is never called; the drain reports it."""
        self.last_error = f"{type(error).__name__}: {error}"
        self._deferred[type(error)] = error

    def report_deferred(self) -> None:
        """Report what was deferred, once; of each type the latest."""
        deferred, self._deferred = self._deferred, {}
        for error in deferred.values():
            self.report(error)


def ignore(error: BaseException) -> None:
    """Do nothing: the default `on_error`."""


def log_warning(error: BaseException) -> None:
    """Log at WARNING on logger `beaconhq`: the default `on_error` with `debug=True`."""
    import logging  # only with `debug`: 8 ms that `import beaconhq` must not take

    logging.getLogger("beaconhq").warning("%s: %s", type(error).__name__, error)
