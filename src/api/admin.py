"""`/vastproxy/v1/…`: the fleet for programs. Reads only; what changes the fleet needs rights that are apart."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from vastproxy.services.fleet import Fleet
from vastproxy.services.process import read_process_use
from vastproxy.services.snapshot import BackendSnapshot

#: Backends that are written out before requests have their turn: 25 of them with 8 GPUs each take 1 ms.
ROWS_IN_A_ROW = 25


class AdminEndpoints:
    """What `vastproxy status` and dashboards read."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def backends(self, request: Request) -> Response:
        """Every backend: state, path, engine, models, GPUs, work in flight."""
        return StreamingResponse(_document(self._fleet.snapshot().backends), media_type="application/json")

    async def process(self, request: Request) -> Response:
        """What this process takes: memory, descriptors, threads, tasks; and the requests in flight."""
        return JSONResponse({**read_process_use().to_json(), "in_flight": self._fleet.in_flight})


async def _document(backends: Sequence[BackendSnapshot]) -> AsyncIterator[str]:
    """All of them as one JSON document, in pieces: a large fleet must not hold up tokens."""
    yield '{"backends":['
    for start in range(0, len(backends), ROWS_IN_A_ROW):
        rows = [backend.to_json() for backend in backends[start : start + ROWS_IN_A_ROW]]
        text = json.dumps(rows, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        yield ("," if start else "") + text[1:-1]
        await asyncio.sleep(0)
    yield "]}"
