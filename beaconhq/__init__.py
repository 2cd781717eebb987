"""
beaconhq: asyncio-native telemetry for Python web APIs.

    from beaconhq import BeaconASGIMiddleware, BeaconClient

    beacon = BeaconClient(ingest_key="...")
    app.add_middleware(BeaconASGIMiddleware, client=beacon)

`import beaconhq` loads neither a web framework nor httpx nor asyncio; the adapters load
with their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import BeaconClient
from .consumer import set_consumer
from .event import BeaconEvent, utc_now_iso
from .options import DEFAULT_INGEST_URL
from .transport import MockTransport, SendResult, Transport
from .version import __version__

if TYPE_CHECKING:
    from .http import HttpTransport
    from .integrations.asgi import BeaconASGIMiddleware
    from .integrations.django import BeaconDjangoMiddleware
    from .integrations.flask import BeaconFlask, init_flask

__all__ = [
    "DEFAULT_INGEST_URL",
    "BeaconASGIMiddleware",
    "BeaconClient",
    "BeaconDjangoMiddleware",
    "BeaconEvent",
    "BeaconFlask",
    "HttpTransport",
    "MockTransport",
    "SendResult",
    "Transport",
    "__version__",
    "init_flask",
    "set_consumer",
    "utc_now_iso",
]

_LAZY = {
    "BeaconASGIMiddleware": "beaconhq.integrations.asgi",
    "BeaconDjangoMiddleware": "beaconhq.integrations.django",
    "BeaconFlask": "beaconhq.integrations.flask",
    "init_flask": "beaconhq.integrations.flask",
    "HttpTransport": "beaconhq.http",
}
#: Names of 0.2's request inspection, which is not in this version.
_INSPECTION = frozenset(
    {
        "DEFAULT_MAX_BODY_BYTES",
        "DEFAULT_SENSITIVE_BODY_FIELDS",
        "DEFAULT_SENSITIVE_HEADERS",
        "REDACTED",
        "BeaconCapture",
        "CaptureConfig",
        "MaskedBody",
        "ValidationError",
        "enable_fastapi_validation_capture",
        "is_capturable_content_type",
        "mask_body",
        "mask_headers",
        "resolve_capture_config",
    }
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    if name in _INSPECTION:
        raise ImportError(
            f"beaconhq.{name} belongs to the request inspection of 0.2, which {__version__} "
            "does not have yet; remove it, or stay on beaconhq<0.3 (see docs/migrating.md)"
        )
    raise AttributeError(f"module 'beaconhq' has no attribute {name!r}")
