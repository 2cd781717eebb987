"""What an import costs: CPU time of a whole interpreter, against one that imports nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Dict, List

from .environments import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from .workload import Reading

#: What an application imports to use each subject, before it makes an app.
STATEMENTS = {
    "beaconhq-0.2.0": "import beaconhq",
    "apitally": "import apitally.fastapi",
    "sentry-sdk": "import sentry_sdk",
    "opentelemetry": (
        "import opentelemetry.sdk.trace, opentelemetry.sdk.trace.export, "
        "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    ),
}
#: What is measured on every Python: nothing, ours, and the yardstick of the budget.
OURS = {"bare": "pass", "beaconhq": "import beaconhq", "asyncio": "import asyncio"}


def pythons() -> Dict[str, str]:
    """Return the interpreters at hand by version, from 3.9 on; `import beaconhq` needs nothing else."""
    found = {}
    for minor in range(9, 20):
        path = shutil.which(f"python3.{minor}")
        if path is not None and _run(path, "pass", {}) is not None:
            found[f"3.{minor}"] = path
    found.setdefault(f"{sys.version_info[0]}.{sys.version_info[1]}", sys.executable)
    return found


def measure(python: str, statement: str) -> Reading:
    """Run a statement in a new interpreter that finds this working tree."""
    reading = _run(python, statement, {"PYTHONPATH": str(ROOT)})
    assert reading is not None, f"{python} -c {statement!r} failed"
    return reading


def measure_peer(python: Path, statement: str) -> Reading:
    reading = _run(str(python), statement, {})
    assert reading is not None, f"{python} -c {statement!r} failed"
    return reading


def _run(python: str, statement: str, extra: Dict[str, str]) -> Reading | None:
    command: List[str] = [python, "-c", statement]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**environment, **extra})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return None if process.returncode else {"process": (usage.ru_utime + usage.ru_stime) * 1e9}
