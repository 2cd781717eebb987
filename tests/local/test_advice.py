from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

import pytest

from beaconhq.local import advice
from beaconhq.local.view import Question, read_view

from .samples import events, payload

if TYPE_CHECKING:
    from beaconhq.local.store import EventStore


def kinds(store: EventStore, *routes: str) -> List[Any]:
    store.add(events(*[payload(route=route) for route in routes]))
    return [each.kind for each in store.read(lambda c: read_view(c, Question("all"))).advice]


def test_templates_are_fine(store: EventStore) -> None:
    routes = ["/users/{id}", "/v1/orders", "/v2/orders", "/items/<int:id>", "/{path}", "/exports/2024"]
    assert kinds(store, *routes * 10, "(unmatched)") == []


@pytest.mark.parametrize(("unmatched", "told"), [(3, []), (4, ["unmatched"]), (20, ["unmatched"])])
def test_many_unmatched_requests_are_told(store: EventStore, unmatched: int, told: List[str]) -> None:
    assert kinds(store, *["(unmatched)"] * unmatched, *["/a"] * (20 - unmatched)) == told


def test_a_few_requests_say_nothing(store: EventStore) -> None:
    assert kinds(store, "(unmatched)", "(unmatched)") == []


@pytest.mark.parametrize(
    "paths",
    [
        [f"/users/{n}" for n in range(5)],
        [f"/users/0815{n}/orders" for n in range(5)],
        [f"/u/4f2a0d3{n}-93a4-4b8a-8d0e-0242ac120002" for n in range(5)],
        [f"/o/507f1f77bcf86cd79943901{n}" for n in range(5)],
        [f"/t/tok_9aXw4bQz81Lk{n}" for n in range(5)],
    ],
)
def test_concrete_paths_are_told_with_examples(store: EventStore, paths: List[str]) -> None:
    assert kinds(store, *paths[:4], "/ok/{id}") == []
    assert kinds(store, paths[4]) == ["concrete"]


def test_too_many_routes_are_told(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "MANY_ROUTES", 3)
    assert kinds(store, "/a", "/b", "/c") == []
    assert kinds(store, "/d") == ["many"]
