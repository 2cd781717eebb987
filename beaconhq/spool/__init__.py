"""
The spool: sealed batches on disk, for when memory or the process ends first.

- `folder.py`: who may use what in the folder: partitions, permissions, owners' locks.
- `clock.py`: how old a batch is, although clocks are set.
- `database.py`: the SQLite file: its schema, how it is opened, what its errors mean.
- `store.py`: the batches of one partition.
- `spool.py`: what the drain asks for: move events there, give the oldest batch back.
- `overflow.py`: when it asks, and in which thread.
- `status.py`, `command.py`: `beaconhq spool status` and `beaconhq spool drain`.

Loaded where a drain starts whose client has a spool, and not before.
"""
