"""
What happens after each fault of a real ingest in a process of its own; over both hosts.

Whatever the fault: every event is stored once, in order, or counted as lost; the sum holds; the drain lives
on. Source: docs/delivery.md, "What the answer means".
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Tuple

import pytest
from support.events import event
from support.hosts import HOSTS, hosted, until

from beaconhq import HttpTransport

from .ingest import KEY, STORED, Fault

if TYPE_CHECKING:
    from beaconhq import BeaconClient
    from beaconhq.errors import BeaconError

    from .ingest import FaultIngest, Seen

pytestmark = pytest.mark.process

MakeClient = Callable[..., "BeaconClient"]

#: Seconds between background POSTs: the first delay of a back-off is at most that.
INTERVAL = 0.1
#: Seconds for one POST where the fault is silence, and where it is not.
SHORT, LONG = 1.0, 30.0


def settled(client: BeaconClient) -> bool:
    """Whether every captured event was delivered or is lost."""
    stats = client.stats()
    return stats["pending"] == stats["in_flight"] == 0


def assert_sum(client: BeaconClient, captured: int) -> None:
    stats = client.stats()
    lost = sum(stats["dropped"].values())
    assert captured == stats["captured"]
    assert captured == stats["delivered"] + lost + stats["pending"] + stats["in_flight"]


def names(reported: List[BeaconError]) -> List[str]:
    return [type(error).__name__ for error in reported]


def path(number: int) -> str:
    found: str = event(number).path
    return found


class Ended(NamedTuple):
    """What a client and an ingest have to say after a fault."""

    stats: Any
    seen: Seen
    stored: List[str]
    duplicates: int
    errors: List[str]


@pytest.fixture
def play(ingest: FaultIngest, make_client: MakeClient, reported: List[BeaconError]) -> Callable[..., Any]:
    """Meet faults with ten events, wait until these are settled, and deliver one more."""

    async def play(host: str, *faults: Fault, warm: bool = False, **options: Any) -> Ended:
        options = {"flush_interval": INTERVAL, "timeout": LONG, **options}
        client = make_client(ingest_url=ingest.get_url(), ingest_key=KEY, **options)
        async with hosted(client, host):
            if warm:  # a connection is open, and has been used
                client.capture(event(99))
                await until(lambda: client.stats()["delivered"] == 1)
            ingest.script(faults)
            for number in range(10):
                client.capture(event(number))
            await until(lambda: settled(client))
            assert_sum(client, 10 + warm)
            assert client.stats()["host"] == host
            client.capture(event(10))
            await until(lambda: settled(client))
        assert_sum(client, 11 + warm)
        seen = ingest.seen()
        assert seen.refused == []
        assert seen.elsewhere == 0
        return Ended(client.stats(), seen, ingest.stored(), ingest.duplicates(), names(reported))

    return play


@pytest.mark.parametrize(
    ("key", "payload", "objection"),
    [
        (KEY, event(status=99).to_payload(), "event 0, status: must be 100 to 599"),
        (KEY, event(path="").to_payload(), "event 0, path: must have 1 to 4096 UTF-16 units, has 0"),
        ("another", event().to_payload(), "authorization is 'Bearer another'"),
    ],
)
async def test_the_ingest_is_strict(ingest: FaultIngest, key: str, payload: Any, objection: str) -> None:
    """What the tests below take for granted: it refuses, and says so."""
    transport = HttpTransport(ingest.get_url(), key)
    assert (await transport.send([payload])).status == 400
    await transport.release()
    assert ingest.seen().refused == [objection]
    assert ingest.stored() == []


ALL = [path(number) for number in range(11)]

#: Faults that time may mend, and what is reported. The batch goes again, under its key.
RETRIED: Dict[str, Tuple[Fault, str]] = {
    "reset before the answer": (Fault("reset"), "NetworkError"),
    "closed before the answer": (Fault("close"), "NetworkError"),
    "reset in the middle of the head": (Fault("reset_in_head"), "NetworkError"),
    "garbage": (Fault("garbage"), "NetworkError"),
    "a head without an end": (Fault("endless_head"), "NetworkError"),
    "silence": (Fault("hang"), "ExportTimeout"),
    "a head that drips": (Fault("drip_head"), "ExportTimeout"),
    **{f"status {status}": (Fault(status=status), "IngestUnavailable") for status in (408, 429, 500, 503)},
    "Retry-After without sense": (
        Fault(status=503, headers=(("Retry-After", "soon; -1"),)),
        "IngestUnavailable",
    ),
}
#: The same, after the events were stored: only the answer is lost.
ANSWER_LOST = {
    name: (fault._replace(stored=STORED), error)
    for name, (fault, error) in RETRIED.items()
    if fault.kind != "answer" or fault.status in (500, 503)
}


def timeout_for(fault: Fault) -> float:
    return SHORT if fault.kind in ("hang", "drip_head") else LONG


@pytest.mark.parametrize("host", HOSTS)
class TestRetried:
    @pytest.mark.parametrize("name", RETRIED)
    async def test_the_batch_goes_again_under_its_key(self, play: Any, name: str, host: str) -> None:
        fault, error = RETRIED[name]
        ended = await play(host, fault, timeout=timeout_for(fault))
        first, second = ended.seen.posts[:2]
        assert (first.key, first.body) == (second.key, second.body)
        assert ended.stored == ALL
        assert ended.duplicates == 0
        assert ended.errors == [error]
        assert ended.stats["requeued"] == len(first.events)
        assert ended.stats["dropped"] == {}

    async def test_a_reset_before_the_body_was_read(self, play: Any, host: str) -> None:
        ended = await play(host, Fault("reset_unread"))
        assert ended.seen.unread == 1
        assert ended.stored == ALL
        assert ended.errors == ["NetworkError"]

    @pytest.mark.parametrize("name", ANSWER_LOST)
    async def test_what_was_stored_before_the_answer_was_lost_is_stored_once(
        self, play: Any, name: str, host: str
    ) -> None:
        """The one case of a duplicate: the key is the same, and the ingest drops it."""
        fault, error = ANSWER_LOST[name]
        ended = await play(host, fault, timeout=timeout_for(fault))
        assert ended.duplicates == 1
        assert ended.stored == ALL
        assert ended.errors == [error]

    async def test_fault_after_fault(self, play: Any, host: str) -> None:
        faults = [Fault("reset"), Fault("garbage"), Fault("close", stored=STORED), Fault(status=503)]
        ended = await play(host, *faults)
        keys = [post.key for post in ended.seen.posts]
        assert len(set(keys[:5])) == 1
        assert ended.stored == ALL
        assert ended.stats["requeued"] == 4 * len(ended.seen.posts[0].events)

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(status=503, headers=(("Retry-After", "2"),)),
            Fault(status=429, headers=(("Retry-After", "2"),)),
            Fault("retry_at_date", status=503),
        ],
        ids=["seconds", "seconds with 429", "a date, by the ingest's clock"],
    )
    async def test_retry_after_is_waited_for(self, play: Any, fault: Fault, host: str) -> None:
        ended = await play(host, fault)
        first, second = ended.seen.posts[:2]
        assert second.arrived - first.arrived >= 2
        assert ended.stored == ALL
        assert ended.errors == ["IngestUnavailable"]


#: Answers that are bad in ways that do not matter: the status was there.
DELIVERED: Dict[str, Fault] = {
    **{f"status {status}": Fault(status=status) for status in (200, 204)},
    "a body that drips": Fault("drip_body"),
    "a body without an end": Fault("huge_body"),
    "reset in the middle of the body": Fault("reset_in_body"),
    "closed after the answer": Fault("answer_and_close"),
    "closed after the answer, announced": Fault("answer_and_close", headers=(("Connection", "close"),)),
}


@pytest.mark.parametrize("host", HOSTS)
class TestDelivered:
    @pytest.mark.parametrize("name", DELIVERED)
    async def test_the_status_decides(self, play: Any, name: str, host: str) -> None:
        ended = await play(host, DELIVERED[name])
        assert ended.stored == ALL
        assert (ended.errors, ended.duplicates) == ([], 0)
        assert ended.stats["requeued"] == 0
        assert len({post.key for post in ended.seen.posts}) == len(ended.seen.posts)


@pytest.mark.parametrize("host", HOSTS)
class TestReusedConnection:
    @pytest.mark.parametrize("kind", ["reset", "close", "reset_in_head"])
    async def test_a_reset_is_tried_again_once_at_once(self, play: Any, kind: str, host: str) -> None:
        """No error, no back-off: a server may close an idle connection whenever it likes."""
        ended = await play(host, Fault(kind), warm=True)
        warm, first, second = ended.seen.posts[:3]
        assert warm.connection == first.connection != second.connection
        assert first.key == second.key
        assert ended.stored == [path(99), *ALL]
        assert ended.errors == []
        assert ended.stats["requeued"] == 0

    async def test_not_more_than_once(self, play: Any, host: str) -> None:
        ended = await play(host, Fault("reset"), Fault("reset"), warm=True)
        _, first, second, third = ended.seen.posts[:4]
        assert first.key == second.key == third.key
        assert ended.stored == [path(99), *ALL]
        assert ended.errors == ["NetworkError"]
        assert ended.stats["requeued"] == len(first.events)

    async def test_the_connection_is_kept_between_posts(self, play: Any, host: str) -> None:
        ended = await play(host, warm=True)
        assert len(ended.seen.posts) >= 3
        assert ended.seen.connections == 1

    async def test_all_connections_are_cut_between_two_posts(
        self, ingest: FaultIngest, make_client: MakeClient, reported: List[BeaconError], host: str
    ) -> None:
        client = make_client(ingest_url=ingest.get_url(), ingest_key=KEY, flush_interval=3600)
        async with hosted(client, host):
            for number in range(5):
                client.capture(event(number))
                assert (await client.flush()).delivered == 1
                ingest.cut_connections()
        assert ingest.stored() == ALL[:5]
        assert reported == []
        assert ingest.seen().connections == 5


#: Answers after which a batch is lost, the reason, and whether the next POST waits.
DROPPED: Dict[str, Tuple[Fault, str]] = {
    **{f"status {status}": (Fault(status=status), "rejected") for status in (400, 401, 404, 422)},
    **{f"redirect {status}": (Fault("redirect", status), "redirect") for status in (301, 303, 307, 308)},
    "status 304": (Fault(status=304), "redirect"),
}


@pytest.mark.parametrize("host", HOSTS)
class TestDropped:
    @pytest.mark.parametrize("name", DROPPED)
    async def test_the_batch_is_dropped_alone(self, play: Any, name: str, host: str) -> None:
        """A redirect is never followed: the other origin sees no connection (`play` looks)."""
        fault, reason = DROPPED[name]
        ended = await play(host, fault)
        lost = ended.seen.posts[0].paths
        assert ended.stats["dropped"] == {reason: len(lost)}
        assert ended.stored == ALL[len(lost) :]
        assert ended.errors == ["RedirectRefused" if reason == "redirect" else "BatchRejected"]
        assert ended.stats["requeued"] == 0

    @pytest.mark.parametrize("status", [401, 308])
    async def test_a_wrong_key_or_url_is_not_hammered(
        self, ingest: FaultIngest, make_client: MakeClient, status: int, host: str
    ) -> None:
        """Eager sizes are reached a hundred times a second; the POSTs are those of a back-off."""
        ingest.script([], then=Fault("redirect" if status == 308 else "answer", status))
        options = {"flush_interval": 0.2, "batch_size": 1, "max_batch_size": 5}
        client = make_client(ingest_url=ingest.get_url(), ingest_key=KEY, **options)
        async with hosted(client, host):
            captured = await capture_for(2.0, client)
            assert_sum(client, captured)
        # 200 captures; POSTs at 0, 0.05, 0.15, 0.35, 0.75 and 1.55 s at the earliest, and one at the stop.
        assert 2 <= ingest.count_posts() <= 9
        assert ingest.seen().elsewhere == 0


async def capture_for(seconds: float, client: BeaconClient) -> int:
    """Capture an event every 10 ms; return how many."""
    from asyncio import get_running_loop, sleep

    number, end = 0, get_running_loop().time() + seconds
    while get_running_loop().time() < end:
        client.capture(event(number))
        number += 1
        await sleep(0.01)
    return number


@pytest.mark.parametrize("host", HOSTS)
class TestTooLarge:
    async def test_a_413_goes_again_in_halves(self, play: Any, host: str) -> None:
        ended = await play(host, Fault(status=413), flush_interval=1.0)
        assert ended.stored == ALL
        assert (ended.errors, ended.stats["dropped"]) == ([], {})
        keys = [post.key for post in ended.seen.posts]
        assert len(set(keys)) == len(keys), "another set of events, another key"
        first, second = ended.seen.posts[:2]
        assert len(second.events) == (len(first.events) + 1) // 2

    async def test_for_a_single_event_it_is_dropped(self, play: Any, host: str) -> None:
        ended = await play(host, *[Fault(status=413)] * 2, max_batch_size=2)
        assert ended.stats["dropped"] == {"too_large": 1}
        assert ended.stored == ALL[1:]
        assert ended.errors == ["EventTooLarge"]


@pytest.mark.parametrize("host", HOSTS)
async def test_every_status_has_its_end(ingest: FaultIngest, make_client: MakeClient, host: str) -> None:
    """200 to 599, each with a client of its own: one event, one attempt, one place in the ledger."""
    outcomes = []
    for status in range(200, 600):
        ingest.script([Fault(status=status)])
        client = make_client(ingest_url=ingest.get_url(), ingest_key=KEY, flush_interval=3600)
        async with hosted(client, host):
            client.capture(event(status))
            outcomes.append((status, await client.flush()))
    special = {408: (0, 0, 1), 413: (0, 1, 0), 425: (0, 0, 1), 429: (0, 0, 1)}
    usual = [(status // 100, result) for status, result in outcomes if status not in special]
    assert [kind for kind, _ in groupby(usual)] == [
        (2, (1, 0, 0)),
        (3, (0, 1, 0)),
        (4, (0, 1, 0)),
        (5, (0, 0, 1)),
    ]
    assert {status: result for status, result in outcomes if status in special} == special
