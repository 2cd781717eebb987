"""
How each subject is installed in each framework: as its own documentation says, defaults kept.

Every one of them ships to the sink for real. `beaconhq` and `beaconhq-0.2.0` get a
cadence out of reach, so that what is measured is the request and not the drain, which
has its own cases; the others have no such option, and theirs shows in `process` time only.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Callable, Dict, Optional

#: Options that keep the drain out of what is measured.
PARKED = {"batch_size": 1_000_000, "flush_interval": 3600.0, "max_buffer_size": 1_000_000}
CONSUMER_HEADER = "x-api-key"


class Subject:
    """One SDK in one process. The defaults install nothing: the bare application."""

    def __init__(self, ingest: str, *, parked: bool) -> None:
        self.ingest = ingest
        self.parked = parked

    def asgi(self, app: Any) -> Any:
        """Wrap an ASGI application from outside."""
        raise NotImplementedError

    def fastapi(self, app: Any) -> Any:
        return app

    def flask(self, app: Any) -> None:
        """Install in a Flask application."""

    def django(self, settings: Any) -> None:
        """Install in Django's settings, before a handler is made."""

    def between_rounds(self) -> None:
        """Empty what was buffered, outside of the measuring."""


class Beacon(Subject):
    """Ours, and the published 0.2.0: the same public surface."""

    def __init__(self, ingest: str, *, parked: bool, consumer: bool = False) -> None:
        super().__init__(ingest, parked=parked)
        from beaconhq import BeaconClient

        options: Any = PARKED if parked else {}
        self.client = BeaconClient("bench-key", ingest, **options)
        self._header = CONSUMER_HEADER if consumer else None
        self._flush: Callable[[], object] = getattr(self.client, "flush_sync", self.client.flush)

    def asgi(self, app: Any) -> Any:
        from beaconhq import BeaconASGIMiddleware

        return BeaconASGIMiddleware(app, client=self.client, consumer_header=self._header)

    def fastapi(self, app: Any) -> Any:
        from beaconhq import BeaconASGIMiddleware

        app.add_middleware(BeaconASGIMiddleware, client=self.client, consumer_header=self._header)
        return app

    def flask(self, app: Any) -> None:
        from beaconhq import init_flask

        init_flask(app, self.client, consumer_header=self._header)

    def django(self, settings: Any) -> None:
        settings.BEACON_CLIENT = self.client
        settings.MIDDLEWARE = ["beaconhq.integrations.django.BeaconDjangoMiddleware", *settings.MIDDLEWARE]

    def between_rounds(self) -> None:
        if self.parked:
            self._flush()


class Apitally(Subject):
    _TOKEN = "apt_" + "a" * 24

    def _init(self, framework: str, *args: Any) -> None:
        os.environ["APITALLY_OTLP_ENDPOINT"] = self.ingest
        import_module(f"apitally.{framework}").init(*args, write_token=self._TOKEN, env="dev")

    def fastapi(self, app: Any) -> Any:
        self._init("fastapi", app)
        return app

    def flask(self, app: Any) -> None:
        self._init("flask", app)
        import_module("apitally.shared.activation").activate()  # what a WSGI server's start does

    def django(self, settings: Any) -> None:
        self._init("django")


class Sentry(Subject):
    """With tracing of every request: without it, it sees errors only."""

    def __init__(self, ingest: str, *, parked: bool) -> None:
        super().__init__(ingest, parked=parked)
        dsn = ingest.replace("http://", "http://public@") + "/1"
        import_module("sentry_sdk").init(dsn=dsn, traces_sample_rate=1.0)


class OpenTelemetry(Subject):
    def __init__(self, ingest: str, *, parked: bool) -> None:
        super().__init__(ingest, parked=parked)
        trace = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        provider = trace.TracerProvider()
        provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter(f"{ingest}/v1/traces")))
        import_module("opentelemetry.trace").set_tracer_provider(provider)

    def _instrumentor(self, framework: str, name: str) -> Any:
        return getattr(import_module(f"opentelemetry.instrumentation.{framework}"), f"{name}Instrumentor")()

    def fastapi(self, app: Any) -> Any:
        self._instrumentor("fastapi", "FastAPI").instrument_app(app)
        return app

    def flask(self, app: Any) -> None:
        self._instrumentor("flask", "Flask").instrument_app(app)

    def django(self, settings: Any) -> None:
        self._instrumentor("django", "Django").instrument()


#: The subjects by name; "beaconhq" is this working tree.
SUBJECTS: Dict[str, Callable[..., Subject]] = {
    "beaconhq": Beacon,
    "beaconhq-0.2.0": Beacon,
    "apitally": Apitally,
    "sentry-sdk": Sentry,
    "opentelemetry": OpenTelemetry,
    "bare": Subject,
}


def make_subject(name: str, ingest: str, *, parked: bool, consumer: Optional[bool] = None) -> Subject:
    options = {} if consumer is None else {"consumer": consumer}
    return SUBJECTS[name](ingest, parked=parked, **options)
