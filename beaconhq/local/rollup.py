"""
Counts per slot of time, kept beside the events, so that the page reads counts and not events.

Owns the levels, the latency buckets and the statements that add events to the rollup and take them out again.
The rollup always equals what a GROUP BY over the stored events would say: whatever deletes events takes them
out first (`store`). The queries are `view`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict

if TYPE_CHECKING:
    import sqlite3

#: Seconds per slot, one level each; 0 is one slot for all time. A view reads the one that fits its window.
LEVELS = (0, 5, 60, 900)

#: Up to this many milliseconds a bucket is one duration; above, a doubling has `_PER_OCTAVE` buckets.
_EXACT = 32
_PER_OCTAVE = 16
_EXACT_BITS = 5

SCHEMA = (
    """
    CREATE TABLE routes (
        id INTEGER PRIMARY KEY,
        method TEXT NOT NULL,
        route TEXT NOT NULL,
        last_ms INTEGER NOT NULL,
        UNIQUE (method, route)
    )
    """,
    "CREATE TABLE consumers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # `consumer_id` 0 stands for events without one, or with an empty one; `class` is the first digit of the
    # status.
    """
    CREATE TABLE rollup (
        level INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        route_id INTEGER NOT NULL,
        consumer_id INTEGER NOT NULL,
        class INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (level, slot, route_id, consumer_id, class, bucket)
    ) WITHOUT ROWID
    """,
)

# Grouped before it is multiplied by the levels: one look at each event.
_ROLL = """
    INSERT INTO rollup (level, slot, route_id, consumer_id, class, bucket, count)
    WITH fresh AS (
        SELECT ts_ms / 5000 AS slot, routes.id AS route_id, COALESCE(consumers.id, 0) AS consumer_id,
               status / 100 AS class, latency_bucket(duration_ms) AS bucket, COUNT(*) AS count
        FROM events
        JOIN routes ON routes.method = events.method AND routes.route = events.route
        LEFT JOIN consumers ON consumers.name = events.consumer
        WHERE events.id BETWEEN :first AND :last
        GROUP BY 1, 2, 3, 4, 5
    ), levels (seconds) AS (VALUES (0), (5), (60), (900))
    SELECT seconds, CASE seconds WHEN 0 THEN 0 ELSE slot * 5 / seconds END,
           route_id, consumer_id, class, bucket, :sign * SUM(count)
    FROM fresh, levels WHERE true
    GROUP BY 1, 2, 3, 4, 5, 6
    ON CONFLICT DO UPDATE SET count = count + excluded.count
"""


def latency_bucket(duration_ms: int) -> int:
    """Return the bucket of a duration: itself below 32 ms, above that one that is 1/16 of its value wide."""
    if duration_ms < _EXACT:
        return duration_ms
    octave = duration_ms.bit_length() - _EXACT_BITS
    return _EXACT + (octave - 1) * _PER_OCTAVE + (duration_ms >> octave) - _PER_OCTAVE


def bucket_start(bucket: int) -> int:
    """Return the shortest duration in a bucket, in milliseconds."""
    if bucket < _EXACT:
        return bucket
    octave, place = divmod(bucket - _EXACT, _PER_OCTAVE)
    return (place + _PER_OCTAVE) << (octave + 1)


def bucket_middle(bucket: int) -> int:
    """Return what stands for a bucket's durations, in milliseconds: at most 3.2 % from any of them."""
    return (bucket_start(bucket) + bucket_start(bucket + 1) - 1) // 2


def percentile(counts: Dict[int, int], percent: int) -> int:
    """Return the percentile (nearest rank) of durations that are counted per bucket; at least one is."""
    rank = -(-sum(counts.values()) * percent // 100)
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return bucket_middle(bucket)
    raise ValueError("nothing was counted")


def add_functions(connection: sqlite3.Connection) -> None:
    """Teach a connection the functions that the statements use."""
    connection.create_function("latency_bucket", 1, latency_bucket, deterministic=True)


def add(connection: sqlite3.Connection, first: int, last: int) -> None:
    """Count the events `first` to `last` (ids), which are stored already. Raises `sqlite3.Error`."""
    span = {"first": first, "last": last}
    connection.execute(
        "INSERT INTO routes (method, route, last_ms)"
        " SELECT method, route, MAX(ts_ms) FROM events WHERE id BETWEEN :first AND :last"
        " GROUP BY method, route ON CONFLICT DO UPDATE SET last_ms = MAX(last_ms, excluded.last_ms)",
        span,
    )
    connection.execute(
        "INSERT OR IGNORE INTO consumers (name)"
        " SELECT DISTINCT consumer FROM events WHERE id BETWEEN :first AND :last AND consumer != ''",
        span,
    )
    connection.execute(_ROLL, {**span, "sign": 1})


def remove(connection: sqlite3.Connection, first: int, last: int) -> None:
    """Take the events `first` to `last` out, before they are deleted. Raises `sqlite3.Error`."""
    connection.execute(_ROLL, {"first": first, "last": last, "sign": -1})
    # One pass over the rollup, where routes or consumers would otherwise stay for ever.
    connection.execute("DELETE FROM rollup WHERE count = 0")
    kept = "SELECT {} FROM rollup WHERE level = 0 AND slot = 0"
    connection.execute(f"DELETE FROM routes WHERE id NOT IN ({kept.format('route_id')})")  # noqa: S608 - constants
    connection.execute(f"DELETE FROM consumers WHERE id NOT IN ({kept.format('consumer_id')})")  # noqa: S608
