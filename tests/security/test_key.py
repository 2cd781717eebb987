"""
The key shows nowhere: no log, `repr`, traceback with local variables, error, warning or dump.

A process of its own does everything that can go wrong, with every logger at its lowest
level and asyncio's debug mode on, and says whatever there is to say. Its output is searched.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
import ssl
from typing import TYPE_CHECKING, Callable, Dict, Iterator

import httpx
import pytest
from process.children import free_port, run_script, running, wait_until
from process.ingest_server import RecordingIngest
from support.events import event

from .servers import CA, TLSIngest, answering

if TYPE_CHECKING:
    from pathlib import Path

    from beaconhq import BeaconClient

KEY = "bk-live-51Hx9QzW7tNcVr"
#: What must not be found: the key, and what is recognisably a part of it.
PARTS = (KEY, KEY[3:], KEY[:12], KEY[-10:])

#: Runs before every script. The key is made where it is used: no frame and no module holds it.
TELLING = """
import asyncio, faulthandler, functools, gc, json, logging, os, pprint, sys, traceback, warnings

logging.basicConfig(level=1, stream=sys.stderr)
warnings.simplefilter("always")
URLS = json.loads(sys.argv[3])

def key():
    return sys.argv[2][::-1]

def dump(thing, seen, depth=0):
    '''Show an object and all that `vars` leads to, as a debugger would.'''
    if id(thing) in seen or depth > 8 or isinstance(thing, type(sys)):
        return
    seen.add(id(thing))
    print(repr(thing), str(thing))
    inside = vars(thing) if hasattr(thing, "__dict__") and not isinstance(thing, type) else thing
    if isinstance(inside, dict):
        pprint.pprint(inside)
        inside = list(inside.values())
    if isinstance(inside, (list, tuple, set)) or hasattr(inside, "popleft"):
        for each in inside:
            dump(each, seen, depth + 1)
    for cell in getattr(thing, "__closure__", None) or ():
        dump(cell.cell_contents, seen, depth + 1)
    for name in ("__self__", "__func__", "__cause__", "__context__"):
        if getattr(thing, name, None) is not None:
            dump(getattr(thing, name), seen, depth + 1)

