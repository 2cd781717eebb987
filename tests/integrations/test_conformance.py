"""The same request, the same event: `conformance.CASES` over all adapters."""

from __future__ import annotations

import gc
from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Tuple

import pytest

from . import django_app, flask_app, frameworks
from .conformance import CASES, Answer, Case, Framework

if TYPE_CHECKING:
    from .conftest import Probe

FRAMEWORKS = [*frameworks.ASGI_FRAMEWORKS, *flask_app.FRAMEWORKS, *django_app.FRAMEWORKS]
every_framework = pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.behaviour.replace(" ", "-"))


pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")


@pytest.fixture(autouse=True)
def _collected_where_django_leaves_files_open(case: Case) -> Iterator[None]:
    """After a stream that broke off, Django does not close the request's body."""
    yield
    if case.request.path == "/broken-stream":
        gc.collect()


def _supported(case: Case, framework: Framework) -> None:
    missing = case.needs - framework.features
    if missing:
        pytest.skip(f"{framework.name} has no {', '.join(missing)}")


@every_framework
@every_case
async def test_a_request_becomes_this_event(case: Case, framework: Framework, probe: Probe) -> None:
    _supported(case, framework)
    answer = await framework.build(probe.configure(**case.client), **case.adapter)(case.request)
    event = await probe.event()
    expected = case.event(framework)
    if _is_group(answer.exception):
        # Starlette before 0.38 lets its task group out: the event says what the server saw.
        expected["error"] = f"{type(answer.exception).__name__}: {answer.exception}"
    assert _without_times(event) == expected
    assert datetime.fromisoformat(event["ts"]).utcoffset() is not None
    assert event["duration_ms"] >= 0


@every_framework
@every_case
async def test_the_client_gets_the_same_answer_with_and_without_the_adapter(
    case: Case, framework: Framework, probe: Probe
) -> None:
    _supported(case, framework)
    bare = await framework.build()(case.request)
    observed = await framework.build(probe.configure(**case.client), **case.adapter)(case.request)
    assert _comparable(observed) == _comparable(bare)


def _without_times(event: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("ts", "duration_ms")}


def _comparable(answer: Answer) -> Tuple[int, List[Tuple[str, str]], bytes, str]:
    return answer.status, answer.headers, answer.body, repr(answer.exception)


def _is_group(exception: object) -> bool:
    return hasattr(exception, "exceptions")
