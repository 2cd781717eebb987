"""Each fault on the way to the ingest has its name: real servers, proxies and certificates."""

from __future__ import annotations

import datetime as dt
import gc
import socket
import threading
import warnings
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Callable, Dict, List

import pytest

from beaconhq.doctor import network

from .conftest import KEY, Examine, server_context
from .servers import Server, listening, serving, taking_nobody

if TYPE_CHECKING:
    import trustme


def env(url: str, **more: str) -> Dict[str, str]:
    return {"BEACON_INGEST_KEY": KEY, "BEACON_INGEST_URL": url, **more}


def proxied(proxy: str, url: str) -> Dict[str, str]:
    """Return an environment with a proxy for every URL."""
    return env(url, HTTP_PROXY=proxy, HTTPS_PROXY=proxy)


def unused_port() -> int:
    with listening() as port:
        return port


# -- nothing is wrong -------------------------------------------------------------------


def test_without_send_nothing_is_posted_and_the_key_stays_here(examine: Examine, ingest: Server) -> None:
    found = examine(**env(ingest.url))
    assert (found.code, found.codes(), found.codes("warning")) == (0, [], [])
    ((method, path, headers),) = ingest.requests
    assert (method, path) == ("GET", "/v1/ingest")
    assert "authorization" not in headers
    assert found.steps == ["resolve", "connect", "answer"]
    assert found.failed == []
    assert "The key was not tried: --send" in found.text


def test_with_send_one_event_is_posted_with_the_key(examine: Examine, ingest: Server) -> None:
    found = examine("--send", **env(ingest.url))
    assert (found.code, found.codes()) == (0, [])
    assert ingest.methods == ["GET", "POST"]
    assert ingest.requests[1][2]["authorization"] == f"Bearer {KEY}"
    assert "one event was sent under the route /beaconhq-doctor (202)" in found.finding("sent")
    assert found.steps == ["resolve", "connect", "answer", "send"]
    assert "not tried" not in found.text


def test_a_host_that_is_an_address_needs_no_look_up(examine: Examine) -> None:
    with listening() as port:
        found = examine("--timeout", "0.3", **env(f"http://127.0.0.1:{port}"))
    assert found.steps == ["connect", "answer"]


def test_every_step_has_its_time(examine: Examine, ingest: Server) -> None:
    ingest.delays["GET"] = 0.3
    found = examine(**env(ingest.url))
    seconds = {step["name"]: step["seconds"] for step in found.report["steps"]}
    assert seconds["answer"] >= 0.3
    assert all(value >= 0 for value in seconds.values())


# -- the key and the URL ----------------------------------------------------------------


def test_no_key(examine: Examine, ingest: Server) -> None:
    found = examine("--send", BEACON_INGEST_URL=ingest.url)
    assert (found.code, found.codes()) == (1, ["no_key"])
    assert "Set BEACON_INGEST_KEY" in found.finding("no_key")
    assert found.report["has_key"] is False
    assert ingest.methods == ["GET"]  # the network is looked at all the same, but nothing is sent
    assert "no event was sent" in found.finding("not_sent")


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key(status: int, examine: Examine, ingest: Server) -> None:
    ingest.statuses["POST"] = status
    found = examine("--send", **env(ingest.url))
    assert (found.code, found.codes()) == (1, ["wrong_key"])
    assert "BEACON_INGEST_KEY" in found.finding("wrong_key")
    assert str(status) in found.finding("wrong_key")
    assert found.failed == ["send"]


@pytest.mark.parametrize("status", [404, 405])
def test_a_wrong_url(status: int, examine: Examine, ingest: Server) -> None:
    ingest.statuses.update(GET=404, POST=status)
    found = examine("--send", **env(ingest.url))
    assert (found.code, found.codes(), found.codes("warning")) == (1, ["wrong_url"], [])
    assert "BEACON_INGEST_URL" in found.finding("wrong_url")


@pytest.mark.parametrize(
    ("status", "code"),
    [(200, "not_an_ingest"), (301, "redirect"), (404, "not_found"), (503, "unavailable")],
)
def test_what_a_get_tells_is_no_more_than_a_warning(
    status: int, code: str, examine: Examine, ingest: Server
) -> None:
    """Some ingests answer 404 to anything but a POST."""
    ingest.statuses["GET"] = status
    found = examine(**env(ingest.url))
    assert (found.code, found.codes(), found.codes("warning")) == (0, [], [code])
    assert "--send" in found.finding(code)


