"""The same Flask application beside `uwsgidecorators`, imported before ours or after it."""

from __future__ import annotations

import os
from typing import Any, Dict, List

if os.environ["DECORATORS"] == "before":
    import uwsgidecorators  # noqa: F401 - for its hook

from served_flask import app
from uwsgidecorators import postfork

#: The processes that the application was told of.
postforks: List[int] = []


def note_fork() -> None:
    postforks.append(os.getpid())


def look_at_postforks() -> Dict[str, Any]:
    return {"pid": os.getpid(), "postforks": postforks}


postfork(note_fork)
app.add_url_rule("/inside/postforks", view_func=look_at_postforks)
