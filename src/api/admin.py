"""`/vastproxy/v1/…`: the fleet for programs.

What changes something is a POST with `Content-Type: application/json`, which no page of another site can send without
being asked for permission first: there is no key to protect a proxy that listens on loopback alone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vastproxy.api.errors import ApiError
from vastproxy.api.json_answer import JsonAnswer, encoded
from vastproxy.services.fleet import Fleet
from vastproxy.services.process import read_process_use
from vastproxy.services.snapshot import BackendSnapshot

T = TypeVar("T")

#: Requests that are listed unless more are asked for, and at most.
REQUESTS = 50
MOST_REQUESTS = 200
#: Rows that are written out before requests have their turn: 25 backends with 8 GPUs each take 1 ms, 25 stories 0.3 ms,
#: and 3 ms if each is of three attempts among many candidates.
ROWS_IN_A_ROW = 25


class AdminEndpoints:
    """What `vastproxy status` and dashboards read."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def backends(self, request: Request) -> Response:
        """Every backend: state, path, engine, models, GPUs, work in flight."""
        return _document("backends", self._fleet.snapshot().backends, BackendSnapshot.to_json)

    async def process(self, request: Request) -> Response:
        """What this process takes: memory, descriptors, threads, tasks; and the requests in flight."""
        return JsonAnswer({**read_process_use().to_json(), "in_flight": self._fleet.in_flight})

    async def drain(self, request: Request) -> Response:
        """No new requests for this instance; running ones end."""
        return self._act(request, self._fleet.drain)

    async def undrain(self, request: Request) -> Response:
        """It may be given requests again."""
        return self._act(request, self._fleet.undrain)

    async def request(self, request: Request) -> Response:
        """What became of one of the last requests."""
        traces = self._fleet.traces
        claim = traces.find(request.path_params["id"].encode("latin-1", "replace"))
        if claim is None:
            return refusal(404, "No request of this id is remembered; only the last ones are.", "not_found")
        return JsonAnswer(traces.tell(claim))

    async def requests(self, request: Request) -> Response:
        """The last requests, the newest first: `?limit=`, 50 of them unless it says otherwise."""
        text = request.query_params.get("limit", str(REQUESTS))
        if not (text.isascii() and text.isdigit() and len(text) < 7):
            return refusal(400, "limit must be a number.", "invalid_limit")
        traces = self._fleet.traces
        return _document("requests", traces.latest(min(int(text), MOST_REQUESTS)), traces.tell)

    def _act(self, request: Request, act: Callable[[int], None]) -> Response:
        if (answer := not_json(request)) is not None:
            return answer
        id = request.path_params["id"]
        try:
            act(id)
        except KeyError:
            return refusal(404, f"No instance {id} is served here.", "not_found")
        found = next(backend for backend in self._fleet.snapshot().backends if backend.id == id)
        return JsonAnswer(found.to_json())


def not_json(request: Request) -> Response | None:
    """The refusal of an order that a page of another site could have sent."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        return None
    return refusal(415, "Send this with 'Content-Type: application/json'.", "unsupported_media_type")


def refusal(status: int, message: str, code: str) -> Response:
    """An error in OpenAI's shape."""
    error = ApiError(status, message, "invalid_request_error", code)
    return Response(error.body(), status, media_type="application/json")


def _document(name: str, rows: Sequence[T], tell: Callable[[T], dict[str, Any]]) -> Response:
    """All of them as one JSON document, in pieces: a large fleet, or long stories, must not hold up tokens."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"%b":[' % name.encode()
        for start in range(0, len(rows), ROWS_IN_A_ROW):
            told = [tell(row) for row in rows[start : start + ROWS_IN_A_ROW]]
            yield (b"," if start else b"") + encoded(told)[1:-1]
            await asyncio.sleep(0)
        yield b"]}"

    return StreamingResponse(pieces(), media_type="application/json")
