"""Is it alive, can it serve, and if not, why: `/livez`, `/readyz`, `/healthz`.

They must answer when nothing else does, so our own server answers them at once, between the bytes of two others: no
task, no router, nothing that waits. What they tell was found out before by whoever looks after it.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vastproxy import __version__
from vastproxy.api.client import Client
from vastproxy.api.json_answer import encoded
from vastproxy.api.page_headers import PAGE_HEADERS
from vastproxy.services.access.callers import Caller
from vastproxy.services.access.records import Right
from vastproxy.services.fleet import Fleet
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import lines_of

#: An answer: its status and its body.
Told = tuple[int, bytes]
_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"), *PAGE_HEADERS)


def may_know(caller: Caller | None) -> bool:
    """May he know of the account's money? He has a key for the proxy itself, or none is needed here."""
    return caller is not None and Right.ADMIN in caller.rights


class HealthEndpoints:
    """Three questions for monitoring. None of them does any work beyond looking.

    `pages`: how each path is answered. Given is whether whoever asks may know of the account's money: see `may_know`.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.pages: Mapping[str, Callable[[bool], Told]] = MappingProxyType(
            {"/healthz": self._healthz, "/livez": self._livez, "/readyz": self._readyz}
        )

    def endpoint(self, path: str) -> Callable[[Request], Awaitable[Response]]:
        """One of the pages, for a router."""
        page = self.pages[path]

        async def answer(request: Request) -> Response:
            status, body = page(may_know(getattr(request.state, "caller", None)))
            headers = {name.decode(): value.decode() for name, value in _HEADERS}
            return Response(body, status, headers=headers)

        return answer

    def _healthz(self, knows: bool) -> Told:
        """200 while at least one backend can serve, 503 otherwise; the body says what is wrong."""
        return self._status(), _json(self.report(with_account=knows))

    def _livez(self, knows: bool) -> Told:
        """200 while the process answers at all, whatever the backends do: a restart would not heal them."""
        return 200, _json({"status": "alive", "version": __version__})

    def _readyz(self, knows: bool) -> Told:
        """200 when a request would find a backend, for load balancers in front."""
        return self._status(), _json({"status": "ready" if self._fleet.can_serve else "not ready"})

    def _status(self) -> int:
        return 200 if self._fleet.can_serve else 503

    def report(self, *, with_account: bool = True) -> dict[str, Any]:
        """The body of `/healthz`."""
        fleet = self._fleet
        summary, account = fleet.summary(), fleet.account.snapshot()
        api = summary.vast_api
        money = {
            "credit_dollars": account.credit_dollars,
            "dollars_per_hour": account.dollars_per_hour,
            "hours_left": account.hours_left,
        }
        return {
            "status": summary.status,
            "reason": summary.reason,
            "version": __version__,
            "uptime_s": summary.uptime_s,
            "vast_api": {"status": api.status, "latency_ms": api.latency_ms, "error": api.error},
            "account": money if with_account else None,
            "backends": summary.backends,
            "requests": {"in_flight": fleet.in_flight, "waiting": fleet.dispatcher.admission.waiting},
        }


class Glance:
    """A `Handler` that answers with what a page says when the request begins, whatever comes of its body."""

    def __init__(self, client: Client, page: Callable[[bool], Told], *, knows: bool, head_only: bool) -> None:
        self._client = client
        self._page = page
        self._knows = knows
        self._head_only = head_only

    def begin(self, data: bytes, *, complete: bool) -> None:
        """See `Handler.begin`."""
        status, body = self._page(self._knows)
        lines = lines_of((*_HEADERS, (b"content-length", b"%d" % len(body))))
        told = b"" if self._head_only else body
        self._client.respond(
            status, lines, length=len(body), has_body=not self._head_only, data=told, last=True
        )

    def client_data(self, data: bytes, *, complete: bool) -> None:
        """Nobody reads it."""

    def client_writable(self) -> None:
        """There is nothing more to write."""

    def client_left(self) -> None:
        """It was answered already."""

    def client_failed(self, error: object) -> None:
        """It was answered already."""


def _json(value: Mapping[str, Any]) -> bytes:
    return encoded(value)
