"""
What `on_error` receives: one tree, so that a handler can tell a delay from a loss.

BeaconError
├── ExportError             a POST failed; its events stay pending and go again
│   ├── NetworkError        no answer: refused, reset, DNS, TLS
│   ├── ExportTimeout       no answer within `timeout` seconds
│   ├── IngestUnavailable   the ingest said "later": 408, 425, 429, 5xx
│   └── TransportError      the transport could not be opened, or misbehaved
├── EventsDropped           events are lost; `count` says how many, `reason` why
│   ├── BufferFull          "buffer_full"  more than `max_buffer_size` waited
│   ├── InvalidEvent        "invalid"      not an event, or beyond repair
│   ├── EventTooLarge       "too_large"    one event larger than a POST may be
│   ├── BatchRejected       "rejected"     the ingest refused the batch (4xx)
│   │   └── RedirectRefused "redirect"     the ingest answered 3xx; the key stays here
│   ├── ClientClosed        "closed"       the interpreter went down first
│   ├── SpoolFull           "spool_full"   more than `spool_max_bytes` lay in the spool
│   ├── SpoolExpired        "spool_expired" they lay there for longer than `spool_max_age`
│   └── SpoolDamaged        "spool_damaged" the spool's file was damaged, and set aside
├── SpoolUnavailable        the spool cannot be used now; events stay in memory
├── HostUnavailable         the drain could not be started; events stay pending
└── InsecureUrl             `ingest_url` is plain http to another host; reported once

The same error (type and text) is not reported each time: `times` says how often it
happened since its last report, and `count` sums up what these cost (`report.py`).

No message and no attribute holds the ingest key, nor the text of another library's
exception (it may quote request headers).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class BeaconError(Exception):
    """Base of everything that `on_error` receives from this package."""

    #: How often this happened since it was last reported, this time included.
    times: int = 1

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.times == 1 else f"{text} ({self.times} times since it was last reported)"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class ExportError(BeaconError):
    """A POST failed in a way that time may mend: its events are pending again."""


class NetworkError(ExportError):
    """The ingest could not be reached, or the connection broke before the answer."""


class ExportTimeout(ExportError):  # noqa: N818 - reads as the event that it is
    """The ingest did not answer within `timeout` seconds."""


class TransportError(ExportError):
    """
    The transport could not be opened, or did not keep its contract.

    With a custom `Transport`, `__cause__` is what its `send` raised.
    """


class IngestUnavailable(ExportError):  # noqa: N818 - named after the answer
    """The ingest asked to be tried again later (408, 425, 429 or 5xx)."""

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        #: HTTP status of the answer.
        self.status = status
        #: Seconds that the answer's `Retry-After` asked for, or None.
        self.retry_after = retry_after


class EventsDropped(BeaconError):  # noqa: N818 - named after what happened
    """
    Events were lost for good: `count` of them, for the reason `reason`.

    `{count}` in the message stands for the number.
    """

    #: The key under which `stats()["dropped"]` counts them.
    reason: ClassVar[str]

    def __init__(self, message: str, *, count: int) -> None:
        super().__init__(message)
        #: How many events were lost since this was last reported.
        self.count = count

    def __str__(self) -> str:
        return str(self.args[0]).replace("{count}", str(self.count))


class BufferFull(EventsDropped):
    """More than `max_buffer_size` events waited; the oldest were dropped."""

    reason = "buffer_full"


class InvalidEvent(EventsDropped):
    """Something captured was not an event, or had a field beyond repair."""

    reason = "invalid"


class EventTooLarge(EventsDropped):
    """A single event was larger than `max_batch_bytes`, or than the ingest takes (413)."""

    reason = "too_large"


class BatchRejected(EventsDropped):
    """The ingest refused a batch (a 4xx that a retry cannot mend)."""

    reason = "rejected"

    def __init__(self, message: str, *, count: int, status: int) -> None:
        super().__init__(message, count=count)
        #: HTTP status of the answer.
        self.status = status


class RedirectRefused(BatchRejected):
    """The ingest answered 3xx. It is not followed: the key would leave for another origin."""

    reason = "redirect"


class ClientClosed(EventsDropped):
    """The interpreter was going down and the events could not be delivered any more."""

    reason = "closed"


class SpoolFull(EventsDropped):
    """More than `spool_max_bytes` lay in the spool; the oldest batches were dropped."""

    reason = "spool_full"


class SpoolExpired(EventsDropped):
    """Batches lay in the spool for longer than `spool_max_age`."""

    reason = "spool_expired"


class SpoolDamaged(EventsDropped):
    """The spool's file was damaged. It was renamed to `damaged.db`, and a new one is in its place."""

    reason = "spool_damaged"


class SpoolUnavailable(BeaconError):  # noqa: N818 - named after the condition
    """
    The spool cannot be written or read: a full disk, no permission, another user's folder.

    Events stay in memory, as without a spool; it is tried again once a minute.
    """


class HostUnavailable(BeaconError):  # noqa: N818 - named after the condition
    """
    No thread could be started to host the drain; events stay pending.

    The exit hook, `shutdown()` and `flush_sync()` still send them.
    """


class InsecureUrl(BeaconError):  # noqa: N818 - named after the condition
    """
    `ingest_url` begins with `http://` and its host is not this machine: the key is readable on its way.

    Reported once per client, when the drain starts; everything is sent nevertheless.
    """
