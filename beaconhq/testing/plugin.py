"""
The fixture and the switch of the pytest plugin, loaded where an ini option asks for one of them.

The switch keeps a whole run from shipping, in two ways. `BEACON_ENABLED=0` disables what `from_env()` makes,
here and in processes that the tests start, and needs no key. And `HttpTransport` delivers nowhere, whoever
made the client and however: every POST of this package passes there. Nor does any client have a spool, whose
events would count as delivered and be gone.
"""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest

from beaconhq import client
from beaconhq.client import ENV_ENABLED
from beaconhq.transport import SendResult

from .recording import RecordingClient


class Fixtures:
    """Registered with `beaconhq_fixture = true`."""

    @pytest.fixture
    def beacon(self) -> Iterator[RecordingClient]:
        """Hand a client that records what it captures and ships nothing."""
        client = RecordingClient()
        yield client
        client.shutdown()


def keep_from_shipping(config: pytest.Config) -> None:
    """
    Throw the switch (`beaconhq_disable = true`).

    After the run the environment is what it was. The transport stays as it is then, for the rest of the
    process: what a test captured last would leave at the interpreter's exit.
    """
    from beaconhq.http import HttpTransport  # loads asyncio

    for_good = pytest.MonkeyPatch()
    for_good.setattr(client, "has_spool", lambda _: False)
    for_good.setattr(HttpTransport, "prepare", _open_nothing)
    for_good.setattr(HttpTransport, "send", _deliver_nowhere)
    patch = pytest.MonkeyPatch()
    patch.setenv(ENV_ENABLED, "0")
    config.add_cleanup(patch.undo)


def _open_nothing(_: Any) -> None:
    """Make no HTTP client: nobody uses it."""


async def _deliver_nowhere(_: Any, events: List[Any]) -> SendResult:  # noqa: ARG001 - the contract's
    """Count as delivered, as a `dry_run` does."""
    return SendResult(ok=True, status=200)
