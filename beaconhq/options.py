"""
Checking options: what a client is given is right, or says by name what is wrong.

The list of options stands in `client.py`. No message shows a key, nor does a traceback
with local variables: a key is wrapped before it is looked at (docs/security.md).
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

#: Beacon's hosted ingest.
DEFAULT_INGEST_URL = "https://ingest.beacon.skyware.dev/v1/ingest"
#: Path of the ingest endpoint, appended to a base URL.
INGEST_PATH = "/v1/ingest"


class Secret:
    """
    The ingest key, without surrounding white space; it shows in no `repr`, dump or traceback.

    Anything may be wrapped, another `Secret` included; `check_key` says whether it is a key.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        if isinstance(value, Secret):
            value = value.reveal()
        self._value = value.strip() if isinstance(value, str) else value

    def reveal(self) -> Any:
        """Return the value. Use it where it stands: a local variable would show in a traceback."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "<secret>"


def check_key(key: Secret) -> Secret:
    """Return the ingest key; may be empty."""
    if key.reveal() is None:
        return Secret("")
    if not isinstance(key.reveal(), str):
        raise ValueError(f"ingest_key must be a string, not {type(key.reveal()).__name__}")
    if not key.reveal().isascii() or not key.reveal().isprintable():
        raise ValueError("ingest_key holds a control or non-ASCII character (the key is not shown)")
    return key


def normalize_url(url: object) -> str:
    """Return the full endpoint for an endpoint or a base URL."""
    if not isinstance(url, str):
        raise ValueError(f"ingest_url must be a string, not {type(url).__name__}")
    url = url.strip()
    # No message shows the URL: it may hold a password, or be the key (arguments swapped).
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("ingest_url is not a URL: check its host and port") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("ingest_url must not hold a user name or password; the key goes into ingest_key")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(
            "ingest_url must be like https://host/v1/ingest: it lacks "
            + ("a host" if parts.scheme in ("http", "https") else "https:// in front")
            + " (the value is not shown)"
        )
    if not url.isprintable() or " " in url:
        raise ValueError("ingest_url holds white space or a control character")
    if "?" in url or "#" in url:
        raise ValueError("ingest_url must not have a query or a fragment")
    trimmed = url.rstrip("/")
    return trimmed if trimmed.endswith(INGEST_PATH) else trimmed + INGEST_PATH


def sends_in_clear(url: str) -> bool:
    """Whether what is sent to this (checked) URL crosses a network unencrypted."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return False
    from ipaddress import ip_address  # 3 ms that `import beaconhq` must not take

    try:
        return not ip_address(host).is_loopback
    except ValueError:  # a name
        return True


def check_count(name: str, value: object) -> int:
    """Return a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{name} must be a positive whole number, not {value!r}")
    return value


def check_seconds(name: str, value: object) -> float:
    """Return a positive, finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number of seconds, not {value!r}")
    return float(value)


def check_folder(name: str, value: object) -> str | None:
    """Return the path of a folder, which need not exist yet, or None."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"{name} must be the path of a folder, not {value!r}")
    if os.name != "posix":
        raise ValueError(f"{name} needs the file locks of a POSIX system, which {os.name!r} does not have")
    # Absolute now: the working directory may change before the first use.
    return os.path.abspath(os.fspath(value))  # noqa: PTH100 - pathlib is not loaded at import


def check_hook(name: str, hook: Any) -> Any:
    """Return a hook that can be called without awaiting, or None."""
    if hook is None:
        return None
    if not callable(hook):
        raise ValueError(f"{name} must be callable, not {type(hook).__name__}")
    function = hook
    while hasattr(function, "func") and hasattr(function, "keywords"):  # functools.partial
        function = function.func
    function = getattr(function, "__func__", function)  # of a bound method
    if not hasattr(function, "__code__"):
        function = getattr(type(hook).__call__, "__func__", type(hook).__call__)  # of a callable object
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _COROUTINE_FLAGS:
        raise ValueError(f"{name} must be a plain function, not a coroutine function: nobody awaits it")
    return hook


#: `inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR`, without importing `inspect` (12 ms).
_COROUTINE_FLAGS = 0x80 | 0x200
