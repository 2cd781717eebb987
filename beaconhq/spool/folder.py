"""
The folder on disk: one partition per ingest and key, and the locks that say who lives.

    FOLDER/<partition>/spool.db     the batches (and SQLite's -wal and -shm beside it)
    FOLDER/<partition>/<owner>.lock held, by flock, for as long as that owner lives

Owns paths, permissions and locks; knows nothing of batches. The partition's name is a
digest of the URL keyed with the ingest key, so two projects never mix, and the key cannot
be read from it. Locks are the system's: it lets go of them however a process ends, and
they hold between containers that share the folder, where process ids and clocks do not.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
from typing import TYPE_CHECKING, Iterator, List, Optional, Set
from uuid import uuid4

if TYPE_CHECKING:
    from pathlib import Path

#: `flock` is missing on Windows, where a client with a spool is refused at construction.
try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

DATABASE = "spool.db"
#: What a damaged database is renamed to; the one before it is overwritten.
DAMAGED = "damaged.db"
_LOCK = ".lock"
#: What SQLite keeps beside a database.
_COMPANIONS = ("", "-wal", "-shm")


class FolderRefused(OSError):  # noqa: N818 - named after the condition
    """The folder is not fit for events: another user's, or no folder at all."""


class Partition:
    """The part of a spool folder that belongs to one ingest URL and one key. Makes no file by itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / DATABASE

    @classmethod
    def of(cls, folder: Path, ingest_url: str, ingest_key: str) -> Partition:
        """Return the partition of a URL and a key."""
        digest = hmac.new(ingest_key.encode(), b"beaconhq spool\0" + ingest_url.encode(), hashlib.sha256)
        return cls(folder / digest.hexdigest()[:32])

    def exists(self) -> bool:
        """Whether anything was ever spooled here, as far as this process may know."""
        try:
            return self.database.exists()
        except OSError:  # no permission to look
            return False

    def make(self) -> None:
        """
        Make the folders and an empty database, for this user's eyes only (0700, 0600).

        Raises `OSError` where that cannot be done, `FolderRefused` where it may not.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise FolderRefused(f"{self.path} is not a folder of this user")
        if stat.S_IMODE(found.st_mode) & 0o077:
            self.path.chmod(0o700)
        # SQLite gives its other files the permissions of the database.
        os.close(os.open(self.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def set_aside(self) -> None:
        """Rename a damaged database, so that a new one can be made and somebody may look at the old one."""
        for companion in _COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                self.path.joinpath(DATABASE + companion).replace(self.path / (DAMAGED + companion))

    def owners(self) -> Set[str]:
        """Return the owners that have a lock file, alive or not."""
        with contextlib.suppress(FileNotFoundError):
            return {path.name[: -len(_LOCK)] for path in self.path.iterdir() if path.name.endswith(_LOCK)}
        return set()

    def lock(self, owner: str) -> Optional[Lock]:
        """Return the lock of an owner, held; None where somebody holds it already."""
        path = self.path / (owner + _LOCK)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still_at(descriptor, path):
                    return Lock(owner, path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            os.close(descriptor)  # unlinked since it was opened, by who had it before

    def is_alive(self, owner: str) -> bool:
        """Whether an owner's process lives; leaves no trace."""
        known = owner in self.owners()
        lock = self.lock(owner)
        if lock is None:
            return True
        lock.release(forget=not known)
        return False

    @contextlib.contextmanager
    def mending(self) -> Iterator[None]:
        """Let one process at a time, and it only, decide that the database is damaged."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class Lock:
    """A held lock: its owner lives."""

    def __init__(self, owner: str, path: Path, descriptor: int) -> None:
        self.owner = owner
        self._path = path
        self._descriptor = descriptor

    def release(self, *, forget: bool) -> None:
        """Let go; `forget` removes the file too, for an owner who left no batch behind."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if forget:
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(descriptor)

    def abandon(self) -> None:
        """In a forked child: the lock is the parent's alone, and must end with it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def new_owner() -> str:
    """Return a name that no other owner has or will have."""
    return uuid4().hex


def partitions(folder: Path) -> List[Partition]:
    """Return the partitions in a spool folder; raises `OSError` where it cannot be read."""
    found = (Partition(path) for path in sorted(folder.iterdir()))
    return [partition for partition in found if partition.exists()]


def _is_still_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
