"""`/vastproxy/v1/…`: the fleet for programs. Reads only; what changes the fleet needs rights that are apart."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vastproxy.services.fleet import Fleet
from vastproxy.services.process import read_process_use


class AdminEndpoints:
    """What `vastproxy status` and dashboards read."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def backends(self, request: Request) -> Response:
        """Every backend: state, path, engine, models, GPUs, work in flight."""
        rows = [backend.to_json() for backend in self._fleet.snapshot().backends]
        return JSONResponse({"backends": rows})

    async def process(self, request: Request) -> Response:
        """What this process takes: memory, descriptors, threads, tasks; and the requests in flight."""
        return JSONResponse({**read_process_use().to_json(), "in_flight": self._fleet.in_flight})
