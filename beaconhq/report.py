"""
Telling the truth about delivery: the one place that calls the user's `on_error`.

Always in the drain (or the exit hook), outside every lock, never on the request path.
"""

from __future__ import annotations

from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

    from .errors import BeaconError


class Reporter:
    """Hands errors to `on_error` and remembers the last one for `stats()`."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self.on_error = on_error
        #: Type and text of the last error, or None.
        self.last_error: Optional[str] = None
        self._deferred: Optional[BeaconError] = None

    def report(self, error: BeaconError) -> None:
        """Report one error; whatever the hook raises stays here."""
        self.last_error = f"{type(error).__name__}: {error}"
        with suppress(Exception):  # the user's hook must not end the drain
            self.on_error(error)

    def defer(self, error: BeaconError) -> None:
        """Note an error on the request path, where `on_error` is never called; the drain reports it."""
        self.last_error = f"{type(error).__name__}: {error}"
        self._deferred = error

    def report_deferred(self) -> None:
        """Report what was deferred, once."""
        error, self._deferred = self._deferred, None
        if error is not None:
            self.report(error)


def ignore(error: BaseException) -> None:
    """Do nothing: the default `on_error`."""


def log_warning(error: BaseException) -> None:
    """Log at WARNING on logger `beaconhq`: the default `on_error` with `debug=True`."""
    import logging  # only with `debug`: 8 ms that `import beaconhq` must not take

    logging.getLogger("beaconhq").warning("%s: %s", type(error).__name__, error)
