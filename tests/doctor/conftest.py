"""The doctor, run in this process, and what it says."""

from __future__ import annotations

import json
import ssl
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List

import pytest
import trustme

from beaconhq import cli

from .servers import Server, serving

if TYPE_CHECKING:
    from pathlib import Path

#: Must never be shown.
KEY = "hush-0123456789"


class Diagnosis:
    """What one run said."""

    def __init__(self, code: int, report: Dict[str, Any], text: str) -> None:
        self.code = code
        self.report = report
        #: The same report as people see it.
        self.text = text

    def codes(self, level: str = "fault") -> List[str]:
        return [each["code"] for each in self.report["findings"] if each["level"] == level]

    def finding(self, code: str) -> str:
        (found,) = [each for each in self.report["findings"] if each["code"] == code]
        return f"{found['message']} {found['advice']}"

    @property
    def steps(self) -> List[str]:
        return [step["name"] for step in self.report["steps"]]

    @property
    def failed(self) -> List[str]:
        return [step["name"] for step in self.report["steps"] if not step["ok"]]


Examine = Callable[..., Diagnosis]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEACON_INGEST_KEY", "BEACON_INGEST_URL", "BEACON_ENABLED", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Run `beaconhq doctor` with these arguments and environment; the key must not be in what it says."""
    from beaconhq.doctor import show

    shown: List[str] = []
    as_text = show.as_text

    def run(*arguments: str, **environment: str) -> Diagnosis:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = cli.main(["doctor", "--json", *arguments])
        written = capsys.readouterr()
        assert written.out, written.err
        report = json.loads(written.out)
        text = as_text(report, colour=False, sent="--send" in arguments)
        assert KEY not in written.out + written.err + text
        shown.append(text)
        return Diagnosis(code, report, text)

    return run


@pytest.fixture
def ingest() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write a module into the working directory, and return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: List[str] = []

    def write(source: str) -> str:
        name = f"examined_{tmp_path.name}_{len(names)}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(source, "utf-8")
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)
