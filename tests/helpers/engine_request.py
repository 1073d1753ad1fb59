"""One request as a stand-in engine sees it, and the table of those that can be aborted."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class RecordedRequest:
    """One request as the engine saw it. `disconnected`: the caller left before the answer was complete;
    `aborted`: it was told to stop;
    `ended`: nothing works on it any more, for whatever reason.

    Times are the loop's: `aborted_at` of the abort that hit it, `disconnected_at`, `ended_at`.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[str, str]]
    body: bytes = b""
    rid: str | None = None
    """As SGLang: the id under which it could be aborted."""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    aborted_at: float | None = None
    disconnected_at: float | None = None
    ended_at: float | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def was_aborted_first(self) -> bool:
        """Was it aborted, and its stream closed only then, or not at all?"""
        if self.aborted_at is None:
            return False
        return self.disconnected_at is None or self.aborted_at <= self.disconnected_at

    def note_abort(self) -> None:
        if self.aborted_at is None:
            self.aborted_at = asyncio.get_running_loop().time()
        self.aborted.set()

    def note_disconnect(self) -> None:
        if self.disconnected_at is None:
            self.disconnected_at = asyncio.get_running_loop().time()
        self.disconnected.set()


class Refused(Exception):
    """The engine does not take the request. The text says why."""


class Running:
    """The requests that are being worked on, as SGLang 0.4.6 to 0.5.23 know them.

    An id may be given once at a time, and only for one sequence (before 0.4.8). An abort ends every request whose
    id begins with the given one, if that one is the whole id of a request.
    """

    def __init__(self) -> None:
        self._requests: dict[str, RecordedRequest] = {}

    def add(self, request: RecordedRequest, wanted: dict[str, Any]) -> None:
        """Raises Refused."""
        given = wanted.get("rid")
        if given is not None and int(wanted.get("n") or 1) > 1:
            raise Refused("The rid should be a list for batch processing.")
        if given in self._requests:
            raise Refused(f"Duplicate request ID detected: {given}")
        request.rid = str(given) if given is not None else f"own-{id(request)}"
        self._requests[request.rid] = request

    def remove(self, request: RecordedRequest) -> None:
        if request.rid is not None and self._requests.get(request.rid) is request:
            del self._requests[request.rid]

    def abort(self, rid: str) -> None:
        if rid not in self._requests:
            return
        for each, request in self._requests.items():
            if each.startswith(rid):
                request.note_abort()


async def first_of(*events: asyncio.Event, limit_s: float | None = None) -> None:
    """Wait until one of them is set, at most `limit_s`."""
    loop = asyncio.get_running_loop()
    waits = [loop.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
