"""Debian's Chromium, driven by Playwright; where it is, and how it is started."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, Optional

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: Set to 1 where the browser tests must run: a missing browser fails them then.
REQUIRED = "BEACON_TEST_BROWSER"

_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def installed() -> Optional[str]:
    """Return the path of the browser, or None."""
    return shutil.which("chromium")


def need() -> str:
    """Return the path of the browser; skip the test without it, or fail it where it must run."""
    path = installed()
    if path is None:
        message = "no Chromium on the PATH: apt-get install chromium"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """Start the browser, and stop it."""
    # Imported here: the tests of everything else need not have it.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
