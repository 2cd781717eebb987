"""
`beaconhq spool status` and `beaconhq spool drain`.

Owns what they print and their exit codes: 0 done, 1 something is left or was refused, 2 used
wrongly. Draining is an ordinary client with that spool: the rules are the drain's.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from .. import errors
from ..client import BeaconClient
from .database import StoreDamaged, StoreUnavailable
from .folder import new_owner
from .status import PartitionStatus, look
from .store import open_store

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

#: Seconds between two lines of progress where they do not overwrite each other.
LINE_INTERVAL = 5.0
#: Seconds between two looks at the counts.
POLL = 0.1
#: Seconds for loading the HTTP stack and looking through the folder.
START_TIMEOUT = 60.0
MIB = 1 << 20


# -- status -----------------------------------------------------------------------------


def run_status(folder: Path, *, as_json: bool) -> int:
    """Print what lies in a spool folder; 0 where nothing does, 1 where something waits, 2 for no folder."""
    try:
        found = look(folder)
    except OSError as error:
        sys.stderr.write(f"beaconhq spool: cannot read {folder}: {error.strerror or error}\n")
        return 2
    if as_json:
        sys.stdout.write(json.dumps([each._asdict() for each in found], indent=2) + "\n")
    else:
        sys.stdout.write(_status_text(folder, found))
    return int(any(each.events or each.refused or each.trouble for each in found))


def _status_text(folder: Path, found: List[PartitionStatus]) -> str:
    if not any(each.events or each.refused or each.trouble or each.has_damaged for each in found):
        return f"{folder}: nothing is spooled\n"
    lines = [f"{folder}:"]
    for each in found:
        lines.append(f"  {each.url or '(unknown ingest)'}  key {each.name[:8]}…")
        lines.extend(f"    {line}" for line in _facts(each))
    return "\n".join([*lines, ""])


def _facts(each: PartitionStatus) -> List[str]:
    facts = []
    if each.trouble:
        facts.append(f"cannot be read: {each.trouble}")
    if each.events:
        size, age = each.bytes / MIB, _duration(each.oldest_age)
        facts.append(
            f"{each.events:,} event(s) wait in {each.batches:,} batch(es), {size:.1f} MiB, oldest {age}"
        )
    if each.owned_by_running:
        facts.append(f"{each.owned_by_running:,} of them belong to running processes, which deliver them")
    facts.extend(f"{events:,} event(s) were refused: {why}" for why, events in each.refused.items())
    if each.has_damaged:
        facts.append("a damaged file was set aside here: damaged.db; remove it when nobody needs it")
    return facts or ["nothing is spooled"]


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


# -- drain ------------------------------------------------------------------------------


def run_drain(
    folder: Path,
    key: str,
    url: Optional[str],
    *,
    retry_refused: bool,
    patience: float,
    err: Optional[TextIO] = None,
    **options: Any,
) -> int:
    """
    Deliver what dead processes left for this key and URL; Ctrl-C stops, the next call goes on.

    `patience` is in seconds: how long to go on without any progress.
    """
    err = err or sys.stderr
    if not folder.is_dir():
        err.write(f"beaconhq spool: {folder} is no folder\n")
        return 2
    drain = _Drain(folder, key, url, options, err)
    if retry_refused and not drain.restore_refused():
        return 1
    try:
        return drain.run(patience)
    except KeyboardInterrupt:
        drain.stop()
        err.write("\ninterrupted; what is left stays in the spool, and the same command goes on with it\n")
        return 1


class _Drain:
    """One run of `drain`, and what it has to tell."""

    def __init__(
        self, folder: Path, key: str, url: Optional[str], options: Dict[str, Any], err: TextIO
    ) -> None:
        self._err = err
        self._refused: Dict[str, int] = {}
        self._trouble = ""
        self._client = BeaconClient(
            key, url, spool=folder, flush_interval=0.2, register_atexit=False, on_error=self._note, **options
        )
        self._folder = folder
        self._key = key.strip()

    def _note(self, error: BaseException) -> None:
        if isinstance(error, errors.EventsDropped):
            self._refused[str(error)] = self._refused.get(str(error), 0) + 1
            self._say(str(error))
        elif str(error) != self._trouble:
            self._trouble = str(error)
            self._say(str(error))

    def _say(self, text: str) -> None:
        self._err.write(f"\r\x1b[K{text}\n" if self._err.isatty() else f"{text}\n")

    def restore_refused(self) -> bool:
        """Give what was refused to nobody in particular: the drain takes it over."""
        client = self._client
        store = open_store(
            str(self._folder), client.ingest_url, self._key, client.spool_max_bytes, client.spool_max_age
        )
        try:
            with store.session() as session:
                session.restore_refused(new_owner())
        except (StoreUnavailable, StoreDamaged) as error:
            self._say(f"the spool cannot be used: {error}")
            return False
        return True

    def run(self, patience: float) -> int:
        client = self._client
        client.flush_sync(START_TIMEOUT)  # when it returns, everything was looked at and taken over
        total = client.stats()["recovered"]
        if not total:
            self.stop()
            return self._conclude_without_any()
        began = moved = shown = time.monotonic()
        done = 0
        while True:
            stats = client.stats()
            now = time.monotonic()
            settled = stats["delivered"] + sum(stats["dropped"].values())
            if settled > done:
                done, moved = settled, now
            left = stats["spooled"] + stats["in_flight"]
            if self._err.isatty() or now - shown >= LINE_INTERVAL:
                shown = now
                self._progress(stats["delivered"], total, now - began)
            if not left or now - moved > patience:
                break
            time.sleep(POLL)
        self.stop()
        return self._conclude(time.monotonic() - began)

    def stop(self) -> None:
        self._client.shutdown()

    def _conclude_without_any(self) -> int:
        here = [each for each in look(self._folder) if each.events]
        if not here:
            self._say("nothing is spooled")
            return 0
        if any(each.owned_by_running and each.url == self._client.ingest_url for each in here):
            self._say("what is spooled belongs to running processes, which deliver it")
            return 0
        urls = ", ".join(sorted({each.url for each in here}))
        self._say(f"nothing is spooled for this key and URL, but there are events for another: {urls}")
        return 1

    def _progress(self, delivered: int, total: int, seconds: float) -> None:
        rate = delivered / seconds if seconds > 0 else 0.0
        text = f"{delivered:,} of {total:,} events delivered, {rate:,.0f} events/s"
        self._err.write(f"\r\x1b[K{text}" if self._err.isatty() else f"{text}\n")
        self._err.flush()

    def _conclude(self, seconds: float) -> int:
        stats = self._client.stats()
        left, lost = stats["spooled"], sum(stats["dropped"].values())
        self._say(f"delivered {stats['delivered']:,} event(s) in {seconds:.1f} s")
        if lost:
            self._say(f"{lost:,} event(s) were not delivered, as said above")
        if stats["dropped"].get("rejected") or stats["dropped"].get("redirect"):
            self._say("what the ingest refused is kept; --retry-refused tries it again")
        if left:
            self._say(f"{left:,} event(s) are left in the spool; the same command goes on with them")
        return int(bool(left or lost))
