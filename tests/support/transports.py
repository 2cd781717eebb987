"""Transports that answer what a test tells them to."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable, Dict, List, Optional, Union

from beaconhq import SendResult
from beaconhq.errors import NetworkError

Answer = Union[SendResult, BaseException]

OK = SendResult(ok=True, status=202)


def answer(status: int, retry_after: Optional[float] = None) -> SendResult:
    return SendResult(ok=200 <= status < 300, status=status, retry_after=retry_after)


DOWN = NetworkError("connection refused")


class Attempt:
    """One call of `send`: when, what, and under which key."""

    def __init__(self, at: float, events: List[Dict[str, Any]]) -> None:
        self.at = at
        self.events = list(events)
        self.key: str = getattr(events, "idempotency_key", "")
        self.body: bytes = getattr(events, "body", b"")


class ScriptedTransport:
    """
    Answers `script`, one by one, and then `then`; takes `delay` (virtual) seconds for each.

    `delivered` are the events that were answered with a 2xx.
    """

    def __init__(self, *script: Answer, then: Answer = OK, delay: float = 0.0) -> None:
        self.script = list(script)
        self.then = then
        self.delay = delay
        self.attempts: List[Attempt] = []
        self.delivered: List[Dict[str, Any]] = []
        self.on_send: Optional[Callable[[], None]] = None

    async def send(self, events: List[Dict[str, Any]]) -> SendResult:
        self.attempts.append(Attempt(asyncio.get_running_loop().time(), events))
        if self.on_send is not None:
            self.on_send()
        outcome = self.script.pop(0) if self.script else self.then
        await asyncio.sleep(self.delay)
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome.ok:
            self.delivered.extend(events)
        return outcome


class GatedTransport(ScriptedTransport):
    """Holds every POST until `gate` is set, and says when one has begun."""

    def __init__(self, *script: Answer) -> None:
        super().__init__(*script)
        self.begun = threading.Event()
        self.gate = threading.Event()

    async def send(self, events: List[Dict[str, Any]]) -> SendResult:
        self.begun.set()
        while not self.gate.is_set():
            await asyncio.sleep(0.005)
        return await super().send(events)
