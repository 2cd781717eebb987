"""
From loose events to a sealed batch: cleaned, encoded, and no larger than a POST may be.

Owns the pieces that this is done in, so that an event loop is never held up for long.
Whoever takes the steps decides what happens between two of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Generator, List, Tuple

from . import errors
from .wire import Batch, Payload, Unrepairable, clean, encode_part, join

if TYPE_CHECKING:
    from .queue import EventQueue, Taker

#: Events that are cleaned and encoded at a time: few, as one of the largest takes 0.2 ms.
PIECE = 16
#: Bytes of a body around its events.
BODY_OVERHEAD = len(join([]))


def seal(
    queue: EventQueue,
    taker: Taker,
    most_events: int,
    most_bytes: int,
    report: Callable[[errors.BeaconError], None],
) -> Generator[None, None, Batch]:
    """
    Clean and encode as many of the oldest events as fit into a POST; yields between pieces.

    A piece that is too much waits for the next batch; only the first one can be too large by
    itself. What cannot be repaired is dropped alone and goes to `report`.
    """
    events = queue.take(most_events, taker)
    payloads: List[Payload] = []
    invalid: List[str] = []
    parts: List[bytes] = []
    room = most_bytes - BODY_OVERHEAD + 1  # no comma after the last part
    for begin in range(0, len(events), PIECE):
        cleaned, unfit = _clean(events[begin : begin + PIECE])
        part = encode_part(cleaned)
        room -= len(part) + 1
        if room < 0 and parts:
            queue.keep_first(begin, taker)
            break
        if cleaned:
            parts.append(part)
            payloads += cleaned
        invalid += unfit
        yield
    batch = Batch(payloads, join(parts))
    queue.seal(batch, taker=taker)
    if invalid:
        fields = ", ".join(sorted(set(invalid)))
        message = f"dropped {{count}} event(s) beyond repair: {fields}"
        report(errors.InvalidEvent(message, count=len(invalid)))
    return batch


def at_once(steps: Generator[None, None, Batch]) -> Batch:
    """Take all steps without a pause, off any application's event loop."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            batch: Batch = end.value
            return batch


def _clean(events: List[object]) -> Tuple[List[Payload], List[str]]:
    """Return the payloads of what is fit, and the fields of what is not."""
    payloads: List[Payload] = []
    unfit: List[str] = []
    for event in events:
        try:
            payloads.append(clean(event))
        except Unrepairable as err:
            unfit.append(str(err))
    return payloads, unfit
