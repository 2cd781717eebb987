"""
From what an adapter saw of a request to one captured event. The same for all adapters.

Owns the options that adapters share, the consumer's precedence and the wording of
errors. This is the boundary to the host application: whatever goes wrong here stays
here, so that telemetry never breaks a request.
"""

from __future__ import annotations

from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence

from ..consumer import Caller
from ..options import check_hook
from ..wire import UNMATCHED

if TYPE_CHECKING:
    from ..client import BeaconClient, ConsumerResolver
    from ..event import Kind

#: Where a scope or an environment names the exchanges of its request, one per client.
EXCHANGES = "beaconhq.exchanges"
#: Characters of an exception's text that are kept: the wire's limit, so that a huge text
#: does not wait in the buffer.
MAX_ERROR_TEXT = 8192
#: Kinds of requests that are shared. There are more only where an application without a
#: router has its paths for routes; then they are forgotten and begin anew.
MAX_KINDS = 1024
#: nginx's "client closed request": the client left, or the request was cancelled, before
#: the answer began.
CLIENT_CLOSED_REQUEST = 499


def is_failure(exc: Optional[BaseException]) -> bool:
    """Whether an exception is the application's; else it was cut short: cancelled, or closed."""
    return isinstance(exc, (Exception, KeyboardInterrupt, SystemExit))


class Recorder:
    """
    Records requests for one adapter.

    `client` receives the events. `consumer_header` names the request header whose value
    is the consumer; `consumer_resolver` gets the framework's request and returns the
    consumer or None. `read_header` reads that header from the framework's request,
    `read_route` the template.

    Raises `ValueError`, naming the option, for what cannot be right. Nothing else here
    raises an `Exception`.
    """

    def __init__(
        self,
        client: BeaconClient,
        consumer_header: Optional[str],
        consumer_resolver: Optional[ConsumerResolver],
        read_header: Callable[[Any], Optional[str]],
        read_route: Callable[[Any], str],
    ) -> None:
        if not callable(getattr(client, "capture", None)):
            raise ValueError(f"client must be a BeaconClient, not {type(client).__name__}")
        self._client = client
        self._resolver = check_hook("consumer_resolver", consumer_resolver)
        self._read_header = read_header if _is_header(consumer_header) else None
        self._read_route = read_route
        self._kinds: Dict[Kind, Kind] = {}

    def reports(self, exchanges: Sequence[Exchange]) -> bool:
        """Whether this client already reports the request: it wraps the application further out."""
        return any(exchange.recorder._client is self._client for exchange in exchanges)  # noqa: SLF001

    def route(self, request: Any) -> str:
        """Return the template of a dispatched request."""
        try:
            return self._read_route(request)
        except Exception:  # noqa: BLE001 - the insides of a framework's next release
            return UNMATCHED

    def consumer(self, request: Any, caller: Caller) -> Optional[str]:
        """Return `set_consumer`'s, the adapter's resolver's, the client's, or the header's."""
        if caller.consumer is not None:
            return caller.consumer
        try:
            if self._resolver is not None or self._client.consumer_resolver is not None:
                for resolver in (self._resolver, self._client.consumer_resolver):
                    consumer = None if resolver is None else resolver(request)
                    if consumer is not None:
                        # As text now: what a resolver returns may be bound to the request.
                        return consumer if type(consumer) is str else _text(consumer)
            return None if self._read_header is None else self._read_header(request)
        except Exception:  # noqa: BLE001 - the user's hooks, and requests that break the rules
            return None

    def capture(
        self,
        method: str,
        path: str,
        route: str,
        status: int,
        exception: Optional[BaseException],
        duration: float,
        consumer: Optional[str],
    ) -> None:
        """
        Capture one event.

        The request completed just now, after `duration` seconds. `exception` is what
        escaped the application, or None.
        """
        try:
            error = None if exception is None and status < 500 else self._error(status, exception)
            kind = (method, route, status, error)
            if error is None:
                kind = self._kinds.get(kind) or self._share(kind)
            self._client.capture((time(), kind, path, int(duration * 1000 + 0.5), consumer))
        except Exception:  # noqa: BLE001, S110 - see the module's docstring
            pass

    def _share(self, kind: Kind) -> Kind:
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        return self._kinds.setdefault(kind, kind)

    def _error(self, status: int, exception: Optional[BaseException]) -> str:
        if exception is None:
            return f"HTTP {status}"
        name = type(exception).__name__
        if not self._client.capture_error_text:
            return name
        try:
            return f"{name}: {exception}"[:MAX_ERROR_TEXT]
        except Exception:  # noqa: BLE001 - the exception's own `__str__`
            return name


class Exchange:
    """
    One request and its response, as an adapter sees them pass by.

    `others` are the exchanges of other clients further out, which share the caller.
    """

    __slots__ = ("caller", "recorded", "recorder", "started_at")

    def __init__(self, recorder: Recorder, others: Sequence[Exchange]) -> None:
        self.recorder = recorder
        self.caller: Caller = others[0].caller if others else Caller()
        #: Whether the event was captured: there is only one.
        self.recorded = False
        self.started_at = perf_counter()


def _is_header(name: object) -> bool:
    if name is not None and not (isinstance(name, str) and name.isascii()):
        raise ValueError(f"consumer_header must be the name of a header, not {name!r}")
    return bool(name)


def _text(consumer: object) -> Optional[str]:
    """Return a consumer as text; a coroutine is nobody, as nobody awaits it."""
    return None if hasattr(consumer, "__await__") else str(consumer)