def tell(error):
    '''Say all that there is to say about an error, and about the stack that it is told on.'''
    print("reported", type(error).__name__)
    print("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    dump(error, set())
    stack = traceback.StackSummary.extract(traceback.walk_stack(None), capture_locals=True)
    print("".join(stack.format()))
    faulthandler.dump_traceback()

def ours(options):
    return {"on_error": tell, "timeout": 2, "flush_interval": 600, **options}
"""


def run(script: str, urls: Dict[str, str], url: str = "-") -> str:
    ended = run_script(script, url, KEY[::-1], json.dumps(urls), before=TELLING)
    output = ended.out + ended.err
    assert ended.code == 0, output[-3000:]
    return output


def assert_silent(output: str) -> None:
    for part in PARTS:
        found = [line for line in output.splitlines() if part in line]
        assert not found, (part, found[:3])


STATUSES = [200, 302, 400, 401, 404, 413, 429, 500]


@pytest.fixture
def urls() -> Iterator[Dict[str, str]]:
    """What can go wrong, by name; the server's answer is in the name."""
    plain = [RecordingIngest() for _ in STATUSES]
    hanging = RecordingIngest()
    hanging.answering.clear()
    garbage = b"\x00\x01 this is not HTTP\r\n\r\n" * 10
    with TLSIngest() as tls, hanging, answering(garbage) as noise, answering(b"") as reset:
        for server, status in zip(plain, STATUSES):
            server.status = status
            server.__enter__()
        yield {
            **{str(status): server.url for server, status in zip(plain, STATUSES)},
            "hang": hanging.url,
            "refused": "http://localhost:1",
            "no such name": "http://beacon.invalid",
            "not HTTP": noise,
            "reset": reset,
            "unknown CA": tls.url,
            "no TLS": hanging.url.replace("http:", "https:"),
        }
        for server in plain:
            server.__exit__()


EXPECTED = {
    "302": "RedirectRefused",
    **dict.fromkeys(("400", "401", "404"), "BatchRejected"),
    "413": "EventTooLarge",
    **dict.fromkeys(("429", "500"), "IngestUnavailable"),
    "hang": "ExportTimeout",
    **dict.fromkeys(("refused", "no such name", "not HTTP", "reset", "unknown CA"), "NetworkError"),
}


@pytest.mark.process
@pytest.mark.parametrize("host", ["event_loop", "thread"])
def test_no_fault_of_the_ingest_shows_the_key(host: str, urls: Dict[str, str]) -> None:
    output = run(
        f"""
        async def in_loop(name, url):
            async with BeaconClient(key(), url, **ours({{}})) as client:
                client.capture(event())
                await client.flush()
                dump(client, set())

        def in_thread(name, url):
            with BeaconClient(key(), url, **ours({{}})) as client:
                client.capture(event())
                client.flush_sync()
                dump(client, set())

        for name, url in URLS.items():
            print("case", name)
            if {host!r} == "event_loop":
                asyncio.run(in_loop(name, url))
            else:
                in_thread(name, url)
        """,
        urls,
    )
    assert_silent(output)
    cases = re.findall(r"^(?:case|reported) (?!InsecureUrl).+", output, re.MULTILINE)
    for name, error in EXPECTED.items():
        assert cases[cases.index(f"case {name}") + 1] == f"reported {error}"


@pytest.mark.process
def test_no_http_client_that_cannot_be_made_shows_the_key() -> None:
    output = run(
        """
        import httpx

        def failing(**options):
            raise RuntimeError("a factory's own")

        class Odd:
            '''Fails with the request, headers and all, in hand.'''
            def build_request(self, *args, **options):
                raise RuntimeError(repr(options))
            async def aclose(self):
                pass

        class Raising(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request):
                raise httpx.LocalProtocolError(f"Illegal header {dict(request.headers)}", request=request)

        def attempt(name, variables, **options):
            print("case", name)
            os.environ.update(variables)
            with BeaconClient(key(), "https://localhost:1", **ours(options)) as client:
                client.capture(event())
                client.flush_sync()
            for variable in variables:
                del os.environ[variable]

        attempt("proxy", {"ALL_PROXY": "socks9://localhost:1"})
        attempt("CA", {"SSL_CERT_FILE": "/nonexistent"})
        attempt("factory", {}, client_factory=failing)
        attempt("odd", {}, client_factory=Odd)
        attempt("raising", {}, client_factory=functools.partial(httpx.AsyncClient, transport=Raising()))
        """,
        {},
    )
    assert_silent(output)
    assert output.count("reported TransportError") + output.count("reported NetworkError") >= 5


@pytest.mark.process
def test_no_error_at_construction_shows_the_key() -> None:
    """Tracebacks with local variables: those of our frames are ours to keep clean."""
    output = run(
        """
        from beaconhq import HttpTransport

        def refused(make, *args, variables=True, **options):
            try:
                make(*args, **options)
            except (ValueError, TypeError) as error:
                print("refused", error)
                # Without this script's own frames, which hold what it passed.
                inner = error.__traceback__.tb_next
                shown = traceback.TracebackException(type(error), error, inner, capture_locals=variables)
                print("".join(shown.format()))
            else:
                raise SystemExit("was not refused")

        # A key in the place of the URL is in no message; in a variable named `url` it is.
        refused(BeaconClient, "https://x", key(), variables=False)
        refused(HttpTransport, key(), "https://x", variables=False)
        for bad in (key() + "\\n\\0", key().encode(), [key()]):
            refused(BeaconClient, bad)
            refused(HttpTransport, "https://x", bad)
        for url in ("ftp://x", "https://x:port", f"https://{key()}@x", f"https://x:{key()}", f"x://{key()}",
                    key(), f"https://x?key={key()}", f"https://[{key()}",
                    f"https://user:{key()[:5]}/{key()[5:]}@x"):
            refused(BeaconClient, key(), url, variables=False)
        for options in ({"batch_size": 0}, {"timeout": "x"}, {"on_error": 7}, {"client_factory": 7},
                        {"transport": 7}):
            refused(BeaconClient, key(), **options)
        refused(BeaconClient.from_env, ingest_key=key(), batch_size=0)
        os.environ["BEACON_INGEST_KEY"] = key() + "\\x01"
        refused(BeaconClient.from_env)
        os.environ["BEACON_INGEST_KEY"] = key()
        refused(BeaconClient.from_env, flush_interval=-1)
        client = BeaconClient.from_env()
        del os.environ["BEACON_INGEST_KEY"]
        dump(client, set())
        dump(HttpTransport("https://x", key()), set())
        import copy, pickle
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            refused(make, client)
        """,
        {},
    )
    assert_silent(output)
    assert len(re.findall("^refused ", output, re.MULTILINE)) == 28


@pytest.mark.process
def test_the_search_would_find_it() -> None:
    """Each way of telling does tell: a key in a log line, a local variable, an attribute."""
    for leak in (
        "logging.getLogger('any.name').debug('Bearer %s', key())",
        "tell(make_error())",
        "dump(Holder(), set())",
    ):
        script = f"""
            class Holder:
                def __init__(self):
                    self.inner = [{{"key": key()}}]

            def make_error():
                try:
                    fail(key())
                except ValueError as error:
                    return error

            def fail(secret):
                raise ValueError

            {leak}
        """
        with pytest.raises(AssertionError, match=KEY):
            assert_silent(run(script, {}))


#: Takes what comes over HTTP/2, and nothing else.
HTTP2_INGEST = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    while (await receive()).get("more_body"):
        pass
    status = 202 if scope["http_version"] == "2" else 400
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})
"""


@pytest.mark.process
async def test_http2_keeps_the_key_out_of_the_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, make_client: Callable[..., BeaconClient]
) -> None:
    """The layer that packs HTTP/2's headers logs them."""
    certificate, port = CA.issue_cert("localhost"), free_port()
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    (tmp_path / "http2_ingest.py").write_text(HTTP2_INGEST)
    pem, bind = str(tmp_path / "server.pem"), f"localhost:{port}"
    command = ["-m", "hypercorn", "--certfile", pem, "--keyfile", pem, "--bind", bind, "http2_ingest:app"]
    context = ssl.create_default_context()
    CA.configure_trust(context)
    caplog.set_level(logging.DEBUG)
    with running(command, PYTHONPATH=str(tmp_path)):
        client = make_client(
            ingest_key=KEY,
            ingest_url=f"https://{bind}",
            flush_interval=0.1,
            client_factory=functools.partial(httpx.AsyncClient, http2=True, verify=context),
        )
        client.capture(event())
        await asyncio.get_running_loop().run_in_executor(
            None,
            wait_until,
            lambda: client.stats()["pending"] + client.stats()["in_flight"] == 0,
            "an answer",
        )
        await client.aclose()
    assert client.stats()["delivered"] == 1
    assert [record.name for record in caplog.records if record.name.startswith(("http", "hpack", "h2"))] == []
