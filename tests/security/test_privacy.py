"""What leaves is what docs/security.md lists, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator

import httpx
import pytest
from fastapi import FastAPI
from integrations.conformance import Framework, Request
from integrations.conftest import Probe
from integrations.test_conformance import every_framework
from process.ingest_server import RecordingIngest
from starlette.responses import JSONResponse, Response
from support.events import event

from beaconhq import BeaconEvent
from beaconhq.integrations.asgi import BeaconASGIMiddleware

if TYPE_CHECKING:
    from beaconhq import BeaconClient

#: Stands in everything that is not to leave.
PRIVATE = "jane-doe-4711"
HEADERS = tuple(
    (name, f"{value}{PRIVATE}".encode())
    for name, value in {
        "authorization": "Bearer ",
        "cookie": "session=",
        "referer": "https://example.com/",
        "user-agent": "",
        "x-forwarded-for": "",
        "x-api-key": "",
    }.items()
)

pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")


@pytest.fixture
def probe(make_client: Callable[..., BeaconClient]) -> Probe:
    return Probe(make_client)


@pytest.fixture
def ingest() -> Iterator[RecordingIngest]:
    with RecordingIngest() as server:
        yield server


@every_framework
@pytest.mark.parametrize("path", ["/items/7", "/boom", "/nothing-here", "/short"])
async def test_nothing_else_of_a_request_leaves(framework: Framework, path: str, probe: Probe) -> None:
    """Neither the query string nor a header, unless it is named as the consumer's."""
    request = Request("GET", f"{path}?name={PRIVATE}&{PRIVATE}", HEADERS)
    await framework.build(probe.client)(request)
    sent = await probe.event()
    assert set(sent) == set(BeaconEvent.__match_args__)
    assert PRIVATE not in json.dumps(sent)


async def test_no_body_and_no_cookie_leaves(probe: Probe) -> None:
    app = FastAPI()

    @app.post("/echo")
    def echo(body: Dict[str, Any]) -> Response:
        answer = JSONResponse(body, headers={"x-own": PRIVATE})
        answer.set_cookie("session", PRIVATE)
        return answer

    transport = httpx.ASGITransport(app=BeaconASGIMiddleware(app, probe.client))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as caller:
        answer = await caller.post("/echo", json={"name": PRIVATE})
        refused = await caller.post("/echo", content=PRIVATE)
    assert (answer.status_code, refused.status_code) == (200, 422)
    assert PRIVATE in answer.text + refused.text
    assert PRIVATE not in json.dumps(await probe.events())


@every_framework
async def test_without_their_text_exceptions_are_types(framework: Framework, probe: Probe) -> None:
    client = probe.configure(capture_error_text=False)
    await framework.build(client)(Request("GET", "/boom"))
    sent = await probe.event()
    assert " " not in sent["error"]
    assert sent["error"].endswith(("RuntimeError", "ExceptionGroup"))


def test_a_post_says_nothing_else(ingest: RecordingIngest, make_client: Callable[..., BeaconClient]) -> None:
    """The whole of what is on the wire, headers included."""
    client = make_client(ingest_url=ingest.url)
    client.capture(event(7))
    client.flush_sync(30)
    (post,) = ingest.posts
    assert json.loads(post.body) == {"events": [event(7).to_payload()]}
    assert post.headers.pop("idempotency-key").isalnum()
    assert post.headers.pop("user-agent").startswith("beaconhq-python/")
    assert post.headers == {
        "host": f"localhost:{ingest.port}",
        "accept": "*/*",
        "accept-encoding": post.headers["accept-encoding"],
        "connection": "keep-alive",
        "authorization": "Bearer test-key",
        "content-type": "application/json",
        "content-length": str(len(post.body)),
    }
