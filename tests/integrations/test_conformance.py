"""The same request, the same event: `conformance.CASES` over all adapters."""

from __future__ import annotations

import gc
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Tuple

import pytest

from beaconhq import BeaconClient
from beaconhq.integrations._record import Recorder

from . import django_app, flask_app, frameworks
from .conformance import CASES, DIFFERENCES, Answer, Case, Difference, Framework, Request

if TYPE_CHECKING:
    from .conftest import Probe

FRAMEWORKS = [*frameworks.ASGI_FRAMEWORKS, *flask_app.FRAMEWORKS, *django_app.FRAMEWORKS]
every_framework = pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.behaviour.replace(" ", "-"))


pytestmark = [
    pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning"),
    # Of Django about its own static files, under ASGI.
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators"),
]


@pytest.fixture(autouse=True)
def _collected_where_django_leaves_files_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a stream that broke off, or a client that left, Django does not close the request's body."""
    yield
    names = str(request.node.name)
    if "django" in names and ("stream" in names or "leaves" in names):
        gc.collect()


@every_framework
@every_case
async def test_a_request_becomes_this_event(case: Case, framework: Framework, probe: Probe) -> None:
    call = framework.build(probe.configure(**case.client), **case.adapter)
    started = perf_counter()
    answer = await call(case.request)
    elapsed = perf_counter() - started
    event = await probe.event()
    expected = case.event(framework)
    if _is_group(answer.exception):
        # Starlette before 0.38 lets its task group out: the event says what the server saw.
        expected["error"] = f"{type(answer.exception).__name__}: {answer.exception}"
    assert _without_times(event) == expected
    assert datetime.fromisoformat(event["ts"]).utcoffset() is not None
    # Whole milliseconds, rounded.
    assert case.lasts * 1000 - 1 <= event["duration_ms"] <= elapsed * 1000 + 1


@every_framework
@every_case
async def test_the_client_gets_the_same_answer_with_and_without_the_adapter(
    case: Case, framework: Framework, probe: Probe
) -> None:
    bare = await framework.build()(case.request)
    observed = await framework.build(probe.configure(**case.client), **case.adapter)(case.request)
    assert _comparable(observed) == _comparable(bare)


@pytest.mark.parametrize("path", ["/", "/boom", "/stream", "/broken-stream", "/nowhere"])
@pytest.mark.parametrize("broken", ["capture", "template", "consumer"])
@every_framework
async def test_whatever_fails_in_the_sdk_the_answer_is_the_same(
    framework: Framework, broken: str, path: str, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        failed.append(broken)
        raise RuntimeError("ours")

    failed: List[str] = []
    make: Any = Recorder.__init__
    if broken == "template":
        monkeypatch.setattr(Recorder, "__init__", lambda self, *args: make(self, *args[:-1], fail))
    elif broken == "consumer":
        monkeypatch.setattr(Recorder, "__init__", lambda self, *args: make(self, *args[:-2], fail, args[-1]))
    else:
        monkeypatch.setattr(BeaconClient, "capture", fail)
    request = Request("GET", path)
    bare = await framework.build()(request)
    observed = await framework.build(probe.client, consumer_header="x-api-key")(request)
    assert _comparable(observed) == _comparable(bare)
    assert failed


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: "-".join(each.frameworks))
def test_a_difference_concerns_a_case_and_a_framework(difference: Difference) -> None:
    """And it is one: what the event holds instead is not what the others hold."""
    (case,) = [case for case in CASES if case.behaviour == difference.behaviour]
    for name in difference.frameworks:
        framework = next(framework for framework in FRAMEWORKS if framework.name.startswith(name))
        assert case.event(framework).items() >= difference.instead.items() or not difference.here
    assert all(getattr(case, field) != value for field, value in difference.instead.items())


def _without_times(event: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("ts", "duration_ms")}


def _comparable(answer: Answer) -> Tuple[int, List[Tuple[str, str]], bytes, str]:
    # Werkzeug before 3 dates its static files.
    headers = [(name, value) for name, value in answer.headers if name.lower() != "date"]
    return answer.status, headers, answer.body, repr(answer.exception)


def _is_group(exception: object) -> bool:
    return hasattr(exception, "exceptions")
