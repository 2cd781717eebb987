"""One virtual environment per subject, so that no SDK's patches or pins touch another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional

ROOT = Path(__file__).parents[2]
#: What the applications need, in every environment.
FRAMEWORKS = ["django", "fastapi", "flask", "httptools", "uvicorn"]
#: What each subject needs beyond the frameworks.
REQUIREMENTS: Dict[str, List[str]] = {
    "beaconhq": ["-e", f"{ROOT}[fast]", "httpx2; python_version >= '3.11'"],
    "beaconhq-0.2.0": ["beaconhq==0.2.0"],
    "apitally": ["apitally[django,fastapi,flask]>=1.0"],
    "sentry-sdk": ["sentry-sdk"],
    "opentelemetry": [
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-instrumentation-django",
        "opentelemetry-instrumentation-fastapi",
        "opentelemetry-instrumentation-flask",
        "opentelemetry-sdk",
    ],
}


class Environment:
    """A subject's Python, or why there is none."""

    def __init__(self, subject: str, python: Path, failure: Optional[str] = None) -> None:
        self.subject = subject
        self.python = python
        self.failure = failure

    def versions(self) -> Dict[str, str]:
        """Return the versions of what matters to the figures, by distribution."""
        listed = subprocess.run(
            [self.python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        versions = dict(line.split("==") for line in listed if "==" in line)
        prefixes = (
            "beaconhq",
            "apitally",
            "sentry",
            "opentelemetry-sdk",
            "opentelemetry-instrumentation-fas",
        )
        wanted = (*prefixes, "django", "fastapi", "flask", "httpx", "orjson", "starlette", "uvicorn")
        return {name: version for name, version in versions.items() if name.lower().startswith(wanted)}


def make(subject: str, directory: Path) -> Environment:
    """Make or reuse the environment of a subject; a failing installation is told, not raised."""
    home = directory / subject
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    requirements = [*REQUIREMENTS[subject], *FRAMEWORKS]
    stamp, wanted = home / "requirements", "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return Environment(subject, python)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements],
    ):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            lines = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
            return Environment(subject, python, (lines or ["the installation failed"])[-1])
    stamp.write_text(wanted)
    return Environment(subject, python)