@pytest.mark.parametrize("status", [401, 403, 400, 405, 415])
def test_an_ingest_that_refuses_the_get_is_fine(status: int, examine: Examine, ingest: Server) -> None:
    ingest.statuses["GET"] = status
    found = examine(**env(ingest.url))
    assert (found.code, found.report["findings"]) == (0, [])


@pytest.mark.parametrize(
    ("status", "code"),
    [(302, "redirect"), (400, "rejected"), (413, "rejected"), (429, "unavailable"), (503, "unavailable")],
)
def test_other_answers_to_the_post(status: int, code: str, examine: Examine, ingest: Server) -> None:
    ingest.statuses["POST"] = status
    found = examine("--send", **env(ingest.url))
    assert (found.code, found.codes()) == (1, [code])
    assert str(status) in found.finding(code)


def test_a_port_that_does_not_speak_http(examine: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        found = examine(**env(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join()
    assert (found.code, found.codes()) == (1, ["not_http"])
    assert "https://" in found.finding("not_http")


# -- DNS and connections ----------------------------------------------------------------


def test_a_host_name_that_does_not_resolve(examine: Examine) -> None:
    found = examine(**env("https://nosuch.invalid"))
    assert (found.code, found.codes()) == (1, ["dns"])
    assert "'nosuch.invalid' cannot be resolved" in found.finding("dns")
    assert (found.steps, found.failed) == (["resolve"], ["resolve"])


def test_a_name_server_that_does_not_answer(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, over = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> List[Any]:
        asked.set()
        over.wait(30)
        return []

    monkeypatch.setattr(network, "getaddrinfo", hang)
    found = examine("--timeout", "0.3", **env("https://ingest.example"))
    assert asked.is_set()
    over.set()
    assert (found.code, found.codes()) == (1, ["timeout"])
    assert "the name server did not answer for 'ingest.example' within 0.3 s" in found.finding("timeout")
    assert found.failed == ["resolve"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_refused_connection(host: str, examine: Examine) -> None:
    port = unused_port()
    found = examine(**env(f"http://{host}:{port}"))
    assert (found.code, found.codes()) == (1, ["refused"])
    assert f"{host}:{port} refused the connection" in found.finding("refused")
    assert found.failed == ["connect"]


def test_a_connection_that_nobody_takes(examine: Examine) -> None:
    with taking_nobody() as port:
        found = examine("--timeout", "0.5", **env(f"http://127.0.0.1:{port}"))
    assert (found.code, found.codes()) == (1, ["timeout"])
    assert "did not take the connection within 0.5 s" in found.finding("timeout")
    assert "firewall" in found.finding("timeout")
    assert found.failed == ["connect"]


@pytest.mark.parametrize(("scheme", "step"), [("http", "answer"), ("https", "tls")])
def test_a_listener_that_says_nothing(scheme: str, step: str, examine: Examine) -> None:
    with listening() as port, warnings.catch_warnings():
        # httpcore leaves a connection whose handshake is cancelled to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        found = examine("--timeout", "0.5", **env(f"{scheme}://127.0.0.1:{port}"))
        gc.collect()
    assert (found.code, found.codes()) == (1, ["timeout"])
    assert found.failed == [step]


# -- TLS --------------------------------------------------------------------------------


def test_tls_with_a_ca_that_is_known(examine: Examine, ca: trustme.CA, ca_file: str) -> None:
    with serving(server_context(ca.issue_cert("localhost"))) as server:
        found = examine("--send", **env(server.url, SSL_CERT_FILE=ca_file))
    assert (found.code, found.codes(), found.failed) == (0, [], [])
    assert found.steps == ["resolve", "connect", "tls", "answer", "send"]
    (tls,) = [step for step in found.report["steps"] if step["name"] == "tls"]
    assert tls["detail"].startswith("TLSv1.")


def test_a_private_ca(examine: Examine, ca: trustme.CA) -> None:
    with serving(server_context(ca.issue_cert("localhost"))) as server:
        found = examine(**env(server.url))
    assert (found.code, found.codes(), found.failed) == (1, ["tls_unknown_ca"], ["tls"])
    assert "SSL_CERT_FILE" in found.finding("tls_unknown_ca")
    assert server.requests == []


def test_an_expired_certificate(examine: Examine, ca: trustme.CA, ca_file: str) -> None:
    expired = ca.issue_cert(
        "localhost",
        not_before=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc),
        not_after=dt.datetime(2021, 1, 1, tzinfo=dt.timezone.utc),
    )
    with serving(server_context(expired)) as server:
        found = examine(**env(server.url, SSL_CERT_FILE=ca_file))
    assert (found.code, found.codes()) == (1, ["tls_expired"])
    assert "has expired" in found.finding("tls_expired")


@pytest.mark.parametrize("name", ["other.example", "10.1.2.3"])
def test_a_certificate_for_another_host(name: str, examine: Examine, ca: trustme.CA, ca_file: str) -> None:
    with serving(server_context(ca.issue_cert(name))) as server:
        found = examine(**env(server.url, SSL_CERT_FILE=ca_file))
    assert (found.code, found.codes()) == (1, ["tls_hostname"])
    assert "is not for localhost" in found.finding("tls_hostname")


def test_tls_to_a_port_without_it(examine: Examine, ingest: Server) -> None:
    found = examine(**env(ingest.url.replace("http:", "https:")))
    assert (found.code, found.codes(), found.failed) == (1, ["tls"], ["tls"])
    assert "http://" in found.finding("tls")


def test_plain_http_to_a_port_with_tls(examine: Examine, ca: trustme.CA) -> None:
    with serving(server_context(ca.issue_cert("localhost"))) as server:
        found = examine(**env(server.url.replace("https:", "http:")))
    assert (found.code, found.codes()) == (1, ["not_http"])
    assert "https://" in found.finding("not_http")


@pytest.mark.parametrize(
    ("value", "reason"), [("/nosuch/ca.pem", "does not exist"), ("{empty}", "holds no certificates")]
)
def test_a_ca_file_that_cannot_be_used(
    value: str, reason: str, examine: Examine, ca: trustme.CA, tmp_path: Any
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with serving(server_context(ca.issue_cert("localhost"))) as server:
        found = examine(**env(server.url, SSL_CERT_FILE=value.format(empty=empty)))
    assert (found.code, found.codes()) == (1, ["ca_file"])
    assert "SSL_CERT_FILE" in found.finding("ca_file")
    assert reason in found.finding("ca_file")


# -- proxies ----------------------------------------------------------------------------


def test_the_way_through_a_proxy(examine: Examine, ca: trustme.CA, ca_file: str) -> None:
    with serving() as proxy, serving(server_context(ca.issue_cert("localhost"))) as server:
        found = examine("--send", **proxied(proxy.url, server.url), SSL_CERT_FILE=ca_file)
    assert (found.code, found.codes(), found.failed) == (0, [], [])
    assert found.steps == ["resolve", "connect", "proxy", "tls", "answer", "send"]
    assert found.report["proxy"] == f"localhost:{proxy.port}"
    assert "HTTPS_PROXY" in found.finding("proxy_in_use")
    assert set(proxy.methods) == {"CONNECT"}
    assert server.methods == ["GET", "POST"]


def test_a_host_in_no_proxy_is_reached_without(examine: Examine, ingest: Server) -> None:
    found = examine(**proxied(f"http://localhost:{unused_port()}", ingest.url), NO_PROXY="localhost")
    assert (found.code, found.report["proxy"]) == (0, None)


def test_a_plain_http_proxy(examine: Examine) -> None:
    with serving() as proxy:
        found = examine("--send", **proxied(proxy.url, "http://ingest.example"))
    assert (found.code, found.codes()) == (0, [])
    assert [target for _, target, _ in proxy.requests] == ["http://ingest.example/v1/ingest"] * 2


def test_a_proxy_that_nobody_runs(examine: Examine) -> None:
    port = unused_port()
    found = examine(**proxied(f"http://user:{KEY}@localhost:{port}", "https://ingest.example"))
    assert (found.code, found.codes()) == (1, ["proxy"])
    assert f"the proxy localhost:{port} refused the connection" in found.finding("proxy")
    assert "HTTPS_PROXY" in found.finding("proxy")


def test_a_proxy_whose_name_does_not_resolve(examine: Examine) -> None:
    found = examine(**proxied("http://proxy.invalid:3128", "https://ingest.example"))
    assert (found.code, found.codes()) == (1, ["proxy"])
    assert "the host name of the proxy proxy.invalid:3128 cannot be resolved" in found.finding("proxy")


@pytest.mark.parametrize(
    ("status", "advice"), [(407, "user name and a password"), (403, "NO_PROXY"), (502, "cannot reach")]
)
def test_a_proxy_that_refuses(status: int, advice: str, examine: Examine) -> None:
    with serving() as proxy:
        proxy.statuses["CONNECT"] = status
        found = examine(**proxied(proxy.url, "https://ingest.example"))
    assert (found.code, found.codes(), found.failed) == (1, ["proxy"], ["proxy"])
    assert str(status) in found.finding("proxy")
    assert advice in found.finding("proxy")


def test_a_proxy_that_does_not_answer(examine: Examine) -> None:
    with listening() as port:
        found = examine("--timeout", "0.5", **proxied(f"http://127.0.0.1:{port}", "https://ingest.example"))
    assert (found.code, found.codes(), found.failed) == (1, ["timeout"], ["proxy"])
    assert f"the proxy 127.0.0.1:{port} did not answer" in found.finding("timeout")


@pytest.mark.parametrize("value", ["ftp://hush-0123456789@proxy.example:21", "http://proxy.example:port"])
def test_a_proxy_variable_that_cannot_be_used(value: str, examine: Examine) -> None:
    found = examine(**proxied(value, "https://ingest.example"))
    assert (found.code, found.codes()) == (1, ["proxy"])
    assert "HTTP_PROXY is not the URL of a proxy" in found.finding("proxy")


def test_a_socks_proxy_without_socks(examine: Examine) -> None:
    found = examine(**env("https://ingest.example", ALL_PROXY="socks5://proxy.example:1080"))
    assert (found.code, found.codes()) == (1, ["proxy"])
    assert "httpx[socks]" in found.finding("proxy")
    assert "ALL_PROXY" in found.finding("proxy")


# -- time -------------------------------------------------------------------------------

Module = Callable[[str], str]


def quick_client(url: str, timeout: float) -> str:
    return f"from beaconhq import BeaconClient\nbeacon = BeaconClient({KEY!r}, {url!r}, timeout={timeout})\n"


def test_an_answer_that_is_later_than_the_client_waits(
    examine: Examine, ingest: Server, module: Module
) -> None:
    ingest.delays["GET"] = 0.5
    name = module(quick_client(ingest.url, timeout=0.2))
    found = examine("--app", f"{name}:beacon")
    assert (found.code, found.codes()) == (1, ["slow"])
    assert "the client gives up after 0.2 s" in found.finding("slow")
    assert "'answer'" in found.finding("slow")


def test_an_answer_that_is_nearly_too_late(examine: Examine, ingest: Server, module: Module) -> None:
    ingest.delays["GET"] = 4.0
    name = module(quick_client(ingest.url, timeout=7.9))
    found = examine("--app", f"{name}:beacon")
    assert (found.code, found.codes("warning")) == (0, ["slow"])


def test_a_post_that_is_later_than_the_client_waits(examine: Examine, ingest: Server, module: Module) -> None:
    ingest.delays["POST"] = 20
    name = module(quick_client(ingest.url, timeout=1.5))
    found = examine("--app", f"{name}:beacon", "--send")
    assert (found.code, found.codes()) == (1, ["slow"])
    assert "the POST was not answered within the client's timeout (1.5 s)" in found.finding("slow")


@pytest.mark.parametrize(("seconds", "way"), [(-600, "ahead of"), (600, "behind")])
def test_a_clock_that_is_wrong(seconds: int, way: str, examine: Examine, ingest: Server) -> None:
    theirs = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=seconds)
    ingest.headers["Date"] = format_datetime(theirs)
    found = examine(**env(ingest.url))
    assert (found.code, found.codes("warning")) == (0, ["clock"])
    assert f"s {way} the ingest's" in found.finding("clock")


@pytest.mark.parametrize("date", ["", "yesterday", "Wed, 99 Nov 2026 01:00:00 GMT"])
def test_a_date_that_is_none(date: str, examine: Examine, ingest: Server) -> None:
    ingest.headers["Date"] = date
    assert examine(**env(ingest.url)).report["findings"] == []


def test_a_post_that_outlasts_the_doctor(examine: Examine, ingest: Server) -> None:
    ingest.delays["POST"] = 20
    found = examine("--send", "--timeout", "1.5", **env(ingest.url))
    assert (found.code, found.codes()) == (1, ["timeout"])
    assert "the POST was not answered within 1.5 s" in found.finding("timeout")
