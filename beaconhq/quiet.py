"""
Keeping the drain's own HTTP traffic out of the host's log.

httpx logs a line at INFO for every request, and the layers below more at DEBUG. A
filter drops those records that are made on the drain's behalf, told by a context
variable; the loggers' levels and everybody else's records stay as they are.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Iterator

_LAYERS = ("connection", "http11", "http2", "proxy", "socks")
_LOGGERS = [
    logging.getLogger(name)
    for name in (
        "asyncio",
        "httpx",
        "httpx2",
        # What packs the headers of HTTP/2, the key among them (hpack 4.0 logs it readable).
        "hpack.hpack",
        "hpack.huffman",
        "hpack.table",
        *(f"{package}.{layer}" for package in ("httpcore", "httpcore2") for layer in _LAYERS),
    )
]
_on_our_behalf: ContextVar[bool] = ContextVar("beaconhq_quiet", default=False)


class _OthersOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - by context, not content
        return not _on_our_behalf.get()


_filter = _OthersOnly()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the log records that the HTTP stack and asyncio make inside this block."""
    for logger in _LOGGERS:
        logger.addFilter(_filter)  # anew, as whoever configures logging may have removed it
    token = _on_our_behalf.set(True)
    try:
        yield
    finally:
        _on_our_behalf.reset(token)
