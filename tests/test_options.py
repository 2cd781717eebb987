"""Options are right, or say by name what is wrong."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any, Dict, List

import pytest

from beaconhq import DEFAULT_INGEST_URL, BeaconClient, HttpTransport, MockTransport

SIZES = ["batch_size", "max_buffer_size", "max_batch_size", "max_batch_bytes"]
SECONDS = ["flush_interval", "timeout", "shutdown_timeout"]


def client(**options: Any) -> BeaconClient:
    return BeaconClient(options.pop("ingest_key", "k"), register_atexit=False, **options)


# -- the key ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "  ", None])
def test_an_empty_key_is_refused(key: Any) -> None:
    with pytest.raises(ValueError, match="ingest_key is required"):
        client(ingest_key=key)


@pytest.mark.parametrize("option", [{"enabled": False}, {"dry_run": True}])
def test_an_empty_key_will_do_where_nothing_is_sent(option: Dict[str, bool]) -> None:
    client(ingest_key="", **option)


@pytest.mark.parametrize("key", ["sec\nret", "sec\rret", "secré", "sec\0ret", "sec\x7fret", "sec\tret"])
def test_a_key_that_cannot_be_a_header_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="ingest_key") as caught:
        client(ingest_key=key)
    assert "sec" not in str(caught.value)


def test_a_key_that_is_no_string_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="ingest_key must be a string, not bytes") as caught:
        client(ingest_key=b"secret")
    assert "secret" not in str(caught.value)


def test_white_space_around_the_key_is_stripped() -> None:
    assert client(ingest_key=" k\n")._key.reveal() == "k"


# -- the URL ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        (None, DEFAULT_INGEST_URL),
        ("", DEFAULT_INGEST_URL),
        ("https://b.example", "https://b.example/v1/ingest"),
        ("https://b.example/", "https://b.example/v1/ingest"),
        ("https://b.example///", "https://b.example/v1/ingest"),
        ("https://b.example/v1/ingest", "https://b.example/v1/ingest"),
        ("https://b.example/v1/ingest/", "https://b.example/v1/ingest"),
        ("https://b.example/beacon", "https://b.example/beacon/v1/ingest"),
        (" http://localhost:8787 ", "http://localhost:8787/v1/ingest"),
        ("http://[::1]:8787", "http://[::1]:8787/v1/ingest"),
        ("HTTPS://b.example", "HTTPS://b.example/v1/ingest"),
    ],
)
def test_a_base_or_an_endpoint_becomes_the_endpoint(given: Any, endpoint: str) -> None:
    assert client(ingest_url=given).ingest_url == endpoint


@pytest.mark.parametrize(
    "url",
    ["b.example", "b.example:443", "ftp://b.example", "https://", "https:///v1/ingest", "/v1/ingest", "https://b:x",
     "https://b:99999", "https://[::1", "https://b.example?x=1", "https://b.example#x", "https://b.example?",
     "https://b .example", "https://b.example/a\nb", 7],
)  # fmt: skip
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match="ingest_url"):
        client(ingest_url=url)


@pytest.mark.parametrize(
    "url", ["https://user:secret@b.example", "https://secret@b.example", "x://:secret@b"]
)
def test_credentials_in_the_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="ingest_url") as caught:
        client(ingest_url=url)
    assert "secret" not in str(caught.value)


# -- numbers and hooks ------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), "100", None, True])
def test_a_nonsensical_size_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        client(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_nonsensical_time_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        client(**{name: value})


def test_what_was_refused_has_a_repr_for_its_traceback() -> None:
    """Until Python 3.10 a traceback with local variables fails where a repr does."""
    assert repr(object.__new__(BeaconClient)) == "<BeaconClient [REFUSED]>"
    assert repr(object.__new__(HttpTransport)) == "<HttpTransport [REFUSED]>"


def test_sizes_that_disagree_are_reconciled() -> None:
    transport = MockTransport()
    small = client(batch_size=1000, max_buffer_size=10, max_batch_size=3, transport=transport)
    assert small._lifecycle.exporter()._limits.eager == 3


@pytest.mark.parametrize("name", ["on_error", "consumer_resolver"])
def test_hooks_that_nobody_would_await_are_refused(name: str) -> None:
    async def hook(_: object) -> None: ...

    class Hook:
        async def __call__(self, _: object) -> None: ...

    for bad in (hook, functools.partial(hook), Hook(), Hook().__call__, 7):
        with pytest.raises(ValueError, match=name):
            client(**{name: bad})


def test_every_kind_of_plain_callable_is_taken() -> None:
    class Hook:
        def __call__(self, _: object) -> None: ...

        def method(self, _: object) -> None: ...

    seen: List[object] = []
    for good in (seen.append, print, Hook(), Hook().method, functools.partial(print), lambda _: None):
        assert client(on_error=good).on_error is good or good == client(on_error=good).on_error


@pytest.mark.parametrize("transport", [7, object(), "https://x"])
def test_a_transport_without_send_is_refused(transport: Any) -> None:
    with pytest.raises(ValueError, match="transport"):
        client(transport=transport)


def test_a_client_factory_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ValueError, match="client_factory"):
        client(client_factory=7)


def test_the_defaults_are_those_of_the_published_versions() -> None:
    plain = client()
    assert (plain.batch_size, plain.flush_interval, plain.max_buffer_size, plain.timeout) == (
        100,
        5.0,
        10_000,
        5.0,
    )
    assert (plain.enabled, plain.dry_run, plain.consumer_resolver) == (True, False, None)
    assert plain.ingest_url == "https://ingest.beacon.skyware.dev/v1/ingest"
    assert (plain.max_batch_size, plain.max_batch_bytes, plain.shutdown_timeout) == (1000, 1 << 20, 5.0)
    assert plain.on_error(ValueError()) is None


def test_the_budget_for_shutting_down_follows_the_timeout() -> None:
    assert client(timeout=2).shutdown_timeout == 2


# -- the environment --------------------------------------------------------------------


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("BEACON_INGEST_KEY", "BEACON_INGEST_URL", "BEACON_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_from_env_reads_key_and_url(env: pytest.MonkeyPatch) -> None:
    env.setenv("BEACON_INGEST_KEY", "k")
    env.setenv("BEACON_INGEST_URL", "https://b.example")
    made = BeaconClient.from_env(register_atexit=False)
    assert (made._key.reveal(), made.ingest_url, made.enabled) == ("k", "https://b.example/v1/ingest", True)


def test_from_env_without_a_key_names_the_variable(env: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="BEACON_INGEST_KEY"):
        BeaconClient.from_env()


@pytest.mark.parametrize(
    ("value", "enabled"),
    [
        ("0", False),
        ("false", False),
        ("No", False),
        (" FALSE ", False),
        ("1", True),
        ("yes", True),
        ("", False),
    ],
)
def test_beacon_enabled_switches_off(env: pytest.MonkeyPatch, value: str, enabled: bool) -> None:
    env.setenv("BEACON_INGEST_KEY", "k")
    env.setenv("BEACON_ENABLED", value)
    assert BeaconClient.from_env(register_atexit=False).enabled is enabled


def test_switched_off_no_key_is_needed(env: pytest.MonkeyPatch) -> None:
    env.setenv("BEACON_ENABLED", "0")
    assert BeaconClient.from_env().stats()["state"] == "disabled"


def test_arguments_win_over_the_environment(env: pytest.MonkeyPatch) -> None:
    env.setenv("BEACON_INGEST_KEY", "k")
    assert BeaconClient.from_env(ingest_key="own", batch_size=7, register_atexit=False).batch_size == 7


# -- one of its kind --------------------------------------------------------------------


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_a_client_is_refused_with_a_reason(make: Any) -> None:
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        make(client())
