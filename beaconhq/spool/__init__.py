"""
The spool: sealed batches on disk, for when memory or the process ends first.

- `folder.py`: who may use what in the folder: partitions, permissions, owners' locks.
- `store.py`: the batches of one partition, in SQLite.
- `spool.py`: what the drain asks for: move events there, give the oldest batch back.
- `command.py`: `beaconhq spool status` and `beaconhq spool drain`.

Loaded where a drain starts whose client has a spool, and not before.
"""
