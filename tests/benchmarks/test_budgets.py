"""
The regression guard: ratios only, the best of many short rounds, with room for a busy machine.

What the figures are is the business of `nox -s bench`; here a change is caught that makes
the request path twice as dear, or dearer with the number of routes.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any, Callable, Dict, List, Mapping, Optional

import pytest

from beaconhq import BeaconASGIMiddleware, BeaconClient, BeaconEvent, MockTransport

from . import floors
from .budgets import BUDGETS, check
from .workload import AsgiCaller, Call, RawASGI

#: Rounds, of few requests each: on a busy machine some of them run undisturbed.
ROUNDS = 60
REQUESTS = 50
#: Whole measurements before a ratio counts as too high.
ATTEMPTS = 5


def best_of(calls: Mapping[str, Call]) -> Dict[str, float]:
    """Return the least CPU time per unit of each, in nanoseconds, taking turns."""
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            least[name] = min(least[name], call(REQUESTS)["thread"])
    return least


def assert_ratio(measure: Callable[[], float], at_most: float) -> None:
    """Assert that a ratio is low enough in one of several measurements."""
    ratios = []
    for _ in range(ATTEMPTS):
        ratios.append(measure())
        if ratios[-1] <= at_most:
            return
    pytest.fail(f"at most {at_most}, measured {[round(ratio, 2) for ratio in ratios]}")


@pytest.fixture
def client() -> Any:
    down = MockTransport(capacity=1)
    down.raise_error = ConnectionError()
    client = BeaconClient(
        "k", transport=down, flush_interval=3600.0, max_buffer_size=1000, register_atexit=False
    )
    client.capture(BeaconEvent("2026-06-03T12:00:00Z", "GET", "/", "/", 200, 1))
    client.flush_sync()  # fails: the drain backs off and stays out of what is measured
    yield client
    down.raise_error = None
    client.shutdown()


@pytest.mark.parametrize("leaves_route", [True, False], ids=["route", "endpoint"])
def test_a_request_costs_a_small_multiple_of_the_floor_whatever_the_number_of_routes(
    leaves_route: bool, client: BeaconClient
) -> None:
    callers = {routes: AsgiCaller(routes) for routes in (1, 300)}
    calls = {}
    for routes, caller in callers.items():
        raw = RawASGI(routes, leaves_route=leaves_route)
        calls[f"bare {routes}"] = caller.call(raw)
        calls[f"mincap {routes}"] = caller.call(floors.MincapASGI(raw))
        calls[f"ours {routes}"] = caller.call(BeaconASGIMiddleware(raw, client=client))

    def over_mincap() -> float:
        least = best_of({name: call for name, call in calls.items() if name.endswith(" 1")})
        return (least["ours 1"] - least["bare 1"]) / (least["mincap 1"] - least["bare 1"])

    def over_one_route() -> float:
        least = best_of(calls)
        return (least["ours 300"] - least["bare 300"]) / (least["ours 1"] - least["bare 1"])

    try:
        # The budget is 3; the floor is so small that a busy machine moves the ratio by half of it.
        assert_ratio(over_mincap, 6)
        assert_ratio(over_one_route, 1.5)
    finally:
        for caller in callers.values():
            caller.loop.close()


@pytest.mark.parametrize("header", [None, "x-api-key"], ids=["no consumer", "consumer"])
def test_a_waiting_event_holds_little_beyond_its_strings(
    header: Optional[str], client: BeaconClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: a tuple, the time, and a place in the queue."""
    held: List[Any] = []
    monkeypatch.setattr(client, "capture", held.append)
    caller, raw = AsgiCaller(1), RawASGI(1, leaves_route=True)
    caller.call(BeaconASGIMiddleware(raw, client=client, consumer_header=header))(2)
    caller.loop.close()
    (ended, kind, path, duration, consumer), (_, other_kind, *_) = held
    assert kind is other_kind
    assert (kind, path, consumer) == (("GET", "/r0/{item_id}", 200, None), "/r0/17", header and "customer-7")
    assert 0 <= duration <= 256, "a number that the interpreter has anyway"
    # With 8 bytes in the queue.
    assert sys.getsizeof(held[0]) + sys.getsizeof(ended) + 8 <= 120


def test_a_request_s_scope_is_freed_with_it(client: BeaconClient) -> None:
    """In a cycle it would stay until a garbage collection, and make that dear."""

    class Owned:
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ignore(*_: Any) -> Any:
        return None

    async def serve_one() -> weakref.ref[Owned]:
        owned = Owned()
        await wrapped({**caller.scope(), "owned": owned}, ignore, ignore)
        return weakref.ref(owned)

    caller, wrapped = AsgiCaller(1), BeaconASGIMiddleware(app, client=client)
    gc.disable()
    try:
        assert caller.loop.run_until_complete(serve_one())() is None
    finally:
        gc.enable()
        caller.loop.close()


def test_an_import_executes_less_than_that_of_asyncio() -> None:
    """In modules loaded, which holds still: CPU time is the business of the benchmarks."""

    def modules(statement: str) -> int:
        script = f"import sys; before = len(sys.modules); {statement}; print(len(sys.modules) - before)"
        return int(subprocess.run([sys.executable, "-S", "-c", script], check=True, capture_output=True,
                                  text=True, env={"PYTHONPATH": ":".join(sys.path)}).stdout)  # fmt: skip

    assert modules("import beaconhq") < modules("import asyncio")


class TestTable:
    def test_every_budget_is_checked_where_its_figures_are(self) -> None:
        figures = {"value": {metric: [1.0, 2.0, 3.0] for metric in ("thread", "process", "bytes")}}
        figures["added"] = figures["value"]

        class Anything(Dict[str, Any]):
            def __missing__(self, key: str) -> Any:
                return figures

        class Cases(Dict[str, Any]):
            def __missing__(self, key: str) -> Any:
                return Anything()

        rows = check({"cases": Cases()})
        assert [row["what"] for row in rows] == [budget.what for budget in BUDGETS]
        assert len({budget.what for budget in BUDGETS}) == len(BUDGETS)

    def test_a_budget_without_figures_is_left_out(self) -> None:
        assert check({"cases": {}}) == []

    @pytest.mark.parametrize(("milliseconds", "met"), [(29, True), (31, False)])
    def test_a_budget_is_met_up_to_its_limit(self, milliseconds: int, met: bool) -> None:
        quartiles = {"process": [milliseconds * 1e6] * 3}
        (row,) = check({"cases": {"import/3.11": {"beaconhq": {"added": quartiles}}}})
        assert (row["measured"], row["at_most"], row["met"]) == (milliseconds, 30, met)

    def test_a_floor_that_is_lost_in_noise_meets_nothing(self) -> None:
        flask = {
            name: {"added": {"thread": [value] * 3}} for name, value in (("mincap", -1.0), ("beaconhq", 9.0))
        }
        ratio, added = check({"cases": {"flask": flask}})
        assert (ratio["measured"], ratio["met"]) == (None, False)
        assert (added["unit"], added["measured"], added["met"]) == ("us", 0.01, True)
