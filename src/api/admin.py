"""`/vastproxy/v1/…`: the fleet for programs.

What changes something is a POST with `Content-Type: application/json`, which no page of another site can send without
being asked for permission first: there is no key to protect a proxy that listens on loopback alone.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vastproxy.api.errors import ApiError
from vastproxy.api.json_answer import JsonAnswer
from vastproxy.api.query import number, one_of
from vastproxy.api.rows import document
from vastproxy.services.fleet import Fleet
from vastproxy.services.process import read_process_use
from vastproxy.services.snapshot import BackendSnapshot
from vastproxy.services.traces import STATES, state_of

#: Requests that are listed unless more are asked for, and at most.
REQUESTS = 50
MOST_REQUESTS = 200


class AdminEndpoints:
    """What `vastproxy status` and dashboards read."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def backends(self, request: Request) -> Response:
        """Every backend: state, path, engine, models, GPUs, work in flight."""
        return document("backends", self._fleet.snapshot().backends, self._told)

    def _told(self, snapshot: BackendSnapshot) -> dict[str, Any]:
        backend = self._fleet.live.backends.get(snapshot.id)
        machine = None if backend is None else self._fleet.account.ledger.machine_json(backend.instance)
        return {**snapshot.to_json(), "machine": machine}

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
        """The last requests, the newest first: `?limit=`, 50 of them unless it says otherwise, `?state=` for those that
        are running, waiting or done."""
        limit, state = number(request, "limit", REQUESTS), one_of(request, "state", STATES)
        traces = self._fleet.traces
        limit = min(limit, MOST_REQUESTS)
        if state is None:
            return document("requests", traces.latest(limit), traces.tell)
        all_of = traces.latest(len(traces)) if state == "done" else reversed(traces.under_way())
        found = (claim for claim in all_of if state_of(claim) == state)
        return document("requests", list(islice(found, limit)), traces.tell)

    def _act(self, request: Request, act: Callable[[int], None]) -> Response:
        if (answer := not_json(request)) is not None:
            return answer
        id = request.path_params["id"]
        try:
            act(id)
        except KeyError:
            return refusal(404, f"No instance {id} is served here.", "not_found")
        return JsonAnswer(self._fleet.backend(id).to_json())


def not_json(request: Request) -> Response | None:
    """The refusal of an order that a page of another site could have sent."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        return None
    return refusal(415, "Send this with 'Content-Type: application/json'.", "unsupported_media_type")


def refusal(status: int, message: str, code: str) -> Response:
    """An error in OpenAI's shape."""
    error = ApiError(status, message, "invalid_request_error", code)
    return Response(error.body(), status, media_type="application/json")
