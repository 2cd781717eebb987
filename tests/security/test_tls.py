"""TLS is verified, private CAs, client certificates and proxies work, redirects are not followed."""

from __future__ import annotations

import functools
import ssl
import sys
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Tuple

import httpx
import pytest
from process.ingest_server import RecordingIngest as Ingest
from support.events import event

from beaconhq import BeaconClient
from beaconhq.errors import NetworkError, RedirectRefused

from .servers import CA, Proxy, TLSIngest

if TYPE_CHECKING:
    from pathlib import Path

MakeClient = Callable[..., BeaconClient]
LIBRARIES = ["httpx", "httpx2"] if sys.version_info >= (3, 11) else ["httpx"]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    """The HTTP library of the client; httpx2 needs Python 3.11."""
    return pytest.importorskip(request.param) if request.param != "httpx" else httpx


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    with TLSIngest() as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy().running() as running:
        yield running


def trusting(*certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    if certificate:
        context.load_cert_chain(*certificate)
    return context


def send_one(make_client: MakeClient, url: str, **options: Any) -> Tuple[int, int]:
    """Try one event once, over the bridge; return how many were delivered and are pending."""
    client = make_client(ingest_url=url, **options)
    client.capture(event())
    delivered, _, pending = client.flush_sync(30)
    return delivered, pending


def only(reported: List[BaseException]) -> str:
    (error,) = reported
    assert type(error) is NetworkError, error
    return str(error)


# -- certificates -----------------------------------------------------------------------


def test_a_private_ca_is_refused_and_the_error_says_what_to_do(
    ingest: Ingest, make_client: MakeClient, reported: List[BaseException]
) -> None:
    assert send_one(make_client, ingest.url) == (0, 1)
    message = only(reported)
    assert "unable to get local issuer certificate" in message
    assert "SSL_CERT_FILE or client_factory" in message
    assert ingest.posts == []


def test_a_certificate_for_another_name_is_refused(
    make_client: MakeClient, reported: List[BaseException], library: Any
) -> None:
    with TLSIngest("elsewhere.example") as ingest:
        factory = functools.partial(library.AsyncClient, verify=trusting())
        assert send_one(make_client, ingest.url, client_factory=factory) == (0, 1)
        assert "certificate" in only(reported)
        assert ingest.posts == []


@pytest.mark.parametrize("variable", ["PYTHONHTTPSVERIFY", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_no_variable_and_no_global_setting_turns_verification_off(
    variable: str,
    ingest: Ingest,
    make_client: MakeClient,
    reported: List[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the switches of other libraries, nor the line that is pasted everywhere."""
    monkeypatch.setenv(variable, "0" if variable == "PYTHONHTTPSVERIFY" else "")
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    assert send_one(make_client, ingest.url) == (0, 1)
    assert "certificate" in only(reported)
    assert ingest.posts == []


def test_ssl_cert_file_names_a_private_ca(
    ingest: Ingest, make_client: MakeClient, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    assert send_one(make_client, ingest.url) == (1, 0)


def test_a_factory_may_trust_a_private_ca(ingest: Ingest, make_client: MakeClient, library: Any) -> None:
    factory = functools.partial(library.AsyncClient, verify=trusting())
    assert send_one(make_client, ingest.url, client_factory=factory) == (1, 0)


async def test_it_does_so_in_an_event_loop(ingest: Ingest, make_client: MakeClient, library: Any) -> None:
    factory = functools.partial(library.AsyncClient, verify=trusting())
    async with make_client(ingest_url=ingest.url, client_factory=factory) as client:
        client.capture(event())
        assert await client.flush(30) == (1, 0, 0)


@pytest.mark.parametrize("newest", [True, False], ids=["TLS 1.3", "TLS 1.2"])
def test_a_missing_client_certificate_is_an_error_that_says_so(
    newest: bool, make_client: MakeClient, reported: List[BaseException], library: Any
) -> None:
    with TLSIngest(client_ca=True, newest=newest) as ingest:
        factory = functools.partial(library.AsyncClient, verify=trusting())
        assert send_one(make_client, ingest.url, client_factory=factory) == (0, 1)
        message = only(reported)
        assert ingest.posts == []
    assert "Operation not permitted" not in message
    if not newest:
        # With TLS 1.3 the refusal comes after the handshake, and may be overtaken by a reset.
        assert "TLS: " in message
        assert "ALERT_HANDSHAKE_FAILURE; the server may want a client certificate" in message


def test_a_client_certificate_lets_it_in(make_client: MakeClient, library: Any, tmp_path: Path) -> None:
    certificate = tmp_path / "client.pem"
    CA.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with TLSIngest(client_ca=True) as ingest:
        factory = functools.partial(library.AsyncClient, verify=trusting(str(certificate)))
        assert send_one(make_client, ingest.url, client_factory=factory) == (1, 0)


def test_https_without_tls_says_so(make_client: MakeClient, reported: List[BaseException]) -> None:
    with Ingest() as ingest:
        assert send_one(make_client, ingest.url.replace("http:", "https:"), timeout=30) == (0, 1)
    assert "TLS: " in only(reported)


# -- proxies ----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["variable", "factory"])
def test_a_proxy_tunnels_https(
    by: str, ingest: Ingest, proxy: Proxy, make_client: MakeClient, library: Any, ca_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Through CONNECT the proxy sees where the POST goes, and nothing else."""
    options: Any = {"verify": trusting()}
    if by == "variable":
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    else:
        options["proxy"] = proxy.url
    factory = functools.partial(library.AsyncClient, **options)
    assert send_one(make_client, ingest.url, client_factory=factory) == (1, 0)
    ((method, target, head),) = proxy.requests
    assert (method, target) == ("CONNECT", f"localhost:{ingest.port}")
    assert "authorization" not in head.lower()
    assert "test-key" not in head


def test_the_default_client_reads_the_proxy_variables(
    proxy: Proxy, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with Ingest() as ingest:
        assert send_one(make_client, ingest.url) == (1, 0)
        ((method, target, _),) = proxy.requests
        assert (method, target) == ("POST", f"{ingest.url}/v1/ingest")
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert send_one(make_client, ingest.url) == (1, 0)
        assert len(proxy.requests) == 1


def test_a_proxy_that_refuses_is_an_error_that_says_what_to_check(
    ingest: Ingest,
    proxy: Proxy,
    make_client: MakeClient,
    reported: List[BaseException],
    library: Any,
) -> None:
    proxy.refuses = True
    url = proxy.url.replace("://", "://user:proxy-password@")
    factory = functools.partial(library.AsyncClient, verify=trusting(), proxy=url)
    assert send_one(make_client, ingest.url, client_factory=factory) == (0, 1)
    message = only(reported)
    assert "the proxy refused: check HTTPS_PROXY" in message
    assert "proxy-password" not in message


# -- redirects --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_whatever_the_factory_says(
    status: int, make_client: MakeClient, reported: List[BaseException], library: Any
) -> None:
    """The other origin is never contacted, so it never sees the key."""
    with Ingest() as elsewhere, Ingest() as ingest:
        ingest.status, ingest.location = status, f"{elsewhere.url}/v1/ingest"
        for factory in (None, functools.partial(library.AsyncClient, follow_redirects=True)):
            assert send_one(make_client, ingest.url, client_factory=factory) == (0, 0)
        assert len(ingest.posts) == 2
        assert elsewhere.connections == 0
    assert [type(error) for error in reported] == [RedirectRefused] * 2
