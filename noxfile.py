"""
Sessions of work: `nox -l` lists them, `nox -s NAME` runs one.

The Pythons are those of the classifiers in `pyproject.toml`.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["lint", "typing", "tests"]
nox.options.error_on_missing_interpreters = True

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
NEWEST, OLDEST = PYTHONS[-1], PYTHONS[0]

#: The oldest versions that we promise to work with (docs/configuration.md, "Versions").
FLOORS = [
    "anyio==4.10.0",
    "django==4.2",
    "fastapi==0.110.0",
    "flask==2.3.0",
    "httpcore==1.0.5",
    "httpx==0.27.0",
    "sniffio==1.3.0",
    "starlette==0.36.3",
    "uvicorn==0.35.0",
    # Flask's own dependency: Flask 2.3's test client does not work with a later one.
    "werkzeug==2.3.8",
]
#: What must hold everywhere: units, conformance, exit and fork.
EVERYWHERE = ["tests", "--ignore=tests/local", "--ignore=tests/browser"]
#: What old versions of others could break: not the pages, nor what is measured.
AT_THE_FLOOR = [*EVERYWHERE, "--ignore=tests/docs", "--ignore=tests/testing", "--ignore=tests/benchmarks"]


@nox.session(python=NEWEST)
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("ruff>=0.14")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=NEWEST)
def typing(session: nox.Session) -> None:
    """Check types, strictly, as for the newest and the oldest Python that mypy knows."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests; arguments go to pytest."""
    session.install("-e", ".[dev]")
    session.run("pytest", *(session.posargs or EVERYWHERE))


@nox.session(python=OLDEST)
def floor(session: nox.Session) -> None:
    """Run the tests on the oldest versions of everything."""
    session.install("-e", ".[dev]", *FLOORS)
    session.run("pytest", *(session.posargs or AT_THE_FLOOR))


@nox.session(python=NEWEST)
def screenshots(session: nox.Session) -> None:
    """Take pictures of the page, and the one of the README; needs Chromium."""
    session.install("-e", ".[dev]")
    session.run("python", "tests/browser/screenshots.py", "ci-output/page", "docs/images/dashboard.png")


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """Measure what the SDK costs beside floors and other SDKs; arguments go to `python -m benchmarks`."""
    session.install("-e", ".[dev]")
    environments = str(Path(session.create_tmp()) / "environments")
    arguments = ["--environments", environments, *session.posargs]
    # Exit status 1 says that a budget is not met, which the table shows.
    session.run("python", "-m", "benchmarks", *arguments, env={"PYTHONPATH": "tests"}, success_codes=[0, 1])


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """Build the documentation in docs/_build; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-E", "-W", "-n", "--keep-going", "docs", "docs/_build", *session.posargs)


@nox.session(python=NEWEST)
def torture(session: nox.Session) -> None:
    """Run what takes longer than `.ci/run` may."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-m", "torture", "--timeout=1800", *session.posargs)


@nox.session(python=NEWEST)
def soak(session: nox.Session) -> None:
    """Run an hour of faults in 3 minutes, in both hosts, and print what the processes hold."""
    session.install("-e", ".[dev]")
    session.run("pytest", "tests/soak", "-m", "soak", *session.posargs)


@nox.session(python=NEWEST)
def fleet(session: nox.Session) -> None:
    """Simulate 10,000 clients and one ingest in virtual time; arguments as for `-- --help`."""
    session.install("-e", ".[dev]")
    session.run("python", "tests/benchmarks/fleet.py", *session.posargs)
