"""The same Flask application in a uWSGI without threads, which 2.0.30 can no longer be told to be."""

from __future__ import annotations

import os

import uwsgi

if "PRETEND" in os.environ:
    uwsgi.has_threads = 0
assert not uwsgi.has_threads

from served_flask import app  # noqa: E402 - what uWSGI is comes first

__all__ = ["app"]
