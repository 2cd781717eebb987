"""
What was found: steps with their times, and findings with what to do about each.

Owns the JSON of `--json` (docs/how-to/doctor.md, "For scripts") and the place where secrets are taken out.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from beaconhq import __version__

#: Version of the JSON: raised when a field changes its meaning or goes; new fields may come without.
SCHEMA = 1
#: A shorter key ("dev") stands by chance in other words, and protects nothing.
MIN_SECRET = 6


class Finding(NamedTuple):
    """One thing to know, and what to do about it."""

    #: "fault" (events do not arrive), "warning" or "note".
    level: str
    #: Stable name, for scripts.
    code: str
    message: str
    advice: str = ""


class Step(NamedTuple):
    """One step of the way to the ingest."""

    #: "resolve", "connect", "proxy", "tls", "answer" or "send".
    name: str
    #: Seconds it took, or that were waited for it.
    seconds: float
    #: False where it failed or did not end.
    ok: bool
    detail: str


class Report:
    """Everything that one run of the doctor found."""

    def __init__(self) -> None:
        #: Where the configuration comes from.
        self.source = ""
        self.ingest_url: Optional[str] = None
        #: Whether there is an ingest key, or None where that is not known.
        self.has_key: Optional[bool] = None
        #: `host:port` of the proxy in use, or None.
        self.proxy: Optional[str] = None
        self.versions: Dict[str, str] = {}
        self.steps: List[Step] = []
        self.findings: List[Finding] = []
        #: Never shown, whoever quotes them.
        self.secrets: List[str] = []

    @property
    def faults(self) -> int:
        """How many findings are faults."""
        return sum(finding.level == "fault" for finding in self.findings)

    def hide(self, secret: Optional[str]) -> None:
        """Keep a secret out of everything that is shown."""
        if secret and len(secret.strip()) >= MIN_SECRET:
            self.secrets.append(secret.strip())

    def to_json(self) -> Dict[str, Any]:
        """Return the report for `json.dumps`; the shape is documented and stable."""
        report: Dict[str, Any] = {
            "schema": SCHEMA,
            "beaconhq": __version__,
            "ok": not self.faults,
            "source": self.source,
            "ingest_url": self.ingest_url,
            "has_key": self.has_key,
            "proxy": self.proxy,
            "steps": [{**step._asdict(), "seconds": round(step.seconds, 6)} for step in self.steps],
            "findings": [finding._asdict() for finding in self.findings],
            "versions": self.versions,
        }
        cleaned: Dict[str, Any] = self._cleaned(report)
        return cleaned

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self.secrets:
                value = value.replace(secret, "[secret]")
            # Foreign text (an exception's, a server's) must not steer a terminal.
            return "".join(char if char.isprintable() else "?" for char in value)
        if isinstance(value, dict):
            return {name: self._cleaned(each) for name, each in value.items()}
        return [self._cleaned(each) for each in value] if isinstance(value, list) else value
