"""`/vastproxy/v1/live`: the overview and what happens, as Server-Sent Events (WHATWG HTML, 9.2) without an end.

A reader gets the overview at once and then whenever it has changed, and each event as it happens. One who reads slowly
loses the oldest events and is told how many; he holds up nobody, and what waits for him is bounded.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vastproxy.api.errors import ApiError
from vastproxy.api.fleet_page import FleetPages
from vastproxy.api.json_answer import encoded
from vastproxy.api.query import seconds
from vastproxy.services.fleet import Fleet
from vastproxy.services.happenings import EventStream, Happening
from vastproxy.services.tasks import Tasks

#: Readers at a time.
MAX_READERS: Final = 32
#: Events that a reader is sent first.
FIRST_EVENTS: Final = 100
#: Between two overviews, in seconds: if nothing else is asked for, at least, and at most.
EVERY_S: Final = 1.0
LEAST_S: Final = 0.2
MOST_S: Final = 60.0
#: After so long without a word there is a sign of life: what stands between cuts connections that are silent for long.
STILL_S: Final = 15.0
#: Events that wait for a reader who does not read.
_HELD: Final = 500
#: How soon one who was cut off should come back.
_RETRY_MS: Final = 2000

_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold it back
)
_STILL: Final = b": still\n\n"


class LiveEndpoint:
    """See the module's docstring."""

    def __init__(
        self,
        fleet: Fleet,
        pages: FleetPages,
        tasks: Tasks,
        *,
        admits: Callable[[Request], bool],
        still_s: float = STILL_S,
    ) -> None:
        """`admits`: may who asks still read? Asked again with each overview or sign of life, as keys are revoked and
        expire."""
        self._still_s = still_s
        self._fleet = fleet
        self._pages = pages
        self._tasks = tasks
        self._admits = admits
        self._readers: set[EventStream] = set()
        self._is_closing = False

    @property
    def readers(self) -> int:
        """How many there are now."""
        return len(self._readers)

    async def live(self, request: Request) -> Response:
        """The stream, from now on or, with `Last-Event-ID`, from there on."""
        every_s = seconds(request, "every_s", EVERY_S, least=LEAST_S, most=MOST_S)
        if self._is_closing or len(self._readers) >= MAX_READERS:
            text = (
                "The proxy is stopping." if self._is_closing else f"There are {MAX_READERS} readers already."
            )
            return _answer(ApiError(503, text, "server_error", "too_many_readers", retry_after_s=5))
        last = request.headers.get("last-event-id", "")
        known = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else None
        return _Readings(self, request, every_s, known)

    def close(self) -> None:
        """The server is about to stop: end all streams. Readers who come now are sent away."""
        self._is_closing = True
        for stream in tuple(self._readers):
            stream.close()

    async def serve(
        self, request: Request, receive: Receive, send: Send, every_s: float, known: int | None
    ) -> None:
        """Write to one reader until he leaves, may not read any more, or all is over."""
        with self._fleet.events.stream(limit=_HELD) as stream:
            # From here to the first of these that waits nothing can happen that would be told twice or not at all.
            first = self._first(known)
            self._readers.add(stream)
            watch = self._tasks.spawn(_until_left(receive, stream), name="reader")
            try:
                await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
                version = await self._begin(send, first, every_s)
                await self._go_on(send, stream, version, every_s, lambda: self._admits(request))
            finally:
                self._readers.discard(stream)
                watch.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _first(self, known: int | None) -> bytes:
        """What has happened before, for a newcomer or for one who comes back."""
        if known is None:
            return _happened(self._fleet.events.latest(FIRST_EVENTS))
        found, lost = self._fleet.events.since(known)
        return _lost(lost) + _happened(found)

    async def _begin(self, send: Send, first: bytes, every_s: float) -> int:
        """What is there already. Returns the version of the overview."""
        await _send(send, b"retry: %d\n\n" % _RETRY_MS)
        page = await self._pages.page(every_s / 2)
        await _send(send, page.event)
        if first:
            await _send(send, first)
        return page.version

    async def _go_on(
        self, send: Send, stream: EventStream, version: int, every_s: float, admitted: Callable[[], bool]
    ) -> None:
        loop = asyncio.get_running_loop()
        told, due = 0, loop.time() + every_s
        while not stream.is_closed:
            is_silent = not await _comes(stream, min(due, loop.time() + self._still_s))
            is_due = loop.time() >= due
            if (is_due or is_silent) and not admitted():
                return
            if data := _lost(stream.lost - told) + _happened(stream.take()):
                told = stream.lost
                await _send(send, data)
            if is_due:
                due = loop.time() + every_s
                page = await self._pages.page(every_s / 2)
                await _send(send, _STILL if page.version == version else page.event)
                version = page.version
            elif is_silent:
                await _send(send, _STILL)


class _Readings(Response):
    """The answer to one reader."""

    def __init__(self, endpoint: LiveEndpoint, request: Request, every_s: float, known: int | None) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._request = request
        self._every_s = every_s
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await self._endpoint.serve(self._request, receive, send, self._every_s, self._known)


async def _comes(stream: EventStream, until: float) -> bool:
    """Does an event, or the end, come before that time?"""
    try:
        async with asyncio.timeout_at(until):
            await stream.wait()
    except TimeoutError:
        return False
    return True


async def _until_left(receive: Receive, stream: EventStream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # a body, which is nobody's business
    stream.close()


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


def _happened(happenings: Iterable[Happening]) -> bytes:
    # JSON has no line ends in it, so an event's data is one line.
    return b"".join(
        b"id: %d\nevent: happened\ndata: %b\n\n" % (one.seq, encoded(one.to_json())) for one in happenings
    )


def _lost(count: int) -> bytes:
    return b'event: lost\ndata: {"events":%d}\n\n' % count if count else b""


def _answer(error: ApiError) -> Response:
    body = error.body()
    headers = {name.decode(): value.decode() for name, value in error.headers(len(body))}
    return Response(body, error.status, headers=headers)
