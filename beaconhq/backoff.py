"""
How long to wait after a failure.

Owns the back-off clock: how many failures in a row, and until when nothing is sent.
Source: docs/delivery.md, "Back-off".
"""

from __future__ import annotations

import math
from typing import Callable, Optional

#: Ceiling of a delay in seconds, unless the first delay is longer.
MAX_DELAY = 60.0
#: Longest `Retry-After` that is honoured, in seconds.
MAX_RETRY_AFTER = 300.0
#: The shortest that jitter makes a delay, in parts of its ceiling. With a half, the clients of a
#: fleet came back closer together (docs/scale.md, "How wide the jitter is").
SHORTEST = 0.25


class Backoff:
    """
    Doubling delays with jitter: `first` seconds at most, then twice that, up to 60 s.

    Each delay is drawn from the upper three quarters of its ceiling, so that clients that
    failed together come back spread out, and none comes back at once. `jitter` returns
    numbers in [0, 1).
    """

    def __init__(self, first: float, jitter: Callable[[], float]) -> None:
        self._first = first
        self._jitter = jitter
        self.reset()

    def reset(self) -> None:
        """Forget all failures: a POST went through."""
        #: Failures in a row.
        self.failures = 0
        #: Nothing is sent before this (monotonic seconds).
        self.until = -math.inf
        #: The ingest itself named the time (`Retry-After`).
        self.firm = False

    def fail(self, now: float, retry_after: Optional[float] = None) -> None:
        """
        Count a failure at `now`.

        A failure of an attempt that a flush or a stop forced before `until` does not
        lengthen the delay: the schedule stays what it was without the forced attempt.
        """
        if now >= self.until or not self.failures:
            ceiling = max(MAX_DELAY, self._first)
            # 2**30 flush intervals are beyond any ceiling; the exponent must not overflow.
            delay = min(self._first * 2.0 ** min(self.failures, 30), ceiling)
            self.until = now + delay * (SHORTEST + (1 - SHORTEST) * self._jitter())
            self.failures += 1
            self.firm = False
        if retry_after is not None and retry_after > 0:
            # Never earlier than asked, and a little spread, as everybody was told the same.
            delay = min(retry_after, MAX_RETRY_AFTER) * (1 + 0.1 * self._jitter())
            self.until = now + delay
            self.firm = True
