"""`/vastproxy/v1/…` for dashboards: the overview, one backend, the last events, the last hour.

The overview is made once for all who ask within a moment. What goes on without being asked for again: `live.py`.
"""

from starlette.requests import Request
from starlette.responses import Response

from vastproxy.api.admin import refusal
from vastproxy.api.fleet_page import FleetPages
from vastproxy.api.json_answer import JsonAnswer
from vastproxy.api.query import instance_id, number
from vastproxy.api.rows import document
from vastproxy.services.fleet import Fleet
from vastproxy.services.happenings import Happening
from vastproxy.services.live.history import STEP_S
from vastproxy.services.overview import Overview

#: An overview of this age is new enough for whoever asks.
FRESH_S = 0.1
#: Events that are told unless more are asked for, and of one backend.
EVENTS = 100
EVENTS_OF_BACKEND = 50
#: Minutes of history.
MINUTES = 60


class FeedEndpoints:
    """See the module's docstring."""

    def __init__(self, fleet: Fleet, overview: Overview, pages: FleetPages) -> None:
        self._fleet = fleet
        self._overview = overview
        self._pages = pages

    async def fleet(self, request: Request) -> Response:
        """How the fleet is, what it does and costs, and each of its backends."""
        page = await self._pages.page(FRESH_S)
        return Response(page.body, media_type="application/json")

    async def backend(self, request: Request) -> Response:
        """One backend, with its instance and its last events."""
        id = request.path_params["id"]
        try:
            return JsonAnswer(self._overview.detail(id, events=EVENTS_OF_BACKEND))
        except KeyError:
            return refusal(404, f"No instance {id} is served here.", "not_found")

    async def events(self, request: Request) -> Response:
        """The last events, the oldest first: `?limit=`, 100 of them unless it says otherwise, `?instance=` for those
        about one."""
        limit, instance = number(request, "limit", EVENTS), instance_id(request)
        found = self._fleet.events.latest(limit, instance_id=instance)
        return document("events", found, Happening.to_json)

    async def history(self, request: Request) -> Response:
        """The last hour in steps: `?minutes=` for less, `?instance=` for one backend."""
        minutes, instance = number(request, "minutes", MINUTES), instance_id(request)
        try:
            points = list(self._fleet.live.history(minutes, instance_id=instance))
        except KeyError:
            return refusal(404, f"No instance {instance} is served here.", "not_found")
        return document("points", points, dict, {"step_s": STEP_S, "instance": instance})
