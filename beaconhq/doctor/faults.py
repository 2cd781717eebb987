"""
What an attempt at the ingest means: from errors and answers to an entry of `words.py`.

No I/O. What an answer to a POST means is the SDK's own judgement (`answers.py`). No text of another library's
exception is shown, as it may quote a header or a proxy's password.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple
from urllib.parse import urlsplit

from beaconhq import answers, errors
from beaconhq.answers import Verdict
from beaconhq.http import causes, parse_date

from .words import say

if TYPE_CHECKING:
    from beaconhq.transport import SendResult

    from .network import Answer, Attempt
    from .report import Finding

#: Seconds between this machine's clock and the ingest's that are worth a word.
CLOCK_SKEW = 60.0
#: The part of the client's `timeout` from which on an answer is worth a word.
NEARLY_SLOW = 0.5

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
#: OpenSSL's X509_V_ERR_*: what is wrong with a certificate.
_CERTIFICATES = {
    9: "tls_not_yet_valid",
    10: "tls_expired",
    62: "tls_hostname",
    64: "tls_hostname",  # an IP address
    **dict.fromkeys((2, 18, 19, 20, 21), "tls_unknown_ca"),
}
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL})
_OF_PROXIES = {
    403: "It does not allow this host: have it allowed there, or name the host in NO_PROXY.",
    502: "It cannot reach the host itself.",
    503: "It cannot reach the host itself.",
    504: "It cannot reach the host itself.",
}
_OF_POSTS = {401: "wrong_key", 403: "wrong_key", 404: "wrong_url", 405: "wrong_url"}


def judge(attempt: Attempt, timeout: float, budget: float) -> List[Finding]:
    """
    Return what an attempt found.

    `timeout` is what the doctor waited at most, `budget` what the client itself grants one POST (seconds).
    """
    found: List[Finding] = []
    if attempt.proxy is not None:
        found.append(say("proxy_in_use", **_fields(attempt)))
    if attempt.error is not None:
        found.append(_explain(attempt, attempt.error))
    elif attempt.unfinished is not None:
        found.append(say(f"timeout_{attempt.unfinished}", timeout=timeout, **_fields(attempt)))
    elif attempt.seconds > NEARLY_SLOW * budget:
        found.append(_slow(attempt, budget))
    if attempt.answer is not None:
        found += _judge_clock(attempt.answer)
        if attempt.sent is None and attempt.send_error is None and attempt.unfinished is None:
            found += _judge_get(attempt, attempt.answer.status)
    if attempt.sent is not None:
        found.append(_judge_post(attempt.sent))
    elif attempt.send_error is not None:
        found.append(_explain_send(attempt.send_error, budget))
    return found


def _fields(attempt: Attempt) -> Dict[str, Any]:
    """Return what the words say about where the attempt went."""
    host, port = attempt.peer or (attempt.host, attempt.port)
    return {
        "url": attempt.url,
        "host": attempt.host,
        "port": attempt.port,
        "peer": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "proxy": attempt.proxy,
        "origin": "" if attempt.proxy is None else _origin(attempt),
    }


# -- no answer --------------------------------------------------------------------------


def _explain(attempt: Attempt, error: Exception) -> Finding:
    if isinstance(error, errors.TransportError):
        return _explain_client(error.__context__)
    for cause in causes(error):
        if isinstance(cause, socket.gaierror):
            text = (cause.strerror or "no reason given").rstrip(".")
            return say("dns" if attempt.proxy is None else "proxy_dns", text=text, **_fields(attempt))
        if isinstance(cause, ssl.SSLError):
            return _explain_tls(attempt, cause)
    if type(error).__name__ == "ProxyError":
        return _refused_by_proxy(attempt, str(error))
    return _explain_connection(attempt, error)


def _explain_connection(attempt: Attempt, error: Exception) -> Finding:
    fields = {**_fields(attempt), "name": type(error).__name__}
    proxy = "" if attempt.proxy is None else "proxy_"
    numbers = {cause.errno for cause in causes(error) if isinstance(cause, OSError)}
    if errno.ECONNREFUSED in numbers:
        return say(f"{proxy}refused", **fields)
    if numbers & _UNREACHABLE:
        return say(f"{proxy}unreachable", **fields)
    failed = next((step.name for step in attempt.steps if not step.ok), "")
    entry = {"tls": "tls", "proxy": "proxy_silent", "answer": "not_http"}.get(failed, "network")
    return say(entry, text="", **fields)


def _explain_tls(attempt: Attempt, error: ssl.SSLError) -> Finding:
    if isinstance(error, ssl.SSLCertVerificationError):
        entry = _CERTIFICATES.get(error.verify_code, "tls_certificate")
        for name, value in _ca_variables():
            if entry == "tls_unknown_ca" and not Path(value).exists():  # httpx 0.27 ignores it then
                return say("ca_file", variable=name, value=value, what="does not exist")
        return say(entry, text=error.verify_message, **_fields(attempt))
    return say("tls", text=f" ({error.reason})" if error.reason else "", **_fields(attempt))


def _explain_client(cause: Optional[BaseException]) -> Finding:
    """Say why the HTTP client could not be made."""
    if isinstance(cause, ImportError):
        return say("proxy_socks", variables=", ".join(_set_variables()) or "by the client_factory")
    if isinstance(cause, (OSError, ssl.SSLError)):
        for name, value in _ca_variables():
            what = "holds no certificates" if Path(value).exists() else "does not exist"
            return say("ca_file", variable=name, value=value, what=what)
    bad = [name for name in _set_variables() if not _is_proxy(os.environ[name])]
    if bad:
        return say("proxy_variable", variable=bad[0])
    return say("client", name=type(cause).__name__, variables=", ".join(PROXY_VARIABLES))


def _ca_variables() -> List[Tuple[str, str]]:
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    return [(name, os.environ[name]) for name in names if os.environ.get(name)]


def _refused_by_proxy(attempt: Attempt, text: str) -> Finding:
    match = re.match(r"[1-5][0-9][0-9]\b", text)  # and no more of it: the rest is the proxy's own words
    status = int(match[0]) if match else 0
    if status == 407:
        return say("proxy_wants_password", **_fields(attempt))
    hint = _OF_PROXIES.get(status, "Ask who runs it.")
    return say("proxy_forbids", status=status or "no status", hint=hint, **_fields(attempt))


def _slow(attempt: Attempt, budget: float) -> Finding:
    longest = max(attempt.steps, key=lambda step: step.seconds)
    finding = say("slow", seconds=attempt.seconds, budget=budget, step=longest.name, longest=longest.seconds)
    return finding if attempt.seconds > budget else finding._replace(level="warning")


# -- proxies ----------------------------------------------------------------------------


def _set_variables() -> List[str]:
    names = [each for name in PROXY_VARIABLES for each in (name, name.lower())]
    return [name for name in names if os.environ.get(name)]


def _is_proxy(value: str) -> bool:
    try:
        parts = urlsplit(_with_scheme(value))
        return parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _origin(attempt: Attempt) -> str:
    """Name the variable that the proxy comes from."""
    names = (f"{urlsplit(attempt.url).scheme.upper()}_PROXY", "ALL_PROXY")
    for name in _set_variables():
        value = os.environ[name]
        if name.upper() in names and _is_proxy(value):
            parts = urlsplit(_with_scheme(value))
            if parts.hostname and attempt.peer and parts.hostname == attempt.peer[0].lower():
                return f"It comes from the variable {name}."
    return f"It comes from the client_factory, or from {', '.join(PROXY_VARIABLES)}."


# -- an answer --------------------------------------------------------------------------


def _judge_get(attempt: Attempt, status: int) -> List[Finding]:
    if status == 407:
        return [say("proxy_wants_password", **_fields(attempt))]
    if status == 404:
        entry = "get_not_found"
    elif status >= 500:
        entry = "get_unavailable"
    elif status >= 400:
        return []
    else:
        entry = "get_redirect" if status >= 300 else "get_page"
    return [say(entry, status=status, **_fields(attempt))]


def _judge_post(result: SendResult) -> Finding:
    verdict = answers.judge(result)
    if verdict is Verdict.DELIVERED:
        return say("sent", status=result.status)
    if verdict is Verdict.RETRY:
        return say("unavailable", text=answers.unavailable(result))
    error = answers.rejected(result, 1)
    entry = "redirect" if isinstance(error, errors.RedirectRefused) else "rejected"
    text = str(error).partition(": ")[2]  # without "dropped 1 event(s)"
    return say(_OF_POSTS.get(result.status, entry), text=text)


def _explain_send(error: Exception, budget: float) -> Finding:
    if isinstance(error, errors.ExportTimeout):
        return say("slow_post", budget=budget)
    if isinstance(error, errors.ExportError):
        return say("post_failed", text=error)
    return say("transport", name=type(error).__name__)


def _judge_clock(answer: Answer) -> List[Finding]:
    theirs = parse_date(answer.headers.get("date", ""))
    skew = 0.0 if theirs is None else answer.at - theirs.timestamp()
    if abs(skew) <= CLOCK_SKEW:
        return []
    return [say("clock", seconds=abs(skew), way="ahead of" if skew > 0 else "behind")]
