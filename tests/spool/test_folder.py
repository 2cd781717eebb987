"""Partitions, permissions, and the locks that say who lives."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from beaconhq.spool.folder import FolderRefused, Partition, new_owner, partitions

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://ingest.example/v1/ingest"


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    made = Partition.of(tmp_path / "spool", URL, "a-secret-key")
    made.make()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_each_url_and_each_key_has_a_partition_of_its_own(tmp_path: Path) -> None:
    paths = {
        Partition.of(tmp_path, URL, "one").path,
        Partition.of(tmp_path, URL, "two").path,
        Partition.of(tmp_path, URL + "/other", "one").path,
    }
    assert len(paths) == 3
    assert Partition.of(tmp_path, URL, "one").path in paths


def test_the_name_does_not_show_the_key(partition: Partition) -> None:
    assert "secret" not in str(partition.path.name)


def test_only_this_user_can_look_inside(partition: Partition) -> None:
    assert mode(partition.path.parent) == 0o700
    assert mode(partition.path) == 0o700
    assert mode(partition.database) == 0o600
    lock = partition.lock(new_owner())
    assert lock is not None
    assert [mode(path) for path in partition.path.glob("*.lock")] == [0o600]
    lock.release(forget=True)


def test_permissions_that_were_loosened_are_tightened(partition: Partition) -> None:
    partition.path.chmod(0o755)
    partition.make()
    assert mode(partition.path) == 0o700


def test_a_link_in_the_place_of_the_partition_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    partition = Partition.of(tmp_path, URL, "a-key")
    partition.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderRefused):
        partition.make()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_user_s_folder_is_refused(tmp_path: Path) -> None:
    partition = Partition.of(tmp_path, URL, "a-key")
    partition.path.mkdir()
    os.chown(partition.path, 12345, 12345)
    with pytest.raises(FolderRefused):
        partition.make()


def test_the_partitions_of_a_folder_are_found(partition: Partition) -> None:
    (partition.path.parent / "not-ours").mkdir()
    assert [found.path for found in partitions(partition.path.parent)] == [partition.path]


# -- locks ------------------------------------------------------------------------------


def test_a_held_lock_cannot_be_had_again_not_even_in_the_same_process(partition: Partition) -> None:
    lock = partition.lock("me")
    assert lock is not None
    assert partition.lock("me") is None
    lock.release(forget=False)
    again = partition.lock("me")
    assert again is not None
    again.release(forget=True)


def test_a_forgotten_lock_leaves_no_file(partition: Partition) -> None:
    lock = partition.lock("me")
    assert lock is not None
    assert partition.owners() == {"me"}
    lock.release(forget=True)
    assert partition.owners() == set()


def test_a_lock_ends_with_its_process_however_that_ends(partition: Partition) -> None:
    script = """
import sys, pathlib, signal, os
from beaconhq.spool.folder import Partition
held = Partition.of(pathlib.Path(sys.argv[1]), sys.argv[2], "a-secret-key").lock("it")
print("held", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(partition.path.parent), URL]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert partition.lock("it") is None
        process.kill()
        process.wait(30)
    lock = partition.lock("it")
    assert lock is not None
    lock.release(forget=True)


def test_a_forked_child_does_not_keep_its_parent_s_lock_alive(partition: Partition) -> None:
    lock = partition.lock("parent")
    assert lock is not None
    read, write = os.pipe()
    abandoned, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        lock.abandon()
        os.write(tell, b".")
        os.read(read, 1)  # until the parent is through
        os._exit(0)
    os.close(read)
    try:
        os.read(abandoned, 1)
        assert partition.lock("parent") is None  # what the child let go of is still the parent's
        lock.abandon()  # as if this process had died
        after = partition.lock("parent")
        assert after is not None
        after.release(forget=True)
    finally:
        for end in (write, abandoned, tell):
            os.close(end)
        os.waitpid(pid, 0)


def test_a_lock_on_a_file_that_was_unlinked_meanwhile_is_taken_anew(partition: Partition) -> None:
    first = partition.lock("me")
    assert first is not None
    (partition.path / "me.lock").unlink()
    second = partition.lock("me")
    assert second is not None
    assert partition.lock("me") is None
    first.release(forget=False)
    assert partition.lock("me") is None
    second.release(forget=True)
