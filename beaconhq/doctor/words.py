"""
What the doctor says: every finding's level, code, message and advice, in one table.

The codes are stable, for scripts (docs/how-to/doctor.md, "What it finds"); several entries may share one,
such as all that can be wrong with a proxy. Fields in braces are filled in by `say`.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

from .report import Finding

_CHECK_URL = "Check BEACON_INGEST_URL (or ingest_url); without it the hosted ingest is used."
_SEND_TELLS = "--send tells what a POST gets."
_NO_LIFESPAN = "a thread delivers, and what it holds is lost when uvicorn ends by SIGTERM"

#: Level, code, message and advice of each finding.
WORDS: Dict[str, Tuple[str, str, str, str]] = {
    # -- the configuration
    "no_key": (
        "fault",
        "no_key",
        "there is no ingest key",
        (
            "Set BEACON_INGEST_KEY to the key of your project, in the environment of the very process: a "
            "container "
            "or a service has its own."
        ),
    ),
    "bad_key": (
        "fault",
        "bad_key",
        "{text}",
        "Copy it again: a line break or a typographic character came along.",
    ),
    "bad_url": ("fault", "bad_url", "{text}", _CHECK_URL),
    "bad_option": ("fault", "bad_option", "{text}", "See docs/configuration.md."),
    "disabled": (
        "warning",
        "disabled",
        "the client is disabled ({where}): nothing is captured",
        "Set BEACON_ENABLED=1, or unset it, where events are wanted.",
    ),
    "dry_run": (
        "warning",
        "dry_run",
        "dry_run=True: events stay in memory, nothing leaves the process",
        "Remove it where events are wanted.",
    ),
    "plain_http": (
        "warning",
        "plain_http",
        "the key goes to {host} in clear text",
        "Use https:// in the ingest URL.",
    ),
    "own_transport": (
        "note",
        "own_transport",
        "the client's transport is a {name}, not HTTP: the way to the ingest cannot be looked at",
        "",
    ),
    "not_sent": ("note", "not_sent", "no event was sent, as there is no key", ""),
    "old_version": (
        "warning",
        "old_version",
        "{name} {version} is older than {floor}",
        'Update it: pip install "{name}>={floor}".',
    ),
    # -- an app
    "clients": ("note", "clients", "the app has {count} clients; this is about that of {adapter}", ""),
    "app_import": (
        "fault",
        "app_import",
        "importing {name} raised {error}",
        "At {place}. The app has to be importable in this environment.",
    ),
    "app_import_slow": (
        "fault",
        "app_import",
        "importing {name} took longer than {timeout:g} s",
        "Give it more time with --timeout, or see what it waits for.",
    ),
    "no_adapter": (
        "fault",
        "no_adapter",
        (
            "the app, a {name}, has neither a middleware nor an extension of beaconhq: nothing is "
            "captured{client}"
        ),
        (
            "Add BeaconASGIMiddleware (docs/asgi.md), or call init_flask (docs/flask.md). If this is a "
            "factory, name it with parentheses: main:create_app()."
        ),
    ),
    "no_lifespan": (
        "warning",
        "no_lifespan",
        "{adapter} is on a mounted sub-app, and frameworks do not run the lifespan of those: " + _NO_LIFESPAN,
        "Add the middleware to the outermost app, or enter beacon.lifespan in that app's lifespan.",
    ),
    "no_lifespan_django": (
        "warning",
        "no_lifespan",
        "Django does not answer the lifespan protocol: " + _NO_LIFESPAN,
        "Wrap the application in BeaconLifespan (docs/django.md).",
    ),
    "django_settings": ("fault", "django_settings", "{text}", "{hint}"),
    "no_client": (
        "fault",
        "no_client",
        "the settings have no BEACON_CLIENT: nothing is captured",
        "See docs/django.md.",
    ),
    # -- DNS and connections
    "dns": (
        "fault",
        "dns",
        "the host name {host!r} cannot be resolved ({text})",
        (
            "Check the spelling in the URL, and this machine's DNS (/etc/resolv.conf; in a container, its "
            "network)."
        ),
    ),
    "refused": (
        "fault",
        "refused",
        "{peer} refused the connection",
        (
            "The host is up, but nothing listens on that port: check the port in the URL, and whether the "
            "ingest runs "
            "(the local one: `beaconhq local`)."
        ),
    ),
    "unreachable": (
        "fault",
        "unreachable",
        "there is no way to {peer}",
        "Check this machine's network, its routes, and rules that forbid outgoing connections.",
    ),
    "not_http": (
        "fault",
        "not_http",
        "{peer} took the connection, but did not answer in HTTP ({name})",
        "Check the port in the URL, and whether it should begin with https:// instead of http://.",
    ),
    "network": (
        "fault",
        "network",
        "no connection to {peer} ({name})",
        "Check the URL, and this machine's network.",
    ),
    "client": (
        "fault",
        "client",
        "the HTTP client could not be made ({name})",
        "Check the client_factory, and the variables {variables}, SSL_CERT_FILE and SSL_CERT_DIR.",
    ),
    # -- TLS
    "tls_expired": (
        "fault",
        "tls_expired",
        "the certificate of {host} has expired",
        "Renew it. If it has been renewed, check this machine's clock.",
    ),
    "tls_not_yet_valid": (
        "fault",
        "tls_not_yet_valid",
        "the certificate of {host} is not valid yet",
        "Check this machine's clock.",
    ),
    "tls_hostname": (
        "fault",
        "tls_hostname",
        "the certificate is not for {host}",
        "Use the host name that the certificate names, or have it issued for this one.",
    ),
    "tls_unknown_ca": (
        "fault",
        "tls_unknown_ca",
        "the certificate of {host} is signed by a CA that this process does not know ({text})",
        (
            "If the CA is your own (or a proxy opens TLS on the way), set SSL_CERT_FILE to a file with "
            "its certificate, "
            'or hand a client_factory that trusts it (docs/configuration.md, "The HTTP client").'
        ),
    ),
    "tls_certificate": (
        "fault",
        "tls",
        "the certificate of {host} was refused ({text})",
        "Look at it: openssl s_client -connect {host}:{port} -servername {host}",
    ),
    "tls": (
        "fault",
        "tls",
        "{peer} does not speak TLS as it should{text}",
        (
            "If it speaks plain HTTP, the URL must begin with http://. If it asks for a client "
            "certificate, hand a "
            "client_factory that has one."
        ),
    ),
    "ca_file": (
        "fault",
        "ca_file",
        "{variable} is set to {value!r}, which {what}",
        "Correct {variable}, or unset it to use the CAs that come with httpx.",
    ),
    # -- proxies
    "proxy_in_use": (
        "note",
        "proxy_in_use",
        "connections go through the proxy {proxy}",
        "{origin} Name the ingest's host in NO_PROXY to go without.",
    ),
    "proxy_dns": (
        "fault",
        "proxy",
        "the host name of the proxy {proxy} cannot be resolved ({text})",
        "{origin}",
    ),
    "proxy_refused": (
        "fault",
        "proxy",
        "the proxy {proxy} refused the connection",
        "Nothing listens there. {origin}",
    ),
    "proxy_unreachable": ("fault", "proxy", "there is no way to the proxy {proxy}", "{origin}"),
    "proxy_silent": (
        "fault",
        "proxy",
        "the proxy {proxy} closed the connection without an answer",
        "Check that it is an HTTP proxy. {origin}",
    ),
    "proxy_forbids": (
        "fault",
        "proxy",
        "the proxy {proxy} refused to connect to {host}:{port} ({status})",
        "{hint} {origin}",
    ),
    "proxy_wants_password": (
        "fault",
        "proxy",
        "the proxy {proxy} wants a user name and a password (407)",
        "Put them into its URL, http://USER:PASSWORD@HOST:PORT. {origin}",
    ),
    "proxy_socks": (
        "fault",
        "proxy",
        "a SOCKS proxy is set ({variables}), but this installation of httpx cannot use one",
        'Run: pip install "httpx[socks]", or unset it.',
    ),
    "proxy_variable": (
        "fault",
        "proxy",
        "{variable} is not the URL of a proxy that httpx can use",
        (
            "It must be like http://proxy.example:3128 (the value is not shown: it may hold a password). "
            "Correct or "
            "unset it."
        ),
    ),
    # -- time
    "timeout_resolve": (
        "fault",
        "timeout",
        "the name server did not answer for {host!r} within {timeout:g} s",
        "Check this machine's DNS.",
    ),
    "timeout_connect": (
        "fault",
        "timeout",
        "{peer} did not take the connection within {timeout:g} s",
        (
            "Usually a firewall that drops the packets: have outgoing connections to it allowed, or set "
            "HTTPS_PROXY if "
            "this network wants a proxy."
        ),
    ),
    "timeout_proxy": (
        "fault",
        "timeout",
        "the proxy {proxy} did not answer within {timeout:g} s",
        "{origin}",
    ),
    "timeout_tls": (
        "fault",
        "timeout",
        "{peer} took the connection, but did not finish the TLS handshake within {timeout:g} s",
        "Check that the port speaks TLS.",
    ),
    "timeout_answer": (
        "fault",
        "timeout",
        "{peer} took the request, but did not answer within {timeout:g} s",
        "Check that the port speaks HTTP, and the load of the ingest or of a proxy before it.",
    ),
    "slow": (
        "fault",
        "slow",
        "the ingest took {seconds:.1f} s to answer; the client gives up after {budget:g} s",
        (
            "Most of it was the step {step!r} ({longest:.1f} s). Mend that, or raise the client's option "
            "timeout."
        ),
    ),
    "timeout_send": (
        "fault",
        "timeout",
        "the POST was not answered within {timeout:g} s",
        "Check the load of the ingest or of a proxy before it.",
    ),
    "slow_post": (
        "fault",
        "slow",
        "the POST was not answered within the client's timeout ({budget:g} s)",
        "Check the load of the ingest or of a proxy before it, or raise the client's option timeout.",
    ),
    "clock": (
        "warning",
        "clock",
        "this machine's clock is {seconds:.0f} s {way} the ingest's",
        "Events carry this machine's time: set the clock (NTP).",
    ),
    # -- the answer to the GET: it proves little, as an ingest takes POST only
    "get_redirect": (
        "warning",
        "redirect",
        "{url} answers with a redirect ({status})",
        "The SDK follows none, as the key would leave for another origin: set the ingest URL to where it "
        "leads. " + _SEND_TELLS,
    ),
    "get_not_found": (
        "warning",
        "not_found",
        "{url} answers 404 to a GET: perhaps there is no ingest",
        "Check the ingest URL. " + _SEND_TELLS,
    ),
    "get_unavailable": (
        "warning",
        "unavailable",
        "{url} answers {status} to a GET",
        "The ingest, or a proxy before it, is unwell. " + _SEND_TELLS,
    ),
    "get_page": (
        "warning",
        "not_an_ingest",
        "{url} answers {status} to a GET: an ingest takes POST only",
        "Check the ingest URL. " + _SEND_TELLS,
    ),
    # -- the answer to the POST; the message is the SDK's own (answers.py)
    "sent": ("note", "sent", "one event was sent under the route /beaconhq-doctor ({status})", ""),
    "wrong_key": (
        "fault",
        "wrong_key",
        "{text}",
        "Compare BEACON_INGEST_KEY (or ingest_key) with the key of your project.",
    ),
    "wrong_url": ("fault", "wrong_url", "{text}", _CHECK_URL),
    "redirect": ("fault", "redirect", "{text}", "Set the ingest URL to where it leads, if you trust that."),
    "rejected": (
        "fault",
        "rejected",
        "{text}",
        "Check that the URL is that of an ingest, and of this version.",
    ),
    "unavailable": (
        "fault",
        "unavailable",
        "{text}",
        "The SDK keeps its events and tries again; run this later.",
    ),
    "post_failed": ("fault", "network", "{text}", "The GET before it was answered: run this again."),
    "transport": (
        "fault",
        "transport",
        "the client's own transport raised {name}",
        "Look into its method send.",
    ),
}


def say(entry: str, **fields: Any) -> Finding:
    """Return a finding of `WORDS`, filled in."""
    level, code, message, advice = WORDS[entry]
    return Finding(level, code, message.format(**fields), advice.format(**fields).strip())
