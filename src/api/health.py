"""Is it alive, can it serve, and if not, why: `/livez`, `/readyz`, `/healthz`."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vastproxy import __version__
from vastproxy.api.json_answer import JsonAnswer
from vastproxy.services.fleet import Fleet


class HealthEndpoints:
    """Three questions for monitoring. None of them does any work beyond looking."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def healthz(self, request: Request) -> Response:
        """200 while at least one backend can serve, 503 otherwise; the body says what is wrong."""
        return JsonAnswer(self.report(), status_code=200 if self._fleet.can_serve else 503)

    async def livez(self, request: Request) -> Response:
        """200 while the process answers at all, whatever the backends do: a restart would not heal them."""
        return JsonAnswer({"status": "alive", "version": __version__})

    async def readyz(self, request: Request) -> Response:
        """200 when a request would find a backend, for load balancers in front."""
        ready = self._fleet.can_serve
        return JsonAnswer({"status": "ready" if ready else "not ready"}, status_code=200 if ready else 503)

    def report(self) -> dict[str, Any]:
        """The body of `/healthz`."""
        summary = self._fleet.summary()
        api = summary.vast_api
        return {
            "status": summary.status,
            "reason": summary.reason,
            "version": __version__,
            "uptime_s": summary.uptime_s,
            "vast_api": {"status": api.status, "latency_ms": api.latency_ms, "error": api.error},
            "backends": summary.backends,
        }
