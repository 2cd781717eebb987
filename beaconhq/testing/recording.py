"""
Recording what a client captures, and asserting on it.

An event is recorded in `capture()`: it is there when the response is, without a flush and whatever hosts the
drain. What is shown is what would have left, cleaned as on the wire.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Tuple, Union

from beaconhq.client import BeaconClient
from beaconhq.event import BeaconEvent
from beaconhq.transport import MockTransport
from beaconhq.wire import Unrepairable, clean


class _Any:
    def __repr__(self) -> str:
        return "ANY"


#: Matches every value of a field; needed as `None` means "no consumer", "no error".
ANY = _Any()

Text = Union[str, "re.Pattern[str]", _Any]
Status = Union[int, str, _Any]


class Recorded:
    """What was captured, oldest first."""

    def __init__(self) -> None:
        self._captured: List[Any] = []

    @property
    def events(self) -> List[BeaconEvent]:
        """Every event, as the ingest would get it."""
        return self._read()[0]

    @property
    def invalid(self) -> List[str]:
        """What was captured but would be dropped as beyond repair, with the field that is wrong."""
        return self._read()[1]

    def route(
        self,
        method: Optional[str] = None,
        route: Union[Text, None] = None,
        *,
        path: Text = ANY,
        status: Status = ANY,
        consumer: Union[Text, None] = ANY,
        error: Union[Text, None] = ANY,
    ) -> Route:
        """
        Return the events of one route, looked up when they are asked for.

        `method` in any case, and `route`, the template; None for any. Texts may be compiled regular
        expressions, which are searched for. `status` is a number or a class such as "4xx". `consumer` and
        `error` None match events without one.
        """
        fields = {"path": path, "status": status, "consumer": consumer, "error": error}
        wanted = {
            "method": ANY if method is None else method.upper(),
            "route": ANY if route is None else route,
        }
        return Route(self, {**wanted, **fields})

    def reset(self) -> None:
        """Forget what was recorded."""
        self._captured.clear()

    def _record(self, event: Any) -> None:
        self._captured.append(event)

    def _read(self) -> Tuple[List[BeaconEvent], List[str]]:
        events, invalid = [], []
        for each in tuple(self._captured):
            try:
                events.append(BeaconEvent(**clean(each)))  # type: ignore[arg-type]  # as the wire has them
            except Unrepairable as err:
                invalid.append(f"{each!r} ({err})")
        return events, invalid


class RecordingClient(Recorded, BeaconClient):
    """
    A `BeaconClient` that records, ships nothing, and is otherwise a real one.

    Takes the client's options. Its transport is a `MockTransport`, so `stats()`, `flush()` and the lifespan
    do what they do in production.
    """

    def __init__(
        self, ingest_key: str = "test-key", ingest_url: Optional[str] = None, **options: Any
    ) -> None:
        Recorded.__init__(self)
        defaults = {"transport": MockTransport(), "register_atexit": False}
        BeaconClient.__init__(self, ingest_key, ingest_url, **{**defaults, **options})
        self._put = _Fork(self._captured, self._put)


class _Fork:
    """Records and hands on. Holds no client, so that one can still be collected."""

    def __init__(self, captured: List[Any], put: Any) -> None:
        self._captured = captured
        self._put = put

    def __call__(self, event: Any) -> None:
        self._captured.append(event)
        self._put(event)


@contextmanager
def recording(client: BeaconClient) -> Iterator[Recorded]:
    """
    Record what an existing client captures in the block; nothing of it is queued or sent.

    For the client that an application makes at import. A disabled one is enabled for the block.
    """
    recorded = Recorded()
    before = client._put, client.enabled  # noqa: SLF001 - of this package
    client._put, client.enabled = recorded._record, True  # noqa: SLF001
    try:
        yield recorded
    finally:
        client._put, client.enabled = before  # noqa: SLF001


class Route:
    """The recorded events that match, as of now."""

    def __init__(self, recorded: Recorded, wanted: dict[str, Any]) -> None:
        self._recorded = recorded
        self._wanted = {name: value for name, value in wanted.items() if value is not ANY}

    @property
    def calls(self) -> List[BeaconEvent]:
        """The events, oldest first."""
        return [event for event in self._recorded.events if self._matches(event)]

    @property
    def call_count(self) -> int:
        """How many there are."""
        return len(self.calls)

    @property
    def called(self) -> bool:
        """Whether there is one."""
        return bool(self.calls)

    @property
    def last(self) -> BeaconEvent:
        """The newest; an `AssertionError` where there is none."""
        self.assert_called()
        return self.calls[-1]

    def assert_called(self) -> None:
        """Raise an `AssertionError` that lists what was captured, unless there is one."""
        __tracebackhide__ = True
        if not self.called:
            raise AssertionError(self._explain("at least 1 event"))

    def assert_called_once(self) -> BeaconEvent:
        """Return the one event; the same error unless there is exactly one."""
        __tracebackhide__ = True
        self.assert_call_count(1)
        return self.calls[0]

    def assert_call_count(self, count: int) -> None:
        """Raise the same error unless there are `count`."""
        __tracebackhide__ = True
        if self.call_count != count:
            raise AssertionError(self._explain(_events(count)))

    def assert_not_called(self) -> None:
        """Raise the same error if there is one."""
        __tracebackhide__ = True
        if self.called:
            raise AssertionError(self._explain("no event"))

    def __repr__(self) -> str:
        return f"<Route {self._describe()}>"

    def _matches(self, event: BeaconEvent) -> bool:
        return all(_fits(getattr(event, name), value) for name, value in self._wanted.items())

    def _describe(self) -> str:
        wanted = {name: _shown(value) for name, value in self._wanted.items()}
        place = f"{wanted.pop('method', 'ANY')} {wanted.pop('route', 'any route')}"
        return ", ".join([place, *(f"{name} {value}" for name, value in wanted.items())])

    def _explain(self, expected: str) -> str:
        events, invalid = self._recorded.events, self._recorded.invalid
        lines = [
            f"expected {expected} of {self._describe()}, found {self.call_count} of {_events(len(events))}"
        ]
        # The mark tells which ones count.
        lines += [f"  {'>' if self._matches(event) else ' '} {_line(event)}" for event in events]
        return "\n".join([*lines, *(f"    invalid: {each}" for each in invalid)])


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return value is not None and wanted.search(value) is not None
    if isinstance(value, int) and isinstance(wanted, str):
        return re.fullmatch(wanted.lower().replace("x", "[0-9]"), str(value)) is not None
    return bool(value == wanted)


def _shown(value: Any) -> str:
    return f"matching {value.pattern!r}" if isinstance(value, re.Pattern) else str(value)


def _line(event: BeaconEvent) -> str:
    more = [f"path {event.path}"] if event.path != event.route else []
    more += [f"consumer {event.consumer}"] if event.consumer is not None else []
    more += [f"error {event.error}"] if event.error is not None else []
    return " ".join(
        [event.method, event.route, str(event.status), f"({', '.join(more)})" if more else ""]
    ).strip()


def _events(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"
