"""`/vastproxy/v1/cost` and `/vastproxy/v1/machines`: what instances cost, and what is known of machines."""

import time
from collections.abc import Callable
from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vastproxy.api.admin import refusal
from vastproxy.api.errors import ApiError
from vastproxy.api.json_answer import JsonAnswer
from vastproxy.services.fleet import Fleet
from vastproxy.services.ledger.ledger import LedgerUnavailable
from vastproxy.services.ledger.report import WAYS, By
from vastproxy.services.ledger.since import DEFAULT_SINCE, since_of


class CostEndpoints:
    """What `vastproxy cost`, `vastproxy machines` and dashboards read."""

    def __init__(self, fleet: Fleet, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._fleet = fleet
        self._wall_clock = wall_clock

    def routes(self) -> list[Route]:
        """Where they are."""
        return [Route("/vastproxy/v1/cost", self.cost), Route("/vastproxy/v1/machines", self.machines)]

    async def cost(self, request: Request) -> Response:
        """What was spent and for what: `?by=instance|model|key|hour`, `&since=24h` or unix time."""
        by = request.query_params.get("by", "instance")
        if by not in WAYS:
            return refusal(400, "by must be instance, model, key or hour.", "invalid_by")
        since = since_of(request.query_params.get("since", DEFAULT_SINCE), self._wall_clock())
        if since is None:
            return refusal(
                400, "since must be unix time, or a time ago such as 90min, 24h, 7d.", "invalid_since"
            )
        try:
            report = await self._fleet.account.ledger.cost(cast(By, by), since)
        except LedgerUnavailable as error:
            return _unavailable(error)
        return JsonAnswer(report.to_json())

    async def machines(self, request: Request) -> Response:
        """Every machine that was rented while a ledger was kept."""
        identities = {one.machine_id: one.identity for one in self._fleet.account.instances}
        try:
            found = await self._fleet.account.ledger.machines()
        except LedgerUnavailable as error:
            return _unavailable(error)
        return JsonAnswer({"machines": [one.to_json(identities.get(one.machine_id)) for one in found]})


def _unavailable(error: LedgerUnavailable) -> Response:
    answer = ApiError(503, f"{error}.", "server_error", "ledger_unavailable")
    return Response(answer.body(), 503, media_type="application/json")
