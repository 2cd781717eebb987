"""
Where events go when memory is no place for them: nowhere, unless a client has a spool.

`Overflow` is what the drain holds. This one does nothing; `spool/overflow.py` has the one
that writes to disk. So the delivery rules (`exporter.py`) stand once, without a branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .host import Host
    from .wire import Batch


class Overflow:
    """Nowhere: past the buffer's capacity the oldest events are dropped."""

    @property
    def backlog(self) -> int:
        """How many events wait outside of memory, and can be taken now."""
        return 0

    @property
    def may_hold_more(self) -> bool:
        """Whether there may be a backlog that nobody has looked at yet."""
        return False

    def threshold(self) -> Optional[int]:
        """How many waiting events are to wake a drain that backs off; None for none."""
        return None

    async def tend(self, host: Host, *, backing_off: bool) -> None:
        """Between two POSTs: do what is due."""

    async def take(self, host: Host, most_events: int, most_bytes: int) -> Optional[Batch]:  # noqa: ARG002
        """Move the oldest batch that is outside of memory into flight, or return None."""
        return None

    def post_begins(self, host: Host) -> None:
        """A POST begins, during which memory may fill up."""

    def attend(self, host: Host) -> None:
        """The drain was woken: in a POST, memory may have filled up."""

    async def post_ended(self, host: Host) -> None:
        """The POST is over; its batch has not been settled yet."""

    def delivered(self, batch: Batch) -> None:
        """The batch in flight was delivered."""

    def refused(self, batch: Batch, why: str) -> None:
        """The batch in flight was refused by the ingest for good."""

    def returned(self) -> None:
        """The batch in flight goes again."""

    async def end(self, host: Host, *, save: bool) -> None:
        """The drain ends; `save` what waits in memory, as nobody goes on with it."""

    def save(self) -> None:
        """At interpreter exit: save what waits in memory, blocking."""

    def reset(self) -> None:
        """In a forked child: what is outside of memory is the parent's."""
